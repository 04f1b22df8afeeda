"""One linear inequality."""

from __future__ import annotations

from math import inf
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from likely.errors import InvalidInput
from likely.sets.convex import ConvexSet, rows_of, with_parameters
from likely.sets.normal import Normal
from likely.sets.parameters import column, double, one_each, rows_in, select_each, unflat


@final
class Halfspace(ConvexSet):
    """The half-space `{x : <a, x> <= b}`, over the flattened event.

    Projection: `argmin_{<a, x> <= b} ||x - y||_2 = y - max(<a, y> - b, 0) a / ||a||_2^2`. Points inside
    keep every bit. The sum is taken in float64: the violation of a projected point is
    at most `2 eps (||y||_2 + ||x||_2)`, eps being that of the dtype of y.

    Args:
        a: the normal vector, one number for each entry of an event, in its shape or flat (row-major).
        b: the bound, a number, or one for each row, `(B,)`.

    Raises:
        InvalidInput: a is zero, a parameter is not finite or has the wrong shape; on use, a or b does
            not fit the points.
        InvalidType: a parameter is no number and no real tensor.

    Reference: Boyd and Vandenberghe 2004, section 8.1; Bauschke and Combettes 2017, example 29.20.

    Example:
        >>> Halfspace(torch.tensor([0.0, 2.0]), 1.0).project(torch.tensor([[2.0, 1.0], [0.0, 0.25]]))
        tensor([[2.0000, 0.5000],
                [0.0000, 0.2500]])
    """

    def __init__(self, a: Float[Tensor, "*event"], b: float | Float[Tensor, " batch"]) -> None:
        self.a, self.b = double("a", a), one_each("b", b)
        length = self.a.square().sum().item()
        if not 0 < length < inf:
            raise InvalidInput(
                f"||a||^2 is {length:g} for a of shape {tuple(self.a.shape)}; expected a normal vector "
                "with a non-zero entry. If a is merely tiny or huge, scale a and b alike."
            )
        self._normal = Normal(self.a.flatten())

    def project(self, y: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch *event"]:
        """Return `y - max(<a, y> - b, 0) a / ||a||^2`."""
        rows = rows_in(y)
        return unflat(self._normal.back(rows, self._excess(rows, y).relu()), y)

    def violation(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return the distance from the half-space, `max(<a, x> - b, 0) / ||a||_2`."""
        excess = self._excess(rows_in(x), x).relu()[:, 0]
        return torch.divide(excess, self._normal.length).to(x.dtype)

    def _excess(self, rows: Tensor, y: Tensor) -> Float[Tensor, "batch 1"]:
        """Return `<a, y> - b` for each row."""
        if self.a.numel() != rows.shape[1]:
            raise InvalidInput(
                f"a has shape {tuple(self.a.shape)}, but an event has shape {tuple(y.shape[1:])}; "
                f"expected {rows.shape[1]} numbers, one for each entry."
            )
        return self._normal.excess(rows, column("b", self.b, y))


@rows_of.register
def _(within: Halfspace, index: Tensor, shape: torch.Size) -> Halfspace:
    return with_parameters(within, b=select_each(within.b, index))
