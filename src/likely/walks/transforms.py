"""h-transforms: steps drawn in proportion to how well the walk fares after them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from likely.errors import InvalidInput
from likely.walks.functionals import Functional
from likely.walks.programme import Grid, slices
from likely.walks.steps import Homogeneous, LatticeSteps
from likely.walks.tables import Tabulated


def doob(f: Functional, steps: LatticeSteps) -> Tabulated:
    """Return the steps of the walk given an event, from the dynamic programme."""
    return transformed(f, steps, doob_h(f, steps))


def bridge(f: Functional, steps: LatticeSteps, level: float) -> Tabulated:
    """Return the steps drawn towards a level as those of Brownian motion would be.

    Raises:
        InvalidInput: the steps are not of one law at all times and in all states.
    """
    if not isinstance(steps, Homogeneous):
        raise InvalidInput("bridge is for steps of one law; for others there is doob(level).")
    return transformed(f, steps, brownian_h(f, steps, level))


def transformed(f: Functional, steps: LatticeSteps, log_h: NDArray[np.float64]) -> Tabulated:
    """Return the steps `q_k(t, x) = p_k h(t + 1, x + v_k) / sum_j p_j h(t + 1, x + v_j)`.

    Where h is 0 after every step, nothing is changed.

    Args:
        f: what h is about; its geometry gives the grid.
        steps: p.
        log_h: the logarithm of h, `(horizon + 1, states)`, on the states of the horizon.
    """
    geometry = f.geometry
    states = Grid(geometry, steps.values).states(geometry.end)
    times = range(1 if isinstance(steps, Homogeneous) else geometry.end)
    with np.errstate(divide="ignore"):
        log_p = np.log(np.stack([steps.masses(t, states).detach().numpy() for t in times]))
    to = [np.clip(states + v - states[0], 0, len(states) - 1) for v in steps.values]
    logs = log_p + np.stack([log_h[1:, index] for index in to], 1)
    top = logs.max(1, keepdims=True)
    lost = np.isneginf(top)
    top[lost] = 0.0
    logs -= top
    logs -= np.log(np.exp(logs).sum(1, keepdims=True), out=top, where=~lost)
    np.copyto(logs, log_p, where=lost)
    return Tabulated(steps.values, logs, int(states[0]), geometry.outside(states))


def doob_h(f: Functional, steps: LatticeSteps) -> NDArray[np.float64]:
    """Return `log E[f | x at time t]` on the states of the horizon, by dynamic programming."""
    states = Grid(f.geometry, steps.values).states(f.geometry.end)
    log_h = np.full((f.geometry.end + 1, len(states)), -np.inf)
    for piece in slices(f, steps):
        begin = int(piece.states[0] - states[0])
        log_h[piece.time, begin : begin + len(piece.states)] = piece.value.log.detach().numpy()
    return log_h


def brownian_h(f: Functional, steps: Homogeneous, level: float) -> NDArray[np.float64]:
    """Return the logarithm of the chance that Brownian motion reaches a level before the horizon.

    `h = Phi((m s - d) / (c sqrt s)) + exp(2 m d / c^2) Phi(-(m s + d) / (c sqrt s))` for the distance d
    and the time s that are left, with the mean m and the variance c^2 of a step.

    Reference: Bachelier 1900; Borodin, Salminen 2002, Handbook of Brownian motion.
    """
    geometry = f.geometry
    states = Grid(geometry, steps.values).states(geometry.end)
    values, masses = np.array(steps.values), steps.probabilities.detach().numpy()
    mean = float(values @ masses)
    variance = float((values - mean) ** 2 @ masses)
    side = 1 if level > geometry.start else -1
    # Where the walk can be: states that all steps lead to alike, such as the even ones at even times.
    times, unit = np.arange(geometry.end + 1), np.gcd.reduce(values - values[0])
    met = (states - int(geometry.start)) % unit == (times * values[0] % unit)[:, None]
    beyond = side * (level - states) <= 0
    log_h = np.where(met & beyond, 0.0, -np.inf)
    t, cell = np.nonzero(met[:-1] & geometry.inside(states) & ~beyond)
    left, d = (geometry.end - t).astype(float), side * (level - states[cell])
    drift, root = side * mean * left, np.sqrt(variance * left)
    log_h[t, cell] = np.logaddexp(
        log_ndtr((drift - d) / root), 2 * side * mean * d / variance + log_ndtr(-(drift + d) / root)
    )
    return log_h
