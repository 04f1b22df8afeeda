"""The laws of convex sets, for every set that likely.sets exports."""

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf, nan

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
from likely.sets import BoundedObserved, Box, ConvexSet, Observed

ROWS, EVENT = 3, (2, 5)
SHAPE = (ROWS, *EVENT)
DTYPES = [torch.float64, torch.float32]


@dataclass(frozen=True)
class Case:
    """A set, and what it means in plain words: {x : low <= A x <= high} for each row, in float64."""

    make: Callable[[], ConvexSet]
    row: Callable[[int], ConvexSet]
    rules: Callable[[int], tuple[np.ndarray, np.ndarray, np.ndarray]]
    #: a random point of the set for each row, made without projecting
    point: Callable[[torch.Generator], Tensor]


def entrywise(make: Callable, params: tuple, low: Tensor, high: Tensor) -> Case:
    """Return the case of a set that says `low <= x <= high` entry by entry; equal means measured."""
    low, high = (torch.broadcast_to(b, SHAPE).double() for b in (low, high))

    def of_row(p: object, i: int) -> object:
        return p[i : i + 1] if isinstance(p, Tensor) and p.ndim == len(SHAPE) and len(p) == ROWS else p

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
        lambda i: (np.eye(low[i].numel()), low[i].flatten().numpy(), high[i].flatten().numpy()),
        point,
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
    one_mask, column = draw(*EVENT, seed=7) < 0.5, torch.tensor([[True], [False]])
    zero, one = torch.tensor(0.0), torch.tensor(1.0)

    def known(m: Tensor, v: Tensor, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(m, v, lo), torch.where(m, v, hi)

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
    }


CASES = registry()
#: what the operators `&` must give
KINDS = {name: BoundedObserved for name in CASES if "& obs" in name or "observed &" in name}


