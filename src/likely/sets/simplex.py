"""Non-negative entries with a given sum."""

from __future__ import annotations

from math import sqrt
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from likely.errors import InvalidInput
from likely.sets.convex import ConvexSet, largest, rows_of, with_parameters
from likely.sets.parameters import column, flat, like, one_each, rows_in, select_each


@final
class Simplex(ConvexSet):
    """The simplex `{x : x >= 0, sum_i x_i = total}`, over the flattened event.

    Projection: `argmin_{x >= 0, sum x = total} ||x - y||_2 = max(y - t, 0)`, with the one t that makes
    the sum right; it is found by Newton's method, all rows at once. Points inside keep every bit. The
    arithmetic is in float64 and rounded once: the entries are >= 0 exactly, and the violation of a
    projected point is at most `2 eps total`, eps being that of the dtype of y, however far away y is.

    Args:
        total: the sum, above 0, a number, or one for each row, `(B,)`.

    Raises:
        InvalidInput: a total is not above 0 or not finite, or has the wrong shape; on use, there are
            not as many totals as rows, or no entries to sum.
        InvalidType: total is no number and no real tensor.

    Reference: Held, Wolfe and Crowder 1974; Michelot 1986 (the algorithm); Condat 2016.

    Example:
        >>> Simplex(1.0).project(torch.tensor([[0.5, 1.0, -3.0], [0.25, 0.25, 0.5]]))
        tensor([[0.2500, 0.7500, 0.0000],
                [0.2500, 0.2500, 0.5000]])
    """

    def __init__(self, total: float | Float[Tensor, " batch"]) -> None:
        self.total = one_each("total", total)
        if (self.total <= 0).any():
            raise InvalidInput(
                f"total is {self.total.min().item():g}; expected a number above 0, as the entries are "
                ">= 0 and add up to it. For total 0 the only point is 0: that is Box(0.0, 0.0)."
            )

    def project(self, y: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch *event"]:
        """Return `max(y - t, 0)`, its sum being the total."""
        rows, total = rows_in(y), column("total", self.total, y)
        if not rows.shape[1]:
            raise InvalidInput(f"y has shape {tuple(y.shape)}; expected at least one entry in a row.")
        x = onto_simplex(rows, total)
        inside = (rows.double().sum(1, keepdim=True) == total) & (rows.amin(1, keepdim=True) >= 0)
        if inside.any():  # their bits, and the gradient of the projection
            x = torch.where(inside, rows.detach() - (x.detach() - x), x)
        return like(x, y)

    def violation(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return `max(max_i -x_i, |sum_i x_i - total| / sqrt(n), 0)`, all of them distances."""
        rows = flat(x)
        excess = (rows.sum(1, keepdim=True) - column("total", self.total, x)).abs()
        return largest(torch.cat([excess / sqrt(max(rows.shape[1], 1)), -rows], 1).clamp(min=0.0)).to(
            x.dtype
        )


def onto_simplex(
    rows: Float[Tensor, "batch n"],
    total: Float[Tensor, "rows 1"],
) -> Float[Tensor, "batch n"]:
    """Return the projection of flat rows, in float64; a total may be 0.

    Newton's method on `sum_i max(y_i - t, 0) = total`, whose left side is convex, falling and piecewise
    linear in t. From a t that is too small, a step goes to the t that would be right were the entries
    above the old one all that count: t only grows, and rests once no entry drops out.
    """
    with torch.no_grad():
        # Counted from the largest entry, the sums keep their digits however far away y is.
        top = rows.amax(1, keepdim=True).double()
        shifted = rows.double() - top
        t = torch.maximum(-total, (shifted.sum(1, keepdim=True) - total) / rows.shape[1])
        grows = True
        while grows:
            above = (shifted - t).relu_()
            excess = above.sum(1, keepdim=True) - total
            number = above.sign_().sum(1, keepdim=True).clamp(min=1.0)
            new = t + excess / number
            grows, t = bool((new > t).any()), torch.fmax(new, t)
    # One more step changes no value, and carries the gradient: all entries above share the excess.
    shifted = rows.double() - top
    t = t + ((shifted - t).relu().sum(1, keepdim=True) - total) / number
    return (shifted - t).relu()


@rows_of.register
def _(within: Simplex, index: Tensor, shape: torch.Size) -> Simplex:
    return with_parameters(within, total=select_each(within.total, index))
