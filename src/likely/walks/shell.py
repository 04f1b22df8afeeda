"""Points at about one distance from the origin, in every direction: no region is missed."""

from __future__ import annotations

import math
from typing import final

import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor

from likely.errors import InvalidInput
from likely.expectations.law import Law
from likely.seeds import generator_for

#: the largest shape: radii that differ by a part in a thousand
NARROWEST = 1e6


@final
class Shell(Law):
    """The law of `r u` with u uniform on the unit sphere and `r^2` of a gamma law.

    `log q(z) = m log(m / s) + (m - 1) log r^2 - m r^2 / s - log G(m) + log 2 - (d - 2) log r - log S_d`
    with `r = |z|`, the gamma function G and the surface `S_d` of the unit sphere. A standard normal law
    is the case `m = d / 2, s = d`.

    Args:
        dim: d.
        shape: m; `r^2` has a relative standard deviation of `1 / sqrt(m)`.
        square: s, the mean of `r^2`.

    Reference: Papaioannou, Geyer, Straub 2019, who call the law of r by Nakagami.

    Example:
        >>> shell = Shell(3, 1.5, 3.0)
        >>> normal = torch.distributions.Normal(torch.zeros(3), 1.0)
        >>> z = shell.draw(5, 0, attached=False)
        >>> torch.allclose(shell.log_prob(z), normal.log_prob(z).sum(1).double())
        True
    """

    name = "Shell"
    batch_shape = torch.Size()

    def __init__(self, dim: int, shape: float, square: float) -> None:
        self.dim = dim
        self.shape = shape
        self.square = square
        self.device = torch.device("cpu")

    def draw(self, n: int, seed: int, attached: bool) -> Float[Tensor, "n dim"]:
        """Return draws in float64; r^2 by the quantile function."""
        if attached:
            raise InvalidInput("draws of a shell are not differentiable; use grad='score'.")
        generator = generator_for(seed)
        z = torch.randn(n, self.dim, generator=generator, dtype=torch.float64)
        u = torch.rand(n, generator=generator, dtype=torch.float64).clamp(min=2.0**-54)
        square = torch.from_numpy(special.gammaincinv(self.shape, u.numpy())) * self.square / self.shape
        return z * (square / z.square().sum(1)).sqrt()[:, None]

    def log_prob(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, " n"]:
        """Return `log q(z)` in nats."""
        m, half = self.shape, self.dim / 2
        square = x.double().square().sum(1)
        log_surface = math.log(2) + half * math.log(math.pi) - math.lgamma(half)
        constant = m * math.log(m / self.square) - math.lgamma(m) + math.log(2) - log_surface
        return constant + (m - half) * square.log() - m / self.square * square


def fit_shell(z: Float[Tensor, "n dim"], w: Float[Tensor, " n"]) -> Shell:
    """Return the shell of about the largest likelihood `sum_i w_i log q(z_i)`; the w sum to 1.

    The shape is Minka's (2002) approximate solution, within 1.5% of the best.
    """
    square = z.double().square().sum(1)
    mean = float((w * square).sum())
    s = math.log(mean) - float((w * square.log()).sum())
    s = max(s, 0.5 / NARROWEST)
    return Shell(z.shape[1], (3 - s + math.sqrt((s - 3) ** 2 + 24 * s)) / (12 * s), mean)
