"""Answers known by hand: projections, gradients, points not finite, events without entries."""

from collections.abc import Callable
from math import inf, nan

import numpy as np
import pytest
import torch

from likely.sets import Affine, Ball, ConvexSet, Halfspace, L1Ball, Monotone, Simplex


def test_known_projections() -> None:
    y = torch.tensor([[3.0, 4.0]])
    assert Halfspace(torch.tensor([0.0, 2.0]), 2.0).project(y).tolist() == [[3.0, 1.0]]
    assert Affine(torch.tensor([0.0, 2.0]), 2.0).project(y).tolist() == [[3.0, 1.0]]
    assert Simplex(1.0).project(y).tolist() == [[0.0, 1.0]]
    assert Simplex(3.0).project(y).tolist() == [[1.0, 2.0]]
    assert Ball(0.0, 2.5).project(y).tolist() == [[1.5, 2.0]]
    assert L1Ball(3.0).project(-y).tolist() == [[-1.0, -2.0]]
    assert Monotone().project(y.flip(1)).tolist() == [[3.5, 3.5]]


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


@pytest.mark.parametrize(
    "s",
    [
        Halfspace(torch.ones(2), 9.0),
        Affine(torch.ones(2), 1.0),
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


def test_numbers_may_be_events() -> None:
    y = torch.tensor([2.0, -2.0])
    assert Halfspace(torch.tensor(2.0), 2.0).project(y).tolist() == [1.0, -2.0]
    assert Ball(0.0, 1.0).project(y).tolist() == L1Ball(1.0).project(y).tolist() == [1.0, -1.0]
    assert Simplex(3.0).project(y).tolist() == [3.0, 3.0]
    assert Monotone().project(y).tolist() == [2.0, -2.0]


def test_rows_without_entries_are_inside() -> None:
    y = torch.zeros(2, 0)
    for s in (Ball(0.0, 1.0), L1Ball(1.0), Monotone()):
        assert s.project(y).shape == (2, 0)
        assert s.violation(y).tolist() == [0.0, 0.0]


def test_batches_without_rows_stay_empty(large: Callable) -> None:
    for s in large(4).values():
        assert s.project(torch.zeros(0, 2, 2)).shape == (0, 2, 2)
        assert s.violation(torch.zeros(0, 2, 2)).shape == (0,)
