"""The accumulator: what it says, and that merging says the same as one sample would."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import Exponential, Normal

from likely import Estimate, expect
from likely.errors import InvalidInput
from likely.expectations import Antithetic, Sobol
from likely.expectations.tails import pareto_k

P = Normal(torch.tensor(0.0).double(), torch.tensor(1.0).double())
Q = Normal(torch.tensor(1.0).double(), torch.tensor(1.5).double())


def f(x: Tensor) -> Tensor:
    return torch.stack([(x > 0.5) * x, x.square()], dim=1)


def drawn(n: int, seed: int, **how: object) -> tuple[Estimate, Tensor]:
    """The estimate of n draws in blocks, and the draws."""
    seen: list[Tensor] = []
    e = expect(lambda x: (seen.append(x), f(x))[1], P, n=n, seed=seed, **how)
    return e, torch.cat(seen)


def test_moments_are_those_of_all_draws() -> None:
    e, x = drawn(5000, 0, block=700, via=Q)
    w = (P.log_prob(x) - Q.log_prob(x)).exp()[:, None]
    a = w * f(x)
    assert e.n == len(x) == 5000
    torch.testing.assert_close(e.mean, a.mean(0), rtol=1e-13, atol=0)
    torch.testing.assert_close(e.stderr, a.std(0) / math.sqrt(5000), rtol=1e-12, atol=0)
    torch.testing.assert_close(e.ess, a.sum(0).square() / a.square().sum(0), rtol=1e-12, atol=0)
    assert torch.equal(e.hits, (a != 0).sum(0))
    torch.testing.assert_close(
        e.top_weights, a.abs().sort(0, descending=True).values[:5] / a.abs().sum(0)
    )


def test_a_self_normalised_estimate_is_the_ratio_with_the_error_of_the_delta_method() -> None:
    e, x = drawn(5000, 0, block=700, via=Q, normalise=True)
    w = (P.log_prob(x) - Q.log_prob(x)).exp()[:, None]
    mean = (w * f(x)).sum(0) / w.sum(0)
    error = (w * (f(x) - mean)).std(0) / w.mean(0) / math.sqrt(5000)
    torch.testing.assert_close(e.mean, mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(e.stderr, error, rtol=1e-9, atol=0)


def test_third_powers_merge_exactly() -> None:
    # The interval of two samples together is that of all their pairs.
    def f(x: Tensor) -> Tensor:
        return (2 * x).exp()

    seen: list[Tensor] = []
    parts = [
        expect(lambda x: (seen.append(f(x)), f(x))[1], P, n=n, seed=n, sampling=Antithetic())
        for n in (30, 8, 90)
    ]
    means = torch.cat(seen).reshape(-1, 2).mean(1)
    both = (parts[0] + parts[1]) + parts[2]
    off = means - means.mean()
    torch.testing.assert_close(both.moments.aaa, (off**3).sum(), rtol=1e-11, atol=0)
    torch.testing.assert_close(both.moments.aa, off.square().sum(), rtol=1e-11, atol=0)
    # Turned back by its own formula, the end that Hall's transformation moved is at Student's quantile.
    u = len(means)
    g = stats.skew(means.numpy(), bias=False) * (1 + 21 / (4 * u))
    low, high = (end.item() for end in both.interval())
    t, a = (both.mean.item() - high) / both.stderr.item(), g / math.sqrt(u)
    assert g > 1 and t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6 == pytest.approx(
        -stats.t.ppf(0.975, u - 1)
    )
    assert both.mean.item() - low == pytest.approx(stats.t.ppf(0.975, u - 1) * both.stderr.item())


@pytest.mark.parametrize("how", [{}, {"via": Q}, {"via": Q, "normalise": True}], ids=str)
def test_merging_is_exact_and_associative(how: dict) -> None:
    parts = [drawn(n, seed, **how)[0] for seed, n in enumerate((400, 1300, 7, 2000))]
    a, b, c, d = parts
    for one, two in ((a + b + c + d, d + (c + (b + a))), ((a + b) + (c + d), a + (b + c) + d)):
        for name in ("mean", "stderr", "ess", "khat", "top_weights"):
            torch.testing.assert_close(getattr(one, name), getattr(two, name), rtol=1e-11, atol=0)
        assert torch.equal(one.hits, two.hits) and one.n == two.n == 3707
    size = [t.numel() for t in vars((a + b).moments).values() if isinstance(t, Tensor)]
    more = [t.numel() for t in vars((a + b + c + d).moments).values() if isinstance(t, Tensor)]
    assert sum(size) == sum(more)  # the memory does not grow


def test_merging_bridges_scales_that_no_float_holds() -> None:
    far = Normal(torch.tensor(60.0).double(), 1.0)
    for shift in (-2000.0, 2000.0):

        class Scaled:
            def __init__(self, shift: float) -> None:
                self.shift = shift

            def log_prob(self, x: Tensor) -> Tensor:
                return P.log_prob(x) + self.shift

            def sample(self, n: int) -> Tensor:
                raise RuntimeError("never drawn")

        law = Scaled(shift)
        parts = [expect(lambda x: x > 60, law, n=10_000, via=far, seed=s) for s in (0, 1)]
        both = parts[0] + parts[1]
        truth = stats.norm.logsf(60) + shift
        # The effective sample size is about 370: five relative standard errors.
        assert abs(both.log_mean.item() - truth) < 0.26
        ratio = expect(lambda x: x > 60.5, law, n=2000, via=far, seed=0, normalise=True)
        assert 0 < ratio.mean < 1


def test_merging_keeps_the_gradient() -> None:
    mu = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    parts = [expect(f, Normal(mu, 1.0), n=n, grad="score", seed=n) for n in (30, 50)]
    (both,) = torch.autograd.grad((parts[0] + parts[1]).mean.sum(), mu, retain_graph=True)
    each = [torch.autograd.grad(e.mean.sum(), mu)[0] for e in parts]
    torch.testing.assert_close(both, (30 * each[0] + 50 * each[1]) / 80)


def test_an_event_nobody_saw_has_no_error_bar_but_a_bound() -> None:
    for event in (lambda x: x > 9, lambda x: (x > 9).double()):
        e = expect(event, P, n=2000, seed=0)
        assert e.mean == 0 and e.hits == 0 and e.stderr == math.inf
        low, high = e.interval(0.95)
        assert low == 0
        # (1 - high)^n = 0.05 exactly: a likelier event is missed less often than once in twenty.
        assert abs((1 - high.item()) ** 2000 - 0.05) < 1e-12
        assert "no event seen in 2,000 draws; at most 0.0015" in str(e)
        assert e.warnings == ("no event seen",) and e.ess == 0 and e.khat == math.inf
    assert e.interval(0.95, most=10.0)[1] == pytest.approx(10 * high.item())


def test_what_a_proposal_did_not_see_may_still_be_large() -> None:
    e = expect(lambda x: x > 9, P, n=2000, via=Normal(torch.tensor(-1.0).double(), 1.0), seed=0)
    assert e.hits == 0 and e.interval()[1] == 1
    defended = expect(lambda x: x > 9, P, n=2000, via=[Normal(torch.tensor(-1.0).double(), 1.0), P])
    assert defended.interval()[1].item() == pytest.approx(2 * (1 - 0.05 ** (1 / 2000)))


def test_an_event_that_always_happened_is_not_certain() -> None:
    e = expect(lambda x: x < 9, P, n=2000, seed=0)
    low, high = e.interval()
    assert high == 1 and low.item() == pytest.approx(0.05 ** (1 / 2000)) and e.stderr == math.inf
    # A constant is.
    assert expect(lambda x: torch.ones_like(x), P, n=10, seed=0).stderr == 0


def test_one_draw_tells_no_spread() -> None:
    assert expect(lambda x: x, P, n=1, seed=0).stderr == math.inf


def test_events_have_exact_intervals() -> None:
    e = expect(lambda x: x > 2, P, n=500, seed=0)
    low, high = (end.item() for end in e.interval(0.9))
    k = int(e.hits)
    assert stats.binom.sf(k - 1, 500, low) == pytest.approx(0.05)
    assert stats.binom.cdf(k, 500, high) == pytest.approx(0.05)


@pytest.mark.parametrize(
    "case",
    ["normal mean", "event", "importance", "self-normalised", "antithetic", "sobol", "sobol, skewed"],
)
def test_intervals_cover(case: str) -> None:
    # 20,000 intervals: the share that covers has a standard deviation of 0.15%, so that a true
    # coverage inside 93.8% .. 96.2% fails one of these once in 1e7.
    # (4,000 of Sobol points: 0.33%; a true coverage of 94.3% .. 95.7% fails once in 1e4. Student's t
    # alone has 92.9% of the skewed ones, measured with 5,000.)
    copies = 4_000 if case.startswith("sobol") else 20_000
    zeros = torch.zeros(copies, dtype=torch.float64)
    p, q = Normal(zeros, 1.0), Normal(zeros + 0.5, 1.2)
    how: dict = {"n": 400, "seed": 1, "batched": True}
    truth = 1.0
    square = Tensor.square
    if case == "normal mean":
        e = expect(lambda x: x, p, **how)
        truth = 0.0
    elif case == "event":
        e = expect(lambda x: x > 1, p, **how)
        truth = stats.norm.sf(1)
    elif case == "importance":
        e = expect(square, p, via=q, **how)
    elif case == "self-normalised":
        e = expect(square, p, via=q, normalise=True, **how)
    elif case == "antithetic":
        e = expect(lambda x: (x / 2).exp(), p, sampling=Antithetic(), **how)
        truth = math.exp(0.125)
    elif case == "sobol":
        e = expect(torch.sin, p, sampling=Sobol(16), **how | {"n": 16 * 8})
        truth = 0.0
    else:
        e = expect(square, p, sampling=Sobol(16), **how | {"n": 16 * 8})
    low, high = e.interval(0.95)
    share = ((low <= truth) & (truth <= high)).double().mean().item()
    assert 0.93 <= share <= 0.97, share


@pytest.mark.parametrize("level, points", [(1.0, 64), (0.3, 16), (2.0, 64), (1.0, 2), (-1.5, 8)])
def test_intervals_of_even_units_are_exact(level: float, points: int) -> None:
    # In one dimension each scrambled net has k or k + 1 points in x > level. The truth is missed in 5%
    # at the most: of 4,000 then more than 6.6% once in 1e6. Student's t missed 7.5% and 15% of the
    # first two.
    p = Normal(torch.zeros(4_000, dtype=torch.float64), 1.0)
    e = expect(lambda x: x > level, p, n=16 * points, seed=3, batched=True, sampling=Sobol(16))
    low, high = e.interval(0.95)
    truth = stats.norm.sf(level)
    assert ((low <= truth) & (truth <= high)).double().mean() >= 0.934
    # The ends are those of the number of nets with one more.
    k = math.floor(points * truth)
    more = e.hits - 16 * k
    assert int(more.min()) >= 0 and int(more.max()) <= 16
    for j in range(1, 16):
        ends = stats.binomtest(j, 16).proportion_ci(0.95, method="exact")
        for column in (more == j).nonzero()[:1, 0].tolist():
            found = torch.stack([low[column], high[column]]) * points - k
            torch.testing.assert_close(found, torch.tensor(ends).double(), rtol=1e-6, atol=1e-9)
    # All alike tell no spread, of which the interval keeps what may have been missed.
    alike = (more == 0) & (e.hits > 0)
    assert e.stderr[alike].isinf().all() and e.stderr[(more > 0) & (more < 16)].isfinite().all()
    missed = 1 - 0.025 ** (1 / 16)
    assert (((high - low)[alike] * points - 2 * missed).abs() < 1e-9).all()


def test_nets_that_saw_nothing_bound_an_event_as_those_that_saw_it_always() -> None:
    how = {"n": 16 * 256, "sampling": Sobol(16), "seed": 0}
    none, every = expect(lambda x: x > 9, P, **how), expect(lambda x: x <= 9, P, **how)
    assert none.hits == 0 and every.hits == every.n
    # No net has one more than none: that misses a remainder above 1 - 0.025^(1/16) in 2.5%.
    assert none.interval()[0] == 0 and none.interval()[1].item() == pytest.approx(
        (1 - 0.025 ** (1 / 16)) / 256
    )
    assert every.interval()[1] == 1 and every.interval()[0] > 1 - none.interval()[1]


def test_intervals_of_even_units_merge_and_others_are_not_taken_for_even() -> None:
    how = {"n": 16 * 64, "sampling": Sobol(16)}
    parts = [expect(lambda x: x > 1, P, seed=seed, **how) for seed in (0, 1, 2)]
    both = parts[0] + (parts[1] + parts[2])
    more = int(both.hits) - 48 * 10
    ends = torch.tensor(stats.binomtest(more, 48).proportion_ci(0.95, method="exact")).double()
    torch.testing.assert_close(torch.stack(both.interval()) * 64 - 10, ends, rtol=1e-6, atol=0)
    # Both tails of a net have their own remainders: three counts, of which the interval is Student's.
    e = expect(lambda x: (x > 1) | (x < -0.55), P, n=16 * 16, seed=0, sampling=Sobol(16))
    counts = e.source.terms.reshape(16, 16).sum(1)
    assert counts.max() - counts.min() == 2
    low, high = e.interval()
    assert high - low >= 2 * stats.t.ppf(0.975, 15) * e.stderr - 1e-12


def test_the_skewness_of_few_values_is_too_small() -> None:
    # Theory E15, for gamma laws: E[G] = g (1 - (21/4 + 27 g^2 / 16) / R) + O(1 / R^2). With 64 values
    # of skewness 0.5 the second order is of size 1%; 400,000 have a standard error of 0.15%.
    x = np.random.default_rng(0).gamma(16.0, size=(400_000, 64))
    found = stats.skew(x, axis=1, bias=False).mean() / 0.5
    assert abs(found - (1 - (21 / 4 + 27 / 64) / 64)) < 0.02
    assert abs(found * (1 + 21 / (4 * 64)) - 1) < 0.02


def test_the_adversarial_case_undercovers_and_is_flagged() -> None:
    # p is wider than q: the variance of the weights is infinite (k = 1 - 1/2^2 = 3/4).
    zeros = torch.zeros(500, dtype=torch.float64)
    e = expect(Tensor.square, Normal(zeros, 1.0), n=1000, via=Normal(zeros, 0.5), batched=True, seed=0)
    low, high = e.interval(0.95)
    share = ((low <= 1) & (high >= 1)).double().mean().item()
    assert share < 0.85  # measured: 0.62
    assert (e.khat > 0.5).double().mean() > 0.9 and "heavy tail" in str(e.warnings)


@pytest.mark.parametrize("k", [0.2, 0.5, 0.8])
def test_khat_finds_the_tail(k: float) -> None:
    # (1 - u)^-k is Pareto with shape k.
    found = []
    for seed in range(20):
        u = np.random.default_rng(seed).random(4000)
        found.append(pareto_k(np.sort((1 - u) ** -k)[::-1], 4000))
    # The fit's standard deviation is (1 + k) / sqrt(190); six of those of the mean, and the prior.
    assert abs(np.mean(found) - k) < 6 * (1 + k) / math.sqrt(190 * 20) + 0.05


def test_khat_agrees_with_a_plain_maximum_likelihood_fit() -> None:
    values = np.sort(np.random.default_rng(0).pareto(1.5, 3000) + 1)[::-1]
    m = math.ceil(3 * math.sqrt(3000))
    shape = stats.genpareto.fit(values[:m] - values[m], floc=0)[0]
    shrunk = (m * shape + 10 * 0.5) / (m + 10)
    assert abs(pareto_k(values, 3000) - shrunk) < 0.03


def test_khat_of_ties() -> None:
    ones = np.ones(1000)
    assert pareto_k(ones, 1000) == -math.inf
    mixed = np.concatenate([np.full(10, 7.0), np.ones(990)])
    assert pareto_k(mixed, 1000) == -math.inf  # two values: bounded
    lattice = np.sort(np.round((1 - np.random.default_rng(0).random(4000)) ** -0.7))[::-1]
    assert 0.4 < pareto_k(lattice, 4000) < 1.0
    assert pareto_k(np.ones(10), 10) == math.inf  # too few
    e = expect(lambda x: x > 1, P, n=1000, seed=0)
    assert e.khat == -math.inf and not e.warnings


def test_khat_is_that_of_f_w() -> None:
    # The weights alone have a heavy tail where f vanishes: the estimate is good all the same.
    wide, narrow = Normal(torch.tensor(0.0).double(), 1.0), Normal(torch.tensor(0.0).double(), 0.5)
    e = expect(lambda x: x.abs() < 0.5, wide, n=40_000, via=narrow, seed=0)
    assert e.khat < 0.5 and not e.warnings
    tail = expect(lambda x: x.abs() > 0.5, wide, n=40_000, via=narrow, seed=0)
    assert tail.khat > 0.5


def test_estimates_of_two_kinds_do_not_merge() -> None:
    a = expect(lambda x: x, P, n=10, seed=0)
    for b in (
        expect(f, P, n=10, seed=0),
        expect(lambda x: x, P, n=10, via=Q, normalise=True, seed=0),
    ):
        with pytest.raises(InvalidInput, match="differ in kind"):
            a + b
    with pytest.raises(TypeError):
        a + 1


@pytest.mark.parametrize("level", [0.0, 1.0, -1, math.nan])
def test_levels_are_between_0_and_1(level: float) -> None:
    with pytest.raises(InvalidInput, match="level"):
        expect(lambda x: x, P, n=10, seed=0).interval(level)


def test_an_estimate_does_not_change() -> None:
    e = expect(lambda x: x, P, n=10, seed=0)
    assert repr(e) == f"Estimate({e})" and len(repr(e)) < 100
    with pytest.raises(AttributeError):
        e.dtype = torch.float32  # type: ignore[misc]


def test_results_have_the_dtype_of_f(dtype: torch.dtype) -> None:
    law = Exponential(torch.tensor(1.0, dtype=dtype))
    e = expect(lambda x: x, law, n=100, seed=0)
    for value in (e.mean, e.stderr, e.ess, e.khat, *e.interval()):
        assert value.dtype == dtype
    # Sums are in float64 whatever f is in.
    big = expect(lambda x: 1e4 + x, law, n=200_000, seed=0)
    x = expect(lambda x: x, law, n=200_000, seed=0)
    assert (big.moments.a - 1e4 - x.moments.a).abs() < (1e-3 if dtype == torch.float32 else 1e-9)


@pytest.mark.parametrize("via", [Q, None])
def test_an_event_that_every_weighted_draw_hit_is_not_certain(via: Normal | None) -> None:
    e = expect(lambda x: x > -9, P, n=200, via=via, normalise=True, seed=0)
    low, high = e.interval()
    assert e.mean == 1 and e.stderr == math.inf and low < 0.99 and high == 1


def test_a_mixture_of_p_alone_draws_as_p_does() -> None:
    e = expect(lambda x: x > -9, P, n=100, via=[P, P, P], seed=0)
    assert e.stderr == math.inf and e.interval()[0].item() == pytest.approx(0.05 ** (1 / 100))


def test_values_that_changed_since_are_not_summed_up() -> None:
    buffer = torch.empty(100, dtype=torch.float64)
    e = expect(lambda x: torch.mul(x, x, out=buffer), P, n=100, seed=0)
    same = expect(lambda x: x * x, P, n=100, seed=0)
    assert e.mean == same.mean
    buffer.zero_()
    with pytest.raises(InvalidInput, match="changed in place"):
        _ = e.stderr
    looked = expect(lambda x: torch.mul(x, x, out=buffer), P, n=100, seed=0)
    assert looked.stderr == same.stderr
    buffer.zero_()
    assert looked.stderr == same.stderr


def test_a_bound_of_what_nobody_saw_says_what_it_takes_for_granted() -> None:
    event = expect(lambda x: x > 9, P, n=100, seed=0)
    other = expect(lambda x: 1e6 * (x > 9).double(), P, n=100, seed=0)
    assert str(event).endswith("(95%)") and str(other).endswith("(95%) where 0 <= f <= 1")


def test_a_mean_below_all_numbers_is_named() -> None:
    far = Normal(torch.tensor(40.0).double(), torch.tensor(1.0).double())
    e = expect(lambda x: x > 40, P, n=2000, via=far, seed=0)
    assert e.mean == 0 and "underflows" in str(e)
    assert e.log_mean.item() == pytest.approx(-804.6084, abs=0.2)
