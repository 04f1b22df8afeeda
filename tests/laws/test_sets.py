"""The laws of convex sets, for every set that likely.sets exports."""

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf, nan, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import optimize
from torch import Tensor

from likely import sets
from likely.errors import Infeasible, InvalidInput, InvalidType
from likely.sets import (
    Affine,
    Ball,
    BoundedObserved,
    Box,
    ConvexSet,
    Halfspace,
    L1Ball,
    Monotone,
    Observed,
    Simplex,
)

ROWS, EVENT = 3, (2, 5)
SHAPE = (ROWS, *EVENT)
IMAGES = (ROWS, 2, 2, 3)
DTYPES = [torch.float64, torch.float32]


@dataclass(frozen=True)
class Case:
    """A set, and what it means in plain words, in numpy and float64, for each row."""

    make: Callable[[], ConvexSet]
    row: Callable[[int], ConvexSet]
    #: how far a flat point is outside: the distance from the farthest of the rules
    breach: Callable[[int, np.ndarray], float]
    #: the nearest point, the slow and obvious way
    oracle: Callable[[int, np.ndarray], np.ndarray]
    #: a random point of the set for each row, made without projecting
    point: Callable[[torch.Generator], Tensor]
    shape: tuple[int, ...] = SHAPE
    #: the bounds on each entry of a row, where that is all there is
    bounds: Callable[[int], tuple[np.ndarray, np.ndarray]] | None = None
    #: what the docstring grants to rounding: so many eps times the size of (y, projection)
    tol: float = 0.0
    size: Callable[[Tensor, Tensor], Tensor] = lambda y, p: length(y) + length(p)

    def slack(self, y: Tensor, p: Tensor) -> Tensor:
        """Return the stated tolerance for each row, in float64."""
        eps = torch.finfo(p.dtype).eps
        return self.tol * eps * self.size(y.double(), p.double()).broadcast_to(len(y))


def length(x: Tensor) -> Tensor:
    return x.double().flatten(1).norm(dim=1)


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


def dyadic(shape: tuple[int, ...], generator: torch.Generator, top: int = 64) -> Tensor:
    """Return multiples of 1/64 from -top/64 to top/64: sums and products are exact in every dtype."""
    draws = torch.randint(-top, top + 1, shape, generator=generator)
    return draws.double() / 64


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


def draw(*shape: int, seed: int) -> Tensor:
    # Multiples of 1/64 are exact in float32, so every dtype sees the same set.
    return torch.randint(0, 65, shape, generator=torch.Generator().manual_seed(seed)) / 64


