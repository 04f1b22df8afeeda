"""Bounds on every entry and one linear equality: the budget set."""

from __future__ import annotations

from math import inf
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from likely.errors import Infeasible, InvalidInput
from likely.sets.affine import Affine
from likely.sets.box import Box
from likely.sets.convex import ConvexSet, closed_form, rows_of, together, with_parameters
from likely.sets.observed import BoundedObserved, Observed
from likely.sets.parameters import column, double, flat, like, one_each, select_each


@final
class BoxHyperplane(ConvexSet):
    """The set `Box & hyperplane`, `{x : low <= x <= high, <a, x> = b}`: shares of a given budget.

    Projection: `argmin_{low <= x <= high, <a, x> = b} ||x - y||_2 = min(max(y - t a, low), high)` with
    a t that makes `<a, x> = b`: the continuous quadratic knapsack. `<a, x>` falls with t, linearly
    between the 2n values of t where an entry meets a bound; these are sorted and searched, all rows at
    once, and t follows from the entries that are free. Points inside keep every bit. The arithmetic is
    in float64 and rounded once: bounds hold exactly, in the dtype of y, and the violation of a
    projected point x is at most `2 eps ||x||_2`, eps being that of this dtype, however far away y is.
    `Observed & BoxHyperplane` is one more: measured entries have their value as both bounds.

    Args:
        low: lower bound, a number or a tensor that broadcasts to `(B, *event)`; `-inf` for none.
        high: upper bound, likewise.
        a: the normal vector, one number for each entry of an event, in its shape or flat (row-major);
            entries may be 0 or negative.
        b: the value of `<a, x>`, a number, or one for each row, `(B,)`.

    Raises:
        Infeasible: a lower bound lies above its upper bound, or no x within the bounds has
            `<a, x> = b`; on use, where only the points tell how the bounds broadcast.
        InvalidInput: a is zero, a bound is NaN, a or b is not finite, or a shape is wrong; on use, a
            parameter does not fit the points.
        InvalidType: a or b is no number and no real tensor.

    Reference: Helgason, Kennington and Lall 1980; Brucker 1984; Kiwiel 2008.

    Example:
        >>> BoxHyperplane(0.0, 1.0, torch.ones(3), 1.5).project(torch.tensor([[0.25, 3.0, -0.5]]))
        tensor([[0.5000, 1.0000, 0.0000]])
        >>> budget = Box(0.0, 1.0) & Affine(torch.tensor([1.0, -2.0]), 0.0)
        >>> budget.project(torch.tensor([[2.0, 2.0]]))
        tensor([[1.0000, 0.5000]])
    """

    def __init__(
        self,
        low: float | Tensor,
        high: float | Tensor,
        a: Float[Tensor, "*event"],
        b: float | Float[Tensor, " batch"],
    ) -> None:
        self.box, self.a, self.b = Box(low, high), double("a", a), one_each("b", b)
        length = self.a.square().sum().item()
        if not 0 < length < inf:
            raise InvalidInput(
                f"||a||^2 is {length:g} for a of shape {tuple(self.a.shape)}; expected a normal vector "
                "with a non-zero entry. If a is merely tiny or huge, scale a and b alike."
            )
        # Bounds for one event, for a batch, or one for all; else the points settle how they broadcast.
        bounds = together(low=self.box.low.double(), high=self.box.high.double())
        shape, one = bounds[0].shape, bounds[0].numel() == 1
        self._settled = one or self.a.shape in (shape, shape[1:])
        if self._settled:
            a, b = self.a.flatten(), self.b.to(self.a.device).reshape(-1, 1)
            low, high = (bound.reshape(-1, 1 if one else len(a)).to(a.device) for bound in bounds)
            _check(low, high, a, b)

    def project(self, y: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch *event"]:
        """Return `min(max(y - t a, low), high)`, t making `<a, x> = b`."""
        rows, excess = flat(y), self._excess(y)
        a, b = self.a.to(y.device).flatten(), column("b", self.b, y)
        low, high = (_bound(bound.to(y), y) for bound in (self.box.low, self.box.high))
        if not self._settled:
            _check(_bound(self.box.low, y), _bound(self.box.high, y), a, b)
        done = ((low <= rows) & (rows <= high)).all(1, keepdim=True) & (excess == 0)
        # Whatever y holds there, NaN included, entries between equal bounds are known.
        rows = torch.where((low == high) & (rows != low), low, rows)
        for _ in range(2):  # a step along a changes no answer; from nearby, t keeps its digits
            with torch.no_grad():
                if done.all():
                    break
                t = _multiplier(rows, low, high, a, b).masked_fill(done, 0.0)
                # Plus zero: -0.0 - (-0.0) would lose a sign where nothing needs to move.
                step = t * a + 0.0
                terms = a * _clip(rows - step, low, high)
                rounding = 4 * torch.finfo(a.dtype).eps * terms.abs().sum(1, keepdim=True)
                done = (terms.sum(1, keepdim=True) - b).abs() <= rounding
            rows = rows - step
        # The active set is known: t in closed form, which carries the gradient of the free entries.
        free = (low < rows) & (rows < high)
        x = torch.where(free, rows, _clip(rows, low, high).detach())
        weight = torch.where(free, a.square(), 0.0).sum(1, keepdim=True)
        t = ((a * x).sum(1, keepdim=True) - b) / torch.where(weight > 0, weight, 1.0)
        return like(_clip(torch.where(free, x - (t * a + 0.0), x), low, high), y)

    def violation(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return the larger of the box's and `|<a, x> - b| / ||a||_2`, all of them distances."""
        gap = self._excess(x).abs()[:, 0] / self.a.to(x.device).square().sum().sqrt()
        return torch.maximum(self.box.violation(x), gap.to(x.dtype))

    def _excess(self, y: Tensor) -> Float[Tensor, "batch 1"]:
        """Return `<a, y> - b` for each row, having checked that the shapes fit."""
        rows, a = flat(y), self.a.to(y.device).flatten()
        if len(a) != rows.shape[1]:
            raise InvalidInput(
                f"a has shape {tuple(self.a.shape)}, but an event has shape {tuple(y.shape[1:])}; "
                f"expected {rows.shape[1]} numbers, one for each entry."
            )
        for name, bound in (("low", self.box.low), ("high", self.box.high)):
            try:
                fits = torch.broadcast_to(bound.to(y.device), y.shape).shape == y.shape
            except RuntimeError:
                fits = False
            if not fits:
                raise InvalidInput(
                    f"{name} has shape {tuple(bound.shape)}, the points {tuple(y.shape)}; "
                    "expected a bound that broadcasts to the points."
                )
        return (rows * a).sum(1, keepdim=True) - column("b", self.b, y)


def _bound(bound: Tensor, y: Tensor) -> Float[Tensor, "batch n"]:
    return flat(bound.to(y.device).expand(y.shape))


def _clip(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.where(x < low, low, torch.where(x > high, high, x))


def _check(low: Tensor, high: Tensor, a: Tensor, b: Tensor) -> None:
    """Raise Infeasible where b is no value of `<a, x>` within the bounds, beyond rounding."""
    terms = [torch.where(a == 0, 0.0, a * torch.where(up, high, low)) for up in (a < 0, a > 0)]
    least, most = (term.sum(1, keepdim=True) for term in terms)
    size = torch.stack([torch.where(term.isfinite(), term, 0.0).abs().sum(1) for term in terms])
    spare = 8 * torch.finfo(a.dtype).eps * size[..., None]
    bad = (b < least - spare[0]) | (b > most + spare[1])
    if bad.any():
        i = int(bad.nonzero()[0, 0])
        wanted, low_end, high_end = (v.expand(bad.shape)[i, 0].item() for v in (b, least, most))
        place = f" in row {i}" if len(bad) > 1 else ""
        raise Infeasible(
            f"b is {wanted:.9g}{place}, but within the bounds <a, x> takes values from "
            f"{low_end:.9g} to {high_end:.9g} only; change b, or widen the bounds."
        )


def _multiplier(
    y: Float[Tensor, "batch n"], low: Tensor, high: Tensor, a: Float[Tensor, " n"], b: Tensor
) -> Float[Tensor, "batch 1"]:
    """Return t with `<a, clip(y - t a)> = b`, from the sorted values where entries meet bounds."""
    # As t grows, entry i leaves its early bound at start_i and meets the late one at stop_i.
    moves, n = a != 0, len(a)
    early, late = torch.where(a > 0, high, low), torch.where(a > 0, low, high)
    start, stop = (torch.where(moves, (y - bound) / a, inf) for bound in (early, late))
    kinks = torch.cat([start, stop], 1).sort(1).values
    # `least` counts kinks where <a, x> is still b or more; at -inf it is, at inf it is b or less.
    least = torch.zeros(len(y), 1, dtype=torch.long, device=y.device)
    most = least + 2 * n
    for _ in range((2 * n).bit_length()):
        middle = (least + most + 1) // 2
        t = kinks.gather(1, (middle - 1).clamp(min=0))
        value = (a * _clip(y - t * a, low, high)).sum(1, keepdim=True)
        more = (t == -inf) | ((t < inf) & (value >= b))
        least, most = torch.where(more, middle, least), torch.where(more, most, middle - 1)
        most = torch.maximum(least, most)
    left = torch.where(least > 0, kinks.gather(1, (least - 1).clamp(min=0)), -inf)
    right = torch.where(least < 2 * n, kinks.gather(1, least.clamp(max=2 * n - 1)), inf)
    free = moves & (start <= left) & (stop >= right)
    x = torch.where(free, y, torch.where(stop <= left, late, early))
    excess = torch.where(moves, a * x, 0.0).sum(1, keepdim=True) - b
    weight = torch.where(free, a.square(), 0.0).sum(1, keepdim=True)
    # Without a free entry, <a, x> is the same from left to right; what is too much falls at the right.
    end = torch.where((excess > 0) & (right < inf) | (left == -inf), right, left)
    t = torch.minimum(torch.maximum(excess / torch.where(weight > 0, weight, 1.0), left), right)
    return torch.where(weight > 0, t, end)


@closed_form(Box, Affine)
def _(box: Box, affine: Affine) -> ConvexSet:
    if len(affine.A) > 1:
        return NotImplemented  # type: ignore[no-any-return]
    return BoxHyperplane(box.low, box.high, affine.A[0], affine.b[:, 0])


@closed_form(Box, BoxHyperplane)
def _(box: Box, both: BoxHyperplane) -> ConvexSet:
    meet = box & both.box
    return BoxHyperplane(meet.low, meet.high, both.a, both.b)  # type: ignore[attr-defined]


@closed_form(Observed, BoxHyperplane)
def _(observed: Observed, both: BoxHyperplane) -> ConvexSet:
    mask, values = observed.mask, observed.values
    BoundedObserved(both.box, observed)  # raises where a measured value lies outside the bounds
    low, high = (torch.where(mask, values, b.to(mask.device)) for b in (both.box.low, both.box.high))
    return BoxHyperplane(low, high, both.a, both.b)


@closed_form(BoundedObserved, BoxHyperplane)
def _(bounded: BoundedObserved, both: BoxHyperplane) -> ConvexSet:
    return bounded.observed & (bounded.box & both)


@rows_of.register
def _(within: BoxHyperplane, index: Tensor, shape: torch.Size) -> BoxHyperplane:
    box, b = rows_of(within.box, index, shape), select_each(within.b, index)
    return with_parameters(within, box=box, b=b)
