"""Bounds with one equality: known answers, its limits, rounding at size, what is refused."""

from collections.abc import Callable
from math import inf, nan

import pytest
import torch

from laws.sets_case import length
from likely.errors import Infeasible, InvalidInput, InvalidType
from likely.sets import Affine, Box, BoxHyperplane, Observed, Simplex

ONES = torch.ones(3)


def test_known_projections() -> None:
    def project(low: object, high: object, a: list, b: float, y: list) -> list:
        return BoxHyperplane(low, high, torch.tensor(a), b).project(torch.tensor([y])).tolist()[0]

    assert project(0.0, 1.0, [1.0, 1.0], 1.0, [3.0, 4.0]) == [0.0, 1.0]
    assert project(0.0, 2.0, [1.0, 1.0], 3.0, [3.0, 4.0]) == [1.0, 2.0]
    assert project(-inf, inf, [0.0, 2.0], 2.0, [3.0, 4.0]) == [3.0, 1.0]
    assert project(-1.0, 1.0, [1.0, -1.0], 0.0, [0.0, 4.0]) == [1.0, 1.0]
    # What is left once two entries are full goes to the third; an entry of weight 0 is clipped.
    assert project(0.0, 1.0, [1.0, 1.0, 1.0, 0.0], 2.5, [9.0, 8.0, 0.0, 9.0]) == [1.0, 1.0, 0.5, 1.0]


def test_special_cases_agree(dtype: torch.dtype) -> None:
    y = 2 * torch.randn(50, 8, generator=torch.Generator().manual_seed(33), dtype=dtype)
    a = torch.randn(8, generator=torch.Generator().manual_seed(34), dtype=dtype)
    tight = {"rtol": 0.0, "atol": 16 * torch.finfo(dtype).eps}
    simplex = BoxHyperplane(0.0, inf, torch.ones(8), 1.5)
    torch.testing.assert_close(simplex.project(y), Simplex(1.5).project(y), **tight)
    plane = BoxHyperplane(-inf, inf, a, -0.5)
    torch.testing.assert_close(plane.project(y), Affine(a, -0.5).project(y), **tight)


def test_gradients_are_those_of_the_free_entries() -> None:
    # One entry is at a bound, one has weight 0; a step of the others is made along the hyperplane.
    s = BoxHyperplane(0.0, 1.0, torch.tensor([1.0, 2.0, -1.0, 0.0]), 0.5)
    y = torch.tensor([[0.75, 0.5, 3.0, 0.5]], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda y: s.project(y)[0], y)[:, 0]
    a = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    expected = torch.zeros(4, 4, dtype=torch.float64)
    expected[:2, :2] = torch.eye(2) - a.T @ a / 5
    expected[3, 3] = 1.0
    torch.testing.assert_close(jacobian, expected)


@pytest.mark.parametrize("b", [-6.0, 7.5])
def test_the_last_attainable_value_leaves_one_point(b: float) -> None:
    s = BoxHyperplane(-1.0, 2.0, torch.tensor([3.0, 0.0, -1.5]), b)
    y = torch.randn(20, 3, generator=torch.Generator().manual_seed(35))
    end = [-1.0, 2.0] if b < 0 else [2.0, -1.0]
    assert (s.project(y)[:, ::2] == torch.tensor(end)).all()
    assert torch.equal(s.project(y)[:, 1], y[:, 1].clamp(-1, 2))


def test_a_sum_of_rounded_bounds_is_attained() -> None:
    # As sums, three times 0.1 is more than 0.3, and three times 0.7 less than 2.1.
    for low, high, b, each in ((0.1, inf, 0.3, 0.1), (0.0, 0.7, 2.1, 0.7)):
        s = BoxHyperplane(low, high, ONES, b)
        assert s.project(torch.full((1, 3), 0.35).double()).tolist() == [[each] * 3]


