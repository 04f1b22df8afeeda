"""Intersections by Dykstra's algorithm: known answers, exactness, contradictions, bad input."""

from collections.abc import Callable
from math import inf, nan

import pytest
import torch
from scipy import optimize
from torch import Tensor

from laws.sets_case import length
from laws.sets_meeting import meetings
from likely.errors import Infeasible, InvalidInput, InvalidType, LikelyError, NotConverged
from likely.sets import (
    Affine,
    Ball,
    BoundedObserved,
    Box,
    ConvexSet,
    Halfspace,
    Intersection,
    L1Ball,
    Observed,
    ObservedAffine,
    Simplex,
)

X1 = torch.tensor([1.0, 0.0])
MEETINGS = meetings()


class Opaque(ConvexSet):
    """A set whose closed forms nobody knows."""

    def __init__(self, within: ConvexSet) -> None:
        self.within = within

    def project(self, y: Tensor) -> Tensor:
        return self.within.project(y)

    def violation(self, x: Tensor) -> Tensor:
        return self.within.violation(x)


def draws(*shape: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(40)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def test_the_textbook_segment() -> None:
    # {x : x_1 = a, 0 <= x_2 <= 1}: the nearest point is (a, min(max(y_2, 0), 1)).
    a, y = 0.25, draws(6, 2, scale=3.0)
    formula = torch.stack([torch.full((6,), a, dtype=torch.float64), y[:, 1].clamp(0.0, 1.0)], 1)
    bounds = Box(torch.tensor([-inf, 0.0]), torch.tensor([inf, 1.0]))
    closed = bounds & Observed(torch.tensor([True, False]), torch.tensor([a, 0.0]))
    assert isinstance(closed, BoundedObserved)
    assert torch.equal(closed.project(y), formula)
    generic = Opaque(Affine(X1, a)) & bounds
    assert isinstance(generic, Intersection)
    torch.testing.assert_close(generic.project(y), formula, rtol=0, atol=1e-11)
    three = Intersection([Halfspace(X1, a), Halfspace(-X1, -a), Opaque(bounds)])
    torch.testing.assert_close(three.project(y), formula, rtol=0, atol=1e-11)
    for row, nearest in zip(y.numpy(), formula.numpy(), strict=True):
        found = optimize.minimize(
            lambda x, row=row: 0.5 * ((x - row) ** 2).sum(),
            [0.0, 0.0],
            method="SLSQP",
            bounds=[(a, a), (0.0, 1.0)],
            options={"ftol": 1e-16},
        )
        torch.testing.assert_close(torch.from_numpy(found.x), torch.tensor(nearest), rtol=0, atol=1e-7)


def test_alternating_projections_end_elsewhere() -> None:
    # From (1.5, 1): onto x_2 <= 0 gives (1.5, 0), onto x_1 + x_2 <= 1 gives (1.25, -0.25), in both.
    # The nearest point is (1, 0), at distance sqrt(1.25) and not sqrt(1.625).
    y = torch.tensor([[1.5, 1.0]], dtype=torch.float64)
    low, slanted = Halfspace(torch.tensor([0.0, 1.0]), 0.0), Halfspace(torch.ones(2), 1.0)
    other = slanted.project(low.project(y))
    torch.testing.assert_close(other, torch.tensor([[1.25, -0.25]]).double(), rtol=0, atol=1e-15)
    both = Intersection([low, slanted])
    assert both.contains(other, atol=1e-15)
    torch.testing.assert_close(both.project(y), torch.tensor([[1.0, 0.0]]).double(), rtol=0, atol=1e-11)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
def test_the_stated_violation_holds(scale: float, dtype: torch.dtype) -> None:
    for tol in (None, 1e-4):
        stated = tol or (1e-13 if dtype == torch.float64 else 1e-10)
        stated += 2 * torch.finfo(dtype).eps
        for parts in (
            [Ball(0.0, 1.0), Box(-0.2, 0.5)],
            [Simplex(1.0), L1Ball(3.0), Halfspace(X1, 0.1)],
        ):
            y = draws(8, 2, scale=scale).to(dtype)
            s = Intersection(parts, tol=tol)
            p = s.project(y)
            assert (s.violation(p) <= stated * (length(y) + length(p))).all()


@pytest.mark.parametrize("name", MEETINGS)
def test_points_far_away_come_to_the_nearest_point(name: str, dtype: torch.dtype) -> None:
    # Nearest: <y - p, c - p> <= 0 for points c of the set, up to the stated tolerance.
    case, generator = MEETINGS[name], torch.Generator().manual_seed(41)
    y = 1e6 * torch.randn(case.shape, generator=generator, dtype=dtype)
    s = case.make()
    p = s.project(y)
    slack = case.slack(y, p)
    assert (s.violation(p) <= slack).all()
    for _ in range(5):
        c = case.point(generator)
        away, across = (y - p).double().flatten(1), (c - p.double()).flatten(1)
        inner = (away * across).sum(1)
        rounding = 1e-14 * (away * across).abs().sum(1)
        assert (inner <= rounding + slack * (away.norm(dim=1) + across.norm(dim=1))).all()


def test_measured_values_and_bounds_are_exact(same_bits: Callable, dtype: torch.dtype) -> None:
    values, mask = torch.tensor([0.1, -0.0, 0.3]), torch.tensor([True, True, False])
    s = Ball(0.0, 0.5) & Box(-0.25, 0.3) & Observed(mask, values)
    assert [type(part) for part in s.parts] == [Ball, BoundedObserved]
    y = torch.tensor([[9.0, 9.0, 9.0], [0.1, 0.0, 0.2], [nan, nan, nan]], dtype=dtype)
    p = s.project(y)
    assert same_bits(p[:, :2], values[:2].to(dtype).expand(3, 2))
    assert p[0, 2] <= torch.tensor(0.3, dtype=dtype) and same_bits(p[1, 2], y[1, 2])
    assert p[2, 2].isnan()


@pytest.mark.parametrize(
    "build",
    [
        lambda box, ball, known, sums: box & ball & known & sums,
        lambda box, ball, known, sums: (known & sums) & (ball & box),
        lambda box, ball, known, sums: sums & ball & box & known,
        lambda box, ball, known, sums: Intersection([known, Intersection([sums, box]), ball]),
    ],
)
def test_parts_are_flat_and_merged_in_any_order(build: Callable) -> None:
    known = Observed(torch.tensor([True, False, False]), torch.tensor([0.25, 0.0, 0.0]))
    sums = Affine(torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.5]]), torch.tensor([0.5, 0.25]))
    s = build(Box(-1.0, 1.0), Ball(0.0, 0.75), known, sums)
    assert {type(part) for part in s.parts} == {Affine, Ball, BoundedObserved}
    assert type(s.parts[-1]) is BoundedObserved
    p = s.project(draws(3, 3))
    assert (p[:, 0] == 0.25).all() and (s.violation(p) < 1e-11).all()


