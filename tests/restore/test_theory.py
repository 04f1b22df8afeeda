"""What docs/theory_restoration.md proves: what a most likely completion is, and what it is not.

The z-tests raise a false alarm once in 1e6 each.
"""

import math

import pytest
import torch
from torch.distributions import Exponential, LogNormal, MultivariateNormal, Normal

from conftest import Z_BOUND
from likely import expect, inpaint
from likely.solvers import SpectralProjectedGradient

EXACT = SpectralProjectedGradient(tol=1e-10)
WIDE = (-100.0, 100.0)


def test_the_joint_density_gives_the_conditional_mode() -> None:
    draws = torch.Generator().manual_seed(0)
    root = torch.randn(5, 5, generator=draws, dtype=torch.float64)
    S = root @ root.T + torch.eye(5)
    m = torch.randn(5, generator=draws, dtype=torch.float64)
    given = torch.tensor([True, False, True, False, False])
    x = torch.randn(4, 5, generator=draws, dtype=torch.float64)
    found = inpaint(MultivariateNormal(m, S), x, given, WIDE, EXACT).image
    cross = torch.linalg.solve(S[given][:, given], S[given][:, ~given])
    exact = m[~given] + (x - m)[:, given] @ cross
    torch.testing.assert_close(found[:, ~given], exact, rtol=0, atol=1e-8)


def test_the_mean_has_the_least_squared_error() -> None:
    law = Exponential(torch.tensor(1.0, dtype=torch.float64))
    # The first entry is measured, and tells nothing of the second.
    image = torch.tensor([[0.5, 3.0]], dtype=torch.float64)
    found = inpaint(lambda x: -x[:, 1], image, torch.tensor([True, False]), (0.0, 100.0), EXACT)
    mode = found.image[0, 1]
    assert mode == 0
    for guess in (mode, torch.tensor(1.0), torch.tensor(0.3)):
        error = expect(lambda y, c=guess: (y - c).square(), law, n=100_000, seed=0)
        exact = law.variance + (law.mean - guess).square()
        assert abs(error.mean - exact) < Z_BOUND * error.stderr


@pytest.mark.parametrize("d", [1, 30])
def test_draws_lie_below_the_mode_by_half_a_nat_an_entry(d: int) -> None:
    law = Normal(torch.linspace(-1, 1, d + 1, dtype=torch.float64), 0.3)
    image = torch.full((1, d + 1), 0.1, dtype=torch.float64)
    given = torch.arange(d + 1) == 0
    mode = inpaint(law, image, given, WIDE, EXACT)
    draws = law.loc + 0.3 * torch.randn(
        20_000, d + 1, generator=torch.Generator().manual_seed(d), dtype=torch.float64
    )
    draws[:, 0] = 0.1
    gap = mode.log_prob - law.log_prob(draws).sum(1)
    assert (gap >= -1e-9).all()
    assert abs(gap.mean() - d / 2) < Z_BOUND * math.sqrt(d / 2 / len(gap))
    # A chi-square's fourth moment gives the variance's standard error.
    fourth = ((gap - gap.mean()) ** 4).mean() - gap.var() ** 2
    assert abs(gap.var() - d / 2) < Z_BOUND * math.sqrt(fourth / len(gap))


def test_the_mode_depends_on_the_units() -> None:
    a, s = 0.4, 0.5
    start, given = torch.ones(1, 2, dtype=torch.float64), torch.tensor([True, False])
    both = torch.full((2,), a, dtype=torch.float64)
    x = inpaint(LogNormal(both, s), start, given, (1e-3, 50.0), EXACT).image[0, 1].item()
    y = inpaint(Normal(both, s), start, given, WIDE, EXACT).image[0, 1].item()
    assert x == pytest.approx(math.exp(a - s * s), abs=1e-8)
    assert y == pytest.approx(a, abs=1e-8)
