"""Random numbers for walks: sixteen bits at a time, and exact to 53 and more all the same."""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import NDArray

#: integers that are drawn in one go at the least
STOCK = 2**15


@final
class Bits:
    """A source of random bits.

    Args:
        seed: of an SFC64 generator.
    """

    def __init__(self, seed: int) -> None:
        self._source = np.random.SFC64(seed)
        self._stock = np.empty(0, np.uint16)
        self.generator = np.random.Generator(self._source)

    def sixteen(self, m: int) -> NDArray[np.uint16]:
        """Return m integers, uniform from 0 to 2^16 - 1."""
        if m > len(self._stock):
            self._stock = self._source.random_raw(max(m, STOCK) // 4 + 1).view(np.uint16)
        found, self._stock = self._stock[:m], self._stock[m:]
        return found


def cut(q: NDArray[np.float64]) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    """Return the first 16 bits of probabilities, and the rest, from 0 to 1."""
    scaled = q * 2.0**16
    first = np.minimum(scaled, 2.0**16 - 1).astype(np.uint16)
    return first, scaled - first


def below(
    bits: Bits,
    m: int,
    first: NDArray[np.uint16],
    rest: NDArray[np.float64],
    cells: NDArray[np.intp] | None = None,
) -> NDArray[np.bool_]:
    """Return whether one uniform number for each path lies below each of the probabilities.

    `u < q` is decided by the first 16 bits of u unless they equal those of q; only then, once in 65,536
    times, is the rest drawn. So the chance is q to 2^-69 at the price of 16 bits.

    Args:
        bits: where the numbers come from.
        m: how many paths.
        first: of each probability, `(J,)`, or `(J, cells)` for probabilities of their own in each cell.
        rest: of the same shape.
        cells: the cell of each path; one that is out of range counts as the nearest.
    """
    u = bits.sixteen(m)
    heads = first[:, None] if cells is None else first.take(cells, axis=1, mode="clip")
    less, ties = u < heads, u == heads
    if np.count_nonzero(ties):
        for path in np.flatnonzero(ties.any(0)):
            v = bits.generator.random()  # one for all of the path's probabilities: they are cumulated
            tails = rest if cells is None else rest.take(cells[path], axis=1, mode="clip")
            less[:, path] = np.where(ties[:, path], v < tails, less[:, path])
    return less