def registry() -> dict[str, Case]:
    low, high = -draw(*SHAPE, seed=1), draw(*SHAPE, seed=2)
    low[0, 0, 0], high[1, 0, 1] = -inf, inf
    low[2, 1, 0], high[2, 1, 0] = -inf, inf
    low[:, 1, 3] = high[:, 1, 3] = 0.25
    wide, tall = -draw(5, seed=3), draw(2, 1, seed=4)
    values = draw(*SHAPE, seed=5)
    values[0, 0, 0] = -0.0
    mask = draw(*SHAPE, seed=6) < 0.5
    other_mask = draw(*SHAPE, seed=14) < 0.5
    one_mask, column = draw(*EVENT, seed=7) < 0.5, torch.tensor([[True], [False]])
    zero, one = torch.tensor(0.0), torch.tensor(1.0)

    def known(m: Tensor, v: Tensor, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(m, v, lo), torch.where(m, v, hi)

    def slope(*shape: int, last: bool = False) -> Tensor:
        a = dyadic(shape, torch.Generator().manual_seed(15), top=128)
        a.view(-1)[-1 if last else 0] = 1.0
        return a

    def system(m: int, n: int) -> Tensor:
        free = dyadic((m, n - m), torch.Generator().manual_seed(16), top=128)
        return torch.cat([free, torch.eye(m).double()], 1)

    free = torch.tensor(-inf), torch.tensor(inf)
    # A second box that holds every measured value, to intersect with more than once.
    more = Box(torch.full(EVENT, -0.5), 2.0)
    return {
        "box of numbers": entrywise(Box, (0.0, 1.0), zero, one),
        "box of one number": entrywise(Box, (-0.5, -0.5), zero - 0.5, zero - 0.5),
        "box without bounds": entrywise(Box, (-inf, inf), *free),
        "half-open box": entrywise(Box, (0.25, inf), zero + 0.25, free[1]),
        "box per row": entrywise(Box, (low, high), low, high),
        "box of broadcast tensors": entrywise(Box, (wide, tall), wide, tall),
        "box & box": entrywise(
            lambda a, b: Box(a, 0.75) & Box(-0.5, b),
            (low, high + 0.25),
            low.clamp(min=-0.5),
            (high + 0.25).clamp(max=0.75),
        ),
        "observed per row": entrywise(Observed, (mask, values), *known(mask, values, *free)),
        "observed, one mask": entrywise(Observed, (one_mask, values), *known(one_mask, values, *free)),
        "observed, one image": entrywise(Observed, (mask, values[1]), *known(mask, values[1], *free)),
        "observed column": entrywise(Observed, (column, values), *known(column, values, *free)),
        "observed nowhere": entrywise(Observed, (mask & ~mask, values * nan), *free),
        "box & observed": entrywise(
            lambda m, v: Box(0.0, 1.0) & Observed(m, v), (mask, values), *known(mask, values, zero, one)
        ),
        "observed & box": entrywise(
            lambda m, v, lo: Observed(m, v) & Box(lo, inf),
            (one_mask, values, -values),
            *known(one_mask, values, -values, free[1]),
        ),
        "box & (box & observed)": entrywise(
            lambda m, v: more & (Box(-1.0, 1.0) & Observed(m, v)),
            (mask, values),
            *known(mask, values, zero - 0.5, one),
        ),
        "(observed & box) & box": entrywise(
            lambda m, v: (Observed(m, v) & Box(-1.0, 1.0)) & more,
            (mask, values),
            *known(mask, values, zero - 0.5, one),
        ),
        "box & box & observed": entrywise(
            lambda m, v: Box(-1.0, 1.0) & more & Observed(m, v),
            (mask, values),
            *known(mask, values, zero - 0.5, one),
        ),
        "observed & observed": entrywise(
            lambda m, v, n: Observed(m, v) & Observed(n, v),
            (mask, values, other_mask),
            *known(mask | other_mask, values, *free),
        ),
        "observed & observed elsewhere": entrywise(
            lambda m, v: Observed(m, torch.where(m, v, nan)) & Observed(~m, 1 - v),
            (mask, values),
            *[torch.where(mask, values, 1 - values)] * 2,
        ),
        "(box & observed) & observed": entrywise(
            lambda m, v, n: (Box(-1.0, 1.0) & Observed(m, v)) & Observed(n, v),
            (mask, values, other_mask),
            *known(mask | other_mask, values, -one, one),
        ),
        "observed & (box & observed)": entrywise(
            lambda m, v, n: Observed(n, v) & (Box(-1.0, 1.0) & Observed(m, v)),
            (mask, values, other_mask),
            *known(mask | other_mask, values, -one, one),
        ),
        "(box & observed) & (box & observed)": entrywise(
            lambda m, v, n: (Box(-1.0, 1.5) & Observed(m, v)) & (Box(-0.5, 2.0) & Observed(n, v)),
            (mask, values, other_mask),
            *known(mask | other_mask, values, zero - 0.5, one + 0.5),
        ),
        "halfspace": halfspace(slope(10), 0.5, SHAPE),
        "halfspace of event shape": halfspace(slope(*EVENT), torch.tensor(-0.25), SHAPE),
        "halfspace of sums": halfspace(torch.ones(12), 1.5, IMAGES),
        "halfspace per row": halfspace(
            -slope(*IMAGES[1:]), Rows(torch.tensor([0.25, -1.5, 3.0])), IMAGES
        ),
        "hyperplane": affine(torch.ones(10), 1.0, SHAPE),
        "hyperplane per row": affine(
            slope(12, last=True), Rows(torch.tensor([0.0, -2.5, 4.0])), IMAGES
        ),
        "affine, one row": affine(torch.tensor([[2.0, -0.5, 1.0]]), torch.tensor([0.5]), (ROWS, 3)),
        "affine": affine(system(3, 10), torch.tensor([0.5, -1.25, 0.0]), SHAPE),
        "affine per row": affine(system(2, 12), Rows(draw(ROWS, 2, seed=10)), IMAGES),
        "affine with one solution": affine(torch.eye(3), Rows(draw(ROWS, 3, seed=11)), (ROWS, 3)),
        "simplex": simplex(1.0, SHAPE),
        "simplex per row": simplex(Rows(torch.tensor([0.5, 1.0, 4.0])), IMAGES),
        "simplex of whole totals": simplex(Rows(torch.tensor([1, 2, 8])), (ROWS, 4)),
        "simplex of one entry": simplex(2.5, (ROWS, 1)),
        "ball": ball(0.0, 1.0, SHAPE),
        "ball around an image": ball(draw(*EVENT, seed=12), 2.5, SHAPE),
        "ball per row": ball(
            Rows(draw(*IMAGES, seed=13)), Rows(torch.tensor([0.25, 1.0, 100.0])), IMAGES
        ),
        "ball that is a point": ball(0.25, 0, (ROWS, 4)),
        "l1 ball": l1_ball(1.0, SHAPE),
        "l1 ball per row": l1_ball(Rows(torch.tensor([0.5, 2.0, 64.0])), IMAGES),
        "l1 ball that is a point": l1_ball(0.0, (ROWS, 4)),
        "monotone": monotone(SHAPE),
        "monotone images": monotone(IMAGES),
        "monotone pairs": monotone((ROWS, 2)),
        "monotone of one entry": monotone((ROWS, 1)),
    }


CASES = registry()
#: what the operators `&` must give
KINDS = {
    name: BoundedObserved if "box" in name and "observed" in name else Observed
    for name in CASES
    if "observed" in name
}


@pytest.fixture(params=CASES, ids=lambda name: name.replace(" ", "_"))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(params=DTYPES, ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


def points(case: Case, dtype: torch.dtype, seed: int = 0) -> Iterator[Tensor]:
    """Yield batches near and far, with both zeros and huge values among them."""
    generator = torch.Generator().manual_seed(seed)
    for scale in (0.5, 3.0, 1e6):
        y = scale * torch.randn(case.shape, generator=generator, dtype=dtype)
        if y[0].numel() > 3:
            y.flatten(1)[:, :2] = torch.tensor([0.0, -0.0])
        yield y


def same_bits(a: Tensor, b: Tensor) -> bool:
    whole = {torch.float32: torch.int32, torch.float64: torch.int64}[a.dtype]
    return a.dtype == b.dtype and torch.equal(a.contiguous().view(whole), b.contiguous().view(whole))


def test_every_exported_set_is_registered() -> None:
    exported = {s for s in vars(sets).values() if inspect.isclass(s) and issubclass(s, ConvexSet)}
    concrete = {s for s in exported if not inspect.isabstract(s)}
    assert {type(c.make()) for c in CASES.values()} == concrete
    assert {name: type(CASES[name].make()) for name in KINDS} == KINDS


def far(a: Tensor, b: Tensor) -> Tensor:
    """Return for each row the largest difference, in float64."""
    return (a.double() - b.double()).abs()[:, None].flatten(1).amax(1)


def test_the_projection_is_inside(case: Case, dtype: torch.dtype) -> None:
    s = case.make()
    for y in points(case, dtype):
        p = s.project(y)
        assert (s.violation(p) <= case.slack(y, p)).all()
        assert s.contains(p, atol=case.slack(y, p).max().item()).tolist() == [True] * ROWS


def test_the_projection_satisfies_the_rules(case: Case, dtype: torch.dtype) -> None:
    # Independent of `violation`: the rules are stated in numpy, and numbers here are exact in float32.
    for y in points(case, dtype):
        p = case.make().project(y)
        for i, slack in enumerate(case.slack(y, p)):
            assert case.breach(i, p[i].double().flatten().numpy()) <= slack


def test_projecting_twice_changes_nothing(case: Case, dtype: torch.dtype) -> None:
    # No bit at all, where the docstring promises a result without tolerance.
    s = case.make()
    for y in points(case, dtype):
        p = s.project(y)
        assert (
            same_bits(s.project(p), p)
            if not case.tol
            else (far(s.project(p), p) <= case.slack(y, p)).all()
        )


def test_inside_points_keep_every_bit(case: Case, dtype: torch.dtype) -> None:
    s, generator = case.make(), torch.Generator().manual_seed(3)
    for _ in range(10):
        c = case.point(generator).to(dtype)
        # Rounding to float32 may leave a set with bounds that float32 cannot hold; these it can.
        assert torch.equal(s.violation(c), torch.zeros(ROWS, dtype=dtype))
        assert torch.equal(s.project(c), c)
        # Measured zeros take the measured sign; all else keeps its bits.
        measured = torch.zeros(case.shape, dtype=torch.bool)
        if isinstance(s, Observed | BoundedObserved):
            measured |= s.mask if isinstance(s, Observed) else s.observed.mask
        assert same_bits(s.project(c)[~measured], c[~measured])
        # Zeros of either sign are kept, too.
        minus = torch.where(c == 0, -c, c)
        assert same_bits(s.project(minus)[~measured], minus[~measured])


def test_rows_inside_keep_every_bit_among_rows_outside(case: Case, dtype: torch.dtype) -> None:
    s, generator = case.make(), torch.Generator().manual_seed(6)
    for y in points(case, dtype):
        c = case.point(generator).to(dtype)
        for i in range(ROWS):
            mixed = y.clone()
            mixed[i] = c[i]
            assert torch.equal(s.project(mixed)[i], c[i])
            assert s.violation(mixed)[i] == 0


@pytest.mark.parametrize("n", [1, 3, 8, 33])
def test_minus_zero_within_bounds_stays(n: int, dtype: torch.dtype) -> None:
    # Vectorised minima and maxima treat the two zeros alike and may return the other one.
    y = torch.full((2, n), -0.0, dtype=dtype)
    for low, high in ((0.0, 1.0), (-1.0, 0.0)):
        for box in (Box(low, high), Box(torch.full((n,), low), torch.full((n,), high))):
            assert torch.signbit(box.project(y)).all()
            assert not torch.signbit(box.project(-y)).any()


def test_input_is_left_alone(case: Case, dtype: torch.dtype) -> None:
    batches = [*points(case, dtype), case.point(torch.Generator().manual_seed(7)).to(dtype)]
    for y in batches:
        copy = y.clone()
        case.make().project(y).add_(1)
        assert same_bits(y, copy)


def test_projection_is_non_expansive(case: Case) -> None:
    s = case.make()
    for a, b in zip(points(case, torch.float64, 1), points(case, torch.float64, 2), strict=True):
        p, q = s.project(a), s.project(b)
        rounding = case.slack(a, p) + case.slack(b, q)
        assert (length(p - q) <= length(a - b) * (1 + 1e-14) + rounding).all()


def test_variational_inequality(case: Case) -> None:
    # p = Py exactly when <y - p, c - p> <= 0 for all c in the set; only rounding is forgiven.
    s, generator = case.make(), torch.Generator().manual_seed(4)
    for y in points(case, torch.float64):
        p = s.project(y)
        for _ in range(20):
            c = case.point(generator)
            inner = ((y - p) * (c - p)).flatten(1).sum(1)
            size = ((y - p) * (c - p)).abs().flatten(1).sum(1)
            rounding = case.slack(y, p) * (length(y - p) + length(c - p))
            assert (inner <= 1e-14 * size + rounding).all()


def test_a_ray_from_the_set_comes_back_to_one_point(case: Case) -> None:
    # P(p + t (y - p)) = p for every t >= 0: the least step outside is undone, a huge one as well.
    s = case.make()
    for y in points(case, torch.float64):
        p = s.project(y)
        for t in (1e-9, 1e-4, 2.0):
            x = p + t * (y - p)
            rounding = case.slack(x, p) + 8 * 2.2e-16 * (length(x) + length(p))
            assert (far(s.project(x), p) <= rounding).all()


def test_violation_is_no_more_than_the_distance(case: Case, dtype: torch.dtype) -> None:
    s = case.make()
    for y in points(case, dtype):
        p = s.project(y)
        eps = torch.finfo(dtype).eps
        assert (
            s.violation(y) <= length(y.double() - p.double()) * (1 + 4 * eps) + case.slack(y, p)
        ).all()


def test_batch_is_a_loop_over_rows(case: Case, dtype: torch.dtype) -> None:
    s = case.make()
    for y in points(case, dtype):
        rows, p = [case.row(i) for i in range(ROWS)], s.project(y)
        loop = torch.cat([r.project(y[i : i + 1]) for i, r in enumerate(rows)])
        out = torch.cat([r.violation(y[i : i + 1]) for i, r in enumerate(rows)])
        if case.tol:
            assert (far(p, loop) <= case.slack(y, p)).all()
            assert (far(s.violation(y), out) <= case.slack(y, p) + torch.finfo(dtype).eps * out).all()
        else:
            assert same_bits(p, loop)
            assert same_bits(s.violation(y), out)


def test_rows_are_independent(case: Case, dtype: torch.dtype) -> None:
    # What happens in the other rows changes no bit of a row, NaN included.
    s = case.make()
    for y in points(case, dtype):
        for i in range(ROWS):
            other = torch.full_like(y, nan)
            other[i] = y[i]
            assert same_bits(s.project(other)[i], s.project(y)[i])
            assert same_bits(s.violation(other)[i], s.violation(y)[i])


def test_shape_and_dtype_are_kept(case: Case, dtype: torch.dtype) -> None:
    y, s = next(points(case, dtype)), case.make()
    assert (s.project(y).shape, s.project(y).dtype) == (case.shape, dtype)
    assert (s.violation(y).shape, s.violation(y).dtype) == ((ROWS,), dtype)
    assert (s.contains(y).shape, s.contains(y).dtype) == ((ROWS,), torch.bool)


def test_float32_is_float64_rounded(case: Case) -> None:
    s = case.make()
    for y in points(case, torch.float32):
        p = s.project(y)
        assert (far(p, s.project(y.double()).float()) <= case.slack(y, p)).all()


def test_gradients_are_those_of_the_projection(case: Case) -> None:
    generator = torch.Generator().manual_seed(5)
    for scale in (0.1, 3.0):
        y = scale * torch.randn(case.shape, generator=generator, dtype=torch.float64)
        assert torch.autograd.gradcheck(case.make().project, y.requires_grad_(), eps=1e-7, atol=1e-5)


def test_gradients_are_finite_at_special_points(case: Case, dtype: torch.dtype) -> None:
    zeros = torch.zeros(case.shape, dtype=dtype)
    for y in (zeros, zeros + 0.25, zeros - 1, case.point(torch.Generator().manual_seed(8)).to(dtype)):
        y = y.clone().requires_grad_()
        s = case.make()
        (grad,) = torch.autograd.grad(s.project(y).sum() + s.violation(y).sum(), y)
        assert grad.isfinite().all()


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


@settings(max_examples=12, deadline=None, derandomize=True, database=None)
@given(data=st.data())
@pytest.mark.parametrize("name", CASES)
def test_projection_agrees_with_the_oracle(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    y = data.draw(hnp.arrays(np.float64, case.shape, elements=st.floats(-4, 4, width=32)))
    p = case.make().project(torch.from_numpy(y)).numpy()
    for i in range(ROWS):
        # SLSQP solves this quadratic to about the root of its tolerance.
        np.testing.assert_allclose(p[i].ravel(), case.oracle(i, y[i].ravel()), atol=1e-7)


def test_violation_is_the_largest_breach(case: Case) -> None:
    s = case.make()
    for y in points(case, torch.float64):
        slack = case.slack(y, s.project(y)) + (16 if case.tol else 0) * 2.2e-16 * length(y)
        for i in range(ROWS):
            breach = case.breach(i, y[i].flatten().numpy())
            assert abs(s.violation(y)[i].item() - breach) <= slack[i]


def test_contains_means_violation_within_atol(case: Case) -> None:
    s = case.make()
    for y in points(case, torch.float64):
        out = s.violation(y)
        assert torch.equal(s.contains(y), out == 0)
        for atol in (0.0, 0.5, *out.tolist()):
            assert torch.equal(s.contains(y, atol=atol), out <= atol)


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].bounds])
def test_the_least_step_outside_is_seen(name: str, dtype: torch.dtype) -> None:
    # One ulp past a bound or off a measured value is outside, whichever entry and row it is.
    case = CASES[name]
    s = case.make()
    inside = s.project(next(points(case, dtype)))
    for i in range(ROWS):
        low, high = case.bounds(i)
        for bound, away in ((low, -inf), (high, inf)):
            for j in np.flatnonzero(np.isfinite(bound)):
                x = inside.clone()
                edge = torch.tensor(bound[j], dtype=dtype)
                x[i].view(-1)[j] = torch.nextafter(edge, torch.tensor(away, dtype=dtype))
                expected = [row == i for row in range(ROWS)]
                assert (s.violation(x) > 0).tolist() == expected
                assert (~s.contains(x)).tolist() == expected


