"""Every number of walks.json about the gambler, exact ones to 1e-12 and sampled ones by z-tests."""

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor
from torch.special import log_ndtr

from likely import Walk, adapt, exact, expect
from likely.expectations import Mixture
from likely.walks import Feedback, finite

Z_BOUND = 4.8916
P_HIT, P_RUIN = 2.388383450606957036695686e-6, 5.323700784182060e-4
BEST, BEST_FULL = 0.588069730803751, 0.565266609700218

W = Walk(Fraction(18, 37), start=100, low=0, high=200, horizon=600)
F = W.hits(200)


def brownian(t: int, x: Tensor) -> Tensor:
    """The chance of a step up towards 200 as of Brownian motion, written out as in walks.json."""
    mean, left = 2 * 18 / 37 - 1, 600 - t - 1
    scale = math.sqrt((1 - mean**2) * max(left, 1e-300))

    def log_h(d: Tensor) -> Tensor:
        one = log_ndtr((mean * left - d) / scale)
        two = 2 * mean * d / (1 - mean**2) + log_ndtr(-(mean * left + d) / scale)
        return torch.where(d <= 0, 0.0, torch.logaddexp(one, two) if left else -torch.inf)

    odds = log_h(199 - x) - log_h(201 - x) + math.log(18 / 19)
    return odds.nan_to_num(math.log(18 / 19), torch.inf, -torch.inf).sigmoid()


BROWNIAN = Walk(start=100, low=0, high=200, horizon=600, steps=Feedback((1, -1), brownian))


def test_probabilities() -> None:
    assert exact(F, W).item() == pytest.approx(P_HIT, rel=1e-12)
    assert exact(W.ruined(), W).item() == pytest.approx(P_RUIN, rel=1e-12)
    assert float(W.exact(F, rational=True)) == pytest.approx(P_HIT, rel=1e-15)
    assert float(W.exact(W.ruined(), rational=True)) == pytest.approx(P_RUIN, rel=1e-12)
    total = sum(W.exact(f, rational=True) for f in (F, W.ruined(), W.survives()))
    assert total == 1


def test_without_a_horizon() -> None:
    forever = Walk(18 / 37, 100, 0, 200)
    assert exact(forever.hits(200), forever).item() == pytest.approx(4.466284539492013818e-3, rel=1e-12)
    both = exact(forever.hits(200), forever) + exact(forever.ruined(), forever)
    assert both.item() == pytest.approx(1, rel=1e-14)


def test_mean_time_given_the_hit() -> None:
    mean = exact(W.passage_time(200), W) / exact(F, W)
    assert mean.item() == pytest.approx(544.09301936459, rel=1e-12)


@pytest.mark.parametrize(
    "via, truth, digits",
    [
        (None, 418692.24, 8),
        (W.tilt(0.55), 14.9008707156942099, 12),
        (W.tilt(BEST), 1.78765163670626, 12),
        (W.tilt(0.59189605), 1.83872, 6),
        (Mixture([W.tilt(0.55), W], [0.9, 0.1]), 16.668, 5),
        (Mixture([W.tilt(0.55), W.tilt(0.60)]), 4.332, 4),
        (BROWNIAN, 0.0092821, 5),
    ],
)
def test_relative_variances(via: Walk | Mixture | None, truth: float, digits: int) -> None:
    # Half a unit of the last digit that the reference gives, and 1e-12 where it gives them all.
    assert W.relative_variance(F, via).item() == pytest.approx(truth, rel=5 * 10.0**-digits)


def test_exact_last_steps_take_variance_from_a_bridge() -> None:
    # Brownian motion alone leads some walks to where 200 is out of reach; a bridge does not.
    spreads = [W.relative_variance(F, W.bridge(200, last=k)).item() for k in (0, 8, 64, 128, 600)]
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[0] < 0.0092821 and spreads[2] < 0.0092821 / 7.9 and spreads[4] < 1e-24


def test_no_variance_under_doob() -> None:
    assert 0 <= W.relative_variance(F, W.doob(200)).item() < 1e-24


