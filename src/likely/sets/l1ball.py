"""The ball of the sum of absolute values."""

from __future__ import annotations

from math import sqrt
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from likely.errors import Infeasible
from likely.sets.convex import ConvexSet, rows_of, with_parameters
from likely.sets.parameters import column, flat, like, one_each, rows_in, select_each
from likely.sets.simplex import onto_simplex


@final
class L1Ball(ConvexSet):
    """The ball `{x : ||x||_1 <= radius}`, over the flattened event.

    Projection: for `||y||_1 <= r`, y itself, every bit of it; else
    `argmin_{||x||_1 <= r} ||x - y||_2 = sign(y) P(|y|)`, P being the projection onto the simplex with
    total r: entries are pulled towards 0 by one threshold, and the small ones are 0 exactly. The
    arithmetic is in float64 and rounded once: the violation of a projected point is at most
    `2 eps radius`, eps being that of the dtype of y.

    Args:
        radius: a number, or one for each row, `(B,)`; 0 for the origin alone.

    Raises:
        Infeasible: a radius is negative.
        InvalidInput: a radius is not finite or has the wrong shape; on use, there are not as many
            radii as rows.
        InvalidType: radius is no number and no real tensor.

    Reference: Duchi, Shalev-Shwartz, Singer and Chandra 2008.

    Example:
        >>> L1Ball(1.0).project(torch.tensor([[-2.0, 1.5, 0.25], [0.5, -0.25, 0.0]]))
        tensor([[-0.7500,  0.2500,  0.0000],
                [ 0.5000, -0.2500,  0.0000]])
    """

    def __init__(self, radius: float | Float[Tensor, " batch"]) -> None:
        self.radius = one_each("radius", radius)
        if (self.radius < 0).any():
            raise Infeasible(
                f"radius is {self.radius.min().item():g}, so the ball is empty; expected 0 or more."
            )

    def project(self, y: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch *event"]:
        """Return `sign(y) max(|y| - t, 0)` for rows outside, t making the sum right."""
        rows, radius = rows_in(y), column("radius", self.radius, y)
        if not rows.shape[1]:
            return y.clone()
        size = rows.abs()
        outside = size.sum(1, keepdim=True, dtype=torch.float64) > radius
        return like(torch.where(outside, torch.copysign(onto_simplex(size, radius), rows), rows), y)

    def violation(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return `max(||x||_1 - radius, 0) / sqrt(n)`, the distance from the farthest facet's side."""
        rows = flat(x)
        excess = rows.abs().sum(1, keepdim=True) - column("radius", self.radius, x)
        return (excess.clamp(min=0.0)[:, 0] / sqrt(max(rows.shape[1], 1))).to(x.dtype)


@rows_of.register
def _(within: L1Ball, index: Tensor, shape: torch.Size) -> L1Ball:
    return with_parameters(within, radius=select_each(within.radius, index))
