"""Laws of steps: how a walk moves on from a state, and how likely that was."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from likely.walks.bits import Bits
from likely.walks.geometry import Flags, Geometry, States


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

    @abstractmethod
    def log_weights(self, rows: States, geometry: Geometry, p: Steps) -> NDArray[np.float64] | None:
        """Return `log p - log q` of paths that these steps have drawn, time first, without a gradient.

        None where they know no shorter way to it than through `log_prob` twice.
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
    summed(steps)
    return steps


def thrown(values: tuple[int, int], x: States, throws: NDArray[np.uint8], moving: States) -> States:
    """Return the states after each of the throws, `(k, n)`: 1 for the first of two values, 0 else.

    They are added up in bytes where these hold them, and in the place of the throws.
    """
    byte = max(map(abs, values)) * len(throws) < 2**7
    moved: States = throws.view(np.int8) if byte else throws.astype(x.dtype)
    summed(moved)
    if values[0] - values[1] == 2:
        moved += moved  # bytes multiply slowly
    else:
        moved *= moved.dtype.type(values[0] - values[1])
    moved += values[1] * np.arange(1, len(throws) + 1, dtype=moved.dtype)[:, None]
    moved &= -moving.astype(moved.dtype)
    return np.asarray(np.add(x, moved, dtype=x.dtype))


def summed(rows: States) -> None:
    """Add up rows in their place: faster than `cumsum`, which goes down the columns."""
    for before, after in pairwise(rows):
        after += before
