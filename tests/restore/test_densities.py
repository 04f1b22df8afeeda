"""Any object with log_prob is inpainted with: known optima, the user's own, a zuko flow."""

from collections.abc import Callable
from math import inf

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import Tensor, distributions

from likely import inpaint
from likely.errors import InvalidType
from likely.solvers import Method, ProjectedAdam, ProjectedGradient, Status
from restore.images import Bowl, rand

REACH = ProjectedGradient(lr=0.2, steps=3000, tol=1e-10)


def gaussian(d: int, seed: int = 0) -> distributions.MultivariateNormal:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(d, d, generator=generator, dtype=torch.float64) / d**0.5
    covariance = root @ root.T + 0.3 * torch.eye(d, dtype=torch.float64)
    mean = torch.rand(d, generator=generator, dtype=torch.float64)
    return distributions.MultivariateNormal(mean, covariance)


def conditional_mean(law: distributions.MultivariateNormal, x: Tensor, observed: Tensor) -> Tensor:
    """Return E[x_missing | x_observed] put into x: the mode of the conditional law."""
    s, m = law.covariance_matrix, ~observed
    weights = s[m][:, observed] @ torch.linalg.inv(s[observed][:, observed])
    full = x.clone()
    full[m] = law.mean[m] + weights @ (x - law.mean)[observed]
    return full


@pytest.mark.parametrize(
    "method", [REACH, ProjectedAdam(lr=0.1, steps=600, betas=(0.9, 0.99))], ids=["gradient", "adam"]
)
@pytest.mark.parametrize("event", [(6,), (1, 2, 3)], ids=str)
def test_a_gaussian_is_filled_with_its_conditional_mean(method: Method, event: tuple) -> None:
    law, image = gaussian(6), rand(3, 6, seed=1, dtype=torch.float64)
    observed = torch.tensor([[1, 0, 1, 0, 0, 1], [0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 0]]).bool()
    shaped, mask = image.view(3, *event), observed.view(3, *event)
    result = inpaint(law, shaped, mask, (-inf, inf), method)
    best = torch.stack([conditional_mean(law, image[i], observed[i]) for i in range(3)])
    torch.testing.assert_close(result.image, best.view(3, *event), rtol=0, atol=1e-7)
    torch.testing.assert_close(result.log_prob, law.log_prob(best), rtol=1e-9, atol=0)
    if method.tol is not None:
        assert result.status == (Status.CONVERGED,) * 3
        assert (result.stationarity <= 1e-10).all()
    # Bounds that hold the optimum change nothing.
    wide = inpaint(law, shaped, mask, (best.min() - 0.1, best.max() + 1.1), method)
    torch.testing.assert_close(wide.image, best.view(3, *event), rtol=0, atol=1e-7)


def test_a_gaussian_with_active_bounds_agrees_with_scipy() -> None:
    law, image = gaussian(8, seed=3), rand(4, 8, seed=1, dtype=torch.float64)
    observed = rand(4, 8, seed=2) < 0.4
    low, high = 0.2, 0.7
    image = image.clamp(low, high)
    result = inpaint(law, image, observed, (low, high), REACH)
    # -log p = |R (x - mean)|^2 / 2 + constant, with R the inverse of the Cholesky factor.
    r = torch.linalg.inv(torch.linalg.cholesky(law.covariance_matrix))
    active = 0
    for i in range(4):
        m = ~observed[i]
        rest = r[:, observed[i]] @ (image[i] - law.mean)[observed[i]]
        target = (r[:, m] @ law.mean[m] - rest).numpy()
        found = optimize.lsq_linear(r[:, m].numpy(), target, (low, high), method="bvls", tol=1e-14)
        active += np.count_nonzero(found.active_mask)
        np.testing.assert_allclose(result.image[i, m].numpy(), found.x, rtol=0, atol=1e-8)
    assert 0 < active < (~observed).sum(), "the bounds must matter for some entries only"
    assert result.status == (Status.CONVERGED,) * 4


@pytest.mark.parametrize("independent", [True, False], ids=["event", "batch is the event"])
def test_independent_normals_are_filled_with_their_clipped_means(independent: bool) -> None:
    mean = 2 * rand(1, 3, 3, seed=1, dtype=torch.float64) - 0.5
    law = distributions.Normal(mean, 0.7)
    law = distributions.Independent(law, 3) if independent else law
    # Nine rows are as many as entries: rows and entries must not be confused.
    image, observed = rand(9, 1, 3, 3, dtype=torch.float64), rand(9, 1, 3, 3, seed=2) < 0.5
    observed[:, 0, 0, 0] = True
    result = inpaint(law, image, observed, method=REACH)
    best = torch.where(observed, image, mean.clamp(0, 1))
    torch.testing.assert_close(result.image, best, rtol=0, atol=1e-9)
    normal = distributions.Normal(mean, 0.7).log_prob(best).flatten(1).sum(1)
    torch.testing.assert_close(result.log_prob, normal, rtol=1e-12, atol=0)


@pytest.mark.parametrize("density", [Bowl(), Bowl().log_prob, lambda x: Bowl().log_prob(x)])
def test_objects_and_functions_of_the_user(density: object) -> None:
    image, observed = rand(2, 5, dtype=torch.float64), torch.tensor([True, False, False, True, False])
    result = inpaint(density, image, observed, method=REACH)
    best = torch.where(observed, image, 0.3)
    torch.testing.assert_close(result.image, best, rtol=0, atol=1e-9)
    torch.testing.assert_close(result.log_prob, Bowl().log_prob(best))


def test_a_zuko_flow(same_bits: Callable) -> None:
    zuko = pytest.importorskip("zuko")
    maf = zuko.flows.MAF(features=9, transforms=2, hidden_features=(16,))
    generator = torch.Generator().manual_seed(0)
    for p in maf.parameters():
        p.data.copy_(0.3 * torch.randn(p.shape, generator=generator))
    image, observed = rand(3, 1, 3, 3), rand(3, 1, 3, 3, seed=2) < 0.5
    result = inpaint(maf(), image, observed, method=ProjectedAdam(steps=60))
    assert same_bits(result.image[observed], image[observed])
    assert ((result.image >= 0) & (result.image <= 1)).all()
    assert (result.log_prob > result.log_prob_before).all()
    torch.testing.assert_close(result.log_prob, maf().log_prob(result.image.flatten(1)).detach())
    assert all(p.grad is None for p in maf.parameters())
    with pytest.raises(InvalidType, match=r"MAF .*flow\(\)"):
        inpaint(maf, image, observed)
