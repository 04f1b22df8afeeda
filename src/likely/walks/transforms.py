"""How well a walk fares: the h of h-transforms, by dynamic programming or from Brownian motion."""

from __future__ import annotations

from functools import reduce

import numpy as np
from scipy.special import erfcx, log_ndtr

from likely.errors import InvalidInput
from likely.walks.functionals import Functional
from likely.walks.geometry import States
from likely.walks.homogeneous import Homogeneous
from likely.walks.steps import LatticeSteps
from likely.walks.table import Numbers, Table
from likely.walks.transformed import Transformed


def doob(f: Functional, steps: LatticeSteps) -> Transformed:
    """Return the steps of the walk given an event that its stop tells, from the dynamic programme."""
    table = Table(f.geometry, steps.values)
    return Transformed(table, steps, programme_h(f, steps, table), np.zeros((0, table.width)))


def bridge(f: Functional, steps: LatticeSteps, level: float, last: int) -> Transformed:
    """Return the steps drawn towards a level as those of Brownian motion would be.

    Raises:
        InvalidInput: the steps are not of one law at all times and in all states.
    """
    if not isinstance(steps, Homogeneous):
        raise InvalidInput("bridge is for steps of one law; for others there is doob(level).")
    table = Table(f.geometry, steps.values)
    early = max(0, table.end - last)
    log_h = programme_h(f, steps, table, early)
    log_z = np.zeros((early, table.width))
    parts = [(rows, columns[table.inside[columns]]) for rows, columns in table.lattices(early)]
    for rows, columns in parts:
        t, x = np.arange(early)[rows, None], table.states[columns]
        log_h[rows, columns] = brownian_h(f.geometry.start, steps, level, t, table.end - t, x)
    for rows, columns in parts:
        log_p, after = table.log_p(steps, rows, columns), log_h[1:][rows]
        later = (after.take(to, axis=1) for to in table.after(columns))
        total = reduce(np.logaddexp, map(np.add, log_p, later))
        here = log_h[rows, columns]
        known = here > -np.inf
        log_z[rows, columns] = np.subtract(total, here, out=np.zeros_like(here), where=known)
    return Transformed(table, steps, log_h, log_z)


def programme_h(f: Functional, steps: LatticeSteps, table: Table, begin: int = 0) -> Numbers:
    """Return the logarithm of `h(t, x) = sum_k p_k h(t + 1, x + v_k)`, for times from `begin` on.

    Logarithms hold chances of any size, and lose no digit that a proposal would need.
    """
    log_h = table.logs(table.end + 1)
    settled = f.payoff(np.full(table.width, table.end), table.states).numpy()
    log_h[:, np.flatnonzero(~table.inside & settled)] = 0.0
    lattices = [columns[table.inside[columns]] for _, columns in table.lattices(table.end)]
    after = [table.after(columns) for columns in lattices]
    always = None
    if isinstance(steps, Homogeneous):
        always = table.log_p(steps, slice(0, 1), lattices[0])
    for t in range(table.end - 1, begin - 1, -1):
        columns = lattices[t % table.unit]
        log_p = table.log_p(steps, slice(t, t + 1), columns) if always is None else always
        later = log_h[t + 1].take(after[t % table.unit])
        later += log_p[:, 0]
        log_h[t, columns] = reduce(np.logaddexp, later)
    return log_h


def brownian_h(
    start: float, steps: Homogeneous, level: float, t: States, left: States, x: States
) -> Numbers:
    """Return the logarithm of the chance that Brownian motion reaches a level in the time left.

    `h = Phi(-a) + exp(2 m d / c^2) Phi(-b) = exp(-a^2 / 2) (erfcx(a / sqrt 2) + erfcx(b / sqrt 2)) / 2`
    with `a = (d - m s) / (c sqrt s)`, `b = (d + m s) / (c sqrt s)`, for the distance d and the time s
    that are left, the mean m and the variance c^2 of a step. Minus infinity where all steps together do
    not reach the level, or the walk has not come by then.

    Reference: Bachelier 1900; Borodin, Salminen 2002, Handbook of Brownian motion.
    """
    values, masses = np.array(steps.values), steps.probabilities.detach().numpy()
    mean = float(values @ masses)
    variance = float((values - mean) ** 2 @ masses)
    side = 1 if level > start else -1
    d, drift, root = side * (level - x), side * mean * left, np.sqrt(variance * left)
    a, b = (d - drift) / root, (d + drift) / root
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        log_h = np.log((erfcx(a * 0.5**0.5) + erfcx(b * 0.5**0.5)) / 2) - a * a / 2
    far = ~(np.minimum(a, b) > -30)  # where erfcx would overflow
    rise = 2 * side * mean / variance * np.broadcast_to(d, far.shape)[far]
    log_h[far] = np.logaddexp(log_ndtr(-a[far]), rise + log_ndtr(-b[far]))
    least, most = steps.extent
    away = (x - start < t * least) | (x - start > t * most)
    return np.asarray(np.where(away | (d > left * max(side * least, side * most)), -np.inf, log_h))
