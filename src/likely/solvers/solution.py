"""What a solver returns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import final

from jaxtyping import Float, Int
from torch import Tensor


@final
class Status(Enum):
    """Why a row stopped; the value says what it means and what to try."""

    CONVERGED = "the stationarity reached the tolerance"
    COMPLETED = "the whole schedule was run; no tolerance was asked for"
    LIMIT = (
        "the steps ran out before the tolerance was reached; allow more steps, a smaller step size or "
        "a larger tol"
    )
    NONFINITE = (
        "the function or its gradient was not finite; the last finite point, if there was one, is "
        "returned: lower the step size, start elsewhere, or keep the bounds away from where the "
        "density is zero"
    )
    UNCHANGED = "nothing was missing; the data are returned as given"

    @property
    def ok(self) -> bool:
        """Whether the row ended as it was asked to."""
        return self not in (Status.LIMIT, Status.NONFINITE)


@final
@dataclass(frozen=True)
class Solution:
    """The outcome of `minimize`, row by row."""

    #: the point that was kept, in the set
    x: Float[Tensor, "batch *event"]
    #: f(x)
    value: Float[Tensor, " batch"]
    #: `||P(x - grad f(x)) - x||_inf`, zero exactly at a constrained stationary point; bounds cap it at
    #: their width, so where gradients are large it tells stationary points from others, not how far
    stationarity: Float[Tensor, " batch"]
    #: updates made
    steps: Int[Tensor, " batch"]
    #: why each row stopped
    status: tuple[Status, ...]


@final
@dataclass(frozen=True)
class Iterate:
    """One iterate of all rows, as shown to `on_step`; k = 0 is the projected start."""

    k: int
    x: Float[Tensor, "batch *event"]
    value: Float[Tensor, " batch"]
    stationarity: Float[Tensor, " batch"]