def test_nan_is_never_inside(dtype: torch.dtype) -> None:
    y = torch.tensor([[0.5, nan], [0.5, 0.5]], dtype=dtype)
    keep = Observed(torch.tensor([False, True]), torch.tensor([0.0, 0.5]))
    for s in (Box(0.0, 1.0), keep, Box(0.0, 1.0) & keep):
        assert s.contains(y).tolist() == [False, True]


@pytest.mark.parametrize("junk", [nan, inf, -inf])
@pytest.mark.parametrize("bounded", [False, True])
def test_measured_values_survive_anything(junk: float, bounded: bool, dtype: torch.dtype) -> None:
    values = draw(*SHAPE, seed=8).to(dtype)
    values[0, 0, 0], values[1, 0, 0] = -0.0, 0.0
    mask = draw(*SHAPE, seed=9) < 0.5
    mask[:2, 0, 0] = True
    s = Box(0.0, 1.0) & Observed(mask, values) if bounded else Observed(mask, values)
    y = torch.full(SHAPE, 0.5, dtype=dtype).masked_fill(mask, junk)
    p = s.project(y)
    assert same_bits(p[mask], values[mask])
    assert (p[~mask] == 0.5).all()
    assert torch.equal(s.violation(p), torch.zeros(ROWS, dtype=dtype))


