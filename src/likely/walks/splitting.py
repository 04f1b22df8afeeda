"""Adaptive multilevel splitting of Markov chains, without bias."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from likely.checks import function, number, share, whole
from likely.errors import InvalidInput, NotConverged
from likely.expectations.estimate import Estimate
from likely.expectations.names import root_of
from likely.seeds import generator_for
from likely.walks.chain import Chain, OfState, chain_of
from likely.walks.records import Records
from likely.walks.repeated import estimate_of
from likely.walks.walk import Walk


def split(
    chain: Chain | Walk,
    target: float,
    score: OfState | None = None,
    n: int = 100,
    *,
    repeats: int = 32,
    kill: float = 0.5,
    seed: int | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    """Estimate `P(max_t score(t, X_t) >= target)` by adaptive multilevel splitting, without bias.

    n paths run until they stop. Then, again and again: the level z is the `kill n`-th lowest of the
    paths' highest scores; all K paths that never exceeded z are replaced by copies of the others, up to
    the first time strictly above z, that go on from there by themselves; the weight is multiplied by
    `1 - K / n`. Once z reaches the target, the estimate is the weight times the share of paths that
    reach it. Its mean is the probability, for any score, n and kill. A good score rises with the
    probability of the event from there on: the state itself, or better a function of time as well.

    The error bar is the spread over `repeats` independent runs, all of which are worked on at once.

    Args:
        chain: what runs: a `Walk`, or any other Markov chain as a `Chain`.
        target: the score to reach.
        score: `(time, states) -> numbers (n,)`; None for the state itself.
        n: paths of one run.
        repeats: independent runs; `Estimate.n` counts these.
        kill: the share of paths to replace at a time, at least. Small ones vary a little less and take
            many more rounds.
        seed: of the draws.
        generator: to take the seed from, instead.

    Raises:
        InvalidType: score is no function, or returns no numbers; target or kill is no number.
        InvalidInput: it returns NaN or a wrong shape, or a number is out of range.
        NotConverged: no path of any run ever rises above its first score.

    Reference: Cérou, Guyader 2007; Bréhier, Gazeau, Goudenège, Lelièvre, Rousset 2016, "Unbiasedness
    of some generalized adaptive multilevel splitting algorithms".

    Example:
        >>> e = split(Walk(p=0.5, horizon=20), 14, seed=0)
        >>> bool((e.mean - 1562 / 2**20).abs() < 4 * e.stderr)
        True
    """
    whole("n", n, 2)
    whole("repeats", repeats, 2)
    share("kill", kill)
    target = target if target == math.inf else float(number("target", target))
    if score is not None:
        function("score", score, "(time, states) -> numbers")
    if isinstance(chain, Walk) and score is None and target <= chain.geometry.start:
        raise InvalidInput(
            f"target is {target:g}, the walk starts at {chain.geometry.start:g} and has reached it; "
            f"for a level below give score=lambda t, x: -x and target={-target:g}."
        )
    paths = Records(
        chain_of(chain), target, score, repeats * n, generator_for(root_of(seed, generator))
    )
    k = max(1, int(kill * n))
    log_weight = torch.zeros(repeats, dtype=torch.float64)
    first = paths.best.clone()
    paths.run(torch.arange(repeats * n))
    if not (paths.best > first).any() and (paths.best < target).any():
        raise NotConverged(
            f"none of {repeats * n} paths rose above its first score, {first.max().item():g} at most; "
            f"the target is {target:g}. The score never rises, or n is too small."
        )
    while True:
        best = paths.best.reshape(repeats, n)
        level = best.kthvalue(k, dim=1, keepdim=True).values
        killed = (best <= level) & (level < target) & log_weight.isfinite()[:, None]
        if not killed.any():
            reached = (best >= target).double().mean(1)
            return estimate_of(log_weight + reached.log())
        count = killed.sum(1)
        log_weight += (1 - count.double() / n).log()
        killed &= (count < n)[:, None]
        parents = _parents(killed, paths.generator)
        rows = killed.flatten().nonzero().flatten()
        paths.branch(rows, parents[killed], level.expand(-1, n)[killed])
        paths.run(rows)


def _parents(killed: Bool[Tensor, "repeats n"], generator: torch.Generator) -> Int[Tensor, "repeats n"]:
    """Return a survivor of its run for each killed path, each survivor as often as any on average."""
    repeats, n = killed.shape
    survivors_first = killed.to(torch.uint8).argsort(dim=1, stable=True)
    count = killed.sum(1, keepdim=True)
    shift = torch.rand(repeats, 1, generator=generator, dtype=torch.float64)
    place = (killed.cumsum(1) - 1 + shift) * (n - count) / count.clamp(min=1)
    place = place.long().clamp(0, n - 1)
    return survivors_first.gather(1, place) + n * torch.arange(repeats)[:, None]
