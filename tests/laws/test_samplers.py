"""The laws of samplers, for every method that likely.samplers exports.

Draws of different rows are independent, so means and covariances get plain z-tests and marginals the
Kolmogorov-Smirnov test; each raises a false alarm once in 1e6.
"""

import inspect
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import Tensor

from laws.samplers_registry import (
    CASES,
    FREE,
    IMAGE,
    MIXTURE,
    ROWS,
    Case,
    Gaussian,
    Truth,
    gaussian_truth,
    pairs,
    slice_truth,
    target,
)
from likely import flows, samplers
from likely.flows import Flow
from likely.samplers import Independence, Sampler, Sweep, sample

LAWS = {"gaussian": (Gaussian(), gaussian_truth()), "mixture": (MIXTURE, slice_truth(MIXTURE.log_prob))}

PAIRS = [("gaussian", torch.float64), ("mixture", torch.float32)]


@pytest.fixture(params=CASES, ids=lambda name: name.replace(", ", "_"))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def flow(randomize: Callable) -> Flow:
    flow = randomize(flows.nice((1, 2, 2), width=16, depth=1, couplings=4), seed=3).double()
    # Random weights leave a law much wider than the unit square; this narrows it.
    flow.bijection.parts[-1].log_scale.data.fill_(1.5)
    return flow


def test_every_exported_method_is_registered() -> None:
    exported = {m for m in vars(samplers).values() if inspect.isclass(m) and issubclass(m, Sampler)}
    concrete = {m for m in exported if not inspect.isabstract(m)}
    assert {type(c.method) for c in CASES.values()} == concrete


def check(x: Tensor, truth: Truth, assert_mean: Callable) -> None:
    mean, covariance = truth.moments()
    for i in (0, 1):
        assert_mean(x[:, i], mean[i].item())
        for j in range(i + 1):
            assert_mean((x[:, i] - mean[i]) * (x[:, j] - mean[j]), covariance[i, j].item())
        assert stats.kstest(x[:, i].numpy(), truth.cdf(i)).pvalue > 1e-6


@pytest.mark.parametrize("law, dtype", PAIRS)
def test_draws_have_the_law(case: Case, law: str, dtype: torch.dtype, assert_mean: Callable) -> None:
    density, truth = LAWS[law]
    if case.conditional and law == "gaussian":
        pytest.skip("not a conditional density")
    check(pairs(case.method, target(density, dtype)), truth, assert_mean)


def test_draws_have_the_law_of_a_flow(case: Case, flow: Flow, assert_mean: Callable) -> None:
    if case.conditional:
        pytest.skip("not a conditional density")
    truth = slice_truth(flow.log_prob)
    check(pairs(case.method, target(flow, torch.float64)), truth, assert_mean)


def test_bounds_may_differ(case: Case, assert_mean: Callable) -> None:
    if case.conditional:
        pytest.skip("draws from all of [0, 1]")
    low, high = (0.1, 0.3), (0.35, 0.95)
    x = pairs(case.method, target(Gaussian(), torch.float64, low, high))
    check(x, gaussian_truth(low, high), assert_mean)


def test_every_step_keeps_measured_values_and_bounds(
    case: Case, dtype: torch.dtype, same_bits: Callable
) -> None:
    seen: list[Sweep] = []
    low, high = ((0.0, 0.0), (1.0, 1.0)) if case.conditional else ((0.1, 0.3), (0.35, 0.95))
    problem = target(MIXTURE, dtype, low, high, rows=50)
    problem.image.flatten(1)[::2, 0] = -0.0
    method = case.method if case.conditional else replace(case.method, chains=3)
    draws = sample(problem, 5, method, torch.Generator().manual_seed(0), seen.append)
    assert draws.x.shape == (5, 50, 1, 2, 2) and draws.log_prob.shape == (5, 50)
    assert len(seen) == (1 if case.conditional else method.warmup + 2 * method.thin)
    for x in [draws.x.transpose(0, 1), *(s.x for s in seen)]:
        assert x.dtype == dtype
        wide = problem.image[:, None].expand_as(x)
        known = ~problem.free[:, None].expand_as(x)
        assert same_bits(x[known], wide[known])
        assert (x >= problem.low[:, None]).all() and (x <= problem.high[:, None]).all()


def test_log_prob_is_that_of_the_draws(case: Case) -> None:
    problem = target(MIXTURE, torch.float64, rows=20)
    draws = sample(problem, 4, case.method, torch.Generator().manual_seed(0))
    for x, log_p in zip(draws.x, draws.log_prob, strict=True):
        torch.testing.assert_close(log_p, MIXTURE.log_prob_given(x, ~problem.free))


def test_the_generator_decides(case: Case, same_global_state: Callable) -> None:
    problem = target(MIXTURE, torch.float32, rows=20)
    with same_global_state():
        a, b, c = (
            sample(problem, 3, case.method, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
        )
    assert torch.equal(a.x, b.x) and torch.equal(a.log_prob, b.log_prob)
    assert torch.equal(a.ess.nan_to_num(), b.ess.nan_to_num())
    assert (a.x != c.x)[:, problem.free].any(1).all()


def test_rows_are_problems_of_their_own(case: Case, assert_mean: Callable) -> None:
    # Other known values in every second row.
    problem = target(MIXTURE if case.conditional else Gaussian(), torch.float64)
    other = IMAGE.clone()
    other[~FREE] = torch.tensor([0.8, 0.2], dtype=torch.float64)
    image = problem.image.clone()
    image[1::2] = other.view(1, 2, 2)
    x = pairs(case.method, replace(problem, image=image))
    assert len(x) == ROWS
    if case.conditional:
        for rows, known in ((slice(0, None, 2), IMAGE), (slice(1, None, 2), other)):
            share = MIXTURE.parts(known[None], ~FREE[None]).softmax(1)[0]
            a, b = ((t - MIXTURE.loc) / MIXTURE.scale for t in (0.0, 1.0))
            pdf = [(-t.square() / 2).exp() / (2 * torch.pi) ** 0.5 for t in (a, b)]
            mean = MIXTURE.loc + MIXTURE.scale * (pdf[0] - pdf[1]) / (MIXTURE.high - MIXTURE.low)
            for i, truth in enumerate((share @ mean)[FREE].tolist()):
                assert_mean(x[rows, i], truth)
    else:
        check(x[::2], gaussian_truth(), assert_mean)
        check(x[1::2], gaussian_truth(known=other), assert_mean)


def test_a_proposal_that_is_the_target_is_always_accepted() -> None:
    seen: list[Sweep] = []
    problem = target(MIXTURE, torch.float64, rows=50)
    sample(problem, 20, Independence(MIXTURE), torch.Generator().manual_seed(0), seen.append)
    for s in seen:
        torch.testing.assert_close(s.accepted, torch.ones_like(s.accepted), rtol=0, atol=1e-9)
