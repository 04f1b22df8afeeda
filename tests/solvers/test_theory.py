"""What docs/theory_projections.md proves: rates, certificates, and what projecting in turn does."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from likely import minimize
from likely.sets import Affine, Ball, Box, ConvexSet, Halfspace, Simplex
from likely.solvers import Iterate, ProjectedGradient, SpectralProjectedGradient
from likely.solvers.minimize import stationarity

EQUALITY = Affine(torch.tensor([[1.0, 2.0, -1.0, 0.5, 1.0]]), torch.tensor([0.7]))
SETS = [Box(-0.3, 0.4), Simplex(1.0), Ball(0.0, 0.7), Box(0.0, 1.0) & EQUALITY]
ROWS, N = 6, 5
ROUNDING = 1e-12
"""Of sums of a few dozen float64 numbers of size one."""


def each(s: ConvexSet) -> str:
    return type(s).__name__


class Quadratic:
    """`f(x) = (x - u)^T A (x - u) / 2` a row, its curvature between m and L; the minimum over a set."""

    def __init__(self, within: ConvexSet, seed: int = 0, low: float = 0.2, high: float = 3.0) -> None:
        draws = torch.Generator().manual_seed(seed)
        self.m, self.L = low, high
        basis = torch.linalg.qr(torch.randn(ROWS, N, N, generator=draws, dtype=torch.float64)).Q
        curvature = torch.linspace(low, high, N, dtype=torch.float64)
        self.A = basis @ (curvature[:, None] * basis.mT)
        self.u = 2 * torch.randn(ROWS, N, generator=draws, dtype=torch.float64)
        self.start = within.project(2 * torch.randn(ROWS, N, generator=draws, dtype=torch.float64))
        self.others = [
            within.project(3 * torch.randn(ROWS, N, generator=draws, dtype=torch.float64))
            for _ in range(5)
        ]
        self.best = minimize(self, self.start, within, SpectralProjectedGradient(tol=1e-13)).x

    def slope(self, x: Tensor) -> Tensor:
        return (self.A @ (x - self.u)[..., None])[..., 0]

    def __call__(self, x: Tensor) -> Tensor:
        return ((x - self.u) * self.slope(x)).sum(1) / 2

    def path(self, within: ConvexSet, t: float, steps: int) -> list[Tensor]:
        seen: list[Tensor] = []

        def note(now: Iterate) -> None:
            seen.append(now.x)

        minimize(self, self.start, within, ProjectedGradient(lr=t, steps=steps), on_step=note)
        return seen


def square(x: Tensor) -> Tensor:
    return x.square().sum(1)


@pytest.mark.parametrize("within", SETS, ids=each)
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_one_step_comes_nearer_to_every_better_point(within: ConvexSet, share: float) -> None:
    f = Quadratic(within)
    t = share / f.L
    path = f.path(within, t, 20)
    for x, y in pairwise(path):
        for c in [*f.others, f.best]:
            assert (2 * t * (f(y) - f(c)) <= square(x - c) - square(y - c) + ROUNDING).all()


@pytest.mark.parametrize("within", SETS, ids=each)
def test_values_and_distances_keep_to_the_rates(within: ConvexSet) -> None:
    f = Quadratic(within)
    t = 1 / f.L
    first = square(f.start - f.best)
    for k, x in enumerate(f.path(within, t, 60)[1:], 1):
        assert (f(x) - f(f.best) <= first / (2 * t * k) + ROUNDING).all()
        assert (square(x - f.best) <= (1 - t * f.m) ** k * first + ROUNDING).all()


def test_a_step_beyond_two_over_the_constant_diverges() -> None:
    # So the condition on t is no figure of speech: 1-D, curvature L, no constraint in reach.
    sol = minimize(
        lambda x: 1.5 * square(x),
        torch.ones(1, 1, dtype=torch.float64),
        Box(-1e9, 1e9),
        ProjectedGradient(lr=2.1 / 3.0, steps=50),
    )
    assert sol.value > 1.5


def test_steps_vanish_without_convexity() -> None:
    # sin has second derivatives up to 1 = L.
    def f(x: Tensor) -> Tensor:
        return x.sin().sum(1)

    start = 3 * torch.randn(8, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    box, t = Box(-4.0, 4.0), 1.5
    seen: list[Tensor] = []
    method = ProjectedGradient(lr=t, steps=100)
    minimize(f, start, box, method, on_step=lambda now: seen.append(now.x))
    shortest = torch.stack([square(y - x) for x, y in pairwise(seen)]).amin(0)
    assert (shortest <= (f(seen[0]) + 4) / (100 * (1 / t - 0.5))).all()


@pytest.mark.parametrize("within", SETS, ids=each)
def test_the_step_of_the_certificate_matters_by_a_factor(within: ConvexSet) -> None:
    f = Quadratic(within)
    for x in [f.start, *f.others]:

        def length(t: float, x: Tensor = x) -> Tensor:
            return (x - within.project(x - t * f.slope(x))).norm(dim=1)

        for s, t in pairwise((0.01, 0.1, 0.5, 1.0, 4.0)):
            assert (length(s) <= length(t) + ROUNDING).all()
            assert (length(t) / t <= length(s) / s + ROUNDING / s).all()


@pytest.mark.parametrize("within", SETS, ids=each)
def test_stationarity_bounds_the_gap_to_the_minimum(within: ConvexSet) -> None:
    f = Quadratic(within)
    for x in [f.start, *f.others, *f.path(within, 0.5 / f.L, 30)]:
        g = f.slope(x)
        s = stationarity(x, g, within)
        reach = g.abs().sum(1) + (x - f.best).abs().sum(1)
        assert (f(x) - f(f.best) <= s * reach + ROUNDING).all()
        r = (x - within.project(x - g)).norm(dim=1)
        assert ((x - f.best).norm(dim=1) <= (1 + f.L) / f.m * r + ROUNDING).all()


def test_a_maximum_is_stationary_too() -> None:
    sol = minimize(lambda x: -square(x), torch.zeros(1, 1), Box(-1.0, 1.0))
    assert sol.stationarity == 0 and sol.value == 0


@pytest.mark.parametrize("t", [1.0, 0.5, 0.25, 0.1])
def test_projecting_in_turn_ends_where_the_step_says(t: float) -> None:
    y = torch.tensor([[1.5, 1.0]], dtype=torch.float64)
    low, slanted = Halfspace(torch.tensor([0.0, 1.0]), 0.0), Halfspace(torch.ones(2), 1.0)

    both = low & slanted
    d = t / (2 + 2 * t)
    wrong = torch.tensor([[1 + d, -d]], dtype=torch.float64)
    right = torch.tensor([[1.0, 0.0]], dtype=torch.float64)

    def in_turn(z: Tensor) -> Tensor:
        return slanted.project(low.project(z))

    torch.testing.assert_close(in_turn(wrong - t * (wrong - y)), wrong, rtol=0, atol=1e-15)
    torch.testing.assert_close(both.project(right - t * (right - y)), right, rtol=0, atol=1e-11)
    # The certificate tells the two apart.
    assert stationarity(wrong, wrong - y, both) > 0.9 * d
    assert stationarity(right, right - y, both) < 1e-11
