"""Dykstra's algorithm for a batch, extrapolated: rows stop one by one, and leave the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, sqrt

import torch
from torch import Tensor

Maps = Sequence[Callable[[Tensor], Tensor]]

#: parts without a common point within so many times their own distance from 0 count as apart
REACH = 1e6
#: how many differences of turns an extrapolation goes by, and the weight that keeps it from their noise
MEMORY, RIDGE = 5, 1e-8
#: by how much the stride along what they do not explain, and the way from far points, grow at once
GROWTH, ONWARD = 4.0, 16.0
#: the part of the squared increment by which the dual value must fall; plain turns have a half
DESCENT = 1e-2
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
class _Rows:
    """What is known of the rows still running; every tensor has them first."""

    row: Tensor
    y: Tensor
    #: y is approached on the segment from c, `way` of it so far; it goes on at an increment of `near`
    c: Tensor
    way: Tensor
    near: Tensor
    #: the normals of all parts but the first that the next turn starts from, `(k, m - 1, n)`
    start: Tensor
    #: the last turn that was kept: its start, its increments, its normals and its last point
    old: Tensor
    old_change: Tensor
    normals: Tensor
    x: Tensor
    #: differences of starts and of increments, the newest first, `(k, MEMORY, (m - 1) n)`
    moves: Tensor
    bends: Tensor
    stride: Tensor
    #: is there an old turn; is the start extrapolated
    known: Tensor
    jumped: Tensor


def dykstra(maps: Callable[[Tensor], Maps], y: Tensor, tol: float, max_steps: int) -> Found:
    """Return the fixed point of Dykstra's algorithm for flat rows `y`, `(B, n)`, finite, in float64.

    Args:
        maps: gives the projections, one for each of two parts or more, of the rows it is given.
        y: the points.
        tol: a row is done when its parts' projections lie within `tol (||y|| + ||x||)` of each other.
        max_steps: at most so many turns.
    """
    rows = torch.arange(len(y), device=y.device)
    parts = maps(rows)
    s, increment = _begin(parts, rows, y, tol), y.new_full((len(y),), inf)
    found = Found(y.clone(), y.repeat(len(parts), 1, 1), torch.full_like(rows, RUNNING), increment)
    for step in range(max_steps):
        aim = torch.where(s.way[:, None] == 1, s.y, s.c + s.way[:, None] * (s.y - s.c))
        points, normals = turn(parts, aim, s.start)
        x, increment = points[:, -1], _length(normals[:, 1:] - s.start)
        goal = tol * (_length(s.y) + _length(x)) / sqrt(len(parts) - 1)
        status = torch.where((s.way == 1) & (increment <= goal), DONE, RUNNING)
        status = torch.where((status == RUNNING) & _apart(aim, points, normals), APART, status)
        status = torch.where(s.jumped | increment.isfinite(), status, BROKEN)
        over = status != RUNNING
        if over.any() or step == max_steps - 1:
            found.x[s.row], found.z[:, s.row] = x, (points + normals).movedim(1, 0)
            found.status[s.row], found.increment[s.row] = status, increment
        _advance(s, points, normals, torch.maximum(s.near, goal))
        if over.any():
            left = (~over).nonzero()[:, 0]
            s = _Rows(**{name: t.index_select(0, left) for name, t in vars(s).items()})
            if not len(left):
                break
            parts = maps(s.row)
    return found


def turn(parts: Maps, y: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Project onto each part in turn, and return the points and the new normals, `(k, m, n)` each.

    Every normal is what the projection took away. The first is the rest, `y - sum(start)` less the
    first point, whatever it was before, so that the normals add up to y less the last point.
    """
    z = y - start.sum(1)
    points, normals = [parts[0](z)], []
    for part, normal in zip(parts[1:], start.unbind(1), strict=True):
        normals.append(z - points[-1])
        z = points[-1] + normal
        points.append(part(z))
    return torch.stack(points, 1), torch.stack([*normals, z - points[-1]], 1)


