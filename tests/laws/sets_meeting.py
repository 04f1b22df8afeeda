"""Intersections in plain words: the rules of all parts, SLSQP as the oracle, and common points."""

from collections.abc import Callable
from math import inf

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from laws.sets_case import EVENT, IMAGES, ROWS, SHAPE, Case, draw, dyadic
from laws.sets_meaning import Rows, affine, at, ball, entrywise, halfspace, monotone, simplex
from likely.sets import Box, ConvexSet, Observed

Rules = Callable[[int], list[dict]]
ENDLESS = torch.tensor(inf)


def nearest(y: np.ndarray, rules: list[dict], start: np.ndarray) -> np.ndarray:
    """Return argmin ||x - y|| under scipy's rules, from a point of the set."""
    found = optimize.minimize(
        lambda x: 0.5 * np.sum((x - y) ** 2),
        start,
        jac=lambda x: x - y,
        method="SLSQP",
        constraints=rules,
        options={"ftol": 1e-18, "maxiter": 1000},
    )
    return found.x


def linear(a: Tensor, b: object, kind: str) -> Rules:
    """Return the rules `A x <= b` or `A x = b`, b perhaps with one value for each row."""
    matrix = a.double().reshape(-1, a.shape[-1] if a.ndim > 1 else a.numel()).numpy()
    return lambda i: [
        {
            "type": kind,
            "fun": lambda x: np.atleast_1d(at(b, i)) - matrix @ x,
            "jac": lambda x: -matrix,
        }
    ]


def bounded(low: Tensor, high: Tensor, shape: tuple[int, ...]) -> Rules:
    low, high = (torch.broadcast_to(b, shape).double().flatten(1).numpy() for b in (low, high))
    n = low.shape[1]

    def rules(i: int) -> list[dict]:
        same = low[i] == high[i]
        eye = np.eye(n)
        above, below = np.isfinite(low[i]) & ~same, np.isfinite(high[i]) & ~same
        every = [
            ("eq", same, lambda x: x - low[i], eye),
            ("ineq", above, lambda x: x - low[i], eye),
            ("ineq", below, lambda x: high[i] - x, -eye),
        ]
        return [
            {"type": kind, "fun": lambda x, f=f, k=k: f(x)[k], "jac": lambda x, j=j, k=k: j[k]}
            for kind, k, f, j in every
            if k.any()
        ]

    return rules


def round_(center: Tensor, radius: object, shape: tuple[int, ...]) -> Rules:
    middle = torch.broadcast_to(center, shape).double().flatten(1).numpy()
    return lambda i: [
        {
            "type": "ineq",
            "fun": lambda x: float(at(radius, i)) ** 2 - np.sum((x - middle[i]) ** 2),
            "jac": lambda x: -2 * (x - middle[i]),
        }
    ]


def simplex_rules(total: object, n: int) -> Rules:
    return lambda i: [
        {"type": "ineq", "fun": lambda x: x, "jac": lambda x: np.eye(n)},
        *linear(torch.ones(n), total, "eq")(i),
    ]


def ordered(n: int) -> Rules:
    return linear(torch.eye(n)[:-1] - torch.eye(n)[1:], torch.zeros(n - 1), "ineq")


def both(
    cases: list[Case],
    rules: list[Rules],
    anchor: Tensor,
    iterative: bool = True,
    points: Callable[[torch.Generator], Tensor] | None = None,
) -> Case:
    """Return the case of the intersection; the anchor is dyadic, and inside in every row."""
    shape = cases[0].shape
    anchor = anchor.broadcast_to(shape).double()

    def breach(i: int, x: np.ndarray) -> float:
        return max(c.breach(i, x) for c in cases)

    def point(generator: torch.Generator) -> Tensor:
        # A point of one part, drawn towards the anchor until it is in the others too.
        which = int(torch.randint(0, len(cases), (), generator=generator))
        x = cases[which].point(generator)
        for i in range(ROWS):
            for _ in range(40):
                if breach(i, x[i].flatten().numpy()) == 0:
                    break
                x[i] = (x[i] + anchor[i]) / 2
            else:
                x[i] = anchor[i]
        return x

    def meet(sets: list[ConvexSet]) -> ConvexSet:
        out = sets[0]
        for s in sets[1:]:
            out = out & s
        return out

    def oracle(i: int, y: np.ndarray) -> np.ndarray:
        return nearest(y, [r for rule in rules for r in rule(i)], anchor[i].flatten().numpy())

    return Case(
        lambda: meet([c.make() for c in cases]),
        lambda i: meet([c.row(i) for c in cases]),
        breach,
        oracle,
        points or point,
        shape,
        tol=2.0,
        # Points far away take hundreds of turns: test_dykstra.py projects some, once.
        scales=(0.5, 3.0) if iterative else (0.5, 3.0, 1e6),
        stop=lambda dtype: (1e-12 if dtype == torch.float64 else 1e-9) if iterative else 0.0,
    )


def known(mask: Tensor, values: Tensor) -> Case:
    low, high = between(mask, values, -ENDLESS, ENDLESS)
    return entrywise(Observed, (mask, values), low, high)


