"""Each kind of set in plain words: its rules, a slow oracle for the projection, and its points."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from laws.sets_case import ROWS, SHAPE, Case, dyadic, length
from likely.sets import Affine, Ball, Halfspace, L1Ball, Monotone, Simplex


@dataclass(frozen=True)
class Rows:
    """A parameter with one value for each row, the rows along its first axis."""

    values: Tensor


def whole(p: object) -> object:
    return p.values if isinstance(p, Rows) else p


def at(p: object, i: int) -> np.ndarray:
    return np.asarray(p.values[i] if isinstance(p, Rows) else p, dtype=np.float64)


def build(kind: Callable, *params: object) -> tuple[Callable, Callable]:
    """Return the set for all rows, and the set of row i alone, by cutting the per-row parameters."""
    return (
        lambda: kind(*map(whole, params)),
        lambda i: kind(*[p.values[i : i + 1] if isinstance(p, Rows) else p for p in params]),
    )


def nearest(
    y: np.ndarray, a: np.ndarray, low: np.ndarray, high: np.ndarray, onto: np.ndarray | None = None
) -> np.ndarray:
    """Return argmin ||x - y||, x = onto u, over low <= A u <= high, the slow and obvious way."""
    onto = np.eye(y.size) if onto is None else onto
    same = low == high
    up, down = np.isfinite(high) & ~same, np.isfinite(low) & ~same
    rules = [
        {"type": kind, "fun": lambda x, m=m, b=b: m @ x - b, "jac": lambda x, m=m: m}
        for kind, m, b in (
            ("eq", a[same], low[same]),
            ("ineq", a[down], low[down]),
            ("ineq", -a[up], -high[up]),
        )
        if len(m)
    ]
    found = optimize.minimize(
        lambda u: 0.5 * np.sum((onto @ u - y) ** 2),
        np.zeros(onto.shape[1]),
        jac=lambda u: onto.T @ (onto @ u - y),
        method="SLSQP",
        constraints=rules,
        options={"ftol": 1e-16, "maxiter": 200},
    )
    return onto @ found.x


def entrywise(make: Callable, params: tuple, low: Tensor, high: Tensor) -> Case:
    """Return the case of a set that says `low <= x <= high` entry by entry; equal means measured."""
    low, high = (torch.broadcast_to(b, SHAPE).double() for b in (low, high))

    def of_row(p: object, i: int) -> object:
        return p[i : i + 1] if isinstance(p, Tensor) and p.ndim == len(SHAPE) and len(p) == ROWS else p

    def bounds(i: int) -> tuple[np.ndarray, np.ndarray]:
        return low[i].flatten().numpy(), high[i].flatten().numpy()

    def breach(i: int, x: np.ndarray) -> float:
        return max(0.0, (bounds(i)[0] - x).max(), (x - bounds(i)[1]).max())

    def point(generator: torch.Generator) -> Tensor:
        draw = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
        u = torch.rand(SHAPE, generator=generator, dtype=torch.float64)
        # Corners as well: that is where the variational inequality is tight.
        u = torch.where(torch.rand(SHAPE, generator=generator) < 0.5, u.round(), u)
        from_low, from_high = low + draw.abs(), high - draw.abs()
        between = torch.where(u == 1, high, low + u * (high - low))
        one_side = torch.where(low.isfinite(), from_low, torch.where(high.isfinite(), from_high, draw))
        return torch.where(low.isfinite() & high.isfinite(), between, one_side)

    return Case(
        lambda: make(*params),
        lambda i: make(*[of_row(p, i) for p in params]),
        breach,
        lambda i, y: nearest(y, np.eye(y.size), *bounds(i)),
        point,
        bounds=bounds,
    )


def halfspace(a: Tensor, b: object, shape: tuple[int, ...]) -> Case:
    """Return the case of `<a, x> <= b`; the first entry of a is 1 or -1, all are dyadic."""
    flat = a.double().flatten().numpy()

    def point(generator: torch.Generator) -> Tensor:
        x = dyadic(shape, generator).flatten(1)
        spare = dyadic((ROWS,), generator).clamp(min=0.0)
        for i in range(ROWS):
            x[i, 0] = (float(at(b, i)) - spare[i] - x[i, 1:] @ torch.from_numpy(flat[1:])) / flat[0]
        return x.reshape(shape)

    return Case(
        *build(Halfspace, a, b),
        lambda i, x: max(0.0, (flat @ x - at(b, i)) / np.linalg.norm(flat)),
        lambda i, y: nearest(y, flat[None], np.array([-inf]), at(b, i)[None]),
        point,
        shape,
        tol=2.0,
    )


def affine(a: Tensor, b: object, shape: tuple[int, ...]) -> Case:
    """Return the case of `A x = b`; the last columns of A are the identity, all is dyadic."""
    matrix = np.atleast_2d(a.double().numpy())
    m = len(matrix)

    def point(generator: torch.Generator) -> Tensor:
        x = dyadic(shape, generator).flatten(1)
        for i in range(ROWS):
            right = torch.from_numpy(np.atleast_1d(at(b, i)))
            x[i, -m:] = right - torch.from_numpy(matrix[:, :-m]) @ x[i, :-m]
        return x.reshape(shape)

    return Case(
        *build(Affine, a, b),
        lambda i, x: np.abs((matrix @ x - at(b, i)) / np.linalg.norm(matrix, axis=1)).max(),
        # The pseudo-inverse instead of an iteration: equalities alone have a formula.
        lambda i, y: y - np.linalg.pinv(matrix) @ (matrix @ y - at(b, i)),
        point,
        shape,
        tol=2.0,
    )


def shares(total: object, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return dyadic points of the simplex: 64 equal shares of the total, thrown onto the entries."""
    x = torch.zeros(shape, dtype=torch.float64).flatten(1)
    for i in range(ROWS):
        places = int(torch.randint(1, x.shape[1] + 1, (), generator=generator))
        thrown = torch.randint(0, places, (64,), generator=generator)
        counts = torch.bincount(thrown, minlength=x.shape[1])
        counts = counts[torch.randperm(x.shape[1], generator=generator)]
        x[i] = counts * float(at(total, i)) / 64
    return x.reshape(shape)


