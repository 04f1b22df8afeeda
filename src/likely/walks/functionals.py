"""Functionals of paths: events and values that are settled at the first passage, and any others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from likely.checks import function as checked
from likely.checks import number
from likely.errors import InvalidInput, InvalidType
from likely.expectations import Law
from likely.expectations.problem import Particular
from likely.walks.geometry import Flags, Geometry, States, rows_of, told_states

#: (times, states) -> the value of paths that are settled then and there
Payoff: TypeAlias = Callable[[States, States], Tensor]
#: states that a function of whole paths is given in one go
CHUNK = 2**21


class ImpossibleEvent(UserWarning):
    """An event of probability exactly 0: no path of the walk can reach the level."""


@final
@dataclass(frozen=True, eq=False)
class Functional(Particular):
    """`f(path) = payoff(time, state)` at the first time that the walk stops, meets a level, or ends.

    It takes paths `(n, horizon + 1)` to values `(n,)`; `exact` sums it by dynamic programming.

    Args:
        geometry: of the walk.
        payoff: the value, from integer times and states.
        level: settles the path besides the stops; None for none.
        by_side: whether the payoff depends only on which of the walk's own levels is met.
    """

    geometry: Geometry
    payoff: Payoff
    level: float | None = None
    by_side: bool = False

    def __call__(self, paths: Shaped[Tensor, "n times"]) -> Shaped[Tensor, " n"]:
        """Return the value of each path."""
        x = rows_of(paths, self.geometry)
        time, state = np.full(x.shape[1], len(x) - 1), x[-1].copy()
        if self.by_side and self._stays(x):
            return self.payoff(time, state)
        unsettled = np.ones(x.shape[1], bool)
        for t, row in enumerate(x[:-1]):
            now = self.settles(t, row) & unsettled
            if now.any():
                time[now], state[now] = t, row[now]
                unsettled &= ~now
        return self.payoff(time, state)

    def check_law(self, law: Law) -> None:
        """Refuse paths of another walk."""
        _same_walk(self.geometry, law)

    def settles(self, t: int, x: States) -> Flags:
        """Return which states settle the value at time t."""
        stops = self.geometry.stops(t, x)
        return stops if self.level is None else stops | beyond(self.geometry, self.level, x)

    def _stays(self, x: States) -> bool:
        """Whether every path that met one of the walk's levels also ended there."""
        low, high = self.geometry.low, self.geometry.high
        if not self.geometry.absorbing or self.geometry.rule is not None:
            return False
        below = low is None or bool(((x.min(0) > low) | (x[-1] <= low)).all())
        return below and (high is None or bool(((x.max(0) < high) | (x[-1] >= high)).all()))


@final
@dataclass(frozen=True, eq=False)
class PathFunctional(Particular):
    """A function of whole paths, called in float64 and in chunks, so that integers cannot overflow.

    Args:
        geometry: of the walk.
        function: from paths `(n, horizon + 1)` to values `(n,)` or `(n, *out)`.
    """

    geometry: Geometry
    function: Callable[[Tensor], Tensor]

    def __call__(self, paths: Shaped[Tensor, "n times"]) -> Shaped[Tensor, "n *out"]:
        """Return the value of each path.

        Raises:
            InvalidType: the function returns no tensor.
            InvalidInput: it returns no value for each path.
        """
        rows = max(1, CHUNK // paths.shape[1])
        return torch.cat([self._values(part.double()) for part in torch.split(paths, rows)])

    def check_law(self, law: Law) -> None:
        """Refuse paths of another walk."""
        _same_walk(self.geometry, law)

    def _values(self, paths: Tensor) -> Tensor:
        values = self.function(paths)
        if not isinstance(values, Tensor):
            raise InvalidType(
                f"the function of paths returned a {type(values).__name__}; expected a tensor (n, ...)."
            )
        if values.shape[:1] != paths.shape[:1]:
            raise InvalidInput(
                f"the function of paths returned shape {tuple(values.shape)} for {len(paths)} paths; "
                f"expected ({len(paths)}, ...): one value for each."
            )
        return values


def own(functional: Functional, law: Law) -> Functional:
    """Return an event or value of a walk, which exact answers are about.

    Raises:
        InvalidType: it is another function.
        InvalidInput: it is another walk's.
    """
    if not isinstance(functional, Functional):
        raise InvalidType(
            f"f is a {type(functional).__name__}; expected an event or value of the walk, such as "
            "w.hits(200) or w.stopping_time(): others have no dynamic programme; use expect."
        )
    functional.check_law(law)
    return functional


def _same_walk(geometry: Geometry, law: Law) -> None:
    theirs = law.space[0] if isinstance(law.space, tuple) else None
    if theirs != geometry:
        raise InvalidInput(
            f"f is about {geometry}, p is a {law.name} with {theirs or 'other draws'}; expected one of "
            "the walk's own events or values: take it from this walk."
        )


def beyond(geometry: Geometry, level: float, x: States) -> Flags:
    """Return which states have reached a level, coming from the start."""
    return x >= level if level >= geometry.start else x <= level


def hitting(geometry: Geometry, level: float) -> Functional:
    """Return the event that the walk reaches a level."""
    own = level in (geometry.low, geometry.high)

    def payoff(time: States, state: States) -> Tensor:
        return torch.from_numpy(beyond(geometry, level, state))

    return Functional(geometry, payoff, None if own else level, by_side=own)


def surviving(geometry: Geometry) -> Functional:
    """Return the event that the walk does not stop before, or at, the horizon."""

    def payoff(time: States, state: States) -> Tensor:
        last = time == geometry.end
        last[last] = ~geometry.stops(geometry.end, state[last])
        return torch.from_numpy(last)

    return Functional(geometry, payoff, by_side=True)


def passing(geometry: Geometry, level: float, missed: float) -> Functional:
    """Return the time at which the walk first reaches a level, and `missed` if it does not."""
    missed = float(number("missed", missed))

    def payoff(time: States, state: States) -> Tensor:
        times = torch.from_numpy(time).double()
        return torch.where(torch.from_numpy(beyond(geometry, level, state)), times, missed)

    return Functional(geometry, payoff, None if level in (geometry.low, geometry.high) else level)


def stopping(geometry: Geometry) -> Functional:
    """Return the time at which the walk stops, at the latest the horizon."""
    return Functional(geometry, lambda time, state: torch.from_numpy(time).double())


def terminal(geometry: Geometry, function: Callable[[Tensor], Tensor]) -> Functional:
    """Return a function of the state in which the walk stops or ends."""
    checked("function", function, "of the last states")

    def payoff(time: States, state: States) -> Tensor:
        values = function(told_states(state))
        if not isinstance(values, Tensor) or values.shape != state.shape:
            got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise InvalidInput(
                f"the function of the last state returned {got} for {state.shape}; "
                "expected one value for each state."
            )
        return values

    return Functional(geometry, payoff)
