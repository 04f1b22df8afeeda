"""h-transforms as tables: draws that sixteen bits leave open, and paths of any dtype."""

import numpy as np
import pytest
import torch
from scipy import stats

from likely import Walk
from likely.walks import finite

W = Walk(18 / 37, start=2, low=0, high=5, horizon=9)


class Constant:
    """Bits of which the first sixteen are always the same."""

    def __init__(self, head: int) -> None:
        self.head, self.generator = head, np.random.default_rng(2)

    def sixteen(self, m: int) -> np.ndarray:
        return np.full(m, self.head, np.uint16)


@pytest.mark.parametrize("values, shares", [((2, 1), (0.3, 0.7)), ((3, 2, 1), (0.3, 0.5, 0.2))])
def test_open_steps_have_the_chances_that_the_rest_of_the_bits_gives(
    values: tuple[int, ...], shares: tuple[float, ...]
) -> None:
    # All steps lead up, so that h is 1 and q is p. The cumulated chances begin with the same 16 bits;
    # given that u does so too, the steps have the shares that p has within that cell.
    first, cell, k, n = 2**14, 2.0**-16, 3, 30_000
    masses = [(first + shares[0]) * cell, *(share * cell for share in shares[1:-1])]
    w = Walk(steps=finite(values, [*masses, 1 - sum(masses)]), start=0, high=30, horizon=40)
    x = np.zeros(n, np.int16)
    new = w.doob(30).steps.draw(5, x, np.ones_like(x), k, Constant(first))
    steps = np.diff(np.concatenate([x[None], new]), axis=0)
    place = len(values) ** np.arange(k) @ (max(values) - steps)
    counts = np.bincount(place, minlength=len(values) ** k)
    chance = np.ones(1)
    for _ in range(k):
        chance = np.outer(np.array(shares), chance).ravel()
    tail = np.minimum(stats.binom.cdf(counts, n, chance), stats.binom.sf(counts - 1, n, chance))
    assert (tail > 0.5e-6 / len(counts)).all()


@pytest.mark.parametrize("q", [W, W.tilt(0.6), W.bridge(5), W.bridge(5, last=0), W.doob(5)])
def test_paths_of_any_dtype(q: Walk) -> None:
    x = q.sample(20, seed=0)
    truth = q.log_prob(x)
    for dtype in (torch.uint8, torch.int32, torch.int64, torch.float32, torch.float64):
        assert torch.equal(q.log_prob(x.to(dtype)), truth)
    assert (q.log_prob(torch.full((2, 10), torch.nan)) == -torch.inf).all()


def test_a_bridge_leads_nobody_where_the_level_is_out_of_reach() -> None:
    w = Walk(0.3, start=0, low=-40, high=12, horizon=30)
    for last in (0, 5):
        assert (w.bridge(12, last=last).sample(5000, seed=1)[:, -1] == 12).all()


def test_large_steps_do_not_overflow_the_bytes_they_are_added_up_in() -> None:
    w = Walk(steps=finite([100, -70], [0.4, 0.6]), start=0, low=-2000, high=3000, horizon=60)
    for q in (w, w.tilt(0.001), w.doob(3000), w.bridge(3000)):
        x = q.sample(300, seed=0)
        assert w.log_prob(x).isfinite().all() and q.log_prob(x).isfinite().all()
