"""Draw stopped paths: time by time, many at once, and no work for those that have stopped."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from likely.errors import InvalidInput
from likely.walks.bits import Bits
from likely.walks.geometry import Flags, Geometry, States
from likely.walks.programme import Grid
from likely.walks.steps import LatticeSteps, Steps

#: paths that are drawn together: enough to make numpy's calls cheap, few enough for the cache
WIDTH = 8192


def dtype_of(geometry: Geometry, steps: Steps) -> np.dtype[np.generic]:
    """Return the smallest of int16, int32, int64 that holds all states; float64 for others.

    Raises:
        InvalidInput: the steps are integers and the start is not.
    """
    if not isinstance(steps, LatticeSteps):
        return np.dtype(np.float64)
    if geometry.start != int(geometry.start):
        raise InvalidInput(f"start is {geometry.start}; expected an integer, as the steps are.")
    states = Grid(geometry, steps.values).states(geometry.horizon or 1)
    largest = max(abs(int(states[0])), abs(int(states[-1]))) + int(max(map(abs, steps.extent)))
    return np.dtype(np.min_scalar_type(-2 * largest - 256))


def drawn(
    geometry: Geometry, steps: Steps, n: int, seed: int, dtype: np.dtype[np.generic]
) -> Shaped[Tensor, "n times"]:
    """Return n paths, each with its states at times 0 to the horizon."""
    rows = np.empty((geometry.end + 1, n), dtype)
    bits = Bits(seed)
    for begin in range(0, n, WIDTH):
        _fill(rows[:, begin : begin + WIDTH], geometry, steps, bits)
    return torch.from_numpy(rows).T


def _fill(rows: States, geometry: Geometry, steps: Steps, bits: Bits) -> None:
    """Draw paths into their place, time first; those that stop keep their last state."""
    rows[0] = geometry.start
    x = rows[0].copy()
    where: States | None = None  # the paths that x is about; None for all
    running: Flags | None = None  # which of these have not stopped; None for all
    for t in range(geometry.end):
        step = steps.draw(t, x, bits)
        x = x + (step if running is None else step * running)
        if where is None:
            rows[t + 1] = x
        else:
            rows[t + 1] = rows[t]
            rows[t + 1, where] = x
        if not geometry.absorbing:
            continue
        stops = geometry.stops(t + 1, x)
        if stops.any():
            running = ~stops if running is None else running & ~stops
        left = len(x) if running is None else np.count_nonzero(running)
        if left == 0:
            rows[t + 2 :] = rows[t + 1]
            return
        if running is not None and 2 * left < len(x):
            where = np.flatnonzero(running) if where is None else where[running]
            x, running = x[running], None
