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

#: so many of the largest entries are sorted first
LARGEST = 32


@final
class Simplex(ConvexSet):
    """The simplex `{x : x >= 0, sum_i x_i = total}`, over the flattened event.

    Projection: `argmin_{x >= 0, sum x = total} ||x - y||_2 = max(y - t, 0)`, with the one t that makes
    the sum right: `max_k (sum of the k largest - total) / k`, or, where more than the few dozen largest
    count, Newton's method from there, all rows at once. Points inside keep every bit. The
    arithmetic is in float64 and rounded once: the entries are >= 0 exactly, and the violation of a
    projected point is at most `2 eps total`, eps being that of the dtype of y, however far away y is.

    Args:
        total: the sum, above 0, a number, or one for each row, `(B,)`.

    Raises:
        InvalidInput: a total is not above 0 or not finite, or has the wrong shape; on use, there are
            not as many totals as rows, or no entries to sum.
        InvalidType: total is no number and no real tensor.

    Reference: Held, Wolfe and Crowder 1974 (the maximum); Michelot 1986 (the steps); Condat 2016.

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
        inside = rows.sum(1, keepdim=True, dtype=torch.float64) == total
        if inside.any():  # their bits, and the gradient of the projection
            inside &= rows.amin(1, keepdim=True) >= 0
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
    total: Float[Tensor, "*rows"],
) -> Float[Tensor, "batch n"]:
    """Return the projection of flat rows in float64; a total may be 0.

    Any k entries alone have a threshold that is too small or right, as those left out only add to the
    sum. Those of the largest give all of them at once; if the best lies among them, it is right.
    """
    n, data, goal = rows.shape[1], rows.detach(), total.detach()
    few = (data.sort(1, descending=True) if n <= LARGEST else data.topk(LARGEST)).values.double()
    # Counted from the largest entry, the sums keep their digits however far away y is.
    top = few[:, :1]
    few = few - top
    number = torch.arange(1, few.shape[1] + 1, dtype=few.dtype, device=few.device)
    t = ((few.cumsum(1) - goal) / number).amax(1, keepdim=True)
    shifted = rows - top
    grows = n > LARGEST and bool((t < few[:, -1:]).any())
    while grows:
        new = t + _rise(shifted.detach() - t, goal)
        grows, t = bool((new > t).any()), torch.fmax(new, t)
    shifted = shifted - t
    if n > LARGEST or rows.dtype == torch.float64 or rows.requires_grad or total.requires_grad:
        # One step more takes out the rounding of the sums and of t, and carries the gradient.
        shifted = shifted - _rise(shifted, total)
    return shifted.relu()


def _rise(excess: Float[Tensor, "batch n"], total: Tensor) -> Float[Tensor, "batch 1"]:
    """Return by how much t must grow, were the entries above it all that count, given `y - t`.

    This is Newton's method on `sum_i max(y_i - t, 0) = total`, whose left side is convex, falling and
    piecewise linear in t: from a t that is too small, t only grows, and rests once no entry drops out.
    """
    above = excess.relu()
    number = above.sign().sum(1, keepdim=True).clamp(min=1.0)
    return (above.sum(1, keepdim=True) - total) / number


@rows_of.register
def _(within: Simplex, index: Tensor, shape: torch.Size) -> Simplex:
    return with_parameters(within, total=select_each(within.total, index))
