"""The method: how the next point is chosen. Two abstract methods; the loop is in `minimize`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from likely.checks import described, number, whole
from likely.errors import InvalidInput

State: TypeAlias = dict[str, Tensor]
Projection: TypeAlias = Callable[[Tensor], Tensor]


class Evaluated(NamedTuple):
    """A point of the set, and the function there."""

    x: Float[Tensor, "batch *event"]
    value: Float[Tensor, " batch"]
    grad: Float[Tensor, "batch *event"]


class Step(NamedTuple):
    """What a method decides: where to go, and what became of the point it was shown."""

    #: the next point to evaluate, before projection
    point: Float[Tensor, "batch *event"]
    #: rows whose last point was taken, not a trial that failed; None for all
    accepted: Bool[Tensor, " batch"] | None = None
    #: rows that cannot go on; None for none
    stalled: Bool[Tensor, " batch"] | None = None


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A first-order method: from an evaluated point to the next point, row by row.

    Args:
        steps: how many points to evaluate after the start, at the most; the failed trials of a line
            search count.
        tol: a row stops once its stationarity `||P(x - grad) - x||_inf` is at most this; None to run
            the whole schedule.
        keep: the iterate that is returned, the "last" or the "best" (least value) of each row; a row
            that meets its tolerance returns the point where it did.

    Example:
        >>> from likely import minimize
        >>> class Descent(Method):
        ...     def init(self, x):
        ...         return {}
        ...
        ...     def step(self, k, at, state, project, generator):
        ...         return Step(at.x - 0.25 * at.grad)
        >>> f = lambda x: (x - 1).square().sum(1)
        >>> found = minimize(f, torch.zeros(1, 2), method=Descent(tol=1e-3))
        >>> bool((found.x - 1).abs().max() < 1e-3), found.status[0].name
        (True, 'CONVERGED')
    """

    steps: int = 300
    tol: float | None = None
    keep: Literal["last", "best"] = "best"

    def __post_init__(self) -> None:
        whole("steps", self.steps, 0)
        if self.tol not in (None, math.inf) and float(number("tol", self.tol)) < 0:
            raise InvalidInput(f"tol is {self.tol}; expected None, or 0 or more.")
        if self.keep not in ("last", "best"):
            raise InvalidInput(f"keep is {described(self.keep)}; expected 'last' or 'best'.")

    @abstractmethod
    def init(self, x: Float[Tensor, "batch *event"]) -> State:
        """Return the state before the first step: tensors with one row for each row of x."""

    @abstractmethod
    def step(
        self, k: int, at: Evaluated, state: State, project: Projection, generator: torch.Generator
    ) -> Step:
        """Return the next point, given the one just evaluated; `state` is updated in place.

        Args:
            k: counts evaluations from 0, where `at` is the projected start.
            at: the point that the last step asked for, projected, and the function there.
            state: what `init` gave, for the rows still open.
            project: onto the set.
            generator: to draw from.
        """


def descends(
    value: Float[Tensor, " batch"],
    reference: Float[Tensor, " batch"],
    slope: Float[Tensor, " batch"],
    slope_there: Float[Tensor, " batch"],
) -> Bool[Tensor, " batch"]:
    """Return whether a trial y from x lowers f enough, `f(y) <= reference + 1e-4 <grad f(x), y - x>`.

    Where the values differ by rounding alone, slopes decide: `<grad f(y), y - x>` may be up to
    `0.9998 |<grad f(x), y - x>|`, which is the same rule if f is quadratic.

    Reference: Armijo 1966; Hager, Zhang 2005, section 2 (the approximate rule).
    """
    rounding = 2 * torch.finfo(value.dtype).eps * value.abs()
    near = value.isfinite() & (value <= reference + rounding)
    flat = near & (slope_there <= -0.9998 * slope)
    return (value <= reference + 1e-4 * slope) | flat
