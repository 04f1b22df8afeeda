"""Steps that depend on time and state: by a function, or by a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from likely.errors import InvalidInput, InvalidType
from likely.walks.bits import Bits, below, cut
from likely.walks.geometry import Flags, States, told_states
from likely.walks.steps import LatticeSteps, Stretch, chosen, walked

#: (time, states) -> probabilities: of a step up, `(n,)`, or of each value, `(n, values)`
Masses: TypeAlias = Callable[[int, Tensor], Tensor]


@final
class Feedback(LatticeSteps):
    """Steps whose probabilities are a function of time and state.

    Args:
        values: integers, all different.
        masses: from (time, states) to probabilities, `(n, values)`; of two, `(n,)`, of the first.
        inner: refuse probabilities of 0 and 1, as a proposal must that is to cover every path.
    """

    def __init__(self, values: Sequence[int], masses: Masses, inner: bool = False) -> None:
        if not callable(masses):
            raise InvalidType(
                f"probabilities are a {type(masses).__name__}; expected a function (time, states)."
            )
        self.values, self.extent = tuple(values), (min(values), max(values))
        self.fractions = None
        self._function = masses
        self._inner = inner

    def draw(self, t: int, x: States, moving: States, most: int, bits: Bits) -> States:
        """Return states one step later, from one uniform number a path and cumulated probabilities."""
        with torch.no_grad():
            upto = self.masses(t, x).cumsum(0)[:-1].numpy()
        u = bits.generator.random(len(x))
        steps = chosen(self.values, u < upto, x.dtype)
        return walked(x, steps[None], moving)

    def log_prob(self, stretches: Iterable[Stretch]) -> Tensor:
        """Return the sum over times of the logarithms of what the function says."""
        return torch.stack([self._log_prob(stretch) for stretch in stretches]).sum(0)

    def _log_prob(self, stretch: Stretch) -> Tensor:
        x, total = stretch.x, torch.zeros(stretch.x.shape[1], dtype=torch.float64)
        for k, on in enumerate(stretch.running):
            step = torch.from_numpy(x[k + 1] - x[k])
            logs = torch.full(step.shape, -torch.inf, dtype=torch.float64)
            for value, mass in zip(self.values, self.masses(stretch.t + k, x[k]), strict=True):
                here = (step == value) & (mass > 0)
                logs = torch.where(here, torch.where(here, mass, 1.0).log(), logs)
            total = total + torch.where(torch.from_numpy(on), logs, 0.0)
        return total

    def masses(self, t: int, x: States) -> Tensor:
        """Return what the function says, checked.

        Raises:
            InvalidInput: it is of a wrong shape, or no probabilities.
        """
        told = torch.as_tensor(self._function(t, told_states(x))).double()
        if told.shape in ((), (len(x),)) and len(self.values) == 2:
            up = told.expand(len(x))
            told = torch.stack([up, 1 - up], 1)
        if told.shape != (len(x), len(self.values)):
            raise InvalidInput(
                f"the function of (time, states) returned {tuple(told.shape)} for {len(x)} states; "
                f"expected ({len(x)}, {len(self.values)}), or ({len(x)},) for steps of two values."
            )
        seen = told.detach()
        off = bool(((seen.sum(1) - 1).abs() > 1e-6).any()) or not bool((seen >= 0).all())
        if off or (self._inner and not bool((seen > 0).all())):
            kind = "strictly between 0 and 1" if self._inner else "from 0 to 1"
            raise InvalidInput(
                f"the function of (time, states) returned {seen.min().item():.6g} to "
                f"{seen.max().item():.6g} at time {t}; expected probabilities {kind} that sum to 1."
            )
        return told.T / seen.sum(1)


@final
class Tabulated(LatticeSteps):
    """Steps with a table of probabilities, by time and state: how h-transforms are kept.

    Args:
        values: integers, all different.
        log_table: the logarithms of the probabilities, `(times, values, states)`.
        lowest: the state of the first entry.
        stopped: where the walk does not move, `(states,)`.
    """

    def __init__(
        self, values: Sequence[int], log_table: NDArray[np.float64], lowest: int, stopped: Flags
    ) -> None:
        self.values, self.extent = tuple(values), (min(values), max(values))
        self.fractions = None
        self.covers = False
        self.lowest = lowest
        self._table = np.exp(log_table)
        upto = self._table[:, :-1].copy()
        for k in range(1, upto.shape[1]):
            upto[:, k] += upto[:, k - 1]
        self._first, self._rest = cut(np.minimum(upto, 1.0, out=upto))
        self._least, self._span = min(*values, 0), max(*values, 0) - min(*values, 0) + 1
        # The log-probability of each step by its size, with no step where the walk has stopped.
        times, _, cells = log_table.shape
        logs = np.full((times, self._span, cells), -np.inf)
        logs[:, np.array(values) - self._least] = log_table
        logs[..., stopped] = -np.inf
        logs[:, -self._least, stopped] = 0.0
        self._cells, self._logs = cells, logs.reshape(times, -1)

    def draw(self, t: int, x: States, moving: States, most: int, bits: Bits) -> States:
        """Return states whose steps compare 16 random bits with the table."""
        new = np.empty((most, len(x)), x.dtype)
        at, cells = x - x.dtype.type(self.lowest), np.empty(len(x), np.intp)
        *gaps, last = (moving * x.dtype.type(v) for v in (*-np.diff(self.values), self.values[-1]))
        for k, row in enumerate(new):
            np.copyto(cells, at)
            less = below(bits, len(x), self._first[t + k], self._rest[t + k], cells)
            at = np.add(at, last, out=row)
            for j, gap in enumerate(gaps):
                row += less[j] * gap
        new += x.dtype.type(self.lowest)
        return new

    def log_prob(self, stretches: Iterable[Stretch]) -> Tensor:
        """Return the sum of one table entry a step: its row is the step, its column the state."""
        return torch.from_numpy(np.sum([self._log_prob(stretch) for stretch in stretches], axis=0))

    def _log_prob(self, stretch: Stretch) -> NDArray[np.float64]:
        x = stretch.x
        step = x[1:] - x[:-1]
        valid = (step.min(0) >= self._least) & (step.max(0) < self._least + self._span)
        valid &= (x.min(0) >= self.lowest) & (x.max(0) < self.lowest + self._cells)
        at = step.astype(np.min_scalar_type(-2 * self._logs.shape[1]), copy=False)
        at -= self._least
        at *= self._cells
        at += x[:-1].astype(at.dtype, copy=False)
        at -= self.lowest
        total, logs, cells = np.zeros(x.shape[1]), np.empty(x.shape[1]), np.empty(x.shape[1], np.intp)
        for k, row in enumerate(at):  # a time's part of the table stays in the cache
            np.copyto(cells, row)
            total += self._logs[stretch.t + k].take(cells, out=logs, mode="clip")
        total[~valid] = -np.inf
        return total

    def masses(self, t: int, x: States) -> Tensor:
        """Return entries of the table; states outside of it have none."""
        cells = x.astype(np.intp) - self.lowest
        inside = (cells >= 0) & (cells < self._cells)
        found = np.zeros((len(self.values), len(x)))
        found[:, inside] = self._table[t][:, cells[inside]]
        return torch.from_numpy(found)
