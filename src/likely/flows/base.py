"""Base laws: what the latent variables of a flow are distributed like."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from likely.checks import shape_of


class Base(ABC):
    """A fixed law of independent standard entries over rows of shape `shape`.

    Args:
        shape: the shape of one row.

    Example:
        >>> class Uniform(Base):
        ...     scale = 12**-0.5
        ...
        ...     def log_prob(self, z):
        ...         return z.new_zeros(len(z)).masked_fill(((z < 0) | (z > 1)).any(1), -math.inf)
        ...
        ...     def sample(self, n, generator, dtype):
        ...         return torch.rand(n, *self.shape, generator=generator, dtype=dtype)
        >>> Uniform((2,)).log_prob(torch.tensor([[0.5, 0.5], [0.5, 2.0]])).tolist()
        [0.0, -inf]
    """

    #: standard deviation of one entry
    scale: float

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = torch.Size(shape_of("shape", shape))

    @abstractmethod
    def log_prob(self, z: Float[Tensor, "batch *latent"]) -> Float[Tensor, " batch"]:
        """Return `log p(z)` in nats, summed over the entries of each row."""

    @abstractmethod
    def sample(
        self, n: int, generator: torch.Generator, dtype: torch.dtype
    ) -> Float[Tensor, "n *latent"]:
        """Return n independent draws, made on the generator's device."""


@final
class StandardNormal(Base):
    """The standard normal law, `log p(z) = -sum_i (z_i^2 + log 2 pi) / 2`.

    Example:
        >>> round(StandardNormal((2,)).log_prob(torch.zeros(1, 2)).item(), 4)
        -1.8379
    """

    scale = 1.0

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the sum of normal log-densities."""
        return -0.5 * (z.square() + math.log(2 * math.pi)).flatten(1).sum(1)

    def sample(self, n: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """Return normal draws."""
        return torch.randn(n, *self.shape, generator=generator, dtype=dtype, device=generator.device)


@final
class StandardLogistic(Base):
    """The standard logistic law, `log p(z) = -sum_i (softplus(z_i) + softplus(-z_i))`.

    Its density is `sigmoid(z) sigmoid(-z)`, its standard deviation pi / sqrt(3).

    Example:
        >>> round(StandardLogistic((2,)).log_prob(torch.zeros(1, 2)).item(), 4)
        -2.7726
    """

    scale = math.pi / math.sqrt(3)

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the sum of logistic log-densities."""
        # Beyond the threshold softplus(z) is taken as z, which at 50 is exact in float64 too.
        return -(F.softplus(z, threshold=50) + F.softplus(-z, threshold=50)).flatten(1).sum(1)

    def sample(self, n: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """Return `log(u / (1 - u))` for uniform u."""
        shape, eps = (n, *self.shape), torch.finfo(torch.float64).eps
        # In fewer digits uniform draws are too coarse for the tails.
        u = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)
        # A draw can be 0 exactly, whose latent value would be infinite: it stands for its cell.
        u = u.clamp(eps / 4, 1 - eps)
        return (u.log() - (-u).log1p()).to(dtype)
