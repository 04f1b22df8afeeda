"""Whole paths: their log-probability, and when those that a walk has drawn stopped."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from likely.walks.geometry import Flags, Geometry, States
from likely.walks.steps import Steps, Stretch

#: times that are looked at in one go
STRETCH = 64
#: paths that are looked at together: as many as the cache holds
WIDTH = 8192


def log_prob(rows: States, geometry: Geometry, steps: Steps) -> Tensor:
    """Return the log-probability of each path, time first, up to its stop; differentiable.

    Minus infinity for what is no path of that walk.
    """
    parts = [rows[:, k : k + WIDTH] for k in range(0, max(1, rows.shape[1]), WIDTH)]
    return torch.cat([_log_prob(part, geometry, steps) for part in parts])


def stop_times(rows: States, geometry: Geometry) -> NDArray[np.intp]:
    """Return when paths of a walk, time first, stopped, the horizon at the latest.

    A path lies between the levels before its stop and where it stopped from then on, so halving the
    range finds the time. Only for paths that the walk itself has drawn, and that only levels stop.
    """
    times = np.full(rows.shape[1], geometry.end)
    if not geometry.absorbing:
        return times
    stopped = np.flatnonzero(geometry.outside(rows[-1]))
    first, last = np.zeros(len(stopped), np.intp), times[stopped]
    for _ in range(geometry.end.bit_length()):
        middle = (first + last) // 2
        out = geometry.outside(rows[middle, stopped])
        last = np.where(out, middle, last)
        first = np.where(out, first, np.minimum(middle + 1, last))
    times[stopped] = last
    return times


def _log_prob(rows: States, geometry: Geometry, steps: Steps) -> Tensor:
    valid = rows[0] == geometry.start
    total = steps.log_prob(_stretches(rows, geometry, valid))
    return torch.where(torch.from_numpy(valid), total, -torch.inf)


def _stretches(rows: States, geometry: Geometry, valid: Flags) -> Iterator[Stretch]:
    """Yield a stretch of times after another, and mark paths that step after their stop."""
    before = np.ones(rows.shape[1], bool)
    for t in range(0, geometry.end, STRETCH):
        x = np.ascontiguousarray(rows[t : t + STRETCH + 1])
        running = geometry.running(t, x[:-1], before)
        fine = x[1:] == x[:-1]
        fine |= running
        valid &= fine.all(0)
        yield Stretch(t, x, running)
        before = running[-1]