def simplex(total: object, shape: tuple[int, ...]) -> Case:
    def rules(i: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        total_i = at(total, i)
        low, high = np.append(np.zeros(n), total_i), np.append(np.full(n, inf), total_i)
        return np.vstack([np.eye(n), np.ones(n)]), low, high

    return Case(
        *build(Simplex, total),
        lambda i, x: max(0.0, -x.min(), abs(x.sum() - at(total, i)) / sqrt(x.size)),
        lambda i, y: nearest(y, *rules(i, y.size)),
        lambda generator: shares(total, shape, generator),
        shape,
        tol=2.0,
        size=lambda y, p: torch.as_tensor(whole(total)).double(),
    )


def l1_ball(radius: object, shape: tuple[int, ...]) -> Case:
    def point(generator: torch.Generator) -> Tensor:
        signs = torch.randint(0, 2, shape, generator=generator) * 2 - 1
        shrink = torch.randint(0, 2, (ROWS, *[1] * (len(shape) - 1)), generator=generator) / 2 + 0.5
        return shares(radius, shape, generator) * signs * shrink

    def oracle(i: int, y: np.ndarray) -> np.ndarray:
        # x = u - v with u, v >= 0 and sum(u + v) <= r has the same nearest points.
        n = y.size
        rules = np.vstack([np.eye(2 * n), np.ones(2 * n)])
        low, high = np.append(np.zeros(2 * n), -inf), np.append(np.full(2 * n, inf), at(radius, i))
        return nearest(y, rules, low, high, np.hstack([np.eye(n), -np.eye(n)]))

    return Case(
        *build(L1Ball, radius),
        lambda i, x: max(0.0, (np.abs(x).sum() - at(radius, i)) / sqrt(x.size)),
        oracle,
        point,
        shape,
        tol=2.0,
        size=lambda y, p: torch.as_tensor(whole(radius)).double(),
    )


def ball(center: object, radius: object, shape: tuple[int, ...]) -> Case:
    middle = torch.broadcast_to(torch.as_tensor(whole(center)).double(), shape)

    def radii() -> Tensor:
        return torch.as_tensor(whole(radius)).double().broadcast_to(ROWS)

    def point(generator: torch.Generator) -> Tensor:
        # Either inside, or as far out as it goes along one axis: there the length is exact.
        n = middle[0].numel()
        step = torch.nn.functional.one_hot(
            torch.randint(0, n, (ROWS,), generator=generator), n
        ).double()
        step *= torch.randint(0, 2, (ROWS, 1), generator=generator) * 2 - 1
        if torch.rand((), generator=generator) < 0.5:
            step = torch.randn(ROWS, n, generator=generator, dtype=torch.float64)
            step *= 0.9 * torch.rand(ROWS, 1, generator=generator) / step.norm(dim=1, keepdim=True)
        return middle + (step * radii()[:, None]).reshape(shape)

    def oracle(i: int, y: np.ndarray) -> np.ndarray:
        # The nearest point lies on the way to the center: bisect that way.
        c, near, far = middle[i].flatten().numpy(), 0.0, 1.0
        if np.linalg.norm(y - c) <= at(radius, i):
            return y
        for _ in range(60):
            half = (near + far) / 2
            inside = np.linalg.norm(half * (y - c)) <= at(radius, i)
            near, far = (half, far) if inside else (near, half)
        return c + near * (y - c)

    return Case(
        *build(Ball, center, radius),
        lambda i, x: max(0.0, np.linalg.norm(x - middle[i].flatten().numpy()) - at(radius, i)),
        oracle,
        point,
        shape,
        tol=2.0,
        size=lambda y, p: length(middle) + radii(),
    )


def monotone(shape: tuple[int, ...]) -> Case:
    def point(generator: torch.Generator) -> Tensor:
        x = dyadic(shape, generator, top=int(torch.randint(0, 65, (), generator=generator)))
        return x.flatten(1).sort(1).values.reshape(shape)

    def oracle(i: int, y: np.ndarray) -> np.ndarray:
        # The minimax formula: x_i = max over j <= i of min over k >= i of mean(y_j .. y_k).
        n = y.size
        return np.array(
            [max(min(y[j : k + 1].mean() for k in range(i, n)) for j in range(i + 1)) for i in range(n)]
        )

    return Case(
        *build(Monotone),
        lambda i, x: max(0.0, *(x[:-1] - x[1:]) / sqrt(2)) if x.size > 1 else 0.0,
        oracle,
        point,
        shape,
    )
