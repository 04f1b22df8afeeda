"""Problems whose answers scipy finds by other means."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import Tensor

from likely import minimize, sets
from likely.solvers import (
    Accelerated,
    Annealed,
    Method,
    PerRow,
    ProjectedAdam,
    ProjectedGradient,
    SpectralProjectedGradient,
    Status,
)

ROWS, D, N = 3, 4, 12


def problem(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(ROWS, N, D, generator=generator, dtype=torch.float64) / N**0.5
    b = torch.randn(ROWS, N, generator=generator, dtype=torch.float64)
    return a, b


BOX = sets.Box(-0.2, 0.25)
METHODS = [
    ProjectedGradient(lr=0.3, steps=800, tol=1e-9),
    # The steps fall from 1/2 to 1/18, fast enough for a curvature of about 1/10 and more.
    Annealed(scale=500.0, offset=1000.0, batch=1.0, noise=0.0, steps=2500, tol=1e-9),
    ProjectedAdam(lr=0.05, steps=800, betas=(0.9, 0.99)),
    Accelerated(lr=10.0, steps=400, tol=1e-9),
    ProjectedGradient(lr=1.0, backtracking=True, steps=800, tol=1e-7),
    SpectralProjectedGradient(steps=100, tol=1e-9),
]
# Those that are sure to stop, and how many evaluations they are given.
SURE = {
    "gradient": ProjectedGradient(lr=0.3, steps=3000, tol=1e-8),
    "backtracking": ProjectedGradient(lr=1.0, backtracking=True, steps=3000, tol=1e-8),
    "accelerated": Accelerated(lr=10.0, steps=600, tol=1e-8),
    "spectral": SpectralProjectedGradient(steps=150, tol=1e-8),
}


@pytest.fixture(params=SURE)
def sure(request: pytest.FixtureRequest) -> Method:
    return SURE[request.param]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_least_squares_on_a_box(method: Method) -> None:
    a, b = problem(0)

    def loss(x: Tensor) -> Tensor:
        return 0.5 * ((a @ x[..., None])[..., 0] - b).square().sum(1)

    sol = minimize(loss, torch.zeros(ROWS, D, dtype=torch.float64), BOX, method)
    active = 0
    for i in range(ROWS):
        found = optimize.lsq_linear(a[i].numpy(), b[i].numpy(), (-0.2, 0.25), method="bvls", tol=1e-14)
        active += np.count_nonzero(found.active_mask)
        np.testing.assert_allclose(sol.x[i].numpy(), found.x, rtol=0, atol=1e-6)
        # bvls reports the same cost, half the sum of squares; near the optimum it is flat.
        np.testing.assert_allclose(sol.value[i].item(), found.cost, rtol=0, atol=1e-10)
    assert 0 < active < ROWS * D, "the bounds must matter for some entries only"
    if method.tol is not None:
        assert sol.status == (Status.CONVERGED,) * ROWS and (sol.stationarity <= method.tol).all()


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_logistic_regression_on_a_box(method: Method) -> None:
    a, b = problem(1)
    a = a * 3
    y = (b > 0).double() * 2 - 1

    def loss(w: Tensor) -> Tensor:
        margin = y * (a @ w[..., None])[..., 0]
        return torch.nn.functional.softplus(-margin).sum(1) / 3 + 0.05 * w.square().sum(1)

    def scipy_loss(w: np.ndarray, i: int) -> tuple[float, np.ndarray]:
        design, sign = a[i].numpy(), y[i].numpy()
        margin = sign * (design @ w)
        grad = -design.T @ (sign / (1 + np.exp(margin))) / 3 + 0.1 * w
        return np.logaddexp(0, -margin).sum() / 3 + 0.05 * w @ w, grad

    sol = minimize(loss, torch.zeros(ROWS, D, dtype=torch.float64), BOX, method)
    active = 0
    for i in range(ROWS):
        found = optimize.minimize(
            scipy_loss,
            np.zeros(D),
            args=(i,),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-0.2, 0.25)] * D,
            options={"ftol": 0, "gtol": 1e-10},
        )
        active += np.isin(found.x, (-0.2, 0.25)).sum()
        np.testing.assert_allclose(sol.x[i].numpy(), found.x, rtol=0, atol=1e-6)
    assert 0 < active < ROWS * D, "the bounds must matter for some entries only"


def least_squares(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return 0.5 * ((a @ x[..., None])[..., 0] - b).square().sum(1)


def logistic(w: Tensor, a: Tensor, y: Tensor) -> Tensor:
    margin = y * (a @ w[..., None])[..., 0]
    return torch.nn.functional.softplus(-margin).sum(1) / 3


def slsqp(fun: PerRow, i: int, start: np.ndarray, **constraints: object) -> np.ndarray:
    """Return what scipy's sequential quadratic programming finds for row i, in float64."""
    row = fun.rows(torch.tensor([i]))

    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        point = torch.from_numpy(x)[None].requires_grad_()
        out = row(point)
        (grad,) = torch.autograd.grad(out.sum(), point)
        return out.item(), grad[0].numpy()

    options = {"ftol": 1e-15, "maxiter": 500}
    return optimize.minimize(value, start, jac=True, method="SLSQP", options=options, **constraints).x


