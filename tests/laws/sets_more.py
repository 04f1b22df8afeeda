"""More sets in plain words: the cone, bounds with one equality, products, equalities by function."""

from collections.abc import Callable
from math import inf, nan, sqrt

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv1d, conv_transpose1d

from laws.sets_case import IMAGES, ROWS, SHAPE, Case, draw, dyadic, length
from laws.sets_meaning import Rows, at, ball, build, l1_ball, monotone, nearest, simplex
from likely.sets import (
    Affine,
    AffineOperator,
    Box,
    BoxHyperplane,
    ConvexSet,
    Observed,
    Product,
    SecondOrderCone,
)


def cone(shape: tuple[int, ...]) -> Case:
    """Return the case of `||x|| <= t`, t first."""

    def point(generator: torch.Generator) -> Tensor:
        # The apex, the axis, and the surface, where lengths are exact: along an entry, or (3, 4, 5).
        x = torch.zeros(shape, dtype=torch.float64).flatten(1)
        size = dyadic((ROWS,), generator).abs()
        x[:, 0] = 5 * size
        kind = int(torch.randint(0, 5, (), generator=generator))
        if kind == 0:
            x[:, 0] = 0.0
        if kind == 1 and x.shape[1] > 1:
            x[:, -1] = -5 * size
        if kind == 2 and x.shape[1] > 2:
            x[:, 1], x[:, -1] = 3 * size, -4 * size
        if kind == 3:
            x[:, 1:] = dyadic(x[:, 1:].shape, generator)
            x[:, 0] = x[:, 1:].abs().sum(1)
        return x.reshape(shape)

    def oracle(i: int, y: np.ndarray) -> np.ndarray:
        # In the plane of the axis and x, the cone is a wedge between two rays, of slopes 1 and -1.
        size = np.linalg.norm(y[1:])
        wedge = np.array([[1.0, -1.0], [1.0, 1.0]])
        t, s = nearest(np.array([y[0], size]), wedge, np.zeros(2), np.full(2, inf))
        return np.append(t, s * y[1:] / size) if size else np.append(t, y[1:])

    return Case(
        *build(SecondOrderCone),
        lambda i, x: max(0.0, (np.linalg.norm(x[1:]) - x[0]) / sqrt(2)),
        oracle,
        point,
        shape,
        tol=2.0,
        size=lambda y, p: length(p),
    )


