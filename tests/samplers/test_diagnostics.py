"""R-hat and the effective sample size, against slow formulas and processes in closed form."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from likely.errors import InvalidInput
from likely.samplers import ess, rhat
from likely.samplers.diagnostics import Moments, rhat_of_moments


def autoregression(rho: float, *shape: int, seed: int = 0) -> Tensor:
    """Return stationary chains `x_t = rho x_(t-1) + sqrt(1 - rho^2) e_t` along the last axis."""
    e = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = e.clone()
    for t in range(1, shape[-1]):
        x[..., t] = rho * x[..., t - 1] + math.sqrt(1 - rho * rho) * e[..., t]
    return x


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.5, 0.9])
def test_ess_of_an_autoregression(rho: float) -> None:
    # The mean of N steps has variance (1 + rho) / (1 - rho) / N, up to 1/N^2. Over 100 repetitions the
    # mean of the estimate errs by its own standard error (five: once in 1.7 million), and by the
    # end of the initial sequence, which adds noise to the sum: up to 3% at this length.
    found = ess(autoregression(rho, 100, 4, 5_000)) / 20_000
    error = found.std() / 10
    assert abs(found.mean() - (1 - rho) / (1 + rho)) < 5 * error + 0.03 * (1 - rho) / (1 + rho)


def test_ess_is_the_variance_of_the_mean() -> None:
    # Not the formula but its meaning: the mean varies draws / ess times as much as that of independent
    # draws. Of 4,000 means the variance errs by sqrt(2 / 4,000) in the ratio, times five;
    # the estimate by a few percent more.
    x = autoregression(0.7, 4_000, 2, 500)
    ratio = 1_000 * x.mean((-1, -2)).var() * ess(x[:200]).mean() / 1_000
    assert abs(ratio - 1) < 5 * math.sqrt(2 / 4_000) + 0.05


def slow_ess(x: np.ndarray) -> float:
    """The definition, loop by loop, for one set of chains."""
    n = x.shape[1] // 2
    halves = np.concatenate([x[:, :n], x[:, -n:]])
    m = len(halves)
    mean = halves.mean(1)
    gaps = halves - mean[:, None]
    cov = np.array([[(g[: n - t] * g[t:]).sum() / n for t in range(n)] for g in gaps])
    within = halves.var(1, ddof=1).mean()
    spread = (n - 1) / n * within + mean.var(ddof=1)
    rho = 1 - (within - cov.mean(0)) / spread
    rho[0] = 1
    total, last = 0.0, math.inf
    for t in range(0, n - 1, 2):
        pair = rho[t] + rho[t + 1]
        if pair <= 0:
            break
        last = min(last, pair)
        total += last
    return m * n / max(2 * total - 1, 1 / math.log10(max(m * n, 10)))


@pytest.mark.parametrize("draws", [4, 5, 40, 101])
@pytest.mark.parametrize("rho", [-0.95, 0.3, 0.99])
def test_ess_is_its_definition(rho: float, draws: int) -> None:
    x = autoregression(rho, 3, 2, draws, seed=draws)
    torch.testing.assert_close(ess(x), torch.tensor([slow_ess(c) for c in x.numpy()]).double())


def test_rhat_of_chains_apart() -> None:
    # Means at -d and d: R-hat^2 -> 1 + B / W, B = 4/3 d^2 over the four halves.
    for d in (0.0, 0.5, 2.0):
        x = autoregression(0.0, 200, 2, 2_000) + torch.tensor([[-d], [d]])
        found = rhat(x).square()
        assert abs(found.mean() - (1 + 4 / 3 * d * d)) < 5 * found.std() / 200**0.5 + 1e-3


def test_rhat_of_an_autoregression() -> None:
    # Means of n draws vary by tau / n, tau = (1 + rho) / (1 - rho): R-hat^2 is 1 + (tau - 1) / n,
    # to a relative tau / n within.
    n, rho = 1_000, 0.8
    found = rhat(autoregression(rho, 1_000, 4, 2 * n)).square()
    assert abs(found.mean() - (1 + 8 / n)) < 5 * found.std() / 1_000**0.5 + (9 / n) ** 2


def test_rhat_sees_a_trend_within_one_chain() -> None:
    x = torch.linspace(0, 1, 100, dtype=torch.float64)[None]
    assert rhat(x) > 1.5 and ess(x) < 5


def test_constants() -> None:
    same = torch.full((2, 4, 10), 0.1)
    assert rhat(same).tolist() == [1.0, 1.0] and ess(same).isnan().all()
    apart = same + torch.arange(4.0)[:, None]
    assert rhat(apart).tolist() == [math.inf] * 2
    assert (ess(apart) <= 8).all()  # one for each half


def test_moments_are_those_of_numpy(dtype: torch.dtype) -> None:
    x = 1000 + torch.randn(50, 3, 4, 2, generator=torch.Generator().manual_seed(0), dtype=dtype)
    halves = Moments(), Moments()
    for i, row in enumerate(x):
        halves[i // 25].add(row)
    for half, part in zip(halves, (x[:25], x[25:]), strict=True):
        rtol = 1e3 * torch.finfo(dtype).eps
        torch.testing.assert_close(half.mean, part.mean(0), rtol=rtol, atol=0)
        torch.testing.assert_close(half.var, part.var(0), rtol=50 * rtol, atol=0)
    mean, var = (torch.cat([getattr(h, k) for h in halves], 1).movedim(1, -1) for k in ("mean", "var"))
    whole = rhat(x.movedim(0, -1).movedim(1, -2))
    torch.testing.assert_close(rhat_of_moments(mean, var, 25), whole, rtol=50 * rtol, atol=0)


@pytest.mark.parametrize("figure", [rhat, ess])
def test_too_few_draws_are_refused(figure: object) -> None:
    with pytest.raises(InvalidInput, match=r"3 draw\(s\).*at least 4"):
        figure(torch.zeros(2, 3))
