"""Dykstra's algorithm for a batch, with extrapolation: rows stop one by one, and leave the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from math import inf, sqrt

import torch
from torch import Tensor

Maps = Sequence[Callable[[Tensor], Tensor]]

#: parts without a common point within so many times their own distance from 0 count as apart
REACH = 1e6
#: by how much extrapolations, and the way from far points, may grow at once
GROWTH = 4.0
#: an extrapolation is kept if the increment is no larger than the largest of so many before
WINDOW = 5
RUNNING, DONE, APART, BROKEN = range(4)


@dataclass
class Found:
    """What Dykstra's algorithm found for flat rows, in float64."""

    x: Tensor
    #: what each part projected last, `(m, B, n)`
    z: Tensor
    status: Tensor
    #: the increment, that is how far the projections onto the parts lie from each other
    increment: Tensor


@dataclass
class _State:
    """What is known of the rows still running: `(k,)`, `(k, n)`, or `(m - 1, k, n)` for the normals."""

    row: Tensor
    y: Tensor
    #: y is approached on the segment from c, `way` of it at a time
    c: Tensor
    way: Tensor
    first: Tensor
    #: y less the sum of these is what the first part projects next
    normals: Tensor
    #: the last two points that were not extrapolated: where to go back to, where to extrapolate from
    back: Tensor
    old: Tensor
    old_change: Tensor
    #: the last increments, `(WINDOW, k)`
    recent: Tensor
    stride: Tensor
    #: is this point extrapolated; is it the one after that; is there an old point
    jumped: Tensor
    judged: Tensor
    known: Tensor

    def of(self, rows: Tensor) -> _State:
        along = {"normals": 1, "back": 1, "old": 1, "old_change": 1, "recent": 1}
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        return _State(**{k: t.index_select(along.get(k, 0), rows) for k, t in parts.items()})


def dykstra(maps: Callable[[Tensor], Maps], y: Tensor, tol: float, max_steps: int) -> Found:
    """Return the fixed point of Dykstra's algorithm for flat rows `y`, `(B, n)`, finite, in float64.

    Args:
        maps: gives the projections, one for each of two parts or more, of the rows it is given.
        y: the points.
        tol: a row is done when its parts' projections lie within `tol (||y|| + ||x||)` of each other.
        max_steps: at most so many cycles; the last tenth of them is without extrapolation.
    """
    rows = torch.arange(len(y), device=y.device)
    parts = maps(rows)
    s = _start(parts, rows, y, tol)
    increment = torch.full_like(s.way, inf)
    found = Found(y.clone(), y.repeat(len(parts), 1, 1), torch.full_like(rows, RUNNING), increment)
    for step in range(max_steps):
        if not len(s.row):
            break
        way = s.way[:, None]
        aim = torch.where(way == 1, s.y, s.c + way * (s.y - s.c))
        points, new = cycle(parts, aim, s.normals)
        x, change = points[-1], new[1:] - s.normals
        increment = _size(change)
        goal = tol * (_length(s.y) + _length(x)) / sqrt(len(change))
        status = torch.where((s.way == 1) & (increment <= goal), DONE, RUNNING)
        status = torch.where((status == RUNNING) & _apart(aim, points, new), APART, status)
        status = torch.where(increment.isfinite(), status, BROKEN)
        over = status != RUNNING
        if over.any() or step == max_steps - 1:
            found.x[s.row], found.z[:, s.row] = x, points + new
            found.status[s.row], found.increment[s.row] = status, increment
        noise = 32 * torch.finfo(y.dtype).eps * (_length(aim) + _size(s.normals))
        near, late = torch.maximum(1e-2 * s.first, goal), step >= max_steps - max_steps // 10
        _advance(s, new[1:], change, increment, noise, near, late)
        if over.any():
            s = s.of((~over).nonzero()[:, 0])
            parts = maps(s.row)
    return found