def between(mask: Tensor, values: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    return torch.where(mask, values, low), torch.where(mask, values, high)


def solved(matrix: Tensor, mask: Tensor, used: list[int]) -> Case:
    """Return the case of `Observed & Affine`; the last columns of the rows `used` are the identity."""
    inside = dyadic(SHAPE, torch.Generator().manual_seed(37))
    right = Rows(inside.flatten(1) @ matrix.T)
    m = len(used)

    def point(generator: torch.Generator) -> Tensor:
        x = torch.where(mask, inside, dyadic(SHAPE, generator)).flatten(1)
        x[:, -m:] = right.values[:, used] - x[:, :-m] @ matrix[used, :-m].T
        return x.reshape(SHAPE)

    return both(
        [known(mask, inside), affine(matrix, right, SHAPE)],
        [
            bounded(*between(mask, inside, -ENDLESS, ENDLESS), SHAPE),
            linear(matrix[used], Rows(right.values[:, used]), "eq"),
        ],
        inside,
        iterative=False,
        points=point,
    )


def meetings() -> dict[str, Case]:
    half = torch.tensor(0.5)
    wide = draw(*SHAPE, seed=31)
    a = dyadic((10,), torch.Generator().manual_seed(32), top=128)
    a[0] = 1.0
    c = dyadic((10,), torch.Generator().manual_seed(33), top=128)
    c[0] = -1.0
    square = entrywise(Box, (-0.25, 0.5), -half / 2, half)
    per_row = entrywise(Box, (-wide, wide), -wide, wide)
    radii = Rows(torch.tensor([0.5, 1.0, 4.0]))
    center = draw(*EVENT, seed=34) / 4
    zero = torch.zeros(SHAPE)
    sums = torch.cat([dyadic((2, 8), torch.Generator().manual_seed(35)), torch.eye(2).double()], 1)
    inside = dyadic(EVENT, torch.Generator().manual_seed(39), top=16)
    right = sums @ inside.flatten()
    ramp = torch.tensor([-1.0, -0.5, -0.5, 0.0, 0.0, 0.25, 0.25, 0.5, 0.75, 1.0]).reshape(EVENT)
    most = Rows(torch.tensor([0.0, 0.5, 1.0]))
    first = torch.zeros(IMAGES[1:])
    first.view(-1)[0] = 1.0
    slope = torch.cat([-torch.ones(1), dyadic((11,), torch.Generator().manual_seed(36)).float()])
    totals = Rows(torch.tensor([1.0, 0.5, 2.0]))
    mask = draw(*SHAPE, seed=38) < 0.5
    mask[..., -2:] = False
    one_mask = mask[0]
    # On the free entries the first row is zero, and the others are the same.
    decided = torch.zeros(3, 10).double()
    decided[0, :2], decided[1:, 5:], decided[1, 0], decided[2, 1] = 1.0, 1.0, 1.0, 1.0
    few = torch.arange(10).reshape(EVENT) < 3
    more = few | mask
    return {
        "box meets ball": both(
            [ball(center, 1.0, SHAPE), square],
            [round_(center, 1.0, SHAPE), bounded(-half / 2, half, SHAPE)],
            center.clamp(max=0.25),
        ),
        "box per row meets ball per row": both(
            [per_row, ball(0.0, radii, SHAPE)],
            [bounded(-wide, wide, SHAPE), round_(zero[0], radii, SHAPE)],
            zero,
        ),
        "box meets two halfspaces": both(
            [
                square,
                halfspace(a, 0.25, SHAPE),
                halfspace(c, Rows(torch.tensor([0.0, 0.5, 1.0])), SHAPE),
            ],
            [
                bounded(-half / 2, half, SHAPE),
                linear(a, 0.25, "ineq"),
                linear(c, most, "ineq"),
            ],
            zero,
        ),
        "ball meets affine": both(
            [affine(sums, right, SHAPE), ball(0.25, 1.0, SHAPE)],
            [linear(sums, right, "eq"), round_(zero[0] + 0.25, 1.0, SHAPE)],
            inside,
        ),
        "simplex meets halfspace": both(
            [simplex(totals, IMAGES), halfspace(slope, -0.25, IMAGES)],
            [simplex_rules(totals, 12), linear(slope, -0.25, "ineq")],
            first * totals.values.reshape(ROWS, 1, 1, 1),
        ),
        "monotone meets box": both(
            [monotone(SHAPE), entrywise(Box, (ramp - 0.5, ramp + 0.25), ramp - 0.5, ramp + 0.25)],
            [ordered(10), bounded(ramp - 0.5, ramp + 0.25, SHAPE)],
            ramp,
        ),
        "bounds, values and a ball": both(
            [square, ball(0.0, radii, SHAPE), known(mask, wide / 4)],
            [
                bounded(*between(mask, wide / 4, -half / 2, half), SHAPE),
                round_(zero[0], radii, SHAPE),
            ],
            torch.where(mask, wide / 4, 0.0),
        ),
        "bounds, values and sums": both(
            [square, affine(sums, torch.zeros(2), SHAPE), known(one_mask, zero)],
            [
                bounded(*between(one_mask, zero, -half / 2, half), SHAPE),
                linear(sums, torch.zeros(2), "eq"),
            ],
            zero,
        ),
        "values and sums": solved(sums, one_mask.expand(SHAPE), [0, 1]),
        "values per row and sums": solved(sums, mask, [0, 1]),
        "values and sums that they decide": solved(decided, few.expand(SHAPE), [1]),
        "values per row and sums that they decide": solved(decided, more, [1]),
    }
