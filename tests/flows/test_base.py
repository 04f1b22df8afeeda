"""Base laws against scipy, and their draws by z-tests and a Kolmogorov-Smirnov test."""

import math

import pytest
import scipy.stats
import torch

from likely.flows import StandardLogistic, StandardNormal
from likely.seeds import generator_for

LAWS = {
    "normal": (StandardNormal, scipy.stats.norm),
    "logistic": (StandardLogistic, scipy.stats.logistic),
}
laws = pytest.mark.parametrize(("base", "scipy_law"), LAWS.values(), ids=LAWS)


@laws
def test_log_prob_is_scipys_summed_over_the_row(base, scipy_law):
    z = 3 * torch.randn(5, 2, 3, generator=generator_for(0), dtype=torch.float64)
    truth = torch.from_numpy(scipy_law.logpdf(z.numpy())).flatten(1).sum(1)
    torch.testing.assert_close(base((2, 3)).log_prob(z), truth, rtol=1e-13, atol=0)


@laws
@pytest.mark.parametrize("far", [-200.0, -90.0, 90.0, 200.0])
def test_tails_are_finite_in_float32(base, scipy_law, far):
    got = base((1,)).log_prob(torch.tensor([[far]])).item()
    assert got == pytest.approx(scipy_law.logpdf(far), rel=1e-6)


@laws
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_follow_the_law(base, scipy_law, dtype, assert_mean):
    z = base((2, 5)).sample(10_000, generator_for(0), dtype)
    assert z.shape == (10_000, 2, 5) and z.dtype == dtype and z.isfinite().all()
    # Three z-tests and one Kolmogorov-Smirnov test, each with a false alarm once in 1e6.
    assert_mean(z, 0.0)
    assert_mean(z.square(), base.scale**2)
    assert_mean((z > 1.5).double(), scipy_law.sf(1.5))
    assert scipy.stats.kstest(z.flatten().double().numpy(), scipy_law.cdf).pvalue > 1e-6


@laws
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_draws_in_few_digits_follow_the_law(base, scipy_law, dtype, assert_mean):
    z = base((50_000,)).sample(1, generator_for(0), dtype)
    assert z.dtype == dtype
    # Roundings to nearest cancel on average: both are far inside the error of the z-tests.
    assert_mean(z.double().flatten(), 0.0)
    assert_mean(z.double().flatten().square(), base.scale**2)


@laws
def test_draws_repeat_with_the_generator(base, scipy_law, same_global_state):
    with same_global_state():
        first, again, other = (base((3,)).sample(4, generator_for(s), torch.float32) for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


@laws
def test_entries_of_a_row_are_independent(base, scipy_law, assert_mean):
    z = base((2,)).sample(50_000, generator_for(1), torch.float64)
    assert_mean(z[:, 0] * z[:, 1], 0.0)
    assert_mean(z[1:, 0] * z[:-1, 0], 0.0)


@laws
def test_scale_is_the_standard_deviation(base, scipy_law):
    assert base.scale == pytest.approx(scipy_law.std(), rel=1e-14)


def test_logistic_draws_are_finite_for_the_extreme_uniforms(monkeypatch):
    # torch.rand can return 0 exactly, and 1 - eps/2 as its largest value.
    extremes = torch.tensor([[0.0, 1 - 2.0**-53]], dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *args, **kwargs: extremes.clone())
    low, high = StandardLogistic((2,)).sample(1, generator_for(0), torch.float32)[0].tolist()
    # The middle of the lowest cell, 2^-53 wide: nothing lies far below what its probability allows.
    assert low == pytest.approx(math.log(2.0**-54), rel=1e-6) and 35 < high < 38