def test_settings_survive() -> None:
    loose = Intersection([Ball(0.0, 1.0), Simplex(1.0)], tol=1e-3, max_steps=7)
    assert ((loose & Box(0.0, 1.0)).tol, (Box(0.0, 1.0) & loose).max_steps) == (1e-3, 7)
    assert (loose & Intersection([L1Ball(1.0)], tol=1e-6)).tol == 1e-6


APART = {
    "parallel halfspaces": [Halfspace(X1, 0.0), Halfspace(-X1, -0.01)],
    "box and ball": [Box(0.0, 1.0), Ball(3.0, 1.0)],
    "balls": [Ball(0.0, 1.0), Ball(torch.tensor([2.5, 0.0]), 1.0)],
    "affine and box": [Affine(torch.ones(2), 3.0), Box(0.0, 1.0)],
    "three halfspaces": [
        Halfspace(X1, 0.0),
        Halfspace(torch.tensor([-1.0, 1.0]), -1.0),
        Halfspace(torch.tensor([0.0, -1.0]), 0.0),
    ],
}


@pytest.mark.parametrize("name", APART)
@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_sets_that_do_not_meet_are_infeasible(name: str, scale: float, dtype: torch.dtype) -> None:
    for parts in (APART[name], APART[name][::-1]):
        for y in (draws(2, 2, scale=scale).to(dtype), torch.zeros(2, 2, dtype=dtype)):
            with pytest.raises(Infeasible, match=r"do not meet in 2 row.*row 0.*apart"):
                Intersection([Opaque(part) for part in parts]).project(y)


