"""Estimators combined argument by argument, and the choice among them by measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from likely.errors import InvalidInput
from likely.expectations.arguments import arguments_of, with_arguments
from likely.expectations.baselines import Baseline, baseline_of
from likely.expectations.gradient import (
    Block,
    Enumerate,
    Gradient,
    Path,
    Score,
    Values,
    pilot_seed,
    support_of,
)
from likely.expectations.law import AnyLaw, Law, TorchLaw, derived, law_of
from likely.expectations.problem import Function, Problem, Terms, plain_terms
from likely.expectations.sampling import Independent
from likely.expectations.spread import argument_spread, evaluations, leaf_spread
from likely.expectations.weak import Weak, weak_arguments, weak_term
from likely.seeds import root_of


@final
@dataclass(frozen=True, eq=False)
class Mixed(Gradient):
    """An estimator of its own for each argument of the law, such as `{"loc": Weak(), "scale": Path()}`.

    One sample serves all of them. With the arguments of the score held back, q is p again, draws
    x are differentiable in the arguments of the path, and `w = exp(log p(x) - log q(x))` carries the
    score: importance sampling with a q that is only partly detached. Its derivatives of every order
    are right; those of weak arguments of the first order only.

    Args:
        parts: for each argument that requires gradients `Score(...)`, `Path()` or `Weak()`. All scores
            have the baseline of the first.

    Raises:
        InvalidInput: the arguments of the law are not known, or one that requires gradients is missing.

    Example:
        >>> from likely import expect
        >>> mu, sigma = (torch.tensor(1.0, requires_grad=True) for _ in range(2))
        >>> p = torch.distributions.Normal(mu, sigma)
        >>> how = Mixed({"loc": Weak(), "scale": Path()})
        >>> expect(lambda x: x.square(), p, n=10_000, grad=how, seed=0).mean.backward()
        >>> bool((mu.grad - 2).abs() < 0.1), bool((sigma.grad - 2).abs() < 0.2)
        (True, True)
    """

    parts: Mapping[str, Gradient]

    def __str__(self) -> str:
        names = {name: type(part).__name__.lower() for name, part in self.parts.items()}
        return ", ".join(f"{name} by {how}" for name, how in names.items())

    def prepare(self, problem: Problem, n: int, seed: int) -> Block:
        """Check that each argument has an estimator that applies to it."""
        if problem.via is not None:
            raise InvalidInput("estimators by argument draw from p itself; with via, use grad='score'.")
        law, parts = problem.law, self.parts
        given = {name for name, tensor in arguments_of(law).items() if tensor.requires_grad}
        odd = [part for part in parts.values() if not isinstance(part, Score | Path | Weak)]
        if not given or given - set(parts) or odd:
            raise InvalidInput(
                f"estimators are given for {sorted(parts)}; {law.name} has the arguments "
                f"{sorted(given)} that require gradients. Expected Score(), Path() or Weak() for each."
            )
        by = {
            kind: [name for name in given if isinstance(parts[name], kind)]
            for kind in (Score, Path, Weak)
        }
        by[Weak].sort()
        if by[Weak]:
            weak_arguments(_holding(law, {*by[Score], *by[Path]}))
        baseline: Baseline | None = None
        for name in by[Score]:
            part = parts[name]
            if baseline is None and isinstance(part, Score):
                baseline = baseline_of(part.baseline).ready(problem, n, seed)

        def block(n: int, seed: int) -> Terms:
            proposal = _holding(law, {*by[Score], *by[Weak]})
            x = problem.sampling.draw(proposal, n, seed, attached=bool(by[Path]))
            values = problem.values(x)
            log_ratio: Tensor | None = None
            b: Tensor | None = None
            correction: Tensor | None = None
            if by[Score]:
                target = _holding(law, set(by[Weak]))
                log_ratio = target.log_prob(x) - proposal.log_prob(x)
                if baseline is not None and torch.is_grad_enabled():
                    held = replace(problem, law=_holding(law, {*by[Weak], *by[Path]}))
                    b, correction = baseline.off(held, x.detach(), values.detach(), None)
            if by[Weak] and torch.is_grad_enabled():
                term = weak_term(problem, x.detach(), values, by[Weak], derived(seed, 7))
                correction = term if correction is None else correction + term
            return plain_terms(values, log_ratio, b, correction)

        return block


@final
@dataclass(frozen=True, eq=False)
class Auto(Gradient):
    """Measure the variance of every estimator that applies, and use the best for its cost.

    A pilot of draws of its own estimates, for each argument of the law, the variance of one draw's
    gradient times its cost in evaluations of f, for the score with each of two baselines, the path and
    the weak derivative; each argument gets the least. Finite supports of at most n points are summed
    exactly. Of laws whose arguments are not known, such as flows, the parameters are judged together.
    The pilot evaluates f `draws x repeats` times and more for each candidate: in a loop, call `choose`
    once in a while and pass on what it returns. Costs are counted, not timed, so that a seed decides.
    Every candidate is unbiased, provided that f is differentiable wherever Path() is among them: say
    `among=[Score(), Weak()]` for an f that is differentiable almost everywhere but jumps.

    Args:
        draws: of the pilot for each repetition.
        repeats: repetitions, from which variances are measured.
        among: the candidates; None for all.

    Example:
        >>> mu, tau = (torch.tensor(t, requires_grad=True) for t in (0.4423, -0.5001))
        >>> p = torch.distributions.Normal(mu, tau.exp())
        >>> print(choose(lambda x: x * x.sin(), p, seed=0))
        loc by weak, scale by path
    """

    draws: int = 8
    repeats: int = 256
    among: Sequence[Gradient] | None = None

    def prepare(self, problem: Problem, n: int, seed: int) -> Block:
        """Choose, then do as the choice does."""
        if not torch.is_grad_enabled():
            return Values().prepare(problem, n, seed)
        return self.choose(problem, n, seed).prepare(problem, n, seed)

    def choose(self, problem: Problem, n: int, seed: int) -> Gradient:
        """Return the estimator to use for n draws."""
        if problem.via is not None:
            return Score("loo" if n > 1 else "mean")
        if self.among is None and _enumerable(problem, n):
            return Enumerate()
        given = self.among or (Score("none"), Score("loo"), Path(), Weak())
        candidates = [c for c in given if _applies(c, problem, self.draws, seed)]
        if not candidates:
            raise InvalidInput(f"no gradient estimator applies to {problem.law.name} and this f.")
        pilot = pilot_seed(seed)
        names = [name for name, t in arguments_of(problem.law).items() if t.requires_grad]
        if not names:
            spreads = [
                leaf_spread(c, problem, self.draws, max(2, self.repeats // 4), pilot)
                for c in candidates
            ]
            costs = [
                s.total() * evaluations(c, problem) for s, c in zip(spreads, candidates, strict=True)
            ]
            return candidates[costs.index(min(costs))]
        best: dict[str, Gradient] = {}
        least = dict.fromkeys(names, float("inf"))
        for candidate in candidates:
            spread = argument_spread(candidate, problem, self.draws, self.repeats, pilot)
            for name in names:
                cost = spread.of(name) * evaluations(candidate, problem, [name])
                if cost < least[name]:
                    best[name], least[name] = candidate, cost
        same = [c for c in candidates if all(part is c for part in best.values())]
        return same[0] if same and not isinstance(same[0], Weak) else Mixed(best)


def choose(
    f: Function, p: AnyLaw, n: int = 16, auto: Auto | None = None, *, seed: int | None = None
) -> Gradient:
    """Return the estimator that `grad="auto"` would use for n draws, to be used again and again.

    Example:
        >>> eta = torch.zeros(2, requires_grad=True)
        >>> choose(lambda b: b.sum(1), torch.distributions.Bernoulli(logits=eta), n=16, seed=0)
        Enumerate()
    """
    return (auto or Auto()).choose(Problem(f, law_of(p), None, Independent()), n, root_of(seed))


def _holding(law: Law, held: set[str]) -> TorchLaw:
    """Return the same law with some of its arguments detached."""
    arguments = arguments_of(law)
    return with_arguments(law, {k: t.detach() if k in held else t for k, t in arguments.items()})


def _enumerable(problem: Problem, n: int) -> bool:
    try:
        return len(support_of(problem)) <= n
    except InvalidInput:
        return False


def _applies(candidate: Gradient, problem: Problem, n: int, seed: int) -> bool:
    try:
        candidate.prepare(problem, n, seed)(n, seed)
    except InvalidInput:
        return False
    return True
