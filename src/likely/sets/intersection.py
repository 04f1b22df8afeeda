"""Intersections without a closed form, by Dykstra's algorithm."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from likely.errors import Infeasible, InvalidInput, InvalidType, NotConverged
from likely.sets.box import Box
from likely.sets.convex import ConvexSet, closed_form, closed_form_of, rows_of, with_parameters
from likely.sets.dykstra import APART, BROKEN, DONE, REACH, dykstra
from likely.sets.observed import BoundedObserved, Observed
from likely.sets.observed_affine import ObservedAffine
from likely.sets.parameters import flat, like


@final
class Intersection(ConvexSet):
    """The set `C_1 & C_2 & ...` of the points that lie in every part, by Dykstra's algorithm.

    Projection: `argmin_{x in every C_i} ||x - y||_2`. Dykstra's algorithm projects onto the parts in
    turn; before it projects onto C_i, it adds the increment y_i that the last projection onto C_i took
    away. (Projecting in turn without these ends in the set, but not at its nearest point.)
    A row stops on the increments, the criterion of Birgin and Raydan, not on the change of x, which
    may pause: when `sqrt(sum_i ||y_i' - y_i||^2) sqrt(m - 1) <= tol (||y||_2 + ||x||_2)`, the sum over
    all parts but the first, whose increment is what the others leave. Then

    - the violation of x is at most `tol (||y||_2 + ||x||_2)`, plus what the parts' own projections and
      the rounding to the dtype of y add, `2 eps (||y||_2 + ||x||_2)`;
    - `<y - x, c - x> <= tol (||y||_2 + ||x||_2) sum_i ||y_i||_2` for every c of the set: x is the
      nearest point, but for that. Where the sets meet at an angle, the distance to the nearest point
      is a small multiple of the violation; where they barely touch, it may be much larger.

    The normals y_i are extrapolated, wherever that provably lowers the value of the dual problem. From
    near, a row takes tens of turns; from a million times the set away hundreds, rarely thousands.

    The arithmetic is in float64 for every dtype. Bounds and measured values come last in the turn: they
    hold in the result bit by bit. Rows inside every part keep every bit (measured zeros take the
    measured sign); rows that hold a NaN or an infinity become NaN, measured values apart.

    Gradients are those of the projection: Dykstra's algorithm once more, on the derivatives of the
    parts' projections at the solution, to the same tolerance. They flow to y, not to the parts'
    parameters, and only once.

    Args:
        parts: the sets; intersections among them are taken apart, and pairs with a closed form merged.
        tol: the tolerance; None for 1e-13, and 1e-10 for float32 and shorter.
        max_steps: at most so many turns.

    Raises:
        Infeasible: two parts contradict each other; on use, a row was proved to have no common point
            within 10^6 times the norms of its projections onto the parts.
        NotConverged: on use, a row did not reach the tolerance in max_steps turns: the sets meet in one
            point only, or at a very small angle, or not at all.
        InvalidInput: no parts, or tol or max_steps is not above 0; a part does not fit the points.
        InvalidType: a part is no convex set.

    Reference: Dykstra 1983; Boyle and Dykstra 1986; Gaffke and Mathar 1989; Birgin and Raydan 2005;
    Anderson 1965 (the extrapolation).

    Example:
        >>> from likely.sets import Ball, Box
        >>> lens = Ball(0.0, 1.0) & Box(-1.0, 0.5)
        >>> lens.project(torch.tensor([[2.0, 0.25], [0.25, 0.25]]))
        tensor([[0.5000, 0.2500],
                [0.2500, 0.2500]])
        >>> Intersection([Ball(0.0, 1.0), Box(-1.0, 0.5)], tol=1e-6).project(torch.tensor([[2.0, 2.0]]))
        tensor([[0.5000, 0.5000]])
    """

    def __init__(
        self, parts: Iterable[ConvexSet], tol: float | None = None, max_steps: int = 10_000
    ) -> None:
        if isinstance(parts, ConvexSet):
            raise InvalidType(f"parts is one {type(parts).__name__}; expected a list of convex sets.")
        given = list(parts)
        for part in given:
            if not isinstance(part, ConvexSet):
                raise InvalidType(f"parts holds {type(part).__name__}; expected convex sets only.")
        if not given:
            raise InvalidInput("parts is empty; expected one convex set or more.")
        if tol is not None and not tol > 0:
            raise InvalidInput(f"tol is {tol}; expected a number above 0, or None.")
        if not max_steps > 0:
            raise InvalidInput(f"max_steps is {max_steps}; expected a number above 0.")
        self.parts, self.tol, self.max_steps = merged(given), tol, max_steps

    def project(self, y: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch *event"]:
        """Return the nearest point of the intersection, to the tolerance."""
        x: Tensor = _Project.apply(y, self)  # type: ignore[no-untyped-call]
        return x

    def violation(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return the largest violation of a part."""
        return torch.stack([part.violation(x) for part in self.parts]).amax(0)


