"""The convex set: two abstract methods, everything else derived."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import singledispatch
from typing import Any, TypeVar, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from likely.errors import InvalidInput


class ConvexSet(ABC):
    """A closed convex set C for each row of a batch `(B, *event)`; rows are independent problems.

    Example:
        >>> class AtLeastOne(ConvexSet):
        ...     def project(self, y):
        ...         return y.clamp(min=1)
        ...
        ...     def violation(self, x):
        ...         return (1 - x).clamp(min=0).amax(1)
        >>> s, y = AtLeastOne(), torch.tensor([[0.5, 2.0]])
        >>> s.project(y).tolist(), s.contains(y).tolist()
        ([[1.0, 2.0]], [False])
    """

    @abstractmethod
    def project(self, y: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch *event"]:
        """Return the nearest point, `argmin_{x in C} ||x - y||_2`, row by row, in the dtype of `y`."""

    @abstractmethod
    def violation(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return how far each row is outside, in the units of `x`: 0.0 exactly when inside."""

    def __repr__(self) -> str:
        given = (f"{k}={_short(v)}" for k, v in vars(self).items() if not k.startswith("_"))
        return f"{type(self).__name__}({', '.join(given)})"

    def contains(self, x: Float[Tensor, "batch *event"], atol: float = 0.0) -> Bool[Tensor, " batch"]:
        """Return for each row whether its violation is at most `atol`.

        Bounds, measured values and orders hold exactly in what `project` returns; for other sets pass
        as `atol` what their docstring grants to rounding.
        """
        return self.violation(x) <= atol

    def __and__(self, other: ConvexSet) -> ConvexSet:
        """Return the intersection: in closed form where one is known, else an `Intersection`.

        Raises:
            Infeasible: the two sets contradict each other, as far as that shows without projecting.
        """
        from likely.sets.intersection import intersect

        return intersect(self, other)


def _short(value: Any) -> str:
    """Return a parameter for reading: numbers as they are, tensors as their shapes."""
    if isinstance(value, Tensor):
        return str(value.item()) if not value.ndim else f"Tensor{tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_short, value))})"
    return getattr(value, "__name__", None) or repr(value)


CLOSED_FORMS: dict[tuple[type[ConvexSet], type[ConvexSet]], Callable[[Any, Any], ConvexSet]] = {}


def closed_form(
    first: type[ConvexSet], second: type[ConvexSet]
) -> Callable[[Callable[[Any, Any], ConvexSet]], Callable[[Any, Any], ConvexSet]]:
    """Register a function as the closed form of `first & second`, in either order.

    It returns NotImplemented where these two sets in particular have none.
    """

    def register(meet: Callable[[Any, Any], ConvexSet]) -> Callable[[Any, Any], ConvexSet]:
        CLOSED_FORMS[first, second] = meet
        return meet

    return register


def closed_form_of(one: ConvexSet, other: ConvexSet) -> ConvexSet | None:
    """Return `one & other` in closed form, or None where none is known for the two.

    A registered function returns NotImplemented where it has none for the instances it is given.
    """
    for (first, second), meet in CLOSED_FORMS.items():
        for a, b in ((one, other), (other, one)):
            if isinstance(a, first) and isinstance(b, second):
                both = meet(a, b)
                return None if both is NotImplemented else both
    return None


@singledispatch
def rows_of(within: ConvexSet, index: Int[Tensor, " k"], shape: torch.Size) -> ConvexSet:
    """Return the set of some rows: `rows_of(C, i, y.shape).project(y[i])` is `C.project(y)[i]`.

    Solvers use it when rows leave the batch. A set that is registered here selects its parameters; any
    other is given the whole batch, zero in the rows that are not asked for.

    Args:
        within: the set C of the whole batch.
        index: which rows.
        shape: of the whole batch, `(B, *event)`.
    """
    return _Padded(within, index, shape)


@final
class _Padded(ConvexSet):
    def __init__(self, within: ConvexSet, index: Tensor, shape: torch.Size) -> None:
        self.within, self.index, self.shape = within, index, shape

    def project(self, y: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch *event"]:
        """Project the whole batch, and return the rows asked for."""
        return self.within.project(self._whole(y))[self.index]

    def violation(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return the violation of the rows asked for."""
        return self.within.violation(self._whole(x))[self.index]

    def _whole(self, y: Tensor) -> Tensor:
        return y.new_zeros(self.shape).index_copy(0, self.index, y)


@rows_of.register
def _(within: _Padded, index: Tensor, shape: torch.Size) -> ConvexSet:
    return _Padded(within.within, within.index[index], within.shape)


S = TypeVar("S", bound=ConvexSet)


def with_parameters(within: S, **parameters: Any) -> S:
    """Return a copy of the set with some attributes replaced, without checking them again."""
    new = copy.copy(within)
    vars(new).update(parameters)
    return new


def select(parameter: Tensor, index: Int[Tensor, " k"], shape: torch.Size) -> Tensor:
    """Return the rows of a parameter that broadcasts to `shape`: itself, where all rows share it."""
    per_row = parameter.ndim == len(shape) and parameter.shape[0] > 1
    return parameter[index.to(parameter.device)] if per_row else parameter


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