def test_small_problems_agree_with_bisection() -> None:
    # Ties, zeros, fixed entries and infinite bounds, against plain bisection for t.
    generator = torch.Generator().manual_seed(36)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randint(-3, 4, shape, generator=generator).double()

    for _ in range(20):
        a, low, y = draw(6), draw(40, 6), draw(40, 6)
        a[0] = 1.0
        high = low + draw(40, 6).clamp(min=0.0)
        low, high = low.masked_fill(draw(40, 6) == 3, -inf), high.masked_fill(draw(40, 6) == 3, inf)
        b = (a * draw(40, 6).clamp(min=low).clamp(max=high)).sum(1)  # of some point of the set
        down, up = torch.full((40, 1), -1e3).double(), torch.full((40, 1), 1e3).double()
        for _ in range(80):
            t = (down + up) / 2
            more = ((y - t * a).clamp(min=low).clamp(max=high) * a).sum(1) > b
            down, up = torch.where(more[:, None], t, down), torch.where(more[:, None], up, t)
        expected = (y - up * a).clamp(min=low).clamp(max=high)
        s = BoxHyperplane(low, high, a, b)
        torch.testing.assert_close(s.project(y), expected, rtol=0.0, atol=1e-12)
        assert (s.violation(s.project(y)) <= 2 * 2.3e-16 * length(s.project(y))).all()


def test_minus_zero_inside_stays_beside_rows_outside(same_bits: Callable) -> None:
    y = torch.tensor([[-0.0, 0.0, 0.5, -0.5], [9.0, 9.0, 9.0, 9.0]])
    for a in ([1.0, 1, 1, 1], [-1.0, -1, -1, -1]):
        p = BoxHyperplane(-1.0, 1.0, torch.tensor(a), 0.0).project(y)
        assert same_bits(p[0], y[0])