def intersect(one: ConvexSet, other: ConvexSet) -> ConvexSet:
    """Return `one & other`: a closed form, or the intersection of all parts of both.

    Of two tolerances the smaller is kept, of two numbers of steps the larger.
    """
    parts = merged([one, other])
    if len(parts) == 1:
        return parts[0]
    given = [s for s in (one, other) if isinstance(s, Intersection)]
    tols = [s.tol for s in given if s.tol is not None]
    steps = [s.max_steps for s in given]
    both = Intersection(parts, min(tols, default=None))
    return with_parameters(both, max_steps=max(steps)) if steps else both


def merged(parts: Iterable[ConvexSet]) -> tuple[ConvexSet, ...]:
    """Return parts with the same intersection: no intersections, no pair with a closed form."""
    left, out = list(parts), list[ConvexSet]()
    while left:
        part = left.pop(0)
        if isinstance(part, Intersection):
            left = [*part.parts, *left]
            continue
        for i, other in enumerate(out):
            both = closed_form_of(other, part)
            if both is not None:
                left = [both, *left]
                del out[i]
                break
        else:
            out.append(part)
    # What is exact comes last, where it stays exact.
    return tuple(sorted(out, key=lambda part: isinstance(part, EXACT)))


EXACT = (Box, Observed, BoundedObserved, ObservedAffine)


class _Project(torch.autograd.Function):
    """The projection and its derivative, which is symmetric: both by Dykstra's algorithm."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, within: Intersection) -> Tensor:
        last = within.parts[-1]
        outside = torch.stack([part.violation(y) > 0 for part in within.parts]).any(0)
        rows = flat(y)
        finite = rows.isfinite().all(1)
        x = torch.where(finite[:, None], rows, torch.nan)
        z = x.repeat(len(within.parts), 1, 1)
        index = (outside & finite).nonzero()[:, 0]

        def maps(some: Tensor) -> list[Callable[[Tensor], Tensor]]:
            return [onto(rows_of(part, index[some], y.shape), y) for part in within.parts]

        tol = within.tol or (1e-13 if y.dtype == torch.float64 else 1e-10)
        if len(index):
            x[index], z[:, index] = solve(maps, x[index], tol, within.max_steps, index)
        ctx.save_for_backward(z)
        ctx.within, ctx.tol, ctx.shape = within, tol, y.shape
        x = like(x, y)
        return last.project(x) if isinstance(last, EXACT) else x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        rows = flat(grad)
        finite = rows.isfinite().all(1) & z.isfinite().all(2).all(0)
        index = finite.nonzero()[:, 0]

        def maps(some: Tensor) -> list[Callable[[Tensor], Tensor]]:
            which = index[some]
            parts = [rows_of(part, which, ctx.shape) for part in ctx.within.parts]
            return [slope(onto(p, grad), z[i, which]) for i, p in enumerate(parts)]

        out = torch.full_like(rows, torch.nan)
        if len(index):
            out[index], _ = solve(maps, rows[index], ctx.tol, ctx.within.max_steps, index)
        return like(out, grad), None


def onto(part: ConvexSet, y: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the projection of flat rows."""
    return lambda rows: part.project(rows.reshape(-1, *y.shape[1:])).reshape(rows.shape)


def slope(project: Callable[[Tensor], Tensor], z: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the derivative of a projection at z, as a linear map."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        x = project(z)
    return lambda rows: torch.autograd.grad(x, z, rows, retain_graph=True)[0]


def solve(
    maps: Callable[[Tensor], list[Callable[[Tensor], Tensor]]],
    y: Tensor,
    tol: float,
    max_steps: int,
    index: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return what Dykstra's algorithm found, and what each part projected last, or say why not."""
    found = dykstra(maps, y, tol, max_steps)
    failed = (found.status != DONE).nonzero()[:, 0]
    if not len(failed):
        return found.x, found.z
    apart = (found.status == APART).nonzero()[:, 0]
    first = int(apart[0] if len(apart) else failed[0])
    row, gap = int(index[first]), found.increment[first].item()
    if len(apart):
        raise Infeasible(
            f"the sets do not meet in {len(apart)} row(s), the first is row {row}: their nearest "
            f"points stay {gap:.3g} apart, and no common point lies within {REACH:g} times their "
            "distance from 0. Make sure that no constraint contradicts the others, or widen one."
        )
    what = "overflowed" if found.status[first] == BROKEN else f"are still {gap:.3g} apart"
    raise NotConverged(
        f"{len(failed)} row(s) did not reach the tolerance, the first is row {row}: after at most "
        f"{max_steps} turns the nearest points of the sets {what}; expected at most tol = {tol:g} "
        "times (||y|| + ||x||). If that distance is plain to see, the sets most likely do not meet; if "
        "it is tiny, they may touch in one point, or meet at a small angle: try a larger tol or more "
        "steps, Intersection(parts, tol=..., max_steps=...)."
    )


@closed_form(Box, ObservedAffine)
def _(box: Box, both: ObservedAffine) -> ConvexSet:
    # Whatever the order they are given in, bounds stay exact.
    return Intersection([both.affine, box & both.observed])


@closed_form(BoundedObserved, ObservedAffine)
def _(bounded: BoundedObserved, both: ObservedAffine) -> ConvexSet:
    return Intersection([both.affine, bounded & both.observed])


@rows_of.register
def _(within: Intersection, index: Tensor, shape: torch.Size) -> Intersection:
    return with_parameters(within, parts=tuple(rows_of(part, index, shape) for part in within.parts))
