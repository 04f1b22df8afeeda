"""One normal vector: how far points are along it, and steps back."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor


@final
class Normal:
    """The normal vector a of a hyperplane, with what every projection along it needs, made once.

    Args:
        a: flat, in float64, not zero.
    """

    def __init__(self, a: Float[Tensor, " n"]) -> None:
        # Unlike vector_norm, sum adds in pairs: 10^6 entries lose no digit.
        self.a, self.length = a, a.square().sum().sqrt()
        self._unit = a / self.length
        self._unit_float = self._unit.float()
        self._zero = torch.zeros(())

    def excess(self, rows: Float[Tensor, "batch n"], b: Tensor) -> Float[Tensor, "batch 1"]:
        """Return `<a, y> - b` for each row, summed in float64; b is `()`, `(1, 1)` or `(B, 1)`."""
        return torch.mv(rows.double(), self.a.to(rows.device)).unsqueeze(1) - b

    def back(
        self, rows: Float[Tensor, "batch n"], excess: Float[Tensor, "batch 1"]
    ) -> Float[Tensor, "batch n"]:
        """Return `y - excess a / ||a||^2`; every bit of y where the excess is 0."""
        unit = (self._unit_float if rows.dtype == torch.float32 else self._unit).to(rows)
        step = (excess / self.length).type_as(rows) * unit
        # Plus zero: -0.0 - (-0.0) would lose a sign where nothing needs to move.
        return torch.sub(rows, step.add_(self._zero))
