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
#: steps that are drawn in one go, where they can be, and between two looks at how many have stopped
STRETCH = 32


def dtype_of(geometry: Geometry, steps: Steps) -> np.dtype[np.generic]:
    """Return the smallest of int16, int32, int64 that holds all states; float64 for others.

    Raises:
        InvalidInput: the steps are integers and the start is not.
    """
    if not isinstance(steps, LatticeSteps):
        return np.dtype(np.float64)
    if geometry.start != int(geometry.start):
        raise InvalidInput(f"start is {geometry.start}; expected an integer, as the steps are.")
    bounds = Grid(geometry, steps.values).bounds(geometry.horizon or 1)
    largest = max(map(abs, bounds)) + int(max(map(abs, steps.extent)))
    if largest > 2**61:
        raise InvalidInput(f"states go up to {largest:g}; expected integers below 2^61.")
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
    running = np.ones(len(x), bool)
    t, looked = 0, 0
    while t < geometry.end:
        most = min(STRETCH, geometry.end - t) if geometry.rule is None else 1
        new = steps.draw(t, x, running.astype(x.dtype), most, bits)
        running = _stopped(x, new, t, geometry, running, steps.extent)
        x = new[-1]
        ahead = rows[t + 1 : t + 1 + len(new)]
        if where is None:
            ahead[:] = new
        else:
            ahead[:] = rows[t]
            ahead[:, where] = new
        t += len(new)
        if t - looked < STRETCH:
            continue
        looked, left = t, np.count_nonzero(running)
        if left == 0:
            rows[t + 1 :] = rows[t]
            return
        if 2 * left < len(x):
            where = np.flatnonzero(running) if where is None else where[running]
            x, running = x[running], running[running]


def _stopped(
    x: States,
    new: States,
    t: int,
    geometry: Geometry,
    running: Flags,
    extent: tuple[float, float],
) -> Flags:
    """Hold paths, in place, at the first of their new states that stops them; return which go on."""
    if len(new) == 1:
        return geometry.moving(t + 1, new[0], running)
    if not geometry.absorbing:
        return running
    reach = np.array([x.min() + len(new) * min(extent[0], 0), x.max() + len(new) * max(extent[1], 0)])
    if geometry.inside(reach).all():
        return running
    met = running & (geometry.outside(new.min(0)) | geometry.outside(new.max(0)))
    columns = np.flatnonzero(met)
    part = new[:, columns]
    first = geometry.outside(part).argmax(0)
    last = np.take_along_axis(part, first[None], 0)
    new[:, columns] = np.where(np.arange(len(new))[:, None] > first, last, part)
    return running & ~met
