"""More sets in plain words: the second-order cone, and bounds with one equality."""

from math import inf, sqrt

import numpy as np
import torch
from torch import Tensor

from laws.sets_case import IMAGES, ROWS, SHAPE, Case, draw, dyadic, length
from laws.sets_meaning import Rows, at, build, nearest
from likely.sets import Affine, Box, BoxHyperplane, ConvexSet, SecondOrderCone


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


def box_and_hyperplane(low: Tensor, high: Tensor, a: Tensor, b: Tensor) -> ConvexSet:
    return Box(low, high) & Affine(a, b)


def hyperplane_and_boxes(low: Tensor, high: Tensor, a: Tensor, b: Tensor) -> ConvexSet:
    return Box(low, inf) & (Affine(a, b) & Box(-inf, high))


def more_sets() -> dict[str, Case]:
    ones, signs = torch.ones(10), torch.tensor([1.0, -1.0] * 6)
    # Zeros and other weights stand among ones, which the points of the case are balanced with.
    mixed = torch.tensor([1.0, 0.0, -1.0, 2.0, 1.0, -0.5, 1.0, 0.0, -1.0, 1.0])
    low, high = -draw(*IMAGES, seed=21), draw(*IMAGES, seed=22)
    low[0, 0, 0], high[1, 1, 0] = -inf, inf
    low[:, 1, 1, 2] = high[:, 1, 1, 2] = 0.25  # one entry is fixed
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
        "budget of all": budget(0.25, 0.75, ones, 7.5, SHAPE),
        "budget of nothing": budget(0.0, inf, ones, 0.0, SHAPE),
        "budget of one entry": budget(-1.0, 1.0, torch.tensor([-1.0]), 0.5, (ROWS, 1)),
        "box & hyperplane": budget(0.0, 1.0, ones, 4.0, SHAPE, box_and_hyperplane),
        "box & (hyperplane & box)": budget(
            -0.5, 1.0, mixed, Rows(torch.tensor([0.5, -1.0, 1.5])), SHAPE, hyperplane_and_boxes
        ),
    }