def _begin(parts: Maps, rows: Tensor, y: Tensor, tol: float) -> _Rows:
    points, normals = turn(parts, y, y.new_zeros(len(y), len(parts) - 1, y.shape[1]))
    c, start = points[:, -1], normals[:, 1:]
    first = _length(turn(parts, y, start)[1][:, 1:] - start)
    # From a far point the steps are as short as `first`: it is approached from near by, on the segment.
    far = first > tol * (_length(y) + _length(c))
    way = torch.where(far, ONWARD * first / _length(y - c), 1.0).clamp(max=1.0)
    start, no = start * way[:, None, None], torch.zeros_like(rows, dtype=torch.bool)
    none = y.new_zeros(len(y), MEMORY, start[0].numel())
    return _Rows(
        *(rows, y, c, way, 1e-3 * first, start, start, start, normals, c, none, none),
        *(torch.ones_like(way), no, no),
    )


def _advance(s: _Rows, points: Tensor, normals: Tensor, near: Tensor) -> None:
    """Choose the start of the next turn: on from the normals of this one, or back to the last."""
    x, change = points[:, -1], normals[:, 1:] - s.start
    # A bound on how far the dual value of these normals lies above that of the last ones.
    rise = ((normals - s.normals) * (points - x[:, None])).sum((1, 2)) - (x - s.x).square().sum(1) / 2
    kept = ~s.jumped | (rise <= -DESCENT * change.square().sum((1, 2)))

    def pick(rows: Tensor, yes: Tensor, no: Tensor | float) -> Tensor:
        return torch.where(rows.reshape(-1, *[1] * (yes.ndim - 1)), yes, no)

    new = torch.stack([s.start - s.old, change - s.old_change]).flatten(2)[:, :, None]
    moves, bends = (torch.cat([a, b[:, :-1]], 1) for a, b in zip(new, (s.moves, s.bends), strict=True))
    s.moves, s.bends = (pick(kept, pick(s.known, t, 0.0), 0.0) for t in (moves, bends))
    # A plain turn calms what grew.
    calm = kept & (_length(change) <= 1.01 * _length(s.old_change))
    s.old, s.old_change = pick(kept, s.start, s.old), pick(kept, change, s.old_change)
    s.normals, s.x = pick(kept, normals, s.normals), pick(kept, x, s.x)
    s.stride = torch.where(s.jumped, torch.where(kept, GROWTH * s.stride, 1.0), s.stride)
    # Anderson: undo what the differences explain of the change, and stride along the rest of it.
    size = _length(s.moves[:, :, None])[:, :, None]
    moves, bends = (t / torch.where(size > 0, size, 1.0) for t in (s.moves, s.bends))
    ridge = RIDGE * torch.eye(MEMORY).to(bends)
    flat = change.flatten(1)[:, :, None]
    weights = torch.linalg.solve(bends @ bends.mT + ridge, bends @ flat)
    ahead = s.stride[:, None, None] * (flat - bends.mT @ weights) - moves.mT @ weights
    onward = (s.way < 1) & kept & (_length(change) <= near)
    jump = kept & ~onward & (calm | ~s.jumped)
    s.start = pick(jump, s.start + ahead.reshape(s.start.shape), s.normals[:, 1:])
    s.jumped, s.known = jump, kept & ~onward
    # Normals at one point of the segment, scaled, are normals at the next.
    way = torch.where(onward, (ONWARD * s.way).clamp(max=1.0), s.way)
    s.start, s.way = s.start * (way / s.way)[:, None, None], way


def _apart(y: Tensor, points: Tensor, normals: Tensor) -> Tensor:
    """Return for each row whether no common point c lies within reach of the last point x.

    `<n_i, c - x_i> <= 0` for each part, and the normals n_i add up to y - x. In sum,
    `<y - x, c - x> <= sum_i <n_i, x_i - x>`, so that `||c - x|| ||y - x||` is at least minus that.
    """
    x = points[:, -1]
    least = -(normals * (points - x[:, None])).sum((1, 2))
    rounding = 64 * torch.finfo(y.dtype).eps * normals.norm(dim=2).sum(1)
    far: Tensor = least > REACH * points.norm(dim=2).amax(1) * (_length(y - x) + rounding)
    return far


def _length(rows: Tensor) -> Tensor:
    """Return one norm for each row: over the last dimension, or the last two."""
    length: Tensor = torch.linalg.vector_norm(rows, dim=tuple(range(1, rows.ndim))[-2:])
    return length
