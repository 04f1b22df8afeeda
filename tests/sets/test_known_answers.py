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
    assert Simplex(1.0).project(y - 3.0 + torch.tensor([[-1.0, 1.0]])).tolist() == [[0.0, 1.0]]
    assert Ball(0.0, 2.5).project(y).tolist() == [[1.5, 2.0]]
    assert L1Ball(3.0).project(-y).tolist() == [[-1.0, -2.0]]
    assert Monotone().project(y.flip(1)).tolist() == [[3.5, 3.5]]


@pytest.mark.parametrize("n", [31, 32, 33, 200])
def test_simplex_thresholds_are_those_of_a_full_sort(n: int, dtype: torch.dtype) -> None:
    # From one entry above the threshold to all of them, with ties, in one batch.
    totals = torch.logspace(-3, 4, 29, dtype=torch.float64)
    y = torch.randn(29, n, generator=torch.Generator().manual_seed(42), dtype=dtype)
    y[:, ::3] = y[:, :1]
    p = Simplex(totals).project(y)
    for row, total, found in zip(y.double().numpy(), totals.numpy(), p.double().numpy(), strict=True):
        row -= row.max()  # changes no answer, and keeps the digits of the oracle
        falling = -np.sort(-row)
        t = ((np.cumsum(falling) - total) / np.arange(1, n + 1)).max()
        eps = torch.finfo(dtype).eps
        np.testing.assert_allclose(found, np.maximum(row - t, 0), rtol=eps, atol=n * 2.3e-16 * total)
        assert abs(found.sum() - total) <= 2 * eps * total * np.sqrt(n)


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
    expected = torch.eye(3).double() - a.T @ a / (a @ a.T)
    for point in (torch.tensor([c]), torch.tensor([c]).double()):
        jacobian = torch.autograd.functional.jacobian(lambda y: s.project(y)[0], point)
        torch.testing.assert_close(jacobian[:, 0], expected.to(point.dtype))


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