def test_measured_values_win_over_rounded_bounds() -> None:
    # 0.1 in float32 is within a bound of 0.1 in float32, and 1.5e-9 above it in float64.
    values = torch.tensor([[0.1, 0.0]])
    s = Box(0.0, 0.1) & Observed(torch.tensor([True, False]), values)
    p = s.project(torch.ones(1, 2, dtype=torch.float64))
    assert p.tolist() == [[values[0, 0].item(), 0.1]]
    assert s.violation(p).item() == values[0, 0].item() - 0.1


def test_values_at_missing_entries_do_not_matter() -> None:
    mask = torch.tensor([True, False])
    s = Box(0.0, 1.0) & Observed(mask, torch.tensor([0.5, nan]))
    assert s.project(torch.tensor([[9.0, 9.0]])).tolist() == [[0.5, 1.0]]
    assert s.violation(torch.tensor([[0.5, 1.0]])).item() == 0.0


def test_a_number_bounds_float64_data_exactly() -> None:
    # 0.1 in float32 is 1.5e-9 above 0.1 in float64.
    y = torch.tensor([[-1.0, 0.1, 2.0]], dtype=torch.float64)
    assert Box(0.1, 0.7).project(y).tolist() == [[0.1, 0.1, 0.7]]
    (Box(0.1, 0.7) & Observed(torch.tensor([True]), y[:, 1:2])).project(y[:, 1:2])


