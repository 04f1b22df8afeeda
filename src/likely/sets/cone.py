"""The second-order cone."""

from __future__ import annotations

from math import sqrt
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from likely.errors import InvalidInput
from likely.sets.convex import ConvexSet, rows_of
from likely.sets.parameters import like


@final
class SecondOrderCone(ConvexSet):
    """The cone `{(t, x) : ||x||_2 <= t}`, t being the first entry of the flattened event (row-major).

    Projection: `argmin_{||x|| <= t} ||(t, x) - (t', x')||_2` is the point itself where
    `||x'|| <= t'`, every bit of it; 0 where `||x'|| <= -t'`; else `s (1, x' / ||x'||)` with
    `s = (t' + ||x'||) / 2`. Lengths are summed in float64: the violation of a projected point is at
    most `2 eps` times its length, eps being that of the dtype of y, whatever the number of entries.

    Raises:
        InvalidInput: on use, an event has no entry.

    Reference: Bauschke 1996, theorem 3.3.6; Parikh and Boyd 2014, section 6.3.2.

    Example:
        >>> y = torch.tensor([[0.0, 3.0, 4.0], [5.0, 3.0, 4.0], [-5.0, 3.0, 4.0]])
        >>> SecondOrderCone().project(y)
        tensor([[2.5000, 1.5000, 2.0000],
                [5.0000, 3.0000, 4.0000],
                [0.0000, 0.0000, 0.0000]])
    """

    def project(self, y: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch *event"]:
        """Return `max(t + ||x||, 0) / 2 (1, x / ||x||)` for rows outside."""
        rows, top, length = _parts(y)
        outside = length > top
        half = (top + length).clamp(min=0.0) / 2
        # Where nothing moves, dividing by 1 keeps the gradient finite at the apex.
        ratio = half / torch.where(outside & (length > 0), length, torch.ones_like(length))
        moved = torch.cat([half.to(y.dtype), rows[:, 1:] * ratio.to(y.dtype)], 1)
        return like(torch.where(outside, moved, rows), y)

    def violation(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return `max(||x||_2 - t, 0) / sqrt(2)`, the distance from the farthest tangent's side."""
        _, top, length = _parts(x)
        return ((length - top).clamp(min=0.0)[:, 0] / sqrt(2)).to(x.dtype)


def _parts(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the flat rows, and in float64 t and `||x||`, both `(B, 1)`."""
    rows = y[:, None].flatten(1)
    if not rows.shape[1]:
        raise InvalidInput(
            f"y has shape {tuple(y.shape)}; expected at least one entry in a row, t, the first one."
        )
    # Unlike vector_norm, sum adds in pairs: 10^6 entries lose no digit. At 0 the slope is set to 0.
    square = rows[:, 1:].double().square().sum(1, keepdim=True)
    zero = square == 0
    length = torch.where(zero, square, torch.where(zero, 1.0, square).sqrt())
    return rows, rows[:, :1].double(), length


@rows_of.register
def _(within: SecondOrderCone, index: Tensor, shape: torch.Size) -> SecondOrderCone:
    return within
