"""Bounds on every entry."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from likely.errors import Infeasible, InvalidInput
from likely.sets.convex import (
    ConvexSet,
    closed_form,
    largest,
    rows_of,
    select,
    together,
    with_parameters,
)


@final
class Box(ConvexSet):
    """The box `{x : low <= x <= high}`, entry by entry.

    Projection: `argmin_{low <= x <= high} ||x - y||_2 = min(max(y, low), high)`. The problem separates
    over the entries, and on one entry the nearest point of an interval is the clipped value.

    Args:
        low: lower bound, a number or a tensor that broadcasts to `(B, *event)`; `-inf` for none.
        high: upper bound, likewise.

    Raises:
        InvalidInput: a bound is NaN, or the bounds do not broadcast.
        Infeasible: a lower bound lies above its upper bound.

    Example:
        >>> Box(0.0, 1.0).project(torch.tensor([[-0.5, 0.25, 2.0]]))
        tensor([[0.0000, 0.2500, 1.0000]])
    """

    def __init__(self, low: float | Tensor, high: float | Tensor) -> None:
        # A number is kept in double precision: 0.1 must mean the same bound in float64 data.
        self.low, self.high = (
            b if isinstance(b, Tensor) else torch.as_tensor(b, dtype=torch.float64) for b in (low, high)
        )
        least, most = together(low=self.low, high=self.high)
        if self.low.isnan().any() or self.high.isnan().any():
            raise InvalidInput("a bound of the box is NaN; use -inf or inf where there is no bound.")
        bad = torch.gt(least, most).nonzero()
        if len(bad):
            where = tuple(bad[0].tolist())
            place = f" at index {where}" if where else ""
            raise Infeasible(
                f"the box is empty: low {least[where].item():g} lies above high {most[where].item():g}"
                f"{place}; swap or widen the bounds."
            )
        bounds = self.low, self.high
        plain = all(b.ndim == 0 and not b.requires_grad for b in bounds)
        # A clamp to numbers needs no tensors of the dtype and on the device of the points.
        self._numbers = (self.low.item(), self.high.item()) if plain else None

    def project(self, y: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch *event"]:
        """Return `min(max(y, low), high)`; for a zero at a bound of zero, either of the two zeros."""
        if self._numbers is not None:
            return torch.clamp(y, *self._numbers)
        try:
            return torch.clamp(y, self.low.to(y), self.high.to(y))
        except RuntimeError:
            raise InvalidInput(
                f"the bounds have shapes {tuple(self.low.shape)} and {tuple(self.high.shape)}, the "
                f"points {tuple(y.shape)}; expected bounds that broadcast to the points."
            ) from None

    def violation(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return `max_i max(low_i - x_i, x_i - high_i, 0)`."""
        return largest(torch.maximum(self.low.to(x) - x, x - self.high.to(x)).clamp(min=0.0))


@closed_form(Box, Box)
def _(first: Box, second: Box) -> Box:
    together(low=first.low, high=first.high, other_low=second.low, other_high=second.high)
    return Box(torch.maximum(first.low, second.low), torch.minimum(first.high, second.high))


@rows_of.register
def _(within: Box, index: Tensor, shape: torch.Size) -> Box:
    low, high = (select(b, index, shape) for b in (within.low, within.high))
    return with_parameters(within, low=low, high=high)
