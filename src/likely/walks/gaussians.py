"""Gaussian mixtures fitted to weighted points of a standard normal space, many dimensions included."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

#: numbers of components that are tried, in this order, until one more doubling does not help
COUNTS = (1, 2, 4, 8)
#: at the most, and the change of the criterion that ends them before
ITERATIONS, SETTLED = 30, 0.05


def fit_gaussians(
    z: Float[Tensor, "n dim"], w: Float[Tensor, " n"], size: float, generator: torch.Generator
) -> MixtureSameFamily:
    """Return the Gaussian mixture of weighted points with the best Bayesian information criterion.

    Expectation-maximisation. Covariances are drawn towards the identity, which is right wherever the
    event does not constrain a direction: by as many points as there are dimensions, and then by setting
    to 1 those eigenvalues that white noise would show, `(1 +- sqrt(d / n_k))^2`.

    Args:
        z: the points.
        w: their weights, with sum 1.
        size: how many independent points they are worth.
        generator: draws the first centres.

    Reference: Geyer, Papaioannou, Straub 2019; Marchenko, Pastur 1967, the spectrum of noise.

    Example:
        >>> z = torch.randn(500, 2, generator=torch.Generator().manual_seed(0)).double()
        >>> z[::2] += 8
        >>> q = fit_gaussians(z, torch.full((500,), 1 / 500).double(), 500, torch.Generator())
        >>> q.mixture_distribution.probs.numel()
        2
    """
    z = z.double()
    best = _fit(z, w, size, COUNTS[0], generator)
    for count in COUNTS[1:]:
        other = _fit(z, w, size, count, generator)
        if not other.criterion < best.criterion:
            break
        best = other
    root = best.vectors * best.values.sqrt()[:, None, :]
    return MixtureSameFamily(
        Categorical(best.shares, validate_args=False),
        MultivariateNormal(best.means, root @ root.mT, validate_args=False),
        validate_args=False,
    )


@final
@dataclass(frozen=True, eq=False)
class _Fit:
    """The parameters of K components, with covariances `V diag(values) V'`."""

    shares: Float[Tensor, " K"]
    means: Float[Tensor, "K dim"]
    values: Float[Tensor, "K dim"]
    vectors: Float[Tensor, "K dim dim"]
    #: of the whole fit; smaller is better
    criterion: float


def _fit(z: Tensor, w: Tensor, size: float, count: int, generator: torch.Generator) -> _Fit:
    centres = _centres(z, w, count, generator)
    share = torch.nn.functional.one_hot(torch.cdist(z, centres).argmin(1), len(centres)).double().T
    dim = z.shape[1]
    last = -math.inf
    for _ in range(ITERATIONS):
        # Points last: sums over few components or dimensions then go along many points.
        r = share * (w * size)
        r = r[r.sum(1) > 0.5]  # half a point is no component
        mass = r.sum(1)
        means = (r @ z) / mass[:, None]
        off = z.T - means[:, :, None]
        spread = (r[:, None] * off) @ off.mT + dim * torch.eye(dim, dtype=z.dtype)
        values, vectors = torch.linalg.eigh(spread / (mass + dim)[:, None, None])
        edge = (dim / (mass + dim)).sqrt()[:, None]
        noise = (values > (1 - edge).square()) & (values < (1 + edge).square())
        values = torch.where(noise, 1.0, values)
        y = (vectors / values.sqrt()[:, None]).mT @ off
        log_det = (2 * math.pi * values).log().sum(1)
        log_q = ((mass / mass.sum()).log() - 0.5 * log_det)[:, None] - 0.5 * y.square().sum(1)
        log_mixture = log_q.logsumexp(0)
        share = (log_q - log_mixture).exp()
        fit = float(w @ log_mixture)
        if 2 * size * abs(fit - last) < SETTLED:
            break
        last = fit
    spikes = (~noise).sum(1)
    parameters = len(mass) * (1 + dim) + float((spikes * (dim - (spikes - 1) / 2)).sum())
    criterion = math.log(size) * parameters - 2 * size * fit
    return _Fit(mass / mass.sum(), means, values, vectors, criterion)


def _centres(z: Tensor, w: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return points far from each other, drawn as by k-means++ (Arthur, Vassilvitskii 2007)."""
    chosen = [int(torch.multinomial(w, 1, generator=generator))]
    while len(chosen) < count:
        distance = torch.cdist(z, z[chosen]).amin(1).square() * w
        if not distance.sum() > 0:
            break
        chosen.append(int(torch.multinomial(distance, 1, generator=generator)))
    return z[chosen]
