"""Entries in ascending order."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from likely.sets.convex import ConvexSet, largest, rows_of
from likely.sets.parameters import flat, like


@final
class Monotone(ConvexSet):
    """The cone `{x : x_1 <= x_2 <= ... <= x_n}`, over the flattened event (row-major).

    Projection: `argmin_{x_1 <= ... <= x_n} ||x - y||_2`, isotonic regression: y is cut into blocks, and
    each entry becomes the mean of its block. The blocks come from pooling adjacent violators, in scipy,
    row by row on the CPU in float64, also for data on another device; means are taken where y lies, so
    that the result is differentiable (the blocks are constant around almost every y). The order holds
    exactly, with no tolerance, and rows in order keep every bit.

    Reference: Ayer, Brunk, Ewing, Reid and Silverman 1955; Best and Chakravarti 1990; Busing 2022 (the
    implementation in scipy).

    Example:
        >>> Monotone().project(torch.tensor([[1.0, 3.0, 2.0, 4.0], [0.0, 0.0, 1.0, 2.0]]))
        tensor([[1.0000, 2.5000, 2.5000, 4.0000],
                [0.0000, 0.0000, 1.0000, 2.0000]])
    """

    def project(self, y: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch *event"]:
        """Return the means of the blocks that pooling adjacent violators makes."""
        rows = flat(y)
        outside = (rows[:, 1:] < rows[:, :-1]).any(1, keepdim=True)
        block = _blocks(rows, outside[:, 0])
        zeros = torch.zeros_like(rows)
        size = zeros.scatter_add(1, block, torch.ones_like(rows)).clamp(min=1.0)
        mean = (zeros.scatter_add(1, block, rows) / size).gather(1, block)
        # Means of neighbouring blocks may change places by rounding; the running maximum does not.
        return like(torch.where(outside, mean.cummax(1).values if mean.numel() else mean, rows), y)

    def violation(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return the largest drop as a distance, `max_i max(x_i - x_{i+1}, 0) / sqrt(2)`."""
        rows = flat(x)
        # The first entry less itself, 0, is there for rows of one entry, and NaN if that is NaN.
        drop = torch.cat([rows[:, :1], rows[:, :-1]], 1) - rows
        return largest(drop.clamp(min=0.0) / 2**0.5).to(x.dtype)


def _blocks(rows: Float[Tensor, "batch n"], outside: Tensor) -> Tensor:
    """Return for each entry the number of its block; rows that are inside are left as they are."""
    from scipy.optimize import isotonic_regression

    starts = torch.zeros(rows.shape, dtype=torch.long)
    finite = torch.where(rows.isfinite(), rows, torch.zeros_like(rows)).detach().cpu().numpy()
    for i in outside.nonzero()[:, 0].tolist():
        starts[i, isotonic_regression(finite[i]).blocks[1:-1]] = 1
    return starts.cumsum(1).to(rows.device)


@rows_of.register
def _(within: Monotone, index: Tensor, shape: torch.Size) -> Monotone:
    return within
