"""The second-order cone: known answers, its apex and axis, rounding at size, what is refused."""

from math import inf, nan

import pytest
import torch

from laws.sets_case import length
from likely.errors import InvalidInput
from likely.sets import SecondOrderCone


def test_known_projections(dtype: torch.dtype) -> None:
    y = torch.tensor(
        [[0.0, 3, 4], [1, 3, 4], [5, 3, 4], [-5, 3, 4], [-6, 3, 4], [0, 0, 0]], dtype=dtype
    )
    expected = [[2.5, 1.5, 2.0], [3.0, 1.8, 2.4], [5, 3, 4], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    torch.testing.assert_close(SecondOrderCone().project(y), torch.tensor(expected, dtype=dtype))
    # On the axis: up is inside, down goes to the apex.
    assert SecondOrderCone().project(torch.tensor([[2.0, 0, 0], [-2.0, 0, 0]])).tolist() == [
        [2, 0, 0],
        [0, 0, 0],
    ]
    assert SecondOrderCone().violation(y[:1]).item() == pytest.approx(5 / 2**0.5)


def test_the_polar_cone_is_what_is_left(dtype: torch.dtype) -> None:
    # Moreau: y = P y - P(-y), and the two parts are orthogonal; the cone is its own dual.
    y = 3 * torch.randn(100, 4, generator=torch.Generator().manual_seed(31), dtype=dtype)
    up, down = SecondOrderCone().project(y), SecondOrderCone().project(-y)
    eps = torch.finfo(dtype).eps
    assert (length(up - down - y) <= 4 * eps * length(y)).all()
    assert ((up * down).sum(1).abs() <= 4 * eps * length(y) ** 2).all()


@pytest.mark.parametrize("n", [1000, 10**6])
def test_stated_tolerance_holds_at_size(n: int, dtype: torch.dtype) -> None:
    draws = torch.randn(1, n, generator=torch.Generator().manual_seed(32), dtype=dtype)
    for y in (1e-6 * draws, draws + 3.0, 1e6 * draws, 3.0 - draws):
        p = SecondOrderCone().project(y)
        for x in (p, SecondOrderCone().project(p)):
            assert (
                SecondOrderCone().violation(x).item() <= 2 * torch.finfo(dtype).eps * length(p).item()
            )


def test_lengths_are_summed_in_float64() -> None:
    huge = SecondOrderCone().project(torch.tensor([[0.0, 3e30, 4e30]]))
    torch.testing.assert_close(huge, torch.tensor([[2.5e30, 1.5e30, 2e30]]))


def test_gradients_beside_the_axis_are_finite() -> None:
    # 1 / ||x||^2 is infinite there.
    y = torch.tensor([[1.0, 1e-160, 0.0]], dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(SecondOrderCone().project(y).sum(), y)
    assert torch.equal(g, torch.ones_like(g))


def test_near_the_polar_cone_nothing_is_lost() -> None:
    # t + ||x|| is 1e-12 of ||x||: the result is tiny, and inside relative to its own size.
    y = torch.tensor([[-5.0 + 5e-12, 3.0, 4.0]], dtype=torch.float64)
    p = SecondOrderCone().project(y)
    assert 0 < p[0, 0] < 1e-11
    assert SecondOrderCone().violation(p).item() <= 2 * 2.3e-16 * length(p).item()


@pytest.mark.parametrize("row", [[nan, 0.5], [0.5, nan], [0.5, inf], [-inf, 0.5], [inf, inf]])
def test_what_is_not_finite(row: list) -> None:
    y = torch.tensor([row, [0.5, 0.5]])
    assert SecondOrderCone().contains(y).tolist() == [False, True]
    assert torch.equal(SecondOrderCone().project(y)[1], y[1])


def test_events_are_numbers_images_or_refused() -> None:
    assert SecondOrderCone().project(torch.tensor([2.0, -2.0])).tolist() == [2.0, 0.0]
    assert SecondOrderCone().project(torch.zeros(0, 2, 2)).shape == (0, 2, 2)
    assert SecondOrderCone().project(torch.tensor([[[0.0, 3.0], [0.0, 4.0]]])).flatten().tolist() == [
        2.5,
        1.5,
        0.0,
        2.0,
    ]
    for use in (SecondOrderCone().project, SecondOrderCone().violation):
        with pytest.raises(InvalidInput, match=r"\(2, 0\).*at least one entry"):
            use(torch.zeros(2, 0))
