"""Subset simulation: the probability that a function of normal variables falls below zero."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from likely.checks import number, whole
from likely.errors import InvalidInput, NotConverged
from likely.expectations.estimate import Estimate
from likely.expectations.law import AnyLaw
from likely.expectations.names import root_of
from likely.seeds import derived, generator_for
from likely.walks.repeated import estimate_of
from likely.walks.standard import Standardised, standardised

#: the share of accepted moves that the step sizes aim at
ACCEPTED = 0.44
#: the step of the first chains; 1 is an independent draw
FIRST = 0.8
#: points of the pilot run, at least about so many
PILOT = 1000
#: thresholds at the most
MOST = 1000


def subset(
    f: Callable[[Tensor], Tensor],
    p: AnyLaw,
    n: int = 1000,
    *,
    repeats: int = 32,
    share: float = 0.1,
    seed: int | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    """Estimate `P(f(x) <= 0)` for independent normal entries by subset simulation, without bias.

    `P(f <= 0) = prod_l P(f <= t_l | f <= t_(l-1))`, with thresholds falling to 0. A pilot run chooses
    them, each as the quantile `share` of f, and the step sizes; they are then fixed for `repeats`
    independent runs, all of which are worked on at once. In a run, `n share` of the points below a
    threshold are drawn (systematic resampling), and each starts a chain of `1 / share` states of the
    preconditioned Crank-Nicolson kernel, which leaves the law given `f <= t_l` as it is. With fixed
    thresholds the product of the shares has the exact probability as its mean, whatever n is and
    however slowly the chains mix; adapting thresholds within a run would bias it by `O(1/n)`.

    The error bar is the spread over the runs, not a formula that takes chains for independent draws.
    What no pilot reaches, such as a second region beyond a ridge, is seen rarely: few runs then carry
    the mean, and `warnings` says so.

    Args:
        f: the limit state function, from draws `(n, *event)` to numbers `(n,)`.
        p: a `torch.distributions` law of independent normal entries.
        n: points of one run at each threshold.
        repeats: independent runs; `Estimate.n` counts these.
        share: of the points below the next threshold.
        seed: of the draws.
        generator: to take the seed from, instead.

    Raises:
        InvalidType: f is no function, or returns no numbers.
        InvalidInput: p has other entries, f returns NaN or a wrong shape, or a number is out of range.
        NotConverged: the pilot does not reach `f <= 0`.

    Reference: Au, Beck 2001; Cérou, Del Moral, Furon, Guyader 2012; the kernel: Neal 1998;
    Papaioannou, Betz, Zwirglmaier, Straub 2015.

    Example:
        >>> p = torch.distributions.Normal(torch.zeros(2).double(), 1.0)
        >>> e = subset(lambda x: 5 - x.sum(1) / 2**0.5, p, n=200, seed=0)
        >>> bool((e.mean - 2.8665e-7).abs() < 4 * e.stderr), e.n
        (True, 32)
    """
    chains = chains_of(n, share)
    whole("repeats", repeats, 2)
    g = standardised(f, p)
    root = root_of(seed, generator)
    # A few points more for the pilot cost little: its thresholds serve all runs.
    more = max(1, round(PILOT / n))
    plan = pilot(g, more * n, more * chains, generator_for(derived(root, 0), None, g.loc.device)).plan
    return estimate_of(_runs(g, plan, repeats, n, chains, derived(root, 1)))


@final
@dataclass(frozen=True)
class Plan:
    """Falling thresholds, the last of them 0, and the step of the chains below each."""

    levels: tuple[float, ...]
    steps: tuple[float, ...]


@final
@dataclass(frozen=True, eq=False)
class Pilot:
    """What a pilot run found: the plan, and points with `f <= 0`, nearly draws of p given that."""

    plan: Plan
    z: Float[Tensor, "n dim"]


def pilot(g: Standardised, n: int, chains: int, generator: torch.Generator) -> Pilot:
    """Lower the threshold by quantiles until it is 0.

    Raises:
        NotConverged: f stays above 0.
    """
    z, y = _start(g, 1, n, generator)
    levels: list[float] = []
    steps: list[float] = []
    log_p, step = 0.0, FIRST
    while len(levels) < MOST:
        level = _next(y, chains, levels[-1] if levels else math.inf)
        if level is None:
            break
        alive = y <= level
        log_p += alive.double().mean().log().item()
        levels.append(level)
        steps.append(step)
        z, y, accepted = _advance(g, _chosen(z, y, alive, chains, generator), n, level, step, generator)
        if level == 0:
            return Pilot(Plan(tuple(levels), tuple(steps)), z[0])
        step = min(1.0, step * math.exp(accepted - ACCEPTED))
    raise NotConverged(
        f"f never fell to 0: its lowest value is {y.min().item():.4g}, and the probability of "
        f"f <= {levels[-1] if levels else math.inf:.4g} is about e^{log_p:.1f}. The event is "
        f"impossible, or f has a plateau there, or n={n} is too small."
    )


def _next(y: Float[Tensor, "1 n"], chains: int, level: float) -> float | None:
    """Return a threshold lower than the last one, 0 at the lowest, with so many points below it."""
    lower = y[y < level]  # equal to it are copies of one point, or points of a plateau
    if not len(lower):
        return None
    return max(lower.kthvalue(min(chains, len(lower))).values.item(), 0.0)


def _runs(
    g: Standardised, plan: Plan, repeats: int, n: int, chains: int, seed: int
) -> Float[Tensor, " repeats"]:
    """Return the logarithms of independent unbiased estimates, made at once with fixed thresholds."""
    generator = generator_for(seed, None, g.loc.device)
    z, y = _start(g, repeats, n, generator)
    log_p = z.new_zeros(repeats, dtype=torch.float64)
    for level, step in zip(plan.levels, plan.steps, strict=True):
        alive = y <= level
        # A run without survivors is worth 0, and goes on from points that no longer count.
        log_p += alive.double().mean(1).log()
        if level > 0:
            z, y, _ = _advance(g, _chosen(z, y, alive, chains, generator), n, level, step, generator)
    return log_p


def _start(
    g: Standardised, repeats: int, n: int, generator: torch.Generator
) -> tuple[Float[Tensor, "repeats n dim"], Float[Tensor, "repeats n"]]:
    z = torch.randn(repeats, n, g.dim, generator=generator, dtype=g.loc.dtype, device=generator.device)
    return z, g(z)


def _chosen(
    z: Float[Tensor, "repeats n dim"],
    y: Float[Tensor, "repeats n"],
    alive: Bool[Tensor, "repeats n"],
    chains: int,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "repeats chains dim"], Float[Tensor, "repeats chains"]]:
    """Draw so many of the survivors of each run, each of s as often as `chains / s` on average."""
    first = alive.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    survivors = alive.sum(1, keepdim=True)
    shift = torch.rand(len(z), 1, generator=generator, dtype=torch.float64, device=z.device)
    place = (torch.arange(chains, device=z.device) + shift) * survivors / chains
    index = first.gather(1, place.long().clamp(max=z.shape[1] - 1))
    return z.gather(1, index[..., None].expand(-1, -1, z.shape[2])), y.gather(1, index)


def _advance(
    g: Standardised,
    start: tuple[Float[Tensor, "repeats chains dim"], Float[Tensor, "repeats chains"]],
    n: int,
    level: float,
    step: float,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "repeats n dim"], Float[Tensor, "repeats n"], float]:
    """Run chains below a threshold; return all states, f at these, and the share of accepted moves.

    `z' = sqrt(1 - step^2) z + step noise` is reversible under the standard normal law, and refusing
    what lies above the threshold makes it so under that law restricted to what lies below.
    """
    z, y = start
    length = n // z.shape[1]
    states, values, accepted = [], [], 0.0
    for _ in range(length):
        noise = torch.randn(z.shape, generator=generator, dtype=z.dtype, device=z.device)
        moved = math.sqrt(1 - step * step) * z + step * noise
        reached = g(moved)
        below = reached <= level
        z = torch.where(below[..., None], moved, z)
        y = torch.where(below, reached, y)
        states.append(z)
        values.append(y)
        accepted += below.double().mean().item() / length
    return torch.cat(states, 1), torch.cat(values, 1), accepted


def chains_of(n: int, share: float) -> int:
    """Return how many chains n points come from, at the given share of survivors.

    Raises:
        InvalidInput: there would be fewer than 2, or the numbers do not divide.
    """
    whole("n", n)
    if not 0 < float(number("share", share)) <= 0.5:
        raise InvalidInput(f"share is {share}; expected a share above 0, at most 0.5.")
    length = round(1 / share)
    if n < 2 * length or n % length:
        raise InvalidInput(
            f"n is {n} with share {share:g}; expected a multiple of {length}, at least {2 * length}: "
            f"n / {length} chains of {length} points."
        )
    return n // length
