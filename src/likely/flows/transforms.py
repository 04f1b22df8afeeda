"""Maps of one number to one number, increasing, whose parameters a coupling's network gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor

from likely.checks import number
from likely.errors import InvalidInput
from likely.flows.plu import bounded


class Elementwise(ABC):
    """An increasing map T of each entry; with all raw parameters at zero it is the identity.

    Example:
        >>> import torch
        >>> class Scaling(Elementwise):
        ...     parameters = 1
        ...
        ...     def forward(self, x, raw):
        ...         return x * raw[0].exp(), raw[0]
        ...
        ...     def inverse(self, z, raw):
        ...         return z * (-raw[0]).exp(), -raw[0]
        >>> Scaling().forward(torch.ones(2), torch.zeros(1, 2))[0].tolist()
        [1.0, 1.0]
    """

    #: how many raw parameters an entry has
    parameters: int

    @abstractmethod
    def forward(
        self, x: Float[Tensor, "*shape"], raw: Float[Tensor, "parameters *shape"]
    ) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
        """Return `z = T(x)` and `log T'(x)`, for each entry."""

    @abstractmethod
    def inverse(
        self, z: Float[Tensor, "*shape"], raw: Float[Tensor, "parameters *shape"]
    ) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
        """Return `x = T^-1(z)` and `-log T'(x)`, for each entry."""


@final
@dataclass(frozen=True)
class Affine(Elementwise):
    """`z = x exp(s) + t` with `s = bound tanh(raw_0 / bound)` and `t = raw_1`; `log T' = s`.

    Args:
        bound: of `|s|`, so that no network can drive a scale to overflow.

    Raises:
        InvalidInput: bound is not positive and finite.

    Reference: Dinh, Sohl-Dickstein, Bengio 2017.

    Example:
        >>> import torch
        >>> Affine().forward(torch.ones(1), torch.tensor([[0.0], [2.0]]))[0].item()
        3.0
    """

    bound: float = 2.0
    parameters = 2

    def __post_init__(self) -> None:
        if not float(number("bound", self.bound)) > 0:
            raise InvalidInput(f"bound is {self.bound}; expected a positive number.")

    def forward(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Scale, then shift."""
        log_scale = bounded(raw[0], self.bound)
        return x * log_scale.exp() + raw[1], log_scale

    def inverse(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Shift back, then scale back."""
        log_scale = bounded(raw[0], self.bound)
        return (z - raw[1]) * (-log_scale).exp(), -log_scale
