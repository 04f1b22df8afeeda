"""Subset simulation has the right mean, whatever the number of points, and says when it fails."""

import math

import pytest
import torch
from scipy import stats
from torch.distributions import Exponential, Independent, Normal

from conftest import Z_BOUND
from likely import Estimate
from likely.errors import InvalidInput, InvalidType, NotConverged
from likely.walks import subset
from likely.walks.repeated import estimate_of
from walks.rare import REGIONS, linear, normal


def z_of(e: Estimate, truth: float) -> float:
    return (e.mean.item() - truth) / e.stderr.item()


@pytest.mark.parametrize("name", REGIONS)
def test_mean_is_the_probability(name: str) -> None:
    case = REGIONS[name]
    e = subset(case.f, case.p, n=500, repeats=100, seed=0)
    assert abs(z_of(e, case.truth)) < Z_BOUND
    # 0.10 to 0.31 for seven seeds.
    assert e.stderr < 0.5 * case.truth


@pytest.mark.parametrize(("n", "share"), [(20, 0.1), (8, 0.25), (4, 0.5)])
def test_unbiased_with_hardly_any_points(n: int, share: float) -> None:
    case = linear(2.0, 2)
    e = subset(case.f, case.p, n=n, share=share, repeats=60_000, seed=1)
    assert abs(z_of(e, case.truth)) < Z_BOUND
    assert e.stderr < 0.02 * case.truth


def test_one_in_1e30() -> None:
    case = linear(11.5, 3)
    e = subset(case.f, case.p, n=1000, repeats=50, seed=0)
    assert 1e-31 < case.truth < 1e-29
    assert abs(z_of(e, case.truth)) < Z_BOUND
    # 0.10 to 0.31 for seven seeds.
    assert e.stderr < 0.5 * case.truth


def test_runs_below_the_smallest_number_have_a_mean_in_logarithms() -> None:
    e = estimate_of(torch.tensor([-1000.0, -1001.0, -math.inf]).double())
    assert e.log_mean.item() == pytest.approx(-1000 + math.log((1 + math.exp(-1)) / 3), abs=1e-12)
    assert (e.n, e.hits) == (3, 2)


def test_events_of_any_shape_and_precision() -> None:
    p = Independent(Normal(torch.zeros(2, 3), 1.0), 2)

    def f(x: torch.Tensor) -> torch.Tensor:
        assert x.shape[1:] == (2, 3)
        assert x.dtype == torch.float32
        return 3 - x.sum((1, 2)) / math.sqrt(6)

    e = subset(f, p, n=200, repeats=100, seed=0)
    assert abs(z_of(e, stats.norm.sf(3))) < Z_BOUND


def test_common_events_need_no_threshold() -> None:
    e = subset(lambda x: x, Normal(torch.tensor(0.0).double(), 1.0), n=100, repeats=400, seed=0)
    assert abs(z_of(e, 0.5)) < Z_BOUND
    sure = subset(lambda x: -1 - x.square(), Normal(torch.tensor(0.0).double(), 1.0), seed=0)
    assert sure.mean == 1


def test_seeds_decide_everything_and_leave_the_global_state(same_global_state) -> None:
    case = linear(3.0, 2)
    with same_global_state():
        a, b, c = (subset(case.f, case.p, n=100, seed=seed) for seed in (3, 3, 4))
    assert a.mean == b.mean != c.mean
    both = a + c
    assert both.n == 64
    assert torch.allclose(both.mean, (a.mean + c.mean) / 2)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"f": lambda x: torch.full((len(x),), torch.nan)}, InvalidInput, "NaN for"),
        ({"f": lambda x: x}, InvalidInput, "f returned shape"),
        ({"f": lambda x: x.sum(1) > 3}, InvalidType, "booleans"),
        ({"f": lambda x: 3.0}, InvalidType, "a float"),
        ({"f": 3.0}, InvalidType, "expected a function"),
        ({"p": Exponential(torch.ones(2))}, InvalidInput, "independent normal"),
        ({"n": 15}, InvalidInput, "a multiple of 10"),
        ({"n": 10}, InvalidInput, "at least 20"),
        ({"n": 100.0}, InvalidType, "an integer"),
        ({"share": 0.7}, InvalidInput, "at most 0.5"),
        ({"repeats": 1}, InvalidInput, "repeats is 1"),
        ({"f": lambda x: torch.ones(len(x))}, NotConverged, "never fell to 0: its lowest value is 1"),
        (
            {"f": lambda x: 1 + x.square().sum(1)},
            NotConverged,
            "never fell to 0: its lowest value is 1",
        ),
    ],
)
def test_bad_input(change: dict, error: type, text: str) -> None:
    given = {"f": lambda x: 3 - x.sum(1), "p": normal(2), "n": 100, "seed": 0} | change
    with pytest.raises(error, match=text):
        subset(**given)


def test_infinite_until_it_fails() -> None:
    standard = Independent(Normal(torch.zeros(2), 1.0), 1)
    with pytest.raises(NotConverged, match="f never fell to 0"):
        subset(lambda x: torch.where(x[:, 0] > 9, -1.0, torch.inf), standard, n=200, seed=0)


def test_few_effective_repetitions_are_said() -> None:
    # A ball that shrinks to a point: the chains hardly move, and the spread of the runs is too small.
    standard = Independent(Normal(torch.zeros(6).double(), 1.0), 1)
    e = subset(lambda x: x.square().sum(1) - 0.005, standard, n=1000, seed=1)
    assert any("effective sample size" in warning for warning in e.warnings)
