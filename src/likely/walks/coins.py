"""Throws of one coin, eight at a time: one look into a table for each sixteen random bits."""

from __future__ import annotations

from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from likely.walks.bits import Bits

#: throws of one look, and its random bits
THROWS, BITS = 8, 16
#: coins less fair than this are better thrown one by one
LEAST = 2.0**-6
#: an entry of the table that more random bits decide
OPEN: Final = 2**THROWS


@final
class Coin:
    """A coin of chance q, thrown eight times at a time.

    The 2^8 outcomes of eight throws share the unit interval by their probabilities. A uniform u falls
    into one of them, and its first 16 bits tell which, but for the 255 cells of 65,536 in which one
    outcome ends and another begins: there 53 more bits are drawn. So a throw takes two bits, and eight
    throws have their law to `2^-53` of each outcome.

    Args:
        q: the chance, from `LEAST` to `1 - LEAST`.

    Example:
        >>> Coin(0.5).throws(Bits(0), 10**6).mean().round(2).item()
        0.5
    """

    def __init__(self, q: float) -> None:
        heads = np.unpackbits(np.arange(OPEN, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.int64)
        self._ends = np.cumsum(q**heads * (1 - q) ** (THROWS - heads))
        self._ends[-1] = 1.0
        ends = self._ends * 2**BITS
        first = np.ceil(ends).astype(np.int64)  # the first cell that lies above the end
        outcome = np.repeat(np.arange(OPEN, dtype=np.uint16), np.diff(first, prepend=0))
        outcome[first[first > ends] - 1] = OPEN
        self._outcome = outcome

    def throws(self, bits: Bits, m: int) -> NDArray[np.uint8]:
        """Return m independent throws: 1 with probability q, or 0."""
        u = bits.sixteen(-(-m // THROWS))
        outcomes = self._outcome.take(u)
        still = np.flatnonzero(outcomes == OPEN)
        v = (u[still] + bits.generator.random(len(still))) / 2**BITS
        outcomes[still] = np.searchsorted(self._ends[:-1], v, side="right")
        return np.unpackbits(outcomes.astype(np.uint8))[:m]
