"""How a row divides into entries that move and entries that are kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import EllipsisType
from typing import final

import torch
from torch import Tensor

from likely.checks import kind
from likely.errors import InvalidInput, InvalidType


class Partition(ABC):
    """Which entries of a row move and which are kept."""

    #: the dimension along which a network stacks the parameters of the moved entries, from the last
    dim: int

    @abstractmethod
    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the moved and the kept entries."""

    @abstractmethod
    def merge(self, moved: Tensor, kept: Tensor) -> Tensor:
        """Put both parts back in their places, the inverse of `split`."""

    @abstractmethod
    def only_moved(self, entries: Tensor) -> Tensor:
        """Return what belongs to the moved part, zero where an entry of it does not move."""


@final
@dataclass(frozen=True)
class Split(Partition):
    """A division of one dimension, the last unless said otherwise, by two slices.

    They are the first and the last entries, either of which may move, or the even and the odd ones.

    Raises:
        InvalidType: one is no slice.
        InvalidInput: they do not cover the entries of a row, each once.

    Example:
        >>> import torch
        >>> moved, kept = interleaved(0).split(torch.arange(5.0))
        >>> moved.tolist(), kept.tolist()
        ([0.0, 2.0, 4.0], [1.0, 3.0])
    """

    moved: slice
    kept: slice
    dim: int = -1

    def __post_init__(self) -> None:
        for name, part in (("moved", self.moved), ("kept", self.kept)):
            if not isinstance(part, slice):
                raise InvalidType(f"{name} is {kind(part)}; expected a slice, such as slice(0, 2).")
            if part.step not in (None, 1, 2):
                raise InvalidInput(f"{name} is {part}; expected a step of 1 or 2.")

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the moved and the kept entries."""
        self.sizes(x.shape[self.dim])
        return x[self._at(self.moved)], x[self._at(self.kept)]

    def merge(self, moved: Tensor, kept: Tensor) -> Tensor:
        """Put both parts back in their places, the inverse of `split`."""
        shape = list(moved.shape)
        shape[self.dim] += kept.shape[self.dim]
        places = range(shape[self.dim])[self.moved]
        if places.step == 1:
            parts = [moved, kept] if places.start == 0 else [kept, moved]
            return torch.cat(parts, self.dim)
        x = moved.new_empty(shape)
        x[self._at(self.moved)] = moved
        x[self._at(self.kept)] = kept
        return x

    def only_moved(self, entries: Tensor) -> Tensor:
        """Return entries as they are: all of them move."""
        return entries

    def _at(self, part: slice) -> tuple[EllipsisType | slice, ...]:
        return (..., part, *(slice(None),) * (-1 - self.dim))

    def sizes(self, dim: int) -> tuple[int, int]:
        """Return how many of `dim` entries move and how many are kept."""
        moved, kept = range(dim)[self.moved], range(dim)[self.kept]
        first, then = sorted((moved, kept), key=lambda part: (part.start, part.stop))
        # With as many entries in all as there are, these are the only ways to cover each once.
        begins = len(first) if first.step == 1 else 1
        if (len(moved) + len(kept), moved.step, first.start, then.start) != (dim, kept.step, 0, begins):
            raise InvalidInput(
                f"moved is {self.moved} and kept {self.kept}, of {dim} entries; expected slices that "
                "cover each once: the first and the last, or the even and the odd ones."
            )
        return len(moved), len(kept)


@final
@dataclass(frozen=True)
class Checkerboard(Partition):
    """The black or the white cells of each channel: pixel (i, j) moves where `(i + j) mod 2 = moved`.

    The moved part is the whole image, of which the moved cells count; the kept part is the image with
    the moved cells at zero. It needs no even height or width.

    Example:
        >>> import torch
        >>> Checkerboard(0).split(torch.ones(1, 1, 2, 3))[1].tolist()
        [[[[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]]]
    """

    moved: int
    dim: int = -3

    def __post_init__(self) -> None:
        side(self.moved)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the image, and the image with the moved cells at zero."""
        return x, torch.where(self._moves(x), 0.0, x)

    def merge(self, moved: Tensor, kept: Tensor) -> Tensor:
        """Return the moved cells of one and the kept cells of the other."""
        return torch.where(self._moves(moved), moved, kept)

    def only_moved(self, entries: Tensor) -> Tensor:
        """Return entries, zero on the kept cells."""
        return torch.where(self._moves(entries), entries, 0.0)

    def _moves(self, x: Tensor) -> Tensor:
        rows = torch.arange(x.shape[-2], device=x.device)[:, None]
        return (rows + torch.arange(x.shape[-1], device=x.device)) % 2 == self.moved


def interleaved(moved: int) -> Split:
    """Split into even (0, 2, ...) and odd positions; `moved` is 0 to move the even ones, 1 the odd.

    Raises:
        InvalidInput: moved is neither.

    Example:
        >>> [part.tolist() for part in interleaved(1).split(torch.arange(5))]
        [[1, 3], [0, 2, 4]]
    """
    return Split(slice(side(moved), None, 2), slice(1 - moved, None, 2))


def halves(dim: int, moved: int) -> Split:
    """Split `dim` entries in the middle; `moved` is 0 to move the first half, 1 the second.

    Raises:
        InvalidInput: moved is neither.

    Example:
        >>> [part.tolist() for part in halves(5, 1).split(torch.arange(5))]
        [[2, 3, 4], [0, 1]]
    """
    parts = slice(None, dim // 2), slice(dim // 2, None)
    return Split(parts[side(moved)], parts[1 - moved])


def channel_halves(channels: int, moved: int) -> Split:
    """Split the channels of images in the middle; `moved` is 0 to move the first half, 1 the second.

    Raises:
        InvalidInput: moved is neither.

    Example:
        >>> [part.shape[1] for part in channel_halves(5, 1).split(torch.zeros(2, 5, 3, 3))]
        [3, 2]
    """
    split = halves(channels, moved)
    return Split(split.moved, split.kept, dim=-3)


def side(moved: int) -> int:
    """Return 0 or 1, and refuse anything else."""
    if moved not in (0, 1):
        raise InvalidInput(f"moved is {moved}; expected 0 (even, or first half) or 1 (odd, or second).")
    return moved
