"""Halfspaces, affine sets, simplices and balls: parameters and points that are refused."""

from collections.abc import Callable
from math import inf, nan

import pytest
import torch

from laws.sets_case import SHAPE
from likely import sets
from likely.errors import Infeasible, InvalidInput, InvalidType
from likely.sets import Affine, Ball, ConvexSet, Halfspace, L1Ball, Simplex

A_LINE = torch.tensor([1.0, 1.0])


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


def test_an_empty_box_says_where():
    low, high = torch.tensor([0.0, 5.0, 100.0]), torch.tensor([1.0, 4.0, 200.0])
    with pytest.raises(Infeasible, match=r"low 5 lies above high 4 at index \(1,\)"):
        sets.Box(low, high)


def test_a_measured_value_outside_names_the_bounds_there():
    box = sets.Box(torch.tensor([0.0, 10.0]), torch.tensor([1.0, 20.0]))
    measured = sets.Observed(torch.tensor([True, False]), torch.tensor([15.0, 15.0]))
    with pytest.raises(Infeasible, match=r"15 at index \(0,\); expected values from 0 to 1 there"):
        box & measured
