"""Where a walk starts, where and when it stops, and what its paths look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from likely.errors import InvalidInput, InvalidType

#: (time, states) -> which of them stop there and then
Rule: TypeAlias = Callable[[int, Tensor], Tensor]
States: TypeAlias = NDArray[Any]
Flags: TypeAlias = NDArray[np.bool_]


@final
@dataclass(frozen=True)
class Geometry:
    """A start, levels and a rule that stop the walk, and a horizon.

    Args:
        start: the state at time 0.
        low: the walk stops at or below it; None for no such level.
        high: the walk stops at or above it; None for no such level.
        horizon: the number of steps at which every path ends; None for no end (exact answers only).
        rule: stops the walk at (time, states) besides the levels.
        absorbing: whether stopped paths stay where they are; if not, they go on to the horizon.

    Raises:
        InvalidType: the start or a level is no number.
        InvalidInput: the start is not strictly between the levels, or the horizon is below 1.
    """

    start: float
    low: float | None = None
    high: float | None = None
    horizon: int | None = None
    rule: Rule | None = None
    absorbing: bool = True

    def __post_init__(self) -> None:
        for name in ("start", "low", "high"):
            if (level := getattr(self, name)) is not None or name == "start":
                object.__setattr__(self, name, level_of(level, name))
        if isinstance(self.horizon, np.integer):
            object.__setattr__(self, "horizon", int(self.horizon))
        if not isinstance(self.absorbing, bool):
            raise InvalidType(f"absorbing is {self.absorbing!r:.40}; expected True or False.")
        below = self.low is not None and self.start <= self.low
        if below or (self.high is not None and self.start >= self.high):
            raise InvalidInput(
                f"start is {self.start}, low {self.low}, high {self.high}; "
                "expected a start strictly between the levels: low < start < high."
            )
        whole = isinstance(self.horizon, int) and not isinstance(self.horizon, bool)
        if self.horizon is not None and not (whole and self.horizon >= 1):
            raise InvalidInput(f"horizon is {self.horizon!r}; expected a number of steps, 1 or more.")
        if self.rule is not None and not callable(self.rule):
            raise InvalidType(
                f"stop is a {type(self.rule).__name__}; expected a function (time, states) -> booleans."
            )

    @property
    def end(self) -> int:
        """The horizon.

        Raises:
            InvalidInput: there is none.
        """
        if self.horizon is None:
            raise InvalidInput(
                "horizon is None: such walks have exact answers between two levels, but no paths; "
                "give a horizon, such as horizon=1000."
            )
        return self.horizon

    def inside(self, x: States) -> Flags:
        """Return which states lie strictly between the levels."""
        flags: Flags = np.ones(x.shape, bool) if self.low is None else x > self.low
        if self.high is not None:
            flags &= x < self.high
        return flags

    def outside(self, x: States) -> Flags:
        """Return which states lie at or beyond a level."""
        return ~self.inside(x)

    def stops(self, t: int, x: States) -> Flags:
        """Return which states stop the walk at time t."""
        flags = self.outside(x)
        if self.rule is not None:
            told = self.rule(t, told_states(x))
            if not isinstance(told, Tensor) or told.dtype != torch.bool or told.shape != x.shape:
                raise InvalidInput(
                    f"stop(time, states) returned {_kind(told)}; expected a boolean tensor of "
                    f"the shape of the states, {x.shape}."
                )
            flags |= told.numpy()
        return flags

    def running(self, t: int, x: States, before: Flags) -> Flags:
        """Return which paths move on from each row of states, for times t, t + 1, ...

        `before` tells which paths were still running when they came to the first row.
        """
        if self.absorbing and self.rule is not None:
            on = np.empty(x.shape, bool)
            for k, row in enumerate(x):
                before = on[k] = self.moving(t + k, row, before)
            return on
        return self.moving(t, x, before)

    def moving(self, t: int, x: States, before: Flags) -> Flags:
        """Return which paths move on from states at time t, given which moved on to them."""
        if not self.absorbing:
            return np.ones(x.shape, bool)
        if self.rule is None:
            # Stopped paths stay where they are, so that the levels alone tell; log_prob checks that.
            return self.inside(x)
        return before & ~self.stops(t, x)


def rows_of(paths: Tensor, geometry: Geometry) -> States:
    """Return paths `(n, horizon + 1)` with time first, `(horizon + 1, n)`.

    Raises:
        InvalidInput: the paths are of another shape.
    """
    if not isinstance(paths, Tensor) or paths.ndim != 2 or paths.shape[1] != geometry.end + 1:
        raise InvalidInput(
            f"paths are {_kind(paths)}; expected (n, {geometry.end + 1}): one path a row, "
            f"with its states at times 0 to {geometry.end}."
        )
    rows = np.ascontiguousarray(paths.detach().cpu().numpy().T)
    return rows if rows.dtype.kind in "if" else rows.astype(np.int64)  # unsigned steps would wrap


def told_states(x: States) -> Tensor:
    """Return states as functions of (time, states) get them: in float64, where nothing wraps."""
    return torch.from_numpy(x.astype(np.float64))


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return type(value).__name__


def level_of(value: object, name: str) -> float:
    """Return a state as Python's own integer or float.

    Raises:
        InvalidType: it is no number.
        InvalidInput: it is not finite, or beyond 2^61.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidType(f"{name} is a {type(value).__name__}; expected a number.")
    number = int(value) if isinstance(value, Integral) else float(value)
    if not -(2**61) < number < 2**61:  # false for NaN as well
        raise InvalidInput(f"{name} is {value!r:.40}; expected a finite number below 2^61.")
    return number
