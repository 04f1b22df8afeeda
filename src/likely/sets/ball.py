"""The Euclidean ball."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from likely.errors import Infeasible, InvalidInput
from likely.sets.convex import ConvexSet, rows_of, select, with_parameters
from likely.sets.parameters import column, double, one_each, rows_in, select_each, unflat

#: a length to divide by where length and radius are 0
_TINY = torch.finfo(torch.float64).tiny


@final
class Ball(ConvexSet):
    """The ball `{x : ||x - center||_2 <= radius}`, over all entries of an event.

    Projection: `argmin_{||x - c|| <= r} ||x - y||_2 = c + (y - c) min(1, r / ||y - c||_2)`. Points
    inside keep every bit. Lengths are summed in float64: the violation of a projected point is at most
    `2 eps (||center||_2 + radius)`, eps being that of the dtype of y, whatever the number of entries.

    Args:
        center: a number, or a tensor that broadcasts to `(B, *event)`.
        radius: a number, or one for each row, `(B,)`; 0 for the center alone.

    Raises:
        Infeasible: a radius is negative.
        InvalidInput: a parameter is not finite or has the wrong shape; on use, it does not fit the
            points.
        InvalidType: a parameter is no number and no real tensor.

    Reference: Bauschke and Combettes 2017, example 3.18.

    Example:
        >>> Ball(0.0, 1.0).project(torch.tensor([[3.0, 4.0], [0.5, 0.5]]))
        tensor([[0.6000, 0.8000],
                [0.5000, 0.5000]])
    """

    def __init__(self, center: float | Tensor, radius: float | Float[Tensor, " batch"]) -> None:
        self.center, self.radius = double("center", center), one_each("radius", radius)
        if (self.radius < 0).any():
            raise Infeasible(
                f"radius is {self.radius.min().item():g}, so the ball is empty; expected 0 or more."
            )
        self._least = self.radius.clamp(min=_TINY)
        number = self.center.ndim == 0 and not self.center.requires_grad
        self._origin = number and self.center.item() == 0

    def project(self, y: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch *event"]:
        """Return `center + (y - center) min(1, radius / ||y - center||)`."""
        ray, length = self._ray(y)
        radius, least = column("radius", self.radius, y), column("radius", self._least, y)
        # The larger of length and radius: rows inside are multiplied by 1, which keeps every bit.
        moved = unflat(ray * torch.div(radius, torch.maximum(length, least)).type_as(y), y)
        if self._origin:
            return moved
        outside = (length > radius).reshape(-1, *[1] * (y.ndim - 1))
        return torch.where(outside, self.center.to(y) + moved, y)

    def violation(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return the distance from the ball, `max(||x - center||_2 - radius, 0)`."""
        length = self._ray(x)[1] - column("radius", self.radius, x)
        return length.clamp(min=0.0)[:, 0].to(x.dtype)

    def _ray(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return `y - center`, flat, and its length `(B, 1)` in float64."""
        ray = y
        if not self._origin:
            try:
                ray = y - self.center.to(y)
            except RuntimeError:
                ray = y[:0]
            if ray.shape != y.shape:
                raise InvalidInput(
                    f"center has shape {tuple(self.center.shape)}, the points {tuple(y.shape)}; "
                    "expected a center that broadcasts to the points."
                )
        rows = rows_in(ray)
        return rows, torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64)


@rows_of.register
def _(within: Ball, index: Tensor, shape: torch.Size) -> Ball:
    center = select(within.center, index, shape)
    radius, least = (select_each(r, index) for r in (within.radius, within._least))
    return with_parameters(within, center=center, radius=radius, _least=least)
