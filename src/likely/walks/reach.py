"""Which levels a walk can reach, and what a proposal for one of them needs."""

from __future__ import annotations

import math
import warnings

from likely.errors import InvalidInput
from likely.walks.functionals import Functional, ImpossibleEvent, hitting
from likely.walks.geometry import Geometry, level_of
from likely.walks.steps import LatticeSteps, Steps


def impossible(geometry: Geometry, steps: Steps, level: float) -> str | None:
    """Return why no path reaches a level, or None."""
    g = geometry
    least, most = steps.extent
    times = math.inf if g.horizon is None else g.horizon
    low, high = g.start + min(times * least, 0), g.start + max(times * most, 0)
    if g.absorbing and g.low is not None:
        low = max(low, g.low + min(least + 1, 0))
    if g.absorbing and g.high is not None:
        high = min(high, g.high + max(most - 1, 0))
    if low <= level <= high:
        return None
    return (
        f"no path reaches level {level:g} from {g.start:g}: states go from {low:g} to {high:g} in "
        f"{times:g} steps of {least:g} to {most:g}, so the probability is exactly 0"
    )


def warn_of(geometry: Geometry, steps: Steps, level: float) -> None:
    """Warn the caller's caller of a level that no path reaches."""
    if (why := impossible(geometry, steps, level)) is not None:
        warnings.warn(f"{why}.", ImpossibleEvent, stacklevel=3)


def aimed(geometry: Geometry, steps: Steps, level: float) -> Functional:
    """Return the event that an h-transform aims at.

    Raises:
        InvalidType: the level is no number.
        InvalidInput: the walk does not stop there, has another rule, or cannot reach it.
    """
    g = geometry
    level = level_of(level, "level")
    if level not in (g.low, g.high) or not g.absorbing or g.rule is not None:
        raise InvalidInput(
            f"the level is {level}; expected one that the walk stops at, {g.low} or {g.high}, and "
            "no other rule: build the walk with that level, since what follows has no weight."
        )
    if (why := impossible(g, steps, level)) is not None:
        raise InvalidInput(f"{why}, and there is nothing to draw.")
    return hitting(g, level)


def lattice(steps: Steps, what: str) -> LatticeSteps:
    """Return steps of integers.

    Raises:
        InvalidInput: they are others.
    """
    if not isinstance(steps, LatticeSteps):
        raise InvalidInput(f"{what} is for steps of integers; the walk has {steps}.")
    return steps
