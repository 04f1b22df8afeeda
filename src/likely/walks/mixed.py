"""The variance of path mixtures, exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from likely.errors import InvalidInput
from likely.walks.functionals import Functional
from likely.walks.homogeneous import Homogeneous
from likely.walks.programme import Grid, expected
from likely.walks.steps import Steps


def relative_variance(
    f: Functional, p: Steps, parts: Sequence[Steps], shares: Sequence[float]
) -> Tensor:
    """Return `Var_q(w f) / E_p[f]^2` for the mixture of constant tilts, by the balance heuristic.

    For steps of +1 and -1 of one law each, the weight of a path is a function of when and where it
    stops: `E_q[(w f - mu)^2] = sum_(t, x) P_p(stops at t in x) (w f - mu)^2 / w`.

    Raises:
        InvalidInput: steps are others, or paths go on after f is settled.
    """
    laws = [p, *parts]
    simple = [law for law in laws if isinstance(law, Homogeneous) and law.values == (1, -1)]
    if len(simple) < len(laws) or f.level is not None or not f.geometry.absorbing:
        raise InvalidInput(
            "the weights of this mixture depend on more than when and where paths stop; relative "
            "variances of mixtures are for constant tilts of steps of +1 and -1, for events settled at "
            "the stop. Estimate it from a sample instead."
        )
    base, tilts = simple[0], simple[1:]
    mean = float(expected(f, base).value)
    if mean == 0:
        raise InvalidInput("the expectation is exactly 0: no variance is relative to that.")
    grid, end = Grid(f.geometry, base.values), f.geometry.end
    states, total = grid.states(0), 0.0
    mass = np.ones(1)
    up, down = base.probabilities.detach().numpy()
    for t in range(end + 1):
        over = f.geometry.stops(t, states) | (t == end)
        log_w = _log_weight(base, tilts, shares, t, states[over] - int(f.geometry.start))
        paid = f.payoff(np.full(int(over.sum()), t), states[over]).double().numpy()
        total += float((mass[over] * np.exp(-log_w) * (np.exp(log_w) * paid / mean - 1) ** 2).sum())
        if t == end:
            break
        later, moving = grid.states(t + 1), np.where(over, 0.0, mass)
        mass = np.zeros(len(later))
        for to, chance in zip(grid.after(states, later).numpy(), (up, down), strict=True):
            np.add.at(mass, to, moving * chance)
        states = later
    return torch.tensor(total, dtype=torch.float64)


def _log_weight(
    p: Homogeneous, tilts: Sequence[Homogeneous], shares: Sequence[float], t: int, moved: np.ndarray
) -> np.ndarray:
    """Return `log p - log sum_j share_j q_j` of paths that moved so far in t steps."""
    ups = (moved + t) / 2
    counts = np.stack([ups, t - ups], 1)
    log_p = counts @ p.probabilities.detach().log().numpy()
    logs = [
        counts @ q.probabilities.detach().log().numpy() + np.log(s)
        for q, s in zip(tilts, shares, strict=True)
    ]
    return np.asarray(log_p - np.logaddexp.reduce(logs))
