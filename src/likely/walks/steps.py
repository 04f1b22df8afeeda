"""Laws of steps: how a walk moves on from a state, and how likely that was."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from likely.walks.bits import Bits, below, cut
from likely.walks.geometry import Flags, States


class Steps(ABC):
    """A law of steps, which may depend on time and state."""

    #: the least and the largest step
    extent: tuple[float, float]
    #: False where some steps that p makes are never made
    covers: bool = True

    @abstractmethod
    def draw(self, t: int, x: States, most: int, bits: Bits) -> States:
        """Return steps from the states x at time t on, `(k, n)`.

        As many, up to `most`, as can be drawn without knowing the states between: one for each path
        where steps depend on the state.
        """

    @abstractmethod
    def log_prob(self, t: int, x: States, running: Flags) -> Tensor:
        """Return the log-probability of a stretch of each path, `(n,)`, in nats.

        Args:
            t: the time of the first row.
            x: states with time first, `(k + 1, n)`.
            running: which of the k steps are steps, `(k, n)`; the others count nothing.
        """


class LatticeSteps(Steps):
    """Steps of finitely many integer values, which dynamic programmes can sum over."""

    values: tuple[int, ...]
    #: the probabilities as exact fractions, where they are constant and known as such
    fractions: tuple[Fraction, ...] | None

    def __repr__(self) -> str:
        return f"{type(self).__name__} steps of {', '.join(f'{v:+d}' for v in self.values)}"

    @abstractmethod
    def masses(self, t: int, x: States) -> Tensor:
        """Return the probability of each value, `(values, n)`, at time t in states x."""


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
        upto = self.probabilities.detach().cumsum(0)[:-1].clamp(0, 1).nan_to_num(0.0)
        self._first, self._rest = cut(upto.numpy())

    def draw(self, t: int, x: States, most: int, bits: Bits) -> States:
        """Return steps by comparing 16 random bits with the cumulated probabilities."""
        less = below(bits, most * len(x), self._first, self._rest)
        return chosen(self.values, less, x.dtype).reshape(most, len(x))

    def log_prob(self, t: int, x: States, running: Flags) -> Tensor:
        """Return `sum_k (number of steps of value k) log p_k`.

        Where an optimiser has moved the probabilities out of range, no path is possible.
        """
        counts, valid = _counted(self.values, x, running)
        proper = (self.probabilities.detach() > 0).all()
        logs = torch.from_numpy(counts) @ torch.where(proper, self.probabilities, 1.0).log()
        return torch.where(torch.from_numpy(valid) & proper, logs, -torch.inf)

    def masses(self, t: int, x: States) -> Tensor:
        """Return the same column for every state."""
        return self.probabilities[:, None].expand(-1, len(x))


def chosen(values: tuple[int, ...], less: list[Flags], dtype: np.dtype[Any]) -> States:
    """Return the value of each path, the first one whose cumulated probability exceeds u."""
    step: States = less[-1] * dtype.type(values[-2] - values[-1])
    for flags, value, after in zip(less[:-1], values, values[1:], strict=False):
        step += flags * dtype.type(value - after)
    step += dtype.type(values[-1])
    return step


def _counted(values: tuple[int, ...], x: States, running: Flags) -> tuple[NDArray[np.float64], Flags]:
    """Return how often each value was stepped, `(n, values)`, and whether all steps were possible."""
    step = x[1:] - x[:-1]
    counts = [_count((step == value) & running) for value in values]
    return np.stack(counts, 1).astype(np.float64), np.sum(counts, axis=0) == _count(running)


def _count(flags: Flags) -> NDArray[np.int64]:
    """Return how many rows are set, `(n,)`; bytes are added up, which is many times faster."""
    total = np.zeros(flags.shape[1], np.int64)
    for k in range(0, len(flags), 255):
        total += np.add.reduce(flags[k : k + 255].view(np.uint8), axis=0, dtype=np.uint8)
    return total