def budget(
    low: object, high: object, a: Tensor, b: object, shape: tuple[int, ...], kind: type = BoxHyperplane
) -> Case:
    """Return the case of `low <= x <= high, <a, x> = b`, all dyadic."""
    flat, n = a.double().flatten().numpy(), a.numel()

    def bounds(i: int) -> tuple[np.ndarray, np.ndarray]:
        return tuple(np.broadcast_to(at(v, i), shape[1:]).ravel() for v in (low, high))

    def rules(i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        lo, hi = bounds(i)
        return np.vstack([np.eye(n), flat]), np.append(lo, at(b, i)), np.append(hi, at(b, i))

    def point(generator: torch.Generator) -> Tensor:
        # Single entries, in random order, take up what is missing to b; sums are exact.
        x = dyadic((ROWS, n), generator, top=192).numpy()
        for i in range(ROWS):
            lo, hi = bounds(i)
            x[i] = np.clip(x[i], lo, hi)
            for j in torch.randperm(n, generator=generator).tolist():
                if abs(flat[j]) == 1.0:
                    x[i, j] = np.clip(x[i, j] - (flat @ x[i] - at(b, i)) * flat[j], lo[j], hi[j])
            assert flat @ x[i] == at(b, i), "the case has too few entries of weight 1"
        return torch.from_numpy(x).reshape(shape)

    def breach(i: int, x: np.ndarray) -> float:
        lo, hi = bounds(i)
        return max(0.0, *(lo - x), *(x - hi), abs(flat @ x - at(b, i)) / np.linalg.norm(flat))

    return Case(
        *build(kind, low, high, a, b),
        breach,
        lambda i, y: nearest(y, *rules(i)),
        point,
        shape,
        tol=2.0,
        size=lambda y, p: length(p),
    )


def product(shape: tuple[int, ...], *parts: tuple[object, Case]) -> Case:
    """Return the case of different sets for different parts, each known as a case of flat points."""
    n = int(np.prod(shape[1:]))
    places = [
        np.arange(n)[w.flatten().numpy() if isinstance(w, Tensor) else w].copy() for w, _ in parts
    ]
    cases = [case for _, case in parts]

    def slack(y: Tensor, p: Tensor) -> Tensor:
        rows = y.flatten(1), p.flatten(1)
        each = [c.tol * c.size(*(r[:, k] for r in rows)) for k, c in zip(places, cases, strict=True)]
        return torch.stack([e.broadcast_to(len(y)) for e in each]).amax(0)

    def point(generator: torch.Generator) -> Tensor:
        x = dyadic((ROWS, n), generator)
        for k, c in zip(places, cases, strict=True):
            x[:, k] = c.point(generator)
        return x.reshape(shape)

    def oracle(i: int, y: np.ndarray) -> np.ndarray:
        x = y.copy()
        for k, c in zip(places, cases, strict=True):
            x[k] = c.oracle(i, y[k])
        return x

    return Case(
        lambda: Product(*[(where, c.make()) for where, c in parts]),
        lambda i: Product(*[(where, c.row(i)) for where, c in parts]),
        lambda i, x: max(c.breach(i, x[k]) for k, c in zip(places, cases, strict=True)),
        oracle,
        point,
        shape,
        tol=float(any(c.tol for c in cases)),
        size=slack,
    )


def operator(
    shape: tuple[int, ...],
    forward: Callable[[Tensor], Tensor],
    matrix: np.ndarray,
    pivots: list[int],
    transpose: Callable[[Tensor], Tensor] | None = None,
    shared: bool = False,
) -> Case:
    """Return the case of `forward(x) = b`, which the matrix says too; entries that pivots follow."""
    n, start = matrix.shape[1], dyadic(shape, torch.Generator().manual_seed(25)).flatten(1)
    start = start[:1].expand(ROWS, n) if shared else start
    right = start.numpy() @ matrix.T
    others = np.setdiff1d(np.arange(n), pivots)
    follow = np.linalg.lstsq(matrix[:, pivots], -matrix[:, others], rcond=None)[0]
    follow = torch.from_numpy(np.round(64 * follow) / 64)  # it is dyadic, and the solver rounds
    b = Rows(torch.from_numpy(right).reshape(forward(torch.zeros(shape).double()).shape))

    def point(generator: torch.Generator) -> Tensor:
        x, step = start.clone(), dyadic((ROWS, len(others)), generator)
        x[:, others] += step
        x[:, pivots] += step @ follow.T
        return x.reshape(shape)

    def breach(i: int, x: np.ndarray) -> float:
        r = matrix @ x - right[i]
        return r @ r / np.linalg.norm(matrix.T @ r) if r.any() else 0.0

    return Case(
        lambda: AffineOperator(forward, b.values[:1] if shared else b.values, transpose),
        lambda i: AffineOperator(forward, b.values[i : i + 1], transpose),
        breach,
        lambda i, y: y - np.linalg.pinv(matrix) @ (matrix @ y - right[i]),
        point,
        shape,
        tol=8.0,
    )


def box_and_hyperplane(low: Tensor, high: Tensor, a: Tensor, b: Tensor) -> ConvexSet:
    return Box(low, high) & Affine(a, b)


def hyperplane_and_boxes(low: Tensor, high: Tensor, a: Tensor, b: Tensor) -> ConvexSet:
    return Box(low, inf) & (Affine(a, b) & Box(-inf, high))


def observed_and_budget(low: Tensor, high: Tensor, a: Tensor, b: Tensor) -> ConvexSet:
    mask = low == high
    values, least, most = (
        torch.where(mask, low, nan),
        low.masked_fill(mask, 0),
        high.masked_fill(mask, 1),
    )
    return Observed(mask, values) & BoxHyperplane(least, most, a, b)


def bounded_and_budget(low: Tensor, high: Tensor, a: Tensor, b: Tensor) -> ConvexSet:
    mask = low == high
    return BoxHyperplane(-inf, inf, a, b) & (Box(low, high) & Observed(mask, low))


def fold(x: Tensor) -> Tensor:
    return torch.cat([x[..., 1:10], x[..., 10:] + x[..., :1]], -1)


def more_sets() -> dict[str, Case]:
    ones, signs = torch.ones(10), torch.tensor([1.0, -1.0] * 6)
    # Zeros and other weights stand among ones, which the points of the case are balanced with.
    mixed = torch.tensor([1.0, 0.0, -1.0, 2.0, 1.0, -0.5, 1.0, 0.0, -1.0, 1.0])
    low, high = -draw(*IMAGES, seed=21), draw(*IMAGES, seed=22)
    low[0, 0, 0], high[1, 1, 0] = -inf, inf
    low[:, 1, 1, 2] = high[:, 1, 1, 2] = 0.25  # one entry is fixed
    sums = np.kron(np.eye(2), np.ones(5)), np.kron(np.ones(2), np.eye(5))
    means = np.kron(np.eye(2), np.kron([0.5, 0.5], np.kron(np.eye(2), [0.5, 0.5])))
    blur = sum(w * np.eye(10)[np.arange(-1 + k, 9 + k, 2)] for k, w in enumerate((0.25, 0.5, 0.25)))
    dense = torch.cat([dyadic((3, 7), torch.Generator().manual_seed(26), top=128), torch.eye(3)], 1)
    kernel = torch.tensor([[[0.25, 0.5, 0.25]]], dtype=torch.float64)
    mask = torch.tensor([[True, False, True, False, False], [False, True, True, False, True]])
    totals = Rows(torch.tensor([0.5, 1.0, 4.0]))
    some, known = draw(*SHAPE, seed=44) < 0.3, draw(*SHAPE, seed=45)
    return {
        "cone": cone(SHAPE),
        "cone of images": cone(IMAGES),
        "cone in the plane": cone((ROWS, 2)),
        "cone that is a ray": cone((ROWS, 1)),
        "budget": budget(0.0, 1.0, ones, 4.0, SHAPE),
        "budget with weights": budget(-0.5, 1.0, mixed.reshape(2, 5), 0.75, SHAPE),
        "budget per row": budget(
            Rows(low),
            Rows(high),
            signs.reshape(IMAGES[1:]),
            Rows(torch.tensor([0.5, 0.25, 0.0])),
            IMAGES,
        ),
        "budget without bounds": budget(-inf, inf, mixed, Rows(torch.tensor([0.5, -2.0, 3.0])), SHAPE),
        "budget from below": budget(0.0, inf, ones, 1.0, SHAPE),
        "values and a budget": budget(
            Rows(torch.where(some, known, 0.0)),
            Rows(torch.where(some, known, 1.0)),
            ones,
            4.0,
            SHAPE,
            observed_and_budget,
        ),
        "bounds, values and a budget": budget(
            Rows(torch.where(some, known, -0.5)),
            Rows(torch.where(some, known, 1.5)),
            ones,
            4.0,
            SHAPE,
            bounded_and_budget,
        ),
        "budget of all": budget(0.25, 0.75, ones, 7.5, SHAPE),
        "budget of nothing": budget(0.0, inf, ones, 0.0, SHAPE),
        "budget of one entry": budget(-1.0, 1.0, torch.tensor([-1.0]), 0.5, (ROWS, 1)),
        "box & hyperplane": budget(0.0, 1.0, ones, 4.0, SHAPE, box_and_hyperplane),
        "box & (hyperplane & box)": budget(
            -0.5, 1.0, mixed, Rows(torch.tensor([0.5, -1.0, 1.5])), SHAPE, hyperplane_and_boxes
        ),
        "product of slices": product(
            SHAPE,
            (slice(0, 3), simplex(totals, (ROWS, 3))),
            (slice(3, None, 2), ball(0.0, Rows(torch.tensor([0.25, 1.0, 100.0])), (ROWS, 4))),
        ),
        "product of a mask": product(SHAPE, (mask, monotone((ROWS, 5))), (~mask, cone((ROWS, 5)))),
        "product of entries": product(
            IMAGES,
            (torch.tensor([7, 0, 5]), monotone((ROWS, 3))),
            (slice(-4, None), l1_ball(1.0, (ROWS, 4))),
            (torch.tensor([6, 1]), budget(0.0, 1.0, torch.tensor([1.0, -1.0]), 0.25, (ROWS, 2))),
        ),
        "product of exact parts": product(SHAPE, (slice(8, 2, -1), monotone((ROWS, 6)))),
        "row sums": operator(SHAPE, lambda x: x.sum(-1), sums[0], [4, 9]),
        "row sums and column sums": operator(
            SHAPE,
            lambda x: torch.cat([x.sum(-1), x.sum(-2)], 1),
            np.vstack(sums),
            [0, 1, 2, 3, 4, 9],
        ),
        "block means": operator(
            (ROWS, 2, 2, 4), lambda x: avg_pool2d(x, 2), means, [0, 2, 8, 10], shared=True
        ),
        "blur": operator(
            (ROWS, 1, 10),
            lambda x: conv1d(torch.cat([x[..., -1:], x], -1), kernel, stride=2),
            blur,
            [0, 2, 4, 6, 8],
            lambda r: fold(conv_transpose1d(r, kernel, stride=2)),
        ),
        "operator with transpose": operator(
            SHAPE,
            lambda x: x.flatten(1) @ dense.T,
            dense.numpy(),
            [7, 8, 9],
            lambda r: (r @ dense).reshape(-1, 2, 5),
        ),
    }
