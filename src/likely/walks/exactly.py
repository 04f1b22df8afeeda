"""Exact answers about walks: expectations, fractions, and variances of proposals."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from likely.errors import InvalidInput
from likely.walks.forever import ruin
from likely.walks.functionals import Functional
from likely.walks.homogeneous import Homogeneous
from likely.walks.programme import Grid, Slice, expected, payoff, slices
from likely.walks.scaled import Scaled
from likely.walks.steps import LatticeSteps, Steps


def expectation(f: Functional, steps: Steps) -> Tensor:
    """Return `E[f]`, by dynamic programming, or without a horizon by the closed form."""
    if f.geometry.horizon is None:
        return ruin(f, steps)
    return expected(f, _lattice(steps)).value


def rational(f: Functional, steps: LatticeSteps) -> Fraction:
    """Return `E[f]` as a fraction: the programme in whole numbers over one denominator a time.

    Chances that are not known as fractions are taken as the numbers in float64 that they are.
    """
    grid, end = Grid(f.geometry, steps.values), f.geometry.end
    states, scale = grid.states(end), 1
    value = [_number(x) for x in f.payoff(np.full(len(states), end), states).tolist()]
    for t in range(end - 1, -1, -1):
        later, states = states, grid.states(t)
        masses = _fractions(steps, t, states)
        common = math.lcm(*(m.denominator for column in set(masses) for m in column))
        scale *= common
        whole = {column: [int(m * common) for m in column] for column in set(masses)}
        to = grid.after(states, later).tolist()
        settled = f.settles(t, states)
        payoffs = f.payoff(np.full(len(states), t), states).tolist()
        value = [
            _number(payoffs[x]) * scale
            if settled[x]
            else sum(m * value[index[x]] for m, index in zip(whole[masses[x]], to, strict=True))
            for x in range(len(states))
        ]
    return Fraction(value[0]) / scale


def relative_variance(f: Functional, p: Steps, q: Steps) -> Tensor:
    """Return `Var_q(w f) / E_p[f]^2` of one path, where w is the whole weight of the path.

    `S(t, x) = sum_k q_k r_k^2 S(t + 1, x + v_k) + sum_k q_k (r_k V(t + 1, x + v_k) - V(t, x))^2` with
    r = p / q: the variance of what is to come plus that of the next step, so that nothing cancels. What
    the weights do where the walk goes on after f is settled, G, is the same sum for f = 1.
    """
    p, q = _lattice(p), _lattice(q)
    if set(p.values) != set(q.values):
        raise InvalidInput(f"via has steps {q.values}; expected those of the walk, {p.values}.")
    order = [q.values.index(v) for v in p.values]
    grid = Grid(f.geometry, p.values)
    goes_on = f.level is not None or not f.geometry.absorbing
    pieces = slices(f, p)
    later = next(pieces)
    spread = growth = Scaled.of(torch.zeros(len(later.states), dtype=torch.float64))
    for now in pieces:
        states = now.states
        settled = torch.from_numpy(f.settles(now.time, states))
        over = torch.from_numpy(f.geometry.stops(now.time, states)) & f.geometry.absorbing
        p_masses, q_masses = p.masses(now.time, states), q.masses(now.time, states)[order]
        to = grid.after(states, later.states)
        moot = over if goes_on else settled | (later.value[to].mantissa == 0)
        r = _ratio(p_masses, q_masses, moot, now)
        gap = later.value[to] * r - now.value
        spread = ((spread[to] * r * r + gap * gap) * q_masses).sum()
        paid = payoff(f, now.time, states)
        if goes_on:
            swing = r - Scaled.of(torch.ones_like(p_masses))
            growth = ((growth[to] * r * r + swing * swing) * q_masses).sum()
            growth = growth.unless(over, Scaled.of(torch.zeros_like(over, dtype=torch.float64)))
            paid = paid * paid * growth
        else:
            paid = Scaled.of(torch.zeros_like(over, dtype=torch.float64))
        spread = spread.unless(settled, paid)
        later = now
    mean = later.value[0]
    if float(mean.mantissa.detach()) == 0:
        raise InvalidInput("the expectation is exactly 0: no variance is relative to that.")
    return (spread[0] / (mean * mean)).value


def _ratio(p: Tensor, q: Tensor, moot: Tensor, now: Slice) -> Scaled:
    """Return `p / q`, and 0 where q never comes, which must not matter."""
    missed = (q == 0) & (p > 0) & ~moot
    if bool(missed.any()):
        x = int(now.states[int(missed.nonzero()[0, 1])])
        raise InvalidInput(
            f"via never makes a step that matters, at time {now.time} in state {x}: its estimates are "
            "biased; expected a proposal that is positive wherever f p is not 0."
        )
    ratio = Scaled.of(p) / Scaled.of(torch.where(q > 0, q, 1.0))
    return ratio.unless(q == 0, Scaled.of(torch.zeros_like(q)))


def _lattice(steps: Steps) -> LatticeSteps:
    if not isinstance(steps, LatticeSteps):
        raise InvalidInput(
            f"the walk has {steps}: exact answers are for steps of integers; use expect."
        )
    return steps


def _fractions(steps: LatticeSteps, t: int, states: np.ndarray) -> list[tuple[Fraction, ...]]:
    if steps.fractions is not None:
        return [steps.fractions] * len(states)
    masses = steps.masses(t, states).detach().T
    if isinstance(steps, Homogeneous):
        masses = masses[:1]
    columns = [tuple(map(Fraction, column)) for column in masses.tolist()]
    return columns * (len(states) // len(columns))


def _number(value: float) -> int | Fraction:
    return int(value) if value == int(value) else Fraction(value)