def test_the_row_that_is_infeasible_is_named() -> None:
    s = Box(0.0, 1.0) & Ball(0.0, 1.0) & Halfspace(-X1, torch.tensor([0.0, -0.5, -2.0]))
    with pytest.raises(Infeasible, match=r"1 row\(s\), the first is row 2"):
        s.project(torch.full((3, 2), 4.0))


TOUCHING = {
    "balls": ([Ball(0.0, 1.0), Ball(torch.tensor([2.0, 0.0]), 1.0)], [1.0, 0.0]),
    "ball and line": ([Ball(0.0, 1.0), Affine(X1, 1.0)], [1.0, 0.0]),
    "box and halfspace": ([Box(0.0, 1.0), Halfspace(-torch.ones(2), -2.0)], [1.0, 1.0]),
}


@pytest.mark.parametrize("name", TOUCHING)
def test_sets_that_touch_are_not_infeasible(name: str) -> None:
    parts, p = TOUCHING[name]
    y = draws(3, 2, scale=2.0)
    near = Intersection(parts, tol=1e-6).project(y)
    # Two circles that touch are within 1e-6 of each other as far out as about the root of that.
    assert (near - torch.tensor(p)).norm(dim=1).max() < 5e-3
    try:
        Intersection(parts, max_steps=300).project(y)
    except LikelyError as error:
        assert isinstance(error, NotConverged) and "touch in one point" in str(error)


def test_rows_that_are_not_finite_disturb_nobody() -> None:
    s = Ball(0.0, 1.0) & Box(-0.2, 0.5)
    y = torch.tensor([[nan, 0.1], [3.0, 1.0], [inf, 0.0], [0.1, 0.1]])
    p = s.project(y)
    assert p.isnan().any(1).tolist() == [True, False, True, False]
    torch.testing.assert_close(p[1:2], s.project(y[1:2]))
    grad = torch.autograd.functional.jacobian(lambda y: s.project(y).sum(0), y)
    assert grad[:, 1].isfinite().all() and grad[:, 3].isfinite().all()


@pytest.mark.parametrize(
    "build, error, message",
    [
        (lambda: Intersection([]), InvalidInput, "parts is empty"),
        (lambda: Intersection([Box(0.0, 1.0), 3.0]), InvalidType, "parts holds float"),
        (lambda: Intersection([Box(0.0, 1.0)], tol=0.0), InvalidInput, "tol is 0"),
        (lambda: Intersection([Box(0.0, 1.0)], tol=nan), InvalidInput, "tol is nan"),
        (lambda: Intersection([Box(0.0, 1.0)], max_steps=0), InvalidInput, "max_steps is 0"),
        (lambda: Intersection([Box(0.0, 1.0), Box(2.0, 3.0)]), Infeasible, "empty"),
    ],
)
def test_bad_parameters_are_refused(build: Callable, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        build()


def test_points_that_do_not_fit_are_named() -> None:
    with pytest.raises(InvalidInput, match=r"a has shape \(2,\)"):
        (Ball(0.0, 1.0) & Halfspace(X1, 0.5)).project(torch.zeros(2, 3))


def test_measured_values_that_contradict_an_equality_are_named() -> None:
    sums = Affine(torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]), torch.tensor([1.0, 2.0]))
    mask = torch.tensor([[True, False, True], [True, True, False]])
    good = torch.tensor([[0.5, 0.0, 1.5], [0.25, 0.75, 0.0]])
    assert isinstance(Observed(mask, good) & sums, ObservedAffine)
    p = (Observed(mask, good) & sums).project(torch.zeros(2, 3))
    torch.testing.assert_close(p, torch.tensor([[0.5, 0.5, 1.5], [0.25, 0.75, 1.25]]))
    with pytest.raises(Infeasible, match=r"row 0 of A x = b, in row 1 of the batch.*0\.177"):
        Observed(mask, good + torch.tensor([[0.0], [0.125]]) * X1.new_tensor([1.0, 1.0, 0.0])) & sums
    # A mask that stands for several entries is checked when it is used.
    column = Observed(torch.tensor([[True], [False]]), torch.tensor([[0.5], [0.0]]))
    late = column & Affine(torch.tensor([1.0, 1.0, 0.0, 0.0]), 2.0)
    with pytest.raises(Infeasible, match="row 0 of A x = b, in row 0"):
        late.project(torch.zeros(3, 2, 2))