@pytest.mark.parametrize("q, truth", [(0.55, 45.5536797544905693), (BEST_FULL, 30.0489543186739)])
def test_weights_over_all_games(q: float, truth: float) -> None:
    full = W.unstopped()
    assert full.relative_variance(full.hits(200), full.tilt(q)).item() == pytest.approx(
        truth, rel=1e-12
    )


def test_the_best_tilts_are_best() -> None:
    full = W.unstopped()
    for walk, best in [(W, BEST), (full, BEST_FULL)]:
        q = torch.tensor(best, dtype=torch.float64, requires_grad=True)
        slope = torch.autograd.grad(walk.relative_variance(walk.hits(200), walk.tilt(q)).log(), q)[0]
        assert abs(slope.item()) < 1e-9


def test_hits_under_a_tilt() -> None:
    assert exact(F, W.tilt(0.55)).item() == pytest.approx(0.06615, abs=5e-6)


@pytest.mark.parametrize("objective, best", [("variance", BEST), ("cross-entropy", 0.59189605)])
def test_adapt_finds_the_best_tilt(objective: str, best: float) -> None:
    found = adapt(F, W, W.tilt, start=0.55, objective=objective, n=4000, rounds=3, seed=0)
    excess = W.relative_variance(F, found) / W.relative_variance(F, W.tilt(best)) - 1
    assert abs(excess.item()) < 0.02


@pytest.mark.parametrize(
    "via", [W.tilt(0.55), W.tilt(BEST), W.bridge(200), [W.tilt(0.55), W.tilt(0.6)]]
)
def test_samples_agree(via: Walk | list[Walk]) -> None:
    n = 20_000
    e = expect(F, W, n=n, via=via, seed=3)
    spread = math.sqrt(W.relative_variance(F, Mixture(via) if isinstance(via, list) else via) / n)
    assert abs(e.mean.item() / P_HIT - 1) < Z_BOUND * spread


def test_the_order_of_steps_does_not_matter() -> None:
    w = Walk(start=0, low=-5, high=4, horizon=25, steps=finite([-1, 0, 1], [0.5, 0.1, 0.4]))
    same = Walk(start=0, low=-5, high=4, horizon=25, steps=finite([1, 0, -1], [0.4, 0.1, 0.5]))
    itself = w.relative_variance(w.hits(4)).item()
    assert w.relative_variance(w.hits(4), same).item() == pytest.approx(itself, rel=1e-12)
    assert itself == pytest.approx(1 / exact(w.hits(4), w).item() - 1, rel=1e-12)
    up = Walk(start=0, low=-5, high=4, horizon=25, steps=finite([-1, 1], [0.6, 0.4]))
    assert up.tilt(0.3).steps.probabilities.tolist() == [0.3, 0.7]


def test_levels_between_the_integers_without_a_horizon() -> None:
    for low, high in ((0, 4.5), (-0.5, 10), (-3, 7.2)):
        forever, long = (Walk(0.45, 2, low, high, end) for end in (None, 4000))
        truth = exact(long.hits(high), long).item()
        assert exact(forever.hits(high), forever).item() == pytest.approx(truth, rel=1e-9)


def test_traps() -> None:
    """The four warnings of the reference, as figures."""
    tilted = W.tilt(0.55)
    # The share of f w that counts, and that of the weights alone.
    assert 1 / (1 + W.relative_variance(F, tilted).item()) == pytest.approx(0.0629, abs=5e-5)
    everyone = W.terminal(torch.ones_like)
    assert 1 + W.relative_variance(everyone, tilted).item() == pytest.approx(11818, abs=0.5)
    # Nobody of 3,000 hits under a fair game, mostly.
    assert (1 - exact(F, W.tilt(0.5)).item()) ** 3000 == pytest.approx(0.88, abs=5e-3)
    # Without the level 0 the chance is hardly another, so that P_ruin must be looked at as well.
    open_ended = Walk(Fraction(18, 37), start=100, high=200, horizon=600)
    more = open_ended.exact(open_ended.hits(200), rational=True) / W.exact(F, rational=True) - 1
    assert float(more) == pytest.approx(1.4e-31, abs=5e-33)
