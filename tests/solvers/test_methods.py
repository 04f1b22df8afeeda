"""What each method says it does, against torch's own optimisers or the formula."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import Tensor

from laws.solvers_registry import BOX, SHAPE, equal, quadratic, run, start, value_of
from likely import minimize, sets
from likely.solvers import (
    Accelerated,
    Annealed,
    PerRow,
    ProjectedAdam,
    ProjectedGradient,
    SpectralProjectedGradient,
    Status,
)


def rand(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(8), dtype=torch.float64)


def descend(optimizer: torch.optim.Optimizer, x: Tensor, a: Tensor, c: Tensor) -> None:
    optimizer.zero_grad()
    value_of(a, c)(x).sum().backward()
    optimizer.step()


def test_projected_gradient_is_sgd_with_a_projection() -> None:
    a, c = quadratic()
    _, seen = run(value_of(a, c), start(), ProjectedGradient(lr=0.05, steps=30))
    x = start().requires_grad_()
    optimizer = torch.optim.SGD([x], lr=0.05)
    for i in seen[1:]:
        descend(optimizer, x, a, c)
        x.data.clamp_(0, 1)
        torch.testing.assert_close(i.x, x.data, rtol=0, atol=1e-14)


@pytest.mark.parametrize("betas, eps", [((0.9, 0.999), 1e-8), ((0.5, 0.7), 0.1), ((0.0, 0.0), 1e-3)])
def test_projected_adam_is_adam_with_half_a_cosine(betas: tuple[float, float], eps: float) -> None:
    a, c = quadratic()
    steps = 40
    method = ProjectedAdam(lr=0.05, steps=steps, betas=betas, eps=eps)
    _, seen = run(value_of(a, c), start(), method)
    x = start().requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.05, betas=betas, eps=eps)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    for i in seen[1:]:
        descend(optimizer, x, a, c)
        schedule.step()
        x.data.clamp_(0, 1)
        torch.testing.assert_close(i.x, x.data, rtol=0, atol=1e-12)


def test_annealed_is_the_formula() -> None:
    a, c = quadratic()
    method = Annealed(scale=3.0, offset=7.0, batch=5.0, noise=0.2, steps=25)
    _, seen = run(value_of(a, c), start(), method)
    generator = torch.Generator().manual_seed(5)
    x = start()
    for k, i in enumerate(seen[1:]):
        noise = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
        x = x + 3.0 / (7.0 + k) * (-a * (x - c) / 5.0 + 0.2 * noise)
        x = x.clamp(0, 1)
        torch.testing.assert_close(i.x, x, rtol=0, atol=1e-13)


def test_defaults_are_the_recipes() -> None:
    plain, paper = ProjectedGradient(), Annealed()
    assert (plain.lr, plain.steps, plain.tol, plain.keep) == (1e-3, 300, None, "last")
    assert (paper.scale, paper.offset, paper.batch, paper.noise) == (10.0, 100.0, 100.0, 1.0)
    assert paper.keep == "last" and ProjectedAdam().keep == "best"
    a, c = quadratic()
    default = minimize(value_of(a, c), 2 * start())
    free = minimize(
        value_of(a, c),
        2 * start(),
        sets.Box(-math.inf, math.inf),
        SpectralProjectedGradient(tol=2**-26),
    )
    assert equal(default, free)


def test_methods_are_values() -> None:
    assert ProjectedAdam(lr=0.1) == ProjectedAdam(lr=0.1) != ProjectedAdam(lr=0.2)
    with pytest.raises(AttributeError):
        ProjectedAdam().lr = 1.0


def test_annealed_noise_has_the_stated_size() -> None:
    # With no gradient, x_K ~ N(0, noise^2 sum a_k^2). n entries: the mean square over its expectation
    # is chi-squared over n; |z| > 5 on its normal limit is a false alarm once in 1.7 million.
    n, steps = 200_000, 4
    method = Annealed(scale=3.0, offset=2.0, batch=7.0, noise=0.5, steps=steps)
    x = torch.zeros(1, n, dtype=torch.float64)
    sol = minimize(lambda x: 0 * x.sum(1), x, None, method, seed=0)
    variance = 0.25 * sum((3.0 / (2.0 + k)) ** 2 for k in range(steps))
    z = (sol.x.square().mean().item() / variance - 1) / math.sqrt(2 / n)
    assert abs(z) < 5
    assert abs(sol.x.mean().item()) < 5 * math.sqrt(variance / n)


def test_annealed_with_noise_averages_at_the_optimum() -> None:
    # On a quadratic the recursion is linear: E[x_k] - c = prod(1 - a_j curvature) (x_0 - c).
    n, steps = 50_000, 40
    method = Annealed(scale=4.0, offset=8.0, batch=2.0, noise=1.0, steps=steps)
    x = torch.full((n, 1), 3.0, dtype=torch.float64)
    sol = minimize(lambda x: (x - 0.5).square().sum(1), x, None, method, seed=1)
    left = math.prod(1 - 4.0 / (8.0 + k) for k in range(steps)) * 2.5
    error = sol.x.mean().item() - (0.5 + left)
    # |z| > 5: a false alarm once in 1.7 million.
    assert abs(error) < 5 * sol.x.std().item() / math.sqrt(n)


def test_of_equal_values_the_best_is_the_most_stationary() -> None:
    # Beside 1e8 the squares are lost in float32: all values are equal, and the slopes alone tell.
    x = torch.tensor([[0.9], [0.1]])
    for within in (None, sets.Box(0.0, 0.7)):
        method = ProjectedGradient(lr=0.1, steps=20, keep="best")
        sol, seen = run(lambda x: 1e8 + (x - 0.5).square().sum(1), x, method, within)
        assert len({i.value.sum().item() for i in seen}) == 1
        assert torch.equal(sol.x, seen[-1].x) and (sol.stationarity < 0.05).all()


def test_spectral_takes_few_evaluations() -> None:
    # Curvatures from 1 to 100. BFGS, which remembers ten steps, is the one to compare with; a search
    # along the gradient needs several times as many.
    a = torch.logspace(0, 2, 30, dtype=torch.float64).expand(4, 30)
    c, zero = rand(4, 30), torch.zeros(4, 30, dtype=torch.float64)
    fun = PerRow(lambda x, a, c: 0.5 * (a * (x - c).square()).sum(1), a, c)
    sol = minimize(fun, zero, None, SpectralProjectedGradient(tol=1e-6))
    assert sol.status == (Status.CONVERGED,) * 4
    torch.testing.assert_close(sol.x, c, rtol=0, atol=1e-6)
    for i in range(4):
        bfgs = optimize.minimize(
            lambda x, i=i: (a[i].numpy() * (x - c[i].numpy()) ** 2).sum() / 2,
            np.zeros(30),
            jac=lambda x, i=i: a[i].numpy() * (x - c[i].numpy()),
            method="L-BFGS-B",
            options={"gtol": 1e-6, "ftol": 0},
        )
        assert bfgs.nfev > 30 and sol.evaluations[i] <= 2 * bfgs.nfev
    plain = minimize(fun, zero, None, ProjectedGradient(backtracking=True, tol=1e-6, steps=2000))
    assert plain.status == sol.status and (plain.evaluations > 4 * sol.evaluations).all()


def test_accelerated_gradients_keep_their_rate() -> None:
    # f(x_k) - f* <= 2 L |x_0 - x*|^2 / (k + 1)^2 for a convex f, from a step of 1/L, without restart;
    # with it the method may only be faster on a quadratic. The step is guessed ten times too large.
    a = torch.logspace(-4, 0, 40, dtype=torch.float64).expand(2, 40)
    c = rand(2, 40)
    zero = torch.zeros(2, 40, dtype=torch.float64)
    for lr in (1.0, 10.0):
        _, seen = run(lambda x: 0.5 * (a * (x - c).square()).sum(1), zero, Accelerated(lr=lr), None)
        for k in (20, 50, 100, 300):
            assert (seen[k].value <= 4 * c.square().sum(1) / (k + 1) ** 2).all()


def test_adam_belongs_to_boxes() -> None:
    # Every point of the simplex minimises the sum; P(x - diag(1, 2) g) moves, P(x - g) does not.
    simplex = sets.Simplex(1.0)
    x, g = torch.tensor([[0.25, 0.75]]), torch.ones(1, 2)
    scaled = simplex.project(x - torch.tensor([1.0, 2.0]) * g)
    torch.testing.assert_close(scaled, x + torch.tensor([[0.5, -0.5]]))
    torch.testing.assert_close(simplex.project(x - g), x)
    # For a box the scaled and the plain step rest at the same points.
    for entry in ([0.0, 0.5], [1.0, 1.0], [0.0, 1.0]):
        x, g = torch.tensor([entry]), torch.tensor([[1.0, 0.0], [-1.0, -2.0], [2.0, -1.0]])
        for scale in (0.1, 1.0, 7.0):
            plain = (BOX.project(x - g) == x).all(1)
            assert torch.equal((BOX.project(x - scale * g) == x).all(1), plain)
