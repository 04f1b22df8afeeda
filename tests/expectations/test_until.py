"""Stopping when the error bar looks small: what it costs in bias, and what the minima are for."""

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from likely import expect
from likely.expectations import Antithetic, Independent, Sobol, rel

RARE = Bernoulli(torch.tensor(0.01).double())


def runs(rule: rel, number: int) -> torch.Tensor:
    means = [expect(lambda b: b, RARE, until=rule, seed=s).mean for s in range(number)]
    return torch.stack(means)


def test_stops_when_it_says() -> None:
    law = Normal(torch.tensor(1.0).double(), 2.0)
    rule = rel(0.05, block=100, minimum=300)
    e = expect(lambda x: x, law, until=rule, seed=0)
    assert e.stderr <= 0.05 * e.mean and e.n % 100 == 0 and e.n >= 300
    before = expect(lambda x: x, law, n=e.n - 100, block=100, seed=0)
    assert before.stderr > 0.05 * before.mean  # not a block later than needed
    capped = expect(lambda x: x, law, n=500, until=rule, seed=0)
    assert capped.n == 500 and capped.stderr > 0.05 * capped.mean
    assert expect(lambda x: x, law, until=rel(9.0, minimum=777, block=100), seed=0).n == 800


@pytest.mark.parametrize("sampling", [Antithetic(), Sobol()], ids=str)
def test_stops_with_every_sampling(sampling: object) -> None:
    law = Normal(torch.tensor(1.0).double(), 2.0)
    e = expect(lambda x: x, law, until=rel(0.1), sampling=sampling, seed=0)
    assert e.n == 1024


def test_the_minima_keep_the_bias_below_a_fraction_of_the_tolerance() -> None:
    # 120 runs at a relative error of 0.1: the mean of their means has a standard error of 0.9%, so
    # that 5% fails once in 1e6 if the true bias is 0.5% (measured over 800 runs: 0.2% +- 0.3%).
    mean = runs(rel(0.1), 120).mean() / 0.01
    assert abs(mean - 1) < 0.05
    # Without them the first block that shows a few hits, or a lucky many, ends the run.
    hasty = runs(rel(0.6, minimum=1, hits=1, block=20), 400).mean() / 0.01
    assert hasty > 1.3  # measured: 1.56


def test_an_event_that_all_units_hit_alike_stops() -> None:
    law = Normal(torch.tensor(0.0).double(), 1.0)
    for event, sampling in ((lambda x: x < 9, Independent()), (lambda x: x > 0, Sobol(16))):
        e = expect(event, law, until=rel(0.05, block=1024), sampling=sampling, seed=0)
        assert e.n <= 4096 and e.stderr.isinf()


def test_never_stops_on_nothing() -> None:
    e = expect(lambda x: x > 9, Normal(0.0, 1.0), n=5000, until=rel(0.5), seed=0)
    assert e.n == 5000 and e.hits == 0
