"""Steps of one law at all times and in all states."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from likely.walks.bits import Bits, below, cut
from likely.walks.coins import LEAST, Coin
from likely.walks.geometry import Flags, Geometry, States
from likely.walks.paths import stop_times
from likely.walks.steps import LatticeSteps, Steps, Stretch, chosen, thrown, walked


@final
class Homogeneous(LatticeSteps):
    """Steps of one law at all times and in all states.

    Args:
        values: integers, all different.
        masses: their probabilities, positive; differentiable if their tensor is.
        fractions: the same, exactly.
    """

    def __init__(
        self, values: Sequence[int], masses: Tensor, fractions: tuple[Fraction, ...] | None = None
    ) -> None:
        self.values, self.extent = tuple(values), (min(values), max(values))
        self.probabilities = masses.double()
        self.fractions = fractions
        upto = self.probabilities.detach().cumsum(0)[:-1].clamp(0, 1).nan_to_num(0.0).numpy()
        self._first, self._rest = cut(upto)
        fair = len(values) == 2 and LEAST <= upto[0] <= 1 - LEAST
        self._coin = Coin(float(upto[0])) if fair else None

    def draw(self, t: int, x: States, moving: States, most: int, bits: Bits) -> States:
        """Return states after throws of a coin, or of numbers compared with cumulated probabilities."""
        if self._coin is not None:
            throws = self._coin.throws(bits, most * len(x)).reshape(most, len(x))
            return thrown((self.values[0], self.values[1]), x, throws, moving)
        less = below(bits, most * len(x), self._first, self._rest)
        return walked(x, chosen(self.values, less, x.dtype).reshape(most, len(x)), moving)

    def log_prob(self, stretches: Iterable[Stretch]) -> Tensor:
        """Return `sum_k (number of steps of value k) log p_k`.

        Where an optimiser has moved the probabilities out of range, no path is possible.
        """
        counted = [_counted(self.values, stretch) for stretch in stretches]
        counts = np.sum([counts for counts, _ in counted], axis=0, dtype=np.float64)
        valid = np.logical_and.reduce([valid for _, valid in counted])
        proper = (self.probabilities.detach() > 0).all()
        logs = torch.from_numpy(counts).T @ torch.where(proper, self.probabilities, 1.0).log()
        return torch.where(torch.from_numpy(valid) & proper, logs, -torch.inf)

    def log_weights(self, rows: States, geometry: Geometry, p: Steps) -> NDArray[np.float64] | None:
        """Return `a tau + b (X_tau - x)`, where `log p_k - log q_k = a + b v_k`, as of tilts."""
        if not isinstance(p, Homogeneous) or set(p.values) != set(self.values) or geometry.rule:
            return None
        order = [p.values.index(v) for v in self.values]
        gap = (p.probabilities.detach()[order].log() - self.probabilities.detach().log()).numpy()
        values = np.array(self.values)
        ends = values.argmin(), values.argmax()
        b = (gap[ends[1]] - gap[ends[0]]) / (values[ends[1]] - values[ends[0]])
        a = gap[ends[0]] - b * values[ends[0]]
        # A few roundings of logarithms are no departure from a tilt; NaN is.
        if not np.abs(gap - a - b * values).max() <= 1e-15 * (1 + np.abs(gap).max()):
            return None
        moved = rows[-1].astype(np.float64) - geometry.start
        return np.asarray(a * stop_times(rows, geometry) + b * moved)

    def masses(self, t: int, x: States) -> Tensor:
        """Return the same column for every state."""
        return self.probabilities[:, None].expand(-1, len(x))


def _counted(values: tuple[int, ...], stretch: Stretch) -> tuple[NDArray[np.uint8], Flags]:
    """Return how often each value was stepped, `(values, n)`, and whether all steps were possible."""
    step = stretch.x[1:] - stretch.x[:-1]
    counts = np.empty((len(values), step.shape[1]), np.uint8)
    for row, value in zip(counts, values, strict=True):
        made = step == value
        made &= stretch.running
        row[:] = _count(made)
    return counts, np.add.reduce(counts, dtype=np.uint8) == _count(stretch.running)


def _count(flags: Flags) -> NDArray[np.uint8]:
    """Return how many of at most 255 rows are set, `(n,)`: adding bytes is many times faster."""
    total: NDArray[np.uint8] = np.add.reduce(flags.view(np.uint8), axis=0, dtype=np.uint8)
    return total