def test_whole_numbers_are_bounds_and_values() -> None:
    s = Box(0, 255) & Observed(torch.tensor([True, False, False]), torch.tensor([7, 0, 0]))
    assert s.project(torch.tensor([[0.0, -1.0, 256.0]])).tolist() == [[7.0, 0.0, 255.0]]


@pytest.mark.parametrize("low, high", [(nan, 1.0), (0.0, nan), (torch.tensor([0.0, nan]), 1.0)])
def test_nan_bounds_are_refused(low: float, high: float) -> None:
    with pytest.raises(InvalidInput, match="NaN"):
        Box(low, high)


def test_an_empty_box_is_refused() -> None:
    with pytest.raises(Infeasible, match=r"low 1 .*high 0"):
        Box(1.0, 0.0)
    with pytest.raises(Infeasible, match="empty"):
        Box(torch.tensor([0.0, 0.5]), torch.tensor([1.0, 0.25]))
    with pytest.raises(Infeasible, match="empty"):
        Box(0.0, 1.0) & Box(2.0, 3.0)


@pytest.mark.parametrize("mask", [torch.ones(2), torch.ones(2, dtype=torch.uint8), [True, False]])
def test_masks_are_boolean_tensors(mask: Tensor) -> None:
    with pytest.raises(InvalidType, match=r"mask .*torch\.bool"):
        Observed(mask, torch.zeros(2))


def test_values_are_a_tensor() -> None:
    with pytest.raises(InvalidType, match="values"):
        Observed(torch.tensor([True]), [0.5])


@pytest.mark.parametrize(
    "build",
    [
        lambda: Box(torch.zeros(3), torch.ones(4)),
        lambda: Observed(torch.ones(3, dtype=torch.bool), torch.zeros(4)),
        lambda: Box(torch.zeros(3), 1.0) & Box(torch.zeros(4), 1.0),
        lambda: Box(torch.zeros(3), 1.0) & Observed(torch.ones(4, dtype=torch.bool), torch.zeros(4)),
    ],
)
def test_shapes_that_do_not_agree_are_named(build: Callable[[], ConvexSet]) -> None:
    with pytest.raises(InvalidInput, match=r"(?=.*\(3,\)).*\(4,\)"):
        build()


@pytest.mark.parametrize("value", [nan, inf])
def test_measured_values_are_finite(value: float) -> None:
    with pytest.raises(InvalidInput, match="NaN or infinite"):
        Observed(torch.tensor([True, False]), torch.tensor([value, 0.0]))


@pytest.mark.parametrize("shape", [(3, 4), (1, 4), (4,)])
def test_a_measured_value_outside_the_bounds_is_named(shape: tuple[int, ...]) -> None:
    # Only the last row is too narrow; the values may be broadcast over the rows.
    high = torch.tensor([[9.0], [9.0], [1.0]]).expand(3, 4)
    values = torch.zeros(shape)
    values[..., 2] = 2.5
    message = r"^1 measured.* 2\.5 at index \(2, 2\)"
    keep = Observed(torch.ones(4, dtype=torch.bool), values)
    with pytest.raises(Infeasible, match=message):
        Box(0.0, high) & keep
    with pytest.raises(Infeasible, match=message):
        keep & Box(0.0, high)
    # Below the lower bound as well, and also where the box is only narrowed later.
    with pytest.raises(Infeasible, match=re.escape("-2.5 at index (2, 2)")):
        Box(-high, 9.0) & Observed(keep.mask, -keep.values)
    with pytest.raises(Infeasible, match=message):
        Box(0.0, high) & (Box(-9.0, 9.0) & keep)


def test_outside_values_may_be_missing() -> None:
    Box(0.0, 1.0) & Observed(torch.tensor([True, False]), torch.tensor([1.0, 9.0]))


