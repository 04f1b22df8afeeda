"""The convex set: two abstract methods, everything else derived."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from likely.errors import InvalidInput


class ConvexSet(ABC):
    """A closed convex set C for each row of a batch `(B, *event)`; rows are independent problems."""

    @abstractmethod
    def project(self, y: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch *event"]:
        """Return the nearest point, `argmin_{x in C} ||x - y||_2`, row by row, in the dtype of `y`."""

    @abstractmethod
    def violation(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return how far each row is outside, in the units of `x`: 0.0 exactly when inside."""

    def contains(self, x: Float[Tensor, "batch *event"], atol: float = 0.0) -> Bool[Tensor, " batch"]:
        """Return for each row whether its violation is at most `atol`."""
        return self.violation(x) <= atol

    def __and__(self, other: ConvexSet) -> ConvexSet:
        """Return the intersection, where its projection is known in closed form.

        Raises:
            InvalidInput: no closed form is known for this pair.
            Infeasible: the two sets do not meet.
        """
        for (first, second), meet in CLOSED_FORMS.items():
            if isinstance(self, first) and isinstance(other, second):
                return meet(self, other)
            if isinstance(other, first) and isinstance(self, second):
                return meet(other, self)
        known = ", ".join(f"{a.__name__} & {b.__name__}" for a, b in CLOSED_FORMS)
        raise InvalidInput(
            f"no closed-form projection onto {type(self).__name__} & {type(other).__name__}; "
            f"known are {known}."
        )


CLOSED_FORMS: dict[tuple[type[ConvexSet], type[ConvexSet]], Callable[[Any, Any], ConvexSet]] = {}


def closed_form(
    first: type[ConvexSet], second: type[ConvexSet]
) -> Callable[[Callable[[Any, Any], ConvexSet]], Callable[[Any, Any], ConvexSet]]:
    """Register a function as the closed form of `first & second`, in either order."""

    def register(meet: Callable[[Any, Any], ConvexSet]) -> Callable[[Any, Any], ConvexSet]:
        CLOSED_FORMS[first, second] = meet
        return meet

    return register


def together(**tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors in their common shape, or raise InvalidInput with the shapes given."""
    try:
        return tuple(torch.broadcast_tensors(*tensors.values()))  # type: ignore[no-untyped-call]
    except RuntimeError:
        given = ", ".join(f"{name} has shape {tuple(t.shape)}" for name, t in tensors.items())
        raise InvalidInput(f"{given}; expected shapes that broadcast together.") from None


def largest(gap: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
    """Return the largest entry of each row, 0.0 for rows without entries; NaN stays NaN."""
    flat = gap[:, None].flatten(1)
    return flat.amax(1) if flat.shape[1] else flat.sum(1)
