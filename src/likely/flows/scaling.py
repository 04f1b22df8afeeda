"""Diagonal scaling: one learned factor for each entry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from likely.checks import shape_of
from likely.flows.bijection import Bijection, rows


@final
class DiagonalScaling(Bijection):
    """The map `z = x * exp(s)` with `log|det dz/dx| = sum_i s_i`, the same for every row.

    The Jacobian is the diagonal matrix of `exp(s_i)`, so its log-determinant is the sum of the `s_i`
    (Dinh, Krueger, Bengio 2015, section 3.3).

    Args:
        shape: the shape of one row.

    Raises:
        InvalidInput: x has rows of another shape.

    Example:
        >>> scaling = DiagonalScaling((2,))
        >>> _ = torch.nn.init.constant_(scaling.log_scale, 1.0)
        >>> scaling.forward_and_log_det(torch.zeros(1, 2))[1].item()
        2.0
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(shape_of("shape", shape)))

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply by `exp(s)`."""
        rows(x, self.log_scale.shape)
        return x * self.log_scale.exp(), self.log_scale.sum().expand(x.shape[0])

    def inverse_and_log_det(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply by `exp(-s)`."""
        rows(z, self.log_scale.shape)
        return z * (-self.log_scale).exp(), -self.log_scale.sum().expand(z.shape[0])
