"""Problems whose answers scipy finds by other means."""

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import Tensor

from likely import minimize, sets
from likely.solvers import Annealed, Method, ProjectedAdam, ProjectedGradient, Status

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
]


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