def test_least_squares_with_bounds_of_each_row(sure: Method) -> None:
    a, b = problem(2)
    low = -torch.tensor([0.05, 0.1, 0.3], dtype=torch.float64)[:, None].expand(ROWS, D)
    high = low + torch.tensor([0.1, 0.3, 1.0], dtype=torch.float64)[:, None]
    zero = torch.zeros(ROWS, D, dtype=torch.float64)
    sol = minimize(PerRow(least_squares, a, b), zero, sets.Box(low, high), sure)
    assert sol.status == (Status.CONVERGED,) * ROWS
    for i in range(ROWS):
        bounds = low[i].numpy(), high[i].numpy()
        found = optimize.lsq_linear(a[i].numpy(), b[i].numpy(), bounds, method="bvls", tol=1e-14)
        np.testing.assert_allclose(sol.x[i].numpy(), found.x, rtol=0, atol=1e-6)
        np.testing.assert_allclose(sol.value[i].item(), found.cost, rtol=0, atol=1e-12)


@pytest.mark.parametrize("loss", [least_squares, logistic], ids=lambda f: f.__name__)
def test_on_a_simplex(loss: Callable[..., Tensor], sure: Method) -> None:
    a, b = problem(3)
    a, b = (2 * a, b) if loss is least_squares else (4 * a, (b > 0).double() * 2 - 1)
    totals = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    fun = PerRow(loss, a, b)
    sol = minimize(fun, torch.zeros(ROWS, D, dtype=torch.float64), sets.Simplex(totals), sure)
    assert sol.status == (Status.CONVERGED,) * ROWS and (sol.stationarity <= 1e-8).all()
    torch.testing.assert_close(sol.x.sum(1), totals, rtol=1e-12, atol=0)
    for i, total in enumerate(totals.tolist()):
        found = slsqp(
            fun,
            i,
            np.full(D, total / D),
            bounds=[(0, None)] * D,
            constraints={"type": "eq", "fun": lambda x, t=total: x.sum() - t},
        )
        np.testing.assert_allclose(sol.x[i].numpy(), found, rtol=0, atol=2e-6)
    assert 0 < (sol.x == 0).sum() < ROWS * (D - 1), "the simplex must matter for some entries only"


def test_least_squares_on_a_ball(sure: Method) -> None:
    # (A'A + m I) x = A'b with the m >= 0 for which |x| = r, if |x| > r at m = 0.
    a, b = problem(4)
    radius = torch.tensor([0.1, 0.3, 50.0], dtype=torch.float64)
    ball = sets.Ball(torch.zeros(ROWS, D, dtype=torch.float64), radius)
    zero = torch.zeros(ROWS, D, dtype=torch.float64)
    sol = minimize(PerRow(least_squares, a, b), zero, ball, sure)
    assert sol.status == (Status.CONVERGED,) * ROWS
    for i, r in enumerate(radius.tolist()):
        design, target = a[i].numpy(), b[i].numpy()

        def at(m: float, design: np.ndarray = design, target: np.ndarray = target) -> np.ndarray:
            return np.linalg.solve(design.T @ design + m * np.eye(D), design.T @ target)

        inside = np.linalg.norm(at(0.0)) <= r
        assert inside == (r == 50.0)
        root = lambda m, r=r, at=at: np.linalg.norm(at(m)) - r  # noqa: E731
        m = 0.0 if inside else optimize.brentq(root, 0, 1e4, xtol=1e-14, rtol=1e-14)
        np.testing.assert_allclose(sol.x[i].numpy(), at(m), rtol=0, atol=1e-6)


def test_the_conditional_mean_of_a_gaussian(sure: Method) -> None:
    # With precision matrix Q: x_m = mean_m - Q_mm^-1 Q_mo (x_o - mean_o), which minimises -log p.
    a, _ = problem(5)
    q = a.mT @ a + 0.2 * torch.eye(D, dtype=torch.float64)
    mean, x = problem(6)[1][:, :D], problem(7)[1][:, :D]
    mask = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 1], [1, 1, 1, 0]]).bool()

    def energy(x: Tensor, q: Tensor, mean: Tensor) -> Tensor:
        d = (x - mean)[..., None]
        return 0.5 * (d.mT @ q @ d)[:, 0, 0]

    sol = minimize(PerRow(energy, q, mean), x, sets.Observed(mask, x), sure)
    assert sol.status == (Status.CONVERGED,) * ROWS
    assert torch.equal(sol.x[mask], x[mask])
    for i in range(ROWS):
        o, m = mask[i], ~mask[i]
        shift = torch.linalg.solve(q[i][m][:, m], q[i][m][:, o] @ (x[i] - mean[i])[o])
        torch.testing.assert_close(sol.x[i][m], mean[i][m] - shift, rtol=0, atol=1e-6)


def test_a_solution_says_how_it_ended() -> None:
    start = torch.tensor([[0.0], [1.0]])
    sol = minimize(lambda x: (x - 1).square().sum(1), start, method=ProjectedGradient(lr=0.5, tol=1e-6))
    text = "Solution(2 CONVERGED; x (2, 1), value 0, stationarity 0, steps 0 to 1)"
    assert repr(sol) == text
