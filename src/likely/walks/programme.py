"""The dynamic programme over the lattice: expected payoffs, from the horizon back to the start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from likely.walks.functionals import Functional
from likely.walks.geometry import Geometry, States
from likely.walks.scaled import Scaled
from likely.walks.steps import LatticeSteps


@final
@dataclass(frozen=True)
class Slice:
    """What a programme knows at one time: of each state that can be reached, the expected payoff."""

    time: int
    states: States
    value: Scaled


@final
@dataclass(frozen=True)
class Grid:
    """The states that a walk with integer steps can reach, time by time."""

    geometry: Geometry
    values: tuple[int, ...]

    def states(self, t: int) -> States:
        """Return the states within t steps of the start, and at most one step beyond a level."""
        low, high = self.bounds(t)
        return np.arange(low, high + 1)

    def bounds(self, t: int) -> tuple[int, int]:
        """Return the least and the largest of the states."""
        least, most = min(*self.values, 0), max(*self.values, 0)
        low, high = int(self.geometry.start) + t * least, int(self.geometry.start) + t * most
        if self.geometry.absorbing and self.geometry.low is not None:
            low = max(low, int(np.floor(self.geometry.low)) + 1 + least)
        if self.geometry.absorbing and self.geometry.high is not None:
            high = min(high, int(np.ceil(self.geometry.high)) - 1 + most)
        return low, high

    def after(self, states: States, later: States) -> Tensor:
        """Return where each step leads among the later states, `(values, states)`.

        Settled states, which do not step, are led anywhere.
        """
        to = states + np.array(self.values)[:, None] - later[0]
        return torch.from_numpy(np.clip(to, 0, len(later) - 1))


def slices(f: Functional, steps: LatticeSteps) -> Iterator[Slice]:
    """Yield the slices of `V(t, x) = sum_k p_k(t, x) V(t + 1, x + v_k)`, from the horizon back to 0.

    V is the payoff where the walk is settled, and at the horizon.
    """
    grid, end = Grid(f.geometry, steps.values), f.geometry.end
    states = grid.states(end)
    value = payoff(f, end, states)
    yield Slice(end, states, value)
    for t in range(end - 1, -1, -1):
        later, states = states, grid.states(t)
        masses = steps.masses(t, states)
        total = (value[grid.after(states, later)] * masses).sum()
        value = total.unless(torch.from_numpy(f.settles(t, states)), payoff(f, t, states))
        yield Slice(t, states, value)


def expected(f: Functional, steps: LatticeSteps) -> Scaled:
    """Return `E[f]`, differentiable in the probabilities of the steps."""
    *_, last = slices(f, steps)
    return last.value[0]


def payoff(f: Functional, t: int, states: States) -> Scaled:
    """Return the payoff at one time."""
    return Scaled.of(f.payoff(np.full(len(states), t), states).double())
