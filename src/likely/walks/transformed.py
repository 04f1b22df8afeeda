"""Steps in proportion to how well a walk fares after them: h-transforms."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from functools import reduce
from itertools import pairwise
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from likely.walks.bits import Bits, cut
from likely.walks.geometry import Flags, Geometry, States
from likely.walks.steps import LatticeSteps, Steps, Stretch, chosen, thrown, walked
from likely.walks.table import Numbers, Table


@final
class Transformed(LatticeSteps):
    """Steps `q_k(t, x) = p_k h(t + 1, x + v_k) / (h(t, x) z(t, x))`, with z such that they sum to 1.

    Weights of paths telescope: `p / q = h(0, x_0) / h(tau, x_tau) prod_(t < tau) z(t, x_t)`. Where h is
    0, to which such steps do not lead, they are those of p.

    Args:
        table: its rows and columns.
        base: p.
        log_h: the logarithm of h, in `Table.logs`, `(horizon + 1, states + 1)`: minus infinity where no
            path leads to the event or to the state; where the walk has stopped, it is at all times 0 in
            the event and minus infinity elsewhere.
        log_z: that of z up to the time from which on it is 1; 0 where the walk has stopped.
    """

    def __init__(self, table: Table, base: LatticeSteps, log_h: Numbers, log_z: Numbers) -> None:
        self.values, self.extent = base.values, base.extent
        self.fractions = None
        self.covers = False
        self._table, self._base, self._log_h, self._log_z = table, base, log_h, log_z
        # Of falling values, so that a step is the least one and a gap more for each u below.
        self._order = sorted(range(len(self.values)), key=lambda k: -self.values[k])
        falling = [self.values[k] for k in self._order]
        self._falling = tuple(falling)
        self._gaps = [(v - w) // table.unit for v, w in pairwise(falling)]
        # A row for each time, of its lattice; a place in it is that of a walk from the start which has
        # made the least steps only, and so has gained nothing.
        cells = -(-table.width // table.unit)
        self._origin = table.lowest + table.start
        self._places = [
            t * cells + (table.start + t * table.least) // table.unit for t in range(table.end)
        ]
        upto = np.zeros((len(self._gaps), table.end, cells))
        for rows, columns in table.lattices(table.end):
            np.exp(self._log_q(rows, columns, self._order[:-1]), out=upto[:, rows, : len(columns)])
        if len(upto) > 1:
            np.cumsum(upto, axis=0, out=upto)
        self._first, self._rest = cut(np.minimum(upto, 1.0, out=upto).reshape(len(self._gaps), -1))

    def draw(self, t: int, x: States, moving: States, most: int, bits: Bits) -> States:
        """Return states whose steps compare 16 random bits with the table."""
        n, table = len(x), self._table
        gained = (x.astype(np.intp) - self._origin - t * table.least) // table.unit
        begin = gained.copy()
        u = bits.sixteen(most * n).reshape(most, 1, n)
        heads = np.empty((most, len(self._gaps), n), np.uint16)
        less = np.empty(heads.shape, bool)
        for k, place in enumerate(self._places[t : t + most]):
            for row, out in zip(self._first, heads[k], strict=True):
                row[place:].take(gained, out=out, mode="clip")
            np.less(u[k], heads[k], out=less[k])
            for gap, flags in zip(self._gaps, less[k].view(np.int8), strict=True):
                gained += flags if gap == 1 else np.intp(gap) * flags
        self._settle(t, u, heads, less, begin, bits)
        if len(self._gaps) == 1:
            return thrown((self._falling[0], self._falling[1]), x, less[:, 0].view(np.uint8), moving)
        return walked(x, chosen(self._falling, less.swapaxes(0, 1), x.dtype), moving)

    def log_prob(self, stretches: Iterable[Stretch]) -> Tensor:
        """Return `log p` of the path without the logarithm of its weight."""
        told = list(stretches)
        log_w = self._gain(told[-1].x[-1])
        for stretch in told:
            log_w += self._lost(stretch.t, stretch.x[:-1])
        return self._base.log_prob(told).detach() - torch.from_numpy(log_w)

    def log_weights(self, rows: States, geometry: Geometry, p: Steps) -> Numbers | None:
        """Return the logarithm of the weight as it telescopes."""
        return self._gain(rows[-1]) + self._lost(0, rows[:-1]) if p is self._base else None

    def masses(self, t: int, x: States) -> Tensor:
        """Return the probabilities; states outside of the table have none."""
        columns = x.astype(np.intp) - self._table.lowest
        within = (columns >= 0) & (columns < self._table.width)
        found = np.zeros((len(self.values), len(x)))
        log_q = self._log_q(slice(t, t + 1), columns[within], range(len(self.values)))
        found[:, within] = np.exp(log_q[:, 0])
        return torch.from_numpy(found)

    def _log_q(self, rows: slice, columns: States, which: Sequence[int]) -> Numbers:
        """Return the logarithms of the probabilities of some values, `(which, rows, columns)`."""
        here = self._log_h[rows].take(columns, axis=1)
        known = here > -np.inf
        here[~known] = 0.0
        log_z = self._log_z[rows].take(columns, axis=1)
        here[: len(log_z)] += log_z
        later = self._log_h[1:][rows]
        log_p = self._table.log_p(self._base, rows, columns)
        found = np.empty((len(which), *here.shape))
        for out, k, to in zip(found, which, self._table.after(columns)[list(which)], strict=True):
            np.subtract(later.take(to, axis=1), here, out=out)
            out[~known] = 0.0
            out += log_p[k]
        return found

    def _settle(
        self,
        t: int,
        u: NDArray[np.uint16],
        heads: NDArray[np.uint16],
        less: Flags,
        begin: States,
        bits: Bits,
    ) -> None:
        """Decide in place the steps that 16 bits leave open, `(k, gaps, n)`, and what follows."""
        ties = reduce(np.logical_or, (u == heads).swapaxes(0, 1))  # a step may have one at each gap
        redone: set[int] = set()
        for k in np.flatnonzero(ties.any(1)).tolist():
            for path in np.flatnonzero(ties[k]).tolist():
                if path in redone:
                    continue
                gained = int(begin[path]) + int(self._gaps @ less[:k, :, path].sum(0))
                if self._redo(t + k, gained, u[k:, 0, path].tolist(), less[k:, :, path], bits):
                    redone.add(path)

    def _redo(self, t: int, gained: int, u: list[int], less: Flags, bits: Bits) -> bool:
        """Return whether one path, whose first step is open, takes another course, and put it there."""
        for k, head in enumerate(u):
            at = min(max(self._places[t + k] + gained, 0), self._first.shape[1] - 1)
            first = [row.item(at) for row in self._first]
            now = [head < f for f in first]
            if head in first:
                v = bits.generator.random()  # one for all of a step: chances are cumulated
                rest = [row.item(at) for row in self._rest]
                now = [head < f or (head == f and v < r) for f, r in zip(first, rest, strict=True)]
                if k == 0 and now == less[0].tolist():
                    return False
            less[k] = now
            gained += sum(map(operator.mul, self._gaps, now))
        return True

    def _gain(self, ends: States) -> Numbers:
        """Return `log h(0, x_0) - log h(tau, x_tau)`: paths keep the state in which they stop."""
        at_end = self._log_h[-1].take(self._columns(ends), mode="clip")
        return np.asarray(self._log_h[0, self._table.start] - at_end)

    def _lost(self, t: int, x: States) -> Numbers:
        """Return `sum log z` over the rows of x, from time t on."""
        total = np.zeros(x.shape[1])
        for row, log_z in zip(x, self._log_z[t:], strict=False):
            total += log_z.take(self._columns(row), mode="clip")
        return total

    def _columns(self, x: States) -> NDArray[np.intp]:
        with np.errstate(invalid="ignore"):  # NaN is no state, and is found out elsewhere
            columns = x.astype(np.intp)
        columns -= self._table.lowest
        return columns
