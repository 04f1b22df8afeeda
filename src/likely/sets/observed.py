"""Entries whose values are known, alone and together with bounds on the others."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from likely.errors import Infeasible, InvalidInput, InvalidType
from likely.sets.box import Box
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
class Observed(ConvexSet):
    """The affine set `{x : x_i = values_i wherever mask_i}`: measured entries keep their value.

    Projection: `values` where `mask` is True, `y` elsewhere. It copies, so measured entries are kept
    bit by bit.

    Args:
        mask: boolean, broadcastable to `(B, *event)`; True where the value was measured.
        values: the measured values, such as a whole image; ignored where `mask` is False.

    Raises:
        InvalidType: the mask is not a boolean tensor, or the values are no tensor.
        InvalidInput: mask and values do not broadcast, or a measured value is not finite.

    Example:
        >>> keep = Observed(torch.tensor([[True, False]]), torch.tensor([[0.5, 0.0]]))
        >>> keep.project(torch.tensor([[9.0, 9.0]]))
        tensor([[0.5000, 9.0000]])
    """

    def __init__(self, mask: Bool[Tensor, "*shape"], values: Float[Tensor, "*shape"]) -> None:
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            given = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
            raise InvalidType(
                f"mask is {given}; expected torch.bool, True where the value was measured."
            )
        if not isinstance(values, Tensor):
            raise InvalidType(f"values is {type(values).__name__}; expected a tensor.")
        self.mask, self.values = together(mask=mask, values=values)
        if not self.values[self.mask].isfinite().all():
            raise InvalidInput(
                "a measured value is NaN or infinite; mark it as missing (mask False) instead."
            )

    def project(self, y: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch *event"]:
        """Return `values` where measured, `y` elsewhere."""
        try:
            return torch.where(self.mask.to(y.device), self.values.to(y), y)
        except RuntimeError:
            raise InvalidInput(
                f"mask and values have shape {tuple(self.mask.shape)}, the points {tuple(y.shape)}; "
                "expected a mask that broadcasts to the points."
            ) from None

    def violation(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return `max_{i measured} |x_i - values_i|`."""
        gap = (x - self.values.to(x)).abs()
        return largest(torch.where(self.mask.to(x.device), gap, torch.zeros_like(gap)))


@final
class BoundedObserved(ConvexSet):
    """The set `Box & Observed`: measured entries keep their value, all others stay within bounds.

    Projection: first the box, then the measured values. Both sets constrain entries one by one, and a
    measured value lies within its bounds, so the composition is the exact projection.

    Args:
        box: the bounds.
        observed: the measured entries.

    Raises:
        Infeasible: a measured value lies outside the bounds.
        InvalidInput: the shapes do not broadcast.

    Example:
        The textbook segment `{x : x_1 = a, 0 <= x_2 <= 1}`, where `P y = (a, min(max(y_2, 0), 1))`:

        >>> from math import inf
        >>> bounds = Box(torch.tensor([-inf, 0.0]), torch.tensor([inf, 1.0]))
        >>> segment = bounds & Observed(torch.tensor([True, False]), torch.tensor([0.25, 0.0]))
        >>> segment.project(torch.tensor([[3.0, 2.0], [-1.0, 0.5]]))
        tensor([[0.2500, 1.0000],
                [0.2500, 0.5000]])
    """

    def __init__(self, box: Box, observed: Observed) -> None:
        values, mask, low, high = together(
            values=observed.values, mask=observed.mask, low=box.low, high=box.high
        )
        outside = mask & ((values < low.to(values)) | (values > high.to(values)))
        if outside.any():
            where = tuple(int(i) for i in outside.nonzero()[0])
            raise Infeasible(
                f"{int(outside.sum())} measured value(s) lie outside the bounds, the first is "
                f"{values[where].item():g} at index {where}; expected values from "
                f"{low[where].item():g} to {high[where].item():g} there. "
                "Rescale the data, widen the bounds, or mark these entries as missing."
            )
        self.box, self.observed = box, observed

    def project(self, y: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch *event"]:
        """Return `values` where measured, `min(max(y, low), high)` elsewhere."""
        return self.observed.project(self.box.project(y))

    def violation(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return the larger of the two violations."""
        return torch.maximum(self.box.violation(x), self.observed.violation(x))


@closed_form(Observed, Observed)
def _(first: Observed, second: Observed) -> Observed:
    one, two, one_mask, two_mask = together(
        values=first.values, other_values=second.values, mask=first.mask, other_mask=second.mask
    )
    conflict = one_mask & two_mask & (one != two)
    if conflict.any():
        where = tuple(int(i) for i in conflict.nonzero()[0])
        raise Infeasible(
            f"{int(conflict.sum())} value(s) are measured twice and differ, the first is "
            f"{one[where].item():.9g} and {two[where].item():.9g} at index {where}. "
            "Decide for one of them, or mark the entries as missing in the other."
        )
    return Observed(one_mask | two_mask, torch.where(one_mask, one, two))


closed_form(Box, Observed)(BoundedObserved)


@closed_form(Box, BoundedObserved)
def _(box: Box, both: BoundedObserved) -> ConvexSet:
    return BoundedObserved(box & both.box, both.observed)  # type: ignore[arg-type]


@closed_form(Observed, BoundedObserved)
def _(observed: Observed, both: BoundedObserved) -> ConvexSet:
    return BoundedObserved(both.box, both.observed & observed)  # type: ignore[arg-type]


@closed_form(BoundedObserved, BoundedObserved)
def _(first: BoundedObserved, second: BoundedObserved) -> ConvexSet:
    box, observed = first.box & second.box, first.observed & second.observed
    return BoundedObserved(box, observed)  # type: ignore[arg-type]


@rows_of.register
def _(within: Observed, index: Tensor, shape: torch.Size) -> Observed:
    mask, values = (select(t, index, shape) for t in (within.mask, within.values))
    return with_parameters(within, mask=mask, values=values)


@rows_of.register
def _(within: BoundedObserved, index: Tensor, shape: torch.Size) -> BoundedObserved:
    box, observed = (rows_of(s, index, shape) for s in (within.box, within.observed))
    return with_parameters(within, box=box, observed=observed)