@pytest.fixture(params=CASES, ids=lambda name: name.replace(" ", "_"))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(params=DTYPES, ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


def points(dtype: torch.dtype, seed: int = 0) -> Iterator[Tensor]:
    """Yield batches near and far, with both zeros and huge values among them."""
    generator = torch.Generator().manual_seed(seed)
    for scale in (0.5, 3.0, 1e6):
        y = scale * torch.randn(SHAPE, generator=generator, dtype=dtype)
        y[:, 0, :2] = torch.tensor([0.0, -0.0])
        yield y


def same_bits(a: Tensor, b: Tensor) -> bool:
    whole = {torch.float32: torch.int32, torch.float64: torch.int64}[a.dtype]
    return a.dtype == b.dtype and torch.equal(a.contiguous().view(whole), b.contiguous().view(whole))


def test_every_exported_set_is_registered() -> None:
    exported = {s for s in vars(sets).values() if inspect.isclass(s) and issubclass(s, ConvexSet)}
    concrete = {s for s in exported if not inspect.isabstract(s)}
    assert {type(c.make()) for c in CASES.values()} == concrete
    assert {name: type(CASES[name].make()) for name in KINDS} == KINDS


def test_the_projection_is_inside(case: Case, dtype: torch.dtype) -> None:
    s = case.make()
    for y in points(dtype):
        p = s.project(y)
        assert torch.equal(s.violation(p), torch.zeros(ROWS, dtype=dtype))
        assert s.contains(p).tolist() == [True] * ROWS


def test_the_projection_satisfies_the_rules(case: Case, dtype: torch.dtype) -> None:
    # Independent of `violation`: the rules are stated in numpy, and numbers here are exact in float32.
    for y in points(dtype):
        p = case.make().project(y).double()
        for i in range(ROWS):
            a, low, high = case.rules(i)
            ax = a @ p[i].flatten().numpy()
            assert (low <= ax).all() and (ax <= high).all()


def test_projecting_twice_changes_no_bit(case: Case, dtype: torch.dtype) -> None:
    s = case.make()
    for y in points(dtype):
        p = s.project(y)
        assert same_bits(s.project(p), p)


def test_inside_points_keep_every_bit(case: Case, dtype: torch.dtype) -> None:
    s, generator = case.make(), torch.Generator().manual_seed(3)
    for _ in range(10):
        c = case.point(generator).to(dtype)
        # Rounding to float32 may leave a set with bounds that float32 cannot hold; these it can.
        assert torch.equal(s.violation(c), torch.zeros(ROWS, dtype=dtype))
        assert torch.equal(s.project(c), c)
        # Measured zeros take the measured sign; all else keeps its bits.
        measured = torch.zeros(SHAPE, dtype=torch.bool)
        if not isinstance(s, Box):
            measured |= s.mask if isinstance(s, Observed) else s.observed.mask
        assert same_bits(s.project(c)[~measured], c[~measured])


@pytest.mark.parametrize("n", [1, 3, 8, 33])
def test_minus_zero_within_bounds_stays(n: int, dtype: torch.dtype) -> None:
    # Vectorised minima and maxima treat the two zeros alike and may return the other one.
    y = torch.full((2, n), -0.0, dtype=dtype)
    for low, high in ((0.0, 1.0), (-1.0, 0.0)):
        for box in (Box(low, high), Box(torch.full((n,), low), torch.full((n,), high))):
            assert torch.signbit(box.project(y)).all()
            assert not torch.signbit(box.project(-y)).any()


def test_input_is_left_alone(case: Case, dtype: torch.dtype) -> None:
    for y in points(dtype):
        copy = y.clone()
        case.make().project(y).add_(1)
        assert same_bits(y, copy)


def test_projection_is_non_expansive(case: Case) -> None:
    s = case.make()
    for a, b in zip(points(torch.float64, 1), points(torch.float64, 2), strict=True):
        before = (a - b).flatten(1).norm(dim=1)
        after = (s.project(a) - s.project(b)).flatten(1).norm(dim=1)
        assert (after <= before * (1 + 1e-14)).all()


def test_variational_inequality(case: Case) -> None:
    # p = Py exactly when <y - p, c - p> <= 0 for all c in the set; only rounding is forgiven.
    s, generator = case.make(), torch.Generator().manual_seed(4)
    for y in points(torch.float64):
        p = s.project(y)
        for _ in range(20):
            c = case.point(generator)
            inner = ((y - p) * (c - p)).flatten(1).sum(1)
            size = ((y - p) * (c - p)).abs().flatten(1).sum(1)
            assert (inner <= 1e-14 * size).all()


def test_batch_is_a_loop_over_rows(case: Case, dtype: torch.dtype) -> None:
    s = case.make()
    for y in points(dtype):
        rows = [case.row(i) for i in range(ROWS)]
        loop = torch.cat([r.project(y[i : i + 1]) for i, r in enumerate(rows)])
        assert same_bits(s.project(y), loop)
        far = torch.cat([r.violation(y[i : i + 1]) for i, r in enumerate(rows)])
        assert same_bits(s.violation(y), far)


def test_shape_and_dtype_are_kept(case: Case, dtype: torch.dtype) -> None:
    y, s = next(points(dtype)), case.make()
    assert (s.project(y).shape, s.project(y).dtype) == (SHAPE, dtype)
    assert (s.violation(y).shape, s.violation(y).dtype) == ((ROWS,), dtype)
    assert (s.contains(y).shape, s.contains(y).dtype) == ((ROWS,), torch.bool)


def nearest(y: np.ndarray, a: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return argmin ||x - y|| over low <= A x <= high, the slow and obvious way."""
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
        lambda x: 0.5 * np.sum((x - y) ** 2),
        np.zeros_like(y),
        jac=lambda x: x - y,
        method="SLSQP",
        constraints=rules,
        options={"ftol": 1e-16, "maxiter": 200},
    )
    return found.x


@settings(max_examples=12, deadline=None, derandomize=True, database=None)
@given(y=hnp.arrays(np.float64, SHAPE, elements=st.floats(-4, 4, width=32)))
@pytest.mark.parametrize("name", CASES)
def test_projection_agrees_with_the_oracle(name: str, y: np.ndarray) -> None:
    p = CASES[name].make().project(torch.from_numpy(y)).numpy()
    for i in range(ROWS):
        # SLSQP solves this quadratic to about the root of its tolerance.
        np.testing.assert_allclose(
            p[i].ravel(), nearest(y[i].ravel(), *CASES[name].rules(i)), atol=1e-7
        )


def test_violation_is_the_largest_breach(case: Case) -> None:
    s = case.make()
    for y in points(torch.float64):
        for i in range(ROWS):
            a, low, high = case.rules(i)
            ax = a @ y[i].flatten().numpy()
            breach = max(0.0, (low - ax).max(), (ax - high).max())
            assert s.violation(y)[i].item() == breach


def test_contains_means_violation_within_atol(case: Case) -> None:
    s = case.make()
    for y in points(torch.float64):
        far = s.violation(y)
        assert torch.equal(s.contains(y), far == 0)
        for atol in (0.0, 0.5, *far.tolist()):
            assert torch.equal(s.contains(y, atol=atol), far <= atol)


def test_the_least_step_outside_is_seen(case: Case, dtype: torch.dtype) -> None:
    # One ulp past a bound or off a measured value is outside, whichever entry and row it is.
    s = case.make()
    inside = s.project(next(points(dtype)))
    for i in range(ROWS):
        _, low, high = case.rules(i)
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
