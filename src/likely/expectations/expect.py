"""The one verb: estimate `E_p[f]`, with an error bar, and differentiate it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Final, TypeAlias, cast

import torch
from joblib import Parallel, delayed
from torch import Tensor

from likely.checks import described, whole
from likely.density import evaluating
from likely.errors import InvalidInput, InvalidType
from likely.expectations.adapter import law_of, same_space
from likely.expectations.baselines import Baseline
from likely.expectations.estimate import Estimate
from likely.expectations.gradient import Block, Gradient, Values
from likely.expectations.law import AnyLaw, Law
from likely.expectations.mixture import Mixture
from likely.expectations.names import gradient_of, root_of
from likely.expectations.problem import Function, Problem
from likely.expectations.sampling import Independent, Sampling, Sobol
from likely.expectations.until import rel
from likely.seeds import derived

Proposal: TypeAlias = "AnyLaw | Sequence[AnyLaw]"
INDEPENDENT: Final = Independent()
STAYS: Final = nullcontext()
#: draws at the most where `until` is given and n is not
MOST = 10_000_000


def expect(
    f: Function,
    p: AnyLaw,
    n: int | None = None,
    via: Proposal | None = None,
    grad: str | Gradient | None = None,
    baseline: str | float | Tensor | Baseline | None = None,
    until: rel | None = None,
    seed: int | None = None,
    *,
    generator: torch.Generator | None = None,
    sampling: Sampling | None = None,
    normalise: bool = False,
    batched: bool = False,
    block: int | None = None,
    workers: int = 1,
) -> Estimate:
    """Estimate `E_p[f]`, with an error bar; `.mean.backward()` differentiates it where asked to.

    `mean = 1/n sum_i w_i f(x_i)` with `x_i ~ q` and `w = exp(log p - log q)`. Plain Monte Carlo is
    q = p, importance sampling any other q (`via`), and the score-function gradient q = detach(p).
    Weights are formed from logarithms; sums are in float64. The global random state is left alone.
    Ctrl-C returns the blocks that are done as an estimate that is `partial`, if there are any.

    Args:
        f: from draws `(n, *event)` to values `(n,)` or `(n, *out)`; booleans make an event.
        p: a `torch.distributions` law (whose batch shape is part of the event), a flow, or anything
            with `sample(n)` and `log_prob(x)`.
        n: draws, 1,000 if not given; with `until` the most to make, ten million if not given.
        via: the law to draw from instead; a list of laws is their equal mixture, weighted by the
            balance heuristic, and with p in the list the weights are bounded (a defensive mixture).
            It must be positive wherever f p is not 0: what it never draws is left out, and no error
            bar shows it. Where in doubt, put p in the list.
        grad: how to differentiate: None (values only), "score", "path", "weak", "enumerate", "auto", or
            an estimator as a value.
        baseline: of the score: "none", "mean", "loo" (the default), "optimal" or a number.
        until: when to stop, such as `rel(0.05)`.
        seed: of the draws; block b of a seed is the same whoever draws it.
        generator: to take the seed from, instead.
        sampling: `Antithetic()` or `Sobol()` instead of independent draws.
        normalise: divide by the mean weight (self-normalised), for a p known up to a factor; biased by
            `O(1/n)`.
        batched: the batch shape of p counts separate problems: f gives `(n, *batch, ...)`, of which
            each entry depends on its own part of the draw alone; the mean is `(*batch, ...)`.
        block: draws in a block; 100,000 if not given, fewer of laws with large draws, such as walks.
        workers: processes, through joblib: its `parallel_config` chooses loky, dask or ray. The
            estimate does not depend on how many there are. Values only.

    Raises:
        InvalidType: p, grad or f's result is of the wrong kind.
        InvalidInput: f's result has the wrong shape or is not finite, the estimator does not apply to
            p, nothing requires a gradient, supports do not meet, or numbers are out of range.

    Reference: Owen 2013, Monte Carlo theory, methods and examples; Mohamed et al. 2020.

    Example:
        >>> p = torch.distributions.Normal(0.0, 1.0)
        >>> e = expect(lambda x: x.square(), p, n=10_000, seed=0)
        >>> bool((e.mean - 1).abs() < 4 * e.stderr)
        True
    """
    if not isinstance(normalise, bool) or not isinstance(batched, bool):
        name, flag = ("batched", batched) if isinstance(normalise, bool) else ("normalise", normalise)
        raise InvalidType(f"{name} is {described(flag)}; expected True or False.")
    law = law_of(p, batched)
    problem = _problem(f, p, law, via, sampling or INDEPENDENT, normalise, batched)
    most = n if n is not None else 1000 if until is None else MOST
    whole("n", most)
    if block is not None:
        whole("block", block)
    if workers != 1 or isinstance(workers, bool):
        whole("workers", workers)
    if until is not None and not isinstance(until, rel):
        raise InvalidType(f"until is {described(until)}; expected a rule, such as rel(0.1).")
    root = root_of(seed, generator)
    how = gradient_of(grad, baseline)
    if workers > 1 and not isinstance(how, Values):
        raise InvalidInput(
            "workers compute values only: a graph cannot cross processes; leave out grad."
        )
    sizes = _sizes(most, block, until, problem)
    modules = [m for m in (p, *_listed(via)) if isinstance(m, torch.nn.Module)]
    with evaluating(*modules) if modules else STAYS:
        draw = how.prepare(problem, sizes[0], root)
        if len(sizes) == 1 and until is None:
            return _one(problem, draw, most, root, 0)
        return _run(problem, draw, sizes, root, until, workers)


def _run(
    problem: Problem, draw: Block, sizes: list[int], root: int, until: rel | None, workers: int
) -> Estimate:
    """Make the blocks in order, a wave of one for each worker at a time, and merge them in order."""
    done: Estimate | None = None
    wave = workers if until is not None else len(sizes)
    for begin in range(0, len(sizes), wave):
        blocks = range(begin, min(begin + wave, len(sizes)))
        if workers == 1:
            made = (_one(problem, draw, sizes[b], root, b) for b in blocks)
        else:
            made = iter(
                Parallel(n_jobs=workers)(
                    delayed(_alone)(problem, draw, sizes[b], root, b) for b in blocks
                )
            )
        try:
            for estimate in made:
                done = estimate if done is None else done + estimate
                # Blocks of a wave that lie beyond the stop are not used: workers change nothing.
                if done.exact or (until is not None and until.reached(done)):
                    return done
        except KeyboardInterrupt:
            if done is None:
                raise
            return replace(done, partial=True)
    last = cast(Estimate, done)  # there is at least one block
    return last if until is None else replace(last, notes=(f"ended before {until} was reached",))


def _one(problem: Problem, draw: Block, n: int, root: int, b: int) -> Estimate:
    return problem.estimate(draw(n, derived(root, b)), n)


def _alone(problem: Problem, draw: Block, n: int, root: int, b: int) -> Estimate:
    """One block without its draws, so that little is sent between processes."""
    return _one(problem, draw, n, root, b).without_draws()


def _problem(
    f: Function,
    p: AnyLaw,
    law: Law,
    via: Proposal | None,
    sampling: Sampling,
    normalise: bool,
    batched: bool,
) -> Problem:
    if via is None:
        return Problem(f, law, None, sampling, normalise, 1.0)
    if isinstance(via, Sequence) and not isinstance(via, str):
        for i, q in enumerate(via):
            law_of(q, what=f"via[{i}]")
        via = Mixture(via)
    if isinstance(via, Mixture):
        for component in via.laws:
            same_space(law, component)
        if batched:
            raise InvalidInput("a list of proposals serves one problem; expected batched=False.")
        share = via.share_of(p)
        return Problem(f, law, via, sampling, normalise, 1 / share if share else torch.inf)
    q = law_of(via, batched, "via")
    if q.batch_shape != law.batch_shape:
        raise InvalidInput(
            f"via has batch shape {tuple(q.batch_shape)}; expected that of p, {tuple(law.batch_shape)}."
        )
    same_space(law, q)
    return Problem(f, law, q, sampling, normalise, torch.inf)


def _sizes(n: int, given: int | None, until: rel | None, problem: Problem) -> list[int]:
    """Cut n draws into blocks; units are not cut."""
    unit = problem.sampling.unit(n)
    block = min(problem.law.block, problem.via.block) if problem.via else problem.law.block
    if until is not None:
        block = min(until.block, block)
    elif isinstance(problem.sampling, Sobol):
        block = n
    block = given or block
    if n <= block:
        return [n]
    full, rest = divmod(n, block)
    if problem.sampling.unit(block) != unit:  # Sobol points: the unit is a share of the block
        return [block] * full
    if rest < 2 * unit:  # too few for a baseline from the others
        return [block] * (full - 1) + [block + rest]
    return [block] * full + [rest]


def _listed(via: Proposal | None) -> Sequence[AnyLaw]:
    if via is None:
        return []
    if isinstance(via, Mixture):
        return via.given
    return via if isinstance(via, Sequence) else [via]