@pytest.mark.parametrize("n", [1000, 10**6])
def test_stated_tolerance_holds_at_size(n: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(37)
    draws = torch.randn(1, n, generator=generator, dtype=dtype)
    a = torch.rand(n, generator=generator) + torch.randn(n, generator=generator)
    for s in (BoxHyperplane(0.1, 1.0, torch.ones(n), n / 3), BoxHyperplane(-1.0, inf, a, 1.0)):
        for y in (draws + 3.0, 1e6 * draws):
            p = s.project(y)
            assert s.violation(p).item() <= 2 * torch.finfo(dtype).eps * length(p).item()
            assert s.box.violation(p).item() == 0.0


def test_from_afar() -> None:
    # 1e20 - 1 is 1e20: t must be found from differences.
    s = BoxHyperplane(0.0, 1.0, ONES, 1.0)
    y = torch.tensor([[1e20, -1e20, 1e20], [1e20, 3e19, 0.0]], dtype=torch.float64)
    assert s.project(y).tolist() == [[0.5, 0.0, 0.5], [1.0, 0.0, 0.0]]


def test_hyperplanes_meet_boxes(same_bits: Callable) -> None:
    y = 2 * torch.randn(4, 3, generator=torch.Generator().manual_seed(38))
    whole = BoxHyperplane(0.0, 1.0, ONES, 2.0)
    line = Affine(ONES, 2.0)
    for s in (
        Box(0.0, 1.0) & line,
        line & Box(0.0, 1.0),
        Box(0.0, 1.0) & Affine(ONES[None], torch.tensor([2.0])),
        Box(0.0, 5.0) & (Box(-3.0, 1.0) & line),
        (line & Box(0.0, 5.0)) & Box(-3.0, 1.0),
    ):
        assert type(s) is BoxHyperplane
        assert same_bits(s.project(y), whole.project(y))
    rows = Box(torch.zeros(4, 3), 1.0) & Affine(ONES, torch.tensor([0.0, 1.0, 2.0, 3.0]))
    assert (rows.project(y).sum(1) - torch.arange(4)).abs().max() < 1e-6
    with pytest.raises(Infeasible, match=r"b is 2, .* from 0 to 1.5 only"):
        Box(0.0, 0.5) & (line & Box(0.0, 1.0))


@pytest.mark.parametrize(
    "build, error, message",
    [
        (lambda: BoxHyperplane(0.0, 1.0, ONES, 3.5), Infeasible, "b is 3.5, .* from 0 to 3 only"),
        (lambda: BoxHyperplane(0.0, 1.0, ONES, -0.5), Infeasible, "b is -0.5, .* from 0 to 3 only"),
        (lambda: BoxHyperplane(0.0, inf, -ONES, 1.0), Infeasible, "b is 1, .* from -inf to -?0 only"),
        (
            lambda: BoxHyperplane(0.0, 1.0, torch.tensor([2.0, 0.0, -1.0]), torch.tensor([2.0, 2.5])),
            Infeasible,
            "b is 2.5 in row 1, .* from -1 to 2 only",
        ),
        (
            lambda: BoxHyperplane(0.0, torch.tensor([[1.0, 1, 1], [1, 1, 0]]), ONES, 2.5),
            Infeasible,
            "b is 2.5 in row 1, .* from 0 to 2 only",
        ),
        (lambda: BoxHyperplane(1.0, 0.0, ONES, 0.5), Infeasible, "low 1 lies above high 0"),
        (lambda: BoxHyperplane(nan, 0.0, ONES, 0.5), InvalidInput, "bound of the box is NaN"),
        (lambda: BoxHyperplane(0.0, 1.0, 0 * ONES, 0.0), InvalidInput, r"\|\|a\|\|\^2 is 0 .*\(3,\)"),
        (lambda: BoxHyperplane(0.0, 1.0, ONES * nan, 0.0), InvalidInput, "a holds nan"),
        (lambda: BoxHyperplane(0.0, 1.0, ONES, inf), InvalidInput, "b holds inf"),
        (
            lambda: BoxHyperplane(0.0, 1.0, ONES, torch.ones(2, 1)),
            InvalidInput,
            r"b has shape \(2, 1\)",
        ),
        (lambda: BoxHyperplane(0.0, 1.0, None, 0.0), InvalidType, "a is NoneType"),
    ],
)
def test_parameters_are_checked_at_the_door(build: Callable, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize(
    "s, message",
    [
        (BoxHyperplane(0.0, 1.0, ONES, 1.0), r"a has shape \(3,\).*\(2, 5\).*10"),
        (BoxHyperplane(0.0, 1.0, torch.ones(10), torch.ones(2)), "b holds 2 numbers.* 3 rows"),
        (BoxHyperplane(torch.zeros(4), 1.0, torch.ones(10), 1.0), r"low has shape \(4,\).*\(3, 2, 5\)"),
        (BoxHyperplane(0.0, torch.ones(10), torch.ones(10), 1.0), r"high has shape \(10,\)"),
        (BoxHyperplane(torch.zeros(7, 3, 2, 5), 1.0, torch.ones(10), 1.0), r"low .*\(7, 3, 2, 5\)"),
    ],
)
def test_points_that_do_not_fit_are_named(s: BoxHyperplane, message: str) -> None:
    for use in (s.project, s.violation):
        with pytest.raises(InvalidInput, match=message):
            use(torch.zeros(3, 2, 5))


def test_bounds_that_only_the_points_settle_are_checked_on_use() -> None:
    # A column of bounds: one for each row of points (2, 3), or one for each entry of an event (3, 1).
    s = BoxHyperplane(0.0, torch.tensor([[1.0], [0.5]]), ONES, 2.0)
    with pytest.raises(Infeasible, match=r"b is 2 in row 1, .* from 0 to 1.5 only"):
        s.project(torch.zeros(2, 3))
    s = BoxHyperplane(0.0, torch.tensor([[1.0], [2.0], [3.0]]), ONES, 5.0)
    assert s.project(torch.zeros(1, 3, 1)).flatten().tolist() == [1.0, 2.0, 2.0]
    with pytest.raises(Infeasible, match=r"b is 5 in row 0, .* from 0 to 3 only"):
        s.project(torch.zeros(3, 3))


def test_measured_shares_of_a_budget_are_fixed() -> None:
    keep = Observed(torch.tensor([True, False, False]), torch.tensor([0.5, 9.0, 9.0]))
    s = keep & BoxHyperplane(0.0, 1.0, ONES, 1.0)
    for junk in (nan, inf, -1e30, 0.5):
        assert s.project(torch.tensor([[junk, 1.0, 0.75]])).tolist() == [[0.5, 0.375, 0.125]]
    # Right by chance: the sum was met with another value than the measured one.
    assert s.project(torch.tensor([[0.0, 0.5, 0.5]])).tolist() == [[0.5, 0.25, 0.25]]
    with pytest.raises(Infeasible, match=r"0\.5 at index \(0,\)"):
        keep & BoxHyperplane(0.0, 0.25, ONES, 0.5)
    with pytest.raises(Infeasible, match=r"b is 3, .* from 0.5 to 2.5 only"):
        keep & BoxHyperplane(0.0, 1.0, ONES, 3.0)
