"""Laws of steps: how a walk moves on from a state, and how likely that was."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from likely.walks.bits import Bits, below, cut
from likely.walks.geometry import Flags, States


@final
@dataclass(frozen=True, eq=False)
class Stretch:
    """Some times of many paths, at most 255.

    Args:
        t: the time of the first row.
        x: states with time first, `(k + 1, n)`.
        running: which of the k steps are steps, `(k, n)`; the others count nothing.
    """

    t: int
    x: States
    running: Flags


class Steps(ABC):
    """A law of steps, which may depend on time and state."""

    #: the least and the largest step
    extent: tuple[float, float]
    #: False where some steps that p makes are never made
    covers: bool = True

    @abstractmethod
    def draw(self, t: int, x: States, moving: States, most: int, bits: Bits) -> States:
        """Return the states after each of the steps from x at time t on, `(k, n)`; k is at most `most`.

        Levels do not stop these paths: whoever asks holds them where they should have stopped.

        Args:
            t: the time of the first step.
            x: the states then, `(n,)`.
            moving: 1 for paths that move, 0 for those that keep their state, in the type of x.
            most: how many steps are wanted.
            bits: where randomness comes from.
        """

    @abstractmethod
    def log_prob(self, stretches: Iterable[Stretch]) -> Tensor:
        """Return the log-probability of each path, told stretch by stretch, `(n,)`, in nats."""


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

    def draw(self, t: int, x: States, moving: States, most: int, bits: Bits) -> States:
        """Return states whose steps compare 16 random bits with the cumulated probabilities."""
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

    def masses(self, t: int, x: States) -> Tensor:
        """Return the same column for every state."""
        return self.probabilities[:, None].expand(-1, len(x))


def chosen(values: tuple[int, ...], less: Flags, dtype: np.dtype[Any]) -> States:
    """Return the value of each path, the first one whose cumulated probability exceeds u."""
    step: States = less[-1].astype(dtype)
    step *= dtype.type(values[-2] - values[-1])
    for flags, value, after in zip(less[:-1], values, values[1:], strict=False):
        step += flags * dtype.type(value - after)
    step += dtype.type(values[-1])
    return step


def walked(x: States, steps: States, moving: States) -> States:
    """Return the states after each of the steps, `(k, n)`, in their place."""
    steps *= moving
    steps[0] += x
    for before, after in pairwise(steps):
        after += before
    return steps


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
