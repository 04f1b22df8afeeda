"""What a solver returns."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import final

from jaxtyping import Float, Int
from torch import Tensor


@final
class Status(Enum):
    """Why a row stopped; the value says what it means and what to try."""

    CONVERGED = "the stationarity reached the tolerance"
    COMPLETED = "the schedule was run; no tolerance was asked for"
    LIMIT = (
        "the steps ran out before the tolerance was reached; allow more steps, a smaller step size or "
        "a larger tol, and make sure that the function has a least value on this set"
    )
    NONFINITE = (
        "the function or its gradient was not finite; the last finite point, if there was one, is "
        "returned: lower the step size, start elsewhere, or keep the bounds away from where the "
        "density is zero"
    )
    STALLED = (
        "no step along the search direction lowers the function before the tolerance is reached: "
        "rounding, or a kink, stands in the way; allow a larger tol, or use float64"
    )
    UNBOUNDED = (
        "the function fell to minus infinity, so it has no least value on this set; bound the set, or "
        "mend the function"
    )
    UNCHANGED = "nothing was missing; the data are returned as given"

    @property
    def ok(self) -> bool:
        """Whether the row ended as it was asked to."""
        return self in (Status.CONVERGED, Status.COMPLETED, Status.UNCHANGED)


@final
@dataclass(frozen=True, repr=False)
class Solution:
    """The outcome of `minimize`, row by row.

    Example:
        >>> import torch
        >>> from likely import minimize, sets
        >>> found = minimize(lambda x: (x - 2).square().sum(1), torch.zeros(1, 2), sets.Box(0.0, 1.0))
        >>> found.x.tolist(), found.value.tolist(), found.status[0].ok
        ([[1.0, 1.0]], [2.0], True)
    """

    #: the point that was kept, in the set
    x: Float[Tensor, "batch *event"]
    #: f(x)
    value: Float[Tensor, " batch"]
    #: `||P(x - grad f(x)) - x||_inf`, zero exactly at a constrained stationary point; bounds cap it at
    #: their width, so where gradients are large it tells stationary points from others, not how far
    stationarity: Float[Tensor, " batch"]
    #: updates made, without the failed trials of a line search
    steps: Int[Tensor, " batch"]
    #: how often f and its gradient were evaluated
    evaluations: Int[Tensor, " batch"]
    #: why each row stopped
    status: tuple[Status, ...]

    def __repr__(self) -> str:
        ends = ", ".join(f"{n} {end.name}" for end, n in Counter(self.status).items())
        return (
            f"Solution({ends}; x {tuple(self.x.shape)}, value {_range(self.value)}, "
            f"stationarity {_range(self.stationarity)}, steps {_range(self.steps)})"
        )


def _range(numbers: Tensor) -> str:
    """Return the least and the greatest, or the one number that they are."""
    if not len(numbers):
        return "of no row"
    low, high = numbers.min().item(), numbers.max().item()
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


@final
@dataclass(frozen=True)
class Iterate:
    """One iterate, as shown to `on_step`; k = 0 is the projected start. Rows that stopped rest."""

    k: int
    #: which rows of the batch these are
    rows: Int[Tensor, " batch"]
    x: Float[Tensor, "batch *event"]
    value: Float[Tensor, " batch"]
    stationarity: Float[Tensor, " batch"]