def cycle(parts: Maps, y: Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
    """Project onto each part in turn, and return the points and the new normals, `(m, k, n)` each.

    Every normal is what the projection took away. The first is the rest, `y - sum(normals)` less the
    first point, whatever it was before, so that the normals add up to y less the last point.
    """
    z = y - normals.sum(0)
    points, new = [parts[0](z)], []
    for part, normal in zip(parts[1:], normals, strict=True):
        new.append(z - points[-1])
        z = points[-1] + normal
        points.append(part(z))
    return torch.stack(points), torch.stack([*new, z - points[-1]])


def _start(parts: Maps, rows: Tensor, y: Tensor, tol: float) -> _State:
    zero = y.new_zeros(len(parts) - 1, *y.shape)
    points, normals = cycle(parts, y, zero)
    c, normals = points[-1], normals[1:]
    first = _size(cycle(parts, y, normals)[1][1:] - normals)
    # From a far point the steps are as short as `first`: it is approached from near by, on the segment.
    far = first > tol * (_length(y) + _length(c))
    way = torch.where(far, GROWTH * first / _length(y - c), torch.ones_like(first)).clamp(max=1.0)
    recent, no = y.new_full((WINDOW, len(y)), -inf), torch.zeros_like(rows, dtype=torch.bool)
    normals = normals * way[:, None]
    return _State(
        *(rows, y, c, way, first, normals, zero, zero, zero, recent),
        *(torch.ones_like(way), no, no, no),
    )


def _advance(
    s: _State,
    new: Tensor,
    change: Tensor,
    increment: Tensor,
    noise: Tensor,
    near: Tensor,
    late: bool,
) -> None:
    """Choose the next normals: those of the cycle, extrapolated ones, or the ones to go back to."""
    # On the way, normals at one point of the segment, scaled, are normals at the next.
    onward = (s.way < 1) & ((increment <= near) | late)
    further = torch.where(onward, (GROWTH * s.way).clamp(max=1.0) if not late else 1.0, s.way)
    worse = s.judged & (increment > 1.1 * s.recent.amax(0) + noise)
    clean = ~(s.jumped | onward | worse)

    # The step of Barzilai and Borwein, at most GROWTH times the last one: endless where nothing curves.
    moved, bent = s.normals - s.old, s.old_change - change
    curved = (moved * bent).sum((0, 2))
    stride = torch.where(curved > 0, moved.square().sum((0, 2)) / curved, inf)
    stride = torch.minimum(stride.clamp(min=1.0), GROWTH * s.stride)
    jump = clean & s.known & (stride > 1) & (not late)

    def pick(rows: Tensor, yes: Tensor, no: Tensor) -> Tensor:
        return torch.where(rows[:, None] if yes.ndim > 1 else rows, yes, no)

    ahead = pick(jump, s.normals + stride[:, None] * change, pick(worse, s.back, new))
    s.recent = pick(onward, torch.full_like(s.recent, -inf).T, s.recent.T).T
    s.recent = torch.where(clean, torch.cat([s.recent[1:], increment[None]]), s.recent)
    s.stride = torch.where(clean & s.known, stride, torch.where(onward, 1.0, s.stride))
    s.stride = torch.where(worse, (s.stride / GROWTH**2).clamp(min=1.0), s.stride)
    s.known = torch.where(clean, True, s.known & ~onward & ~worse)
    s.back = pick(jump, new, s.back)
    s.old, s.old_change = pick(clean, s.normals, s.old), pick(clean, change, s.old_change)
    s.judged = s.jumped & ~onward
    s.jumped = jump
    s.normals = pick(onward, new * (further / s.way)[:, None], ahead)
    s.way = further


def _apart(y: Tensor, points: Tensor, normals: Tensor) -> Tensor:
    """Return for each row whether no common point c lies within reach of the last point x.

    `<n_i, c - x_i> <= 0` for each part, and the normals n_i add up to y - x. In sum,
    `<y - x, c - x> <= sum_i <n_i, x_i - x>`, so that `||c - x|| ||y - x||` is at least minus that.
    """
    least = -(normals * (points - points[-1])).sum((0, 2))
    rounding = 64 * torch.finfo(y.dtype).eps * normals.norm(dim=2).sum(0)
    far: Tensor = least > REACH * points.norm(dim=2).amax(0) * (_length(y - points[-1]) + rounding)
    return far


def _length(rows: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(rows, dim=-1)
    return length


def _size(normals: Tensor) -> Tensor:
    size: Tensor = torch.linalg.vector_norm(normals, dim=(0, 2))
    return size
