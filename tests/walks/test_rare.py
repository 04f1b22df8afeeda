"""Rare events: error bars, coverage, and probabilities down to 1e-400."""

import math
from fractions import Fraction

import pytest
import torch
from scipy import stats

from likely import Walk, exact, expect

Z_BOUND = 4.8916
W = Walk(18 / 37, start=100, low=0, high=200, horizon=600)
F = W.hits(200)
P_HIT = 2.388383450606957036695686e-6


def test_error_bars_of_the_transforms() -> None:
    bridge = expect(F, W, n=3000, via=W.bridge(200), seed=0)
    assert bridge.stderr / bridge.mean <= 0.001
    doob = expect(F, W, n=3000, via=W.doob(200), seed=0)
    assert doob.stderr / doob.mean <= 1e-12 and int(doob.hits) == 3000
    assert doob.mean.item() == pytest.approx(P_HIT, rel=1e-11)


def test_ruin_is_estimated_as_well() -> None:
    # The low level changes P(hit) by 1e-31 of itself: only ruin shows that it is there.
    e = expect(W.ruined(), W, n=20_000, via=W.tilt(19 / 37 - 0.1), seed=1)
    assert abs(e.mean.item() - 5.323700784182060e-4) < Z_BOUND * e.stderr.item()


def test_intervals_cover() -> None:
    q, runs = W.tilt(0.588), 400
    low, high = torch.tensor(
        [[end.item() for end in expect(F, W, n=400, via=q, seed=s).interval()] for s in range(runs)]
    ).T
    covered = int(((low <= P_HIT) & (high >= P_HIT)).sum())
    # Coverage of 95% intervals of 400 skewed draws lies between 93% and 96%.
    assert (
        stats.binom.cdf(covered, runs, 0.93) > 1e-6 and stats.binom.sf(covered - 1, runs, 0.96) > 1e-6
    )


def test_no_event_seen_is_no_zero() -> None:
    e = expect(F, W, n=1000, seed=0)
    assert "no event seen" in str(e) and e.stderr == math.inf
    assert e.interval()[1].item() == pytest.approx(1 - 0.05 ** (1 / 1000))


@pytest.mark.parametrize(
    "p, high, horizon, size",
    [
        (Fraction(18, 37), 155, 600, -12),
        (Fraction(2, 5), 55, 600, -10),
        (Fraction(18, 37), 255, 600, -29),
        (Fraction(1, 3), 105, 300, -32),
    ],
)
def test_far_events(p: Fraction, high: int, horizon: int, size: int) -> None:
    w = Walk(p, 0, -high, high, horizon)
    f = w.hits(high)
    truth = float(w.exact(f, rational=True))
    assert math.floor(math.log10(truth)) == size
    assert exact(f, w).item() == pytest.approx(truth, rel=1e-12)
    e = expect(f, w, n=500, via=w.bridge(high), seed=2)
    assert (
        abs(e.mean.item() / truth - 1) < Z_BOUND * (w.relative_variance(f, w.bridge(high)) / 500).sqrt()
    )


def test_beyond_the_smallest_number() -> None:
    w = Walk(Fraction(1, 20), 0, -500, 500, 600)
    f = w.hits(500)
    fraction = w.exact(f, rational=True)
    log = math.log(fraction.numerator) - math.log(fraction.denominator)
    assert log < -1000 and float(fraction) == 0.0
    e = expect(f, w, n=200, via=w.doob(500), seed=0)
    assert e.log_mean.item() == pytest.approx(log, rel=1e-12)
    assert e.stderr == 0 and w.relative_variance(f, w.doob(500)) < 1e-20


def test_weights_that_would_overflow() -> None:
    # The weight of a path that falls all the way is (0.9 / 0.001)^400 > 1e1000.
    w = Walk(0.1, 0, None, None, 400)
    e = expect(w.ends_above(-401), w, n=100, via=w.tilt(0.999), seed=0)
    assert e.log_mean.isfinite() and not e.mean.isnan()


def test_a_feedback_that_aims_too_early() -> None:
    # Its sample looks fine; the exact variance does not.
    def early(t: int, x: torch.Tensor) -> torch.Tensor:
        return (0.5 + (200 - x) / (2 * max(400 - t, 1))).clamp(0.02, 0.98)

    hasty = W.feedback(early)
    e = expect(F, W, n=3000, via=hasty, seed=0)
    assert e.stderr / e.mean < 1 and W.relative_variance(F, hasty) > 1e6