class Everything(ConvexSet):
    """A set that likely does not know."""

    def project(self, y: Tensor) -> Tensor:
        return y.clone()

    def violation(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x))


def test_pairs_without_a_closed_form_say_so() -> None:
    box = Box(0.0, 1.0)
    for a, b in ((box, Everything()), (Everything(), box), (Everything(), Everything())):
        with pytest.raises(InvalidInput, match=f"{type(a).__name__} & {type(b).__name__}") as error:
            a & b
        assert "Box & Observed" in str(error.value)


def large(n: int) -> dict[str, ConvexSet]:
    generator = torch.Generator().manual_seed(17)
    a = torch.rand(n, generator=generator) + torch.randn(3, n, generator=generator)
    a[2] = a[1] + 1e-2 * a[2]
    return {
        "halfspace": Halfspace(a[0], 1.0),
        "affine": Affine(a, torch.tensor([1.0, 2.0, 3.0])),
        "simplex": Simplex(1.0),
        "ball": Ball(0.5, 2.0),
        "l1 ball": L1Ball(1.0),
        "monotone": Monotone(),
    }


@pytest.mark.parametrize("n", [1000, 10**6])
def test_stated_tolerances_hold_at_size(n: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(18)
    draws = torch.randn(1, n, generator=generator, dtype=dtype)
    sizes = {"simplex": 1.0, "l1 ball": 1.0, "ball": 2.0 + 0.5 * sqrt(n), "monotone": 0.0}
    for name, s in large(n).items():
        for y in (1e-6 * draws, draws + 3.0, 1e6 * draws):
            p = s.project(y)
            size = sizes.get(name, (length(y) + length(p)).item())
            assert s.violation(p).item() <= 2 * torch.finfo(dtype).eps * size, name
            assert s.violation(s.project(p)).item() <= 2 * torch.finfo(dtype).eps * size, name


def test_a_simplex_sum_is_right_in_float32_at_size() -> None:
    # In float32 throughout, the sum of 10^6 entries would be off in the fourth digit.
    y = torch.rand(1, 10**6, generator=torch.Generator().manual_seed(19))
    for total in (1.0, 1e5):
        for p in (Simplex(total).project(y), L1Ball(total).project(-y).abs()):
            assert abs(p.double().sum().item() / total - 1) < 1e-7


def test_the_simplex_from_afar() -> None:
    # 1e20 - 1 is 1e20: the threshold must be found from differences.
    y = torch.tensor([[1e20, -1e20, 1e20], [1e20, 3e19, 0.0]], dtype=torch.float64)
    assert Simplex(1.0).project(y).tolist() == [[0.5, 0.0, 0.5], [1.0, 0.0, 0.0]]
    y = torch.tensor([[1.0, 1.25, 0.0]], dtype=torch.float64) + 2**40
    assert Simplex(1.0).project(y).tolist() == [[0.375, 0.625, 0.0]]


def test_whatever_sum_is_right_as_computed_is_kept() -> None:
    # Tiny entries among large ones, and sums that are right after rounding only.
    generator = torch.Generator().manual_seed(22)
    x = torch.rand(4000, 9, generator=generator, dtype=torch.float64)
    x[:, 6:] *= 1e-18
    x /= x.sum(1, keepdim=True)
    inside = Simplex(1.0).violation(x) == 0
    assert inside.sum() > 50
    assert same_bits(Simplex(1.0).project(x)[inside], x[inside])


def test_nearly_equal_means_stay_in_order() -> None:
    # The means of two blocks can be 1 and 1 + eps, or 1 + eps and 1 when summed in another order.
    generator = torch.Generator().manual_seed(24)
    y = torch.randint(0, 4, (3000, 12), generator=generator).double() / 10 + 0.1
    p = Monotone().project(y)
    assert torch.equal(Monotone().violation(p), torch.zeros(3000, dtype=torch.float64))
    assert same_bits(Monotone().project(p), p)


def test_lengths_are_summed_in_float64() -> None:
    assert Ball(0.0, 5.0).project(torch.tensor([[3e30, 4e30]])).tolist() == [[3.0, 4.0]]
    p = Ball(0.0, 1.0).project(torch.rand(1, 10**6, generator=torch.Generator().manual_seed(23)))
    assert abs(length(p).item() - 1) < 1.2e-7


def test_nearly_dependent_rows_are_met() -> None:
    # The distance of the third row from the first two is 1e-6 of its length: cond(A A^T) is 1e12.
    generator = torch.Generator().manual_seed(20)
    a = torch.randn(3, 50, generator=generator, dtype=torch.float64)
    a[2] = a[0] - a[1] + 1e-6 * a[2]
    x = torch.randn(4, 50, generator=generator, dtype=torch.float64)
    s = Affine(a, x @ a.T)
    y = x + torch.randn(4, 50, generator=generator, dtype=torch.float64)
    p = s.project(y)
    assert (s.violation(p) <= 2 * 2.3e-16 * (length(y) + length(p))).all()
    # Rounding A alone turns the space of its rows by 1e6 eps.
    null = torch.linalg.svd(a).Vh[3:]
    assert (length((y - p) @ null.T) < 1e-9 * length(y)).all()


@pytest.mark.parametrize(
    "s, c, rank_one",
    [
        (Simplex(1.0), [0.5, 0.25, 0.25], [1.0, 1.0, 1.0]),
        (Affine(torch.tensor([1.0, 2.0, 2.0]), 3.0), [1.0, 0.5, 0.5], [1.0, 2.0, 2.0]),
    ],
)
def test_gradients_at_points_of_an_equality(s: ConvexSet, c: list, rank_one: list) -> None:
    # The point does not move; a step across the equality would be undone.
    a = torch.tensor([rank_one], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda y: s.project(y)[0], torch.tensor([c]).double())
    torch.testing.assert_close(jacobian[:, 0], torch.eye(3).double() - a.T @ a / (a @ a.T))


def test_known_projections() -> None:
    y = torch.tensor([[3.0, 4.0]])
    assert Halfspace(torch.tensor([0.0, 2.0]), 2.0).project(y).tolist() == [[3.0, 1.0]]
    assert Affine(torch.tensor([0.0, 2.0]), 2.0).project(y).tolist() == [[3.0, 1.0]]
    assert Simplex(1.0).project(y).tolist() == [[0.0, 1.0]]
    assert Simplex(3.0).project(y).tolist() == [[1.0, 2.0]]
    assert Ball(0.0, 2.5).project(y).tolist() == [[1.5, 2.0]]
    assert L1Ball(3.0).project(-y).tolist() == [[-1.0, -2.0]]
    assert Monotone().project(y.flip(1)).tolist() == [[3.5, 3.5]]


def test_numbers_and_tensors_say_the_same() -> None:
    y = torch.randn(3, 4, generator=torch.Generator().manual_seed(21), dtype=torch.float64) * 3
    a = torch.tensor([1.0, -2.0, 0.5, 1.0])
    for kind in (
        lambda v: Halfspace(a, v),
        lambda v: Affine(a, v),
        Simplex,
        lambda v: Ball(0.0, v),
        lambda v: L1Ball(v),
    ):
        whole = kind(0.1).project(y)
        for same in (
            torch.tensor(0.1, dtype=torch.float64),
            torch.full((3,), 0.1, dtype=torch.float64),
            torch.full((1,), 0.1, dtype=torch.float64),
        ):
            assert same_bits(kind(same).project(y), whole)
    # 0.1 in float32 is 1.5e-9 more.
    assert Simplex(0.1).project(torch.ones(1, 1, dtype=torch.float64)).item() == 0.1
    assert Ball(0.1, 0.0).project(torch.ones(1, 1, dtype=torch.float64)).item() == 0.1


A_LINE = torch.tensor([1.0, 1.0])


@pytest.mark.parametrize(
    "s",
    [
        Halfspace(A_LINE, 9.0),
        Affine(A_LINE, 1.0),
        Simplex(1.0),
        Ball(0.0, 9.0),
        L1Ball(9.0),
        Monotone(),
    ],
)
@pytest.mark.parametrize("junk", [nan, inf, -inf])
def test_what_is_not_finite_is_not_inside(s: ConvexSet, junk: float, dtype: torch.dtype) -> None:
    for row in ([0.5, junk], [junk, 0.5], [junk, junk]):
        y = torch.tensor([row, [0.5, 0.5]], dtype=dtype)
        inside = s.contains(y).tolist()
        # The order alone may hold with an infinite end, and so may an inequality.
        assert inside[1] and (not inside[0] or (not np.isnan(junk)))
        assert torch.equal(s.project(y)[1], y[1])
    assert not Monotone().contains(torch.tensor([[nan]])).item()


@pytest.mark.parametrize(
    "build, error, message",
    [
        (lambda: Halfspace(torch.zeros(3), 1.0), InvalidInput, r"\|\|a\|\|\^2 is 0 .*\(3,\)"),
        (lambda: Halfspace(torch.full((3,), 1e-200).double() * 1e-200, 1.0), InvalidInput, "is 0 "),
        (lambda: Halfspace(torch.tensor([1e200], dtype=torch.float64), 1.0), InvalidInput, "is inf"),
        (lambda: Halfspace(torch.tensor([1.0, nan]), 1.0), InvalidInput, "a holds nan"),
        (lambda: Halfspace(A_LINE, nan), InvalidInput, "b holds nan"),
        (lambda: Halfspace(A_LINE, torch.tensor([0.0, -inf])), InvalidInput, "b holds -inf"),
        (lambda: Halfspace(A_LINE, torch.zeros(2, 1)), InvalidInput, r"b has shape \(2, 1\)"),
        (lambda: Halfspace(A_LINE, "one"), InvalidType, "b is str"),
        (lambda: Halfspace(A_LINE * 1j, 1.0), InvalidType, r"a is torch\.complex64"),
        (lambda: Halfspace(None, 1.0), InvalidType, "a is NoneType"),
        (lambda: Affine(torch.tensor([[1.0, nan]]), 1.0), InvalidInput, "A holds nan"),
        (lambda: Affine(A_LINE, inf), InvalidInput, "b holds inf"),
        (lambda: Affine(torch.zeros(2), 1.0), InvalidInput, "row 0 of A is zero"),
        (lambda: Affine(torch.eye(3)[:, :2], torch.zeros(3)), InvalidInput, "row 2 of A is zero"),
        (lambda: Affine(torch.ones(2, 3), torch.zeros(2)), InvalidInput, r"row 1 .*\(2, 3\).*leave it"),
        (lambda: Affine(torch.ones(3, 2).cumsum(0), torch.zeros(3)), InvalidInput, "row 1 of A"),
        (lambda: Affine(torch.tensor([[1, 0], [0, 1], [1, 1]]), torch.zeros(3)), InvalidInput, "row 2"),
        (lambda: Affine(torch.ones(2, 2, 2), torch.zeros(2)), InvalidInput, r"A has shape \(2, 2, 2\)"),
        (lambda: Affine(torch.tensor(1.0), 1.0), InvalidInput, r"A has shape"),
        (lambda: Affine(torch.eye(3), torch.zeros(2)), InvalidInput, r"3 row.* b has shape \(2,\)"),
        (lambda: Affine(torch.eye(3), 0.0), InvalidInput, r"3 row.* b has shape \(\)"),
        (lambda: Affine(A_LINE, torch.zeros(2, 1)), InvalidInput, r"1 row.* b has shape \(2, 1\)"),
        (lambda: Simplex(0.0), InvalidInput, "total is 0.*above 0"),
        (lambda: Simplex(torch.tensor([1.0, -2.5])), InvalidInput, "total is -2.5"),
        (lambda: Simplex(nan), InvalidInput, "total holds nan"),
        (lambda: Simplex(torch.ones(2, 2)), InvalidInput, r"total has shape \(2, 2\)"),
        (lambda: Ball(0.0, -1.0), Infeasible, "radius is -1, .*empty"),
        (lambda: Ball(nan, 1.0), InvalidInput, "center holds nan"),
        (lambda: Ball(0.0, nan), InvalidInput, "radius holds nan"),
        (lambda: Ball(0.0, torch.ones(2, 2)), InvalidInput, r"radius has shape \(2, 2\)"),
        (lambda: L1Ball(torch.tensor([1.0, -0.5])), Infeasible, r"radius is -0\.5, .*empty"),
        (lambda: L1Ball(inf), InvalidInput, "radius holds inf"),
    ],
)
def test_parameters_are_checked_at_the_door(build: Callable, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize(
    "s, message",
    [
        (Halfspace(torch.ones(3), 1.0), r"a has shape \(3,\).*\(2, 5\).*10"),
        (Halfspace(torch.ones(10), torch.ones(2)), "b holds 2 numbers.* 3 rows"),
        (Affine(torch.ones(5), 1.0), r"5 columns.*\(2, 5\).*10"),
        (Affine(torch.eye(10), torch.zeros(2, 10)), "b is given for 2 rows.* 3"),
        (Simplex(torch.ones(4)), "total holds 4 numbers.* 3 rows"),
        (Ball(torch.zeros(4), 1.0), r"center has shape \(4,\).*\(3, 2, 5\)"),
        (Ball(torch.zeros(7, 3, 2, 5), 1.0), r"center has shape \(7, 3, 2, 5\)"),
        (Ball(0.0, torch.ones(2)), "radius holds 2 numbers.* 3 rows"),
        (L1Ball(torch.ones(2)), "radius holds 2 numbers.* 3 rows"),
    ],
)
def test_points_that_do_not_fit_are_named(s: ConvexSet, message: str) -> None:
    for use in (s.project, s.violation):
        with pytest.raises(InvalidInput, match=message):
            use(torch.zeros(SHAPE))


def test_a_simplex_needs_entries() -> None:
    with pytest.raises(InvalidInput, match=r"\(2, 0\)"):
        Simplex(1.0).project(torch.zeros(2, 0))


def test_rows_without_entries_are_inside() -> None:
    y = torch.zeros(2, 0)
    for s in (Ball(0.0, 1.0), L1Ball(1.0), Monotone()):
        assert s.project(y).shape == (2, 0)
        assert s.violation(y).tolist() == [0.0, 0.0]


def test_batches_without_rows_stay_empty() -> None:
    for s in large(4).values():
        assert s.project(torch.zeros(0, 2, 2)).shape == (0, 2, 2)
        assert s.violation(torch.zeros(0, 2, 2)).shape == (0,)


def test_numbers_may_be_events() -> None:
    y = torch.tensor([2.0, -2.0])
    assert Halfspace(torch.tensor(2.0), 2.0).project(y).tolist() == [1.0, -2.0]
    assert Ball(0.0, 1.0).project(y).tolist() == L1Ball(1.0).project(y).tolist() == [1.0, -1.0]
    assert Simplex(3.0).project(y).tolist() == [3.0, 3.0]
    assert Monotone().project(y).tolist() == [2.0, -2.0]


def test_values_measured_twice_must_agree() -> None:
    mask = torch.tensor([[True, True, False], [True, False, True]])
    first = Observed(mask, torch.tensor([0.5, 0.25, 1.0]))
    second = Observed(torch.tensor([False, True, True]), torch.tensor([[9.0, 0.25, 0.75]]))
    message = r"^1 value.* (1 and 0\.75|0\.75 and 1) at index \(1, 2\)"
    for a in (first, Box(0.0, 9.0) & first):
        for b in (second, Box(0.0, 9.0) & second):
            with pytest.raises(Infeasible, match=message):
                a & b
            with pytest.raises(Infeasible, match="measured twice"):
                b & a
    assert (first & Observed(mask, first.values)).mask.equal(mask)
    with pytest.raises(InvalidInput, match=r"(?=.*\(2, 3\)).*\(4,\)"):
        first & Observed(torch.ones(4, dtype=torch.bool), torch.zeros(4))


def test_bounds_and_values_from_both_sides_are_checked() -> None:
    known = Observed(torch.tensor([True, False]), torch.tensor([0.5, 0.0]))
    other = Observed(torch.tensor([False, True]), torch.tensor([0.0, 2.0]))
    with pytest.raises(Infeasible, match=r"2 at index \(1,\)"):
        (Box(0.0, 1.0) & known) & other
    with pytest.raises(Infeasible, match=r"0\.5 at index \(0,\)"):
        (Box(0.0, 9.0) & known) & (Box(1.0, 3.0) & other)
    with pytest.raises(Infeasible, match="empty"):
        (Box(0.0, 1.0) & known) & (Box(2.0, 3.0) & other)
