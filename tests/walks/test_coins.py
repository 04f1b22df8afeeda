"""Eight throws from one look: the exact law, at the ends of its range as well."""

import numpy as np
import pytest
from scipy import stats

from likely.walks.bits import Bits
from likely.walks.coins import LEAST, THROWS, Coin


@pytest.mark.parametrize("q", [0.55, 18 / 37, 0.5, LEAST, 1 - LEAST, 0.9])
def test_outcomes_have_their_chances(q: float) -> None:
    # Of each of 256 outcomes, the exact binomial test; 1e-6 is shared among all of them.
    n = 400_000
    throws = Coin(q).throws(Bits(1), n * THROWS).reshape(n, THROWS)
    counts = np.bincount(np.packbits(throws), minlength=256)
    heads = np.array([bin(k).count("1") for k in range(256)])
    chance = q**heads * (1 - q) ** (8 - heads)
    tail = np.minimum(stats.binom.cdf(counts, n, chance), stats.binom.sf(counts - 1, n, chance))
    assert (tail > 0.5e-6 / 256).all()


def test_what_sixteen_bits_leave_open_is_decided_right() -> None:
    """A cell of 1/65,536 where one outcome ends and the next begins: the share of each in it."""

    class Fixed:
        def __init__(self, cell: int) -> None:
            self.cell, self.generator = cell, np.random.default_rng(0)

        def sixteen(self, m: int) -> np.ndarray:
            return np.full(m, self.cell, np.uint16)

    q, n = 0.3, 100_000
    end = (1 - q) ** 8 * 2**16  # where the outcome of no heads ends
    throws = Coin(q).throws(Fixed(int(end)), n * THROWS)
    none = int((np.packbits(throws.reshape(n, THROWS)) == 0).sum())
    assert stats.binomtest(none, n, end - int(end)).pvalue > 1e-6
    assert not Coin(q).throws(Fixed(int(end) - 1), THROWS).any()


def test_any_number_of_throws() -> None:
    for m in (1, 7, 8, 9, 30):
        assert len(Coin(0.4).throws(Bits(0), m)) == m
