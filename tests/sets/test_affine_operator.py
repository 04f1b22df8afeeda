"""Equalities by a function: known answers, gradients, rounding, and functions that are refused."""

from collections.abc import Callable
from math import inf, nan

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from laws.sets_case import length
from likely.errors import Infeasible, InvalidInput, InvalidType, NotConverged
from likely.sets import Affine, AffineOperator

B = torch.tensor([[1.0, 2.0]])


def rows(x: Tensor) -> Tensor:
    return x.sum(-1)


def columns(r: Tensor) -> Tensor:
    return r[..., None].expand(*r.shape, 3)


def image(*shape: int, seed: int = 51) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_sharper_picture_has_the_means_measured(dtype: torch.dtype) -> None:
    # Where blocks do not overlap, each pixel moves by what its block's mean lacks.
    y, small = image(2, 3, 8, 8).to(dtype), image(2, 3, 2, 2, seed=52)
    x = AffineOperator(lambda x: avg_pool2d(x, 4), small).project(y)
    lack = small - avg_pool2d(y.double(), 4)
    expected = y.double() + lack.repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(x.double(), expected, rtol=0.0, atol=4 * torch.finfo(dtype).eps)


def test_a_matrix_and_its_function_agree() -> None:
    generator = torch.Generator().manual_seed(53)
    A = torch.randn(6, 40, generator=generator, dtype=torch.float64)
    b, y = torch.randn(5, 6, generator=generator).double(), torch.randn(5, 40, generator=generator)
    expected = Affine(A, b).project(y.double())
    for transpose in (None, lambda r: r @ A):
        x = AffineOperator(lambda x: x @ A.T, b, transpose).project(y.double())
        torch.testing.assert_close(x, expected, rtol=0.0, atol=1e-13)


@pytest.mark.parametrize("seed", range(3))
def test_equalities_may_follow_from_one_another(seed: int) -> None:
    # Row sums and column sums have the total in common; what is measured is rounded.
    def sums(x: Tensor) -> Tensor:
        return torch.cat([x.sum(-1), x.sum(-2)], -1)

    y, b = 9 * image(4, 30, 50, seed=seed), sums(image(4, 30, 50, seed=seed + 60))
    x = AffineOperator(sums, b).project(y)
    # The formula of the two-way table: take out the row, column and total means of what is too much.
    d = sums(y) - b
    r, c = d[:, :30, None] / 50, d[:, None, 30:] / 30
    expected = y - r - c + r.mean(1, keepdim=True)
    torch.testing.assert_close(x, expected, rtol=0.0, atol=1e-13)


def test_gradients_take_no_record_of_the_steps() -> None:
    kernel = image(1, 1, 3, 3)
    s = AffineOperator(lambda x: conv2d(x, kernel, stride=2), image(2, 1, 2, 2, seed=54))
    y = image(2, 1, 5, 5, seed=55).requires_grad_()
    x = s.project(y)
    assert type(x.grad_fn).__name__.startswith("_Project")
    assert torch.autograd.gradcheck(s.project, y)
    assert torch.autograd.gradgradcheck(s.project, y)
    # At a point of the set, too, a step across it is undone.
    (g,) = torch.autograd.grad(s.project(x), x, image(2, 1, 5, 5, seed=56))
    assert conv2d(g, kernel, stride=2).abs().max() < 1e-14


def test_what_a_parameter_of_the_function_asks_is_not_answered() -> None:
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    s = AffineOperator(lambda x: scale * rows(x), B)
    assert not s.project(torch.zeros(1, 2, 3)).requires_grad


@pytest.mark.parametrize("side", [32, 1000])
def test_stated_tolerance_holds_at_size(side: int, dtype: torch.dtype) -> None:
    for means in (lambda x: avg_pool2d(x, 4), lambda x: x.mean(-1)):
        s = AffineOperator(means, means(image(1, 1, side, side)))
        for scale in (1e-3, 1.0, 1e6):
            y = (scale * image(1, 1, side, side, seed=57)).to(dtype)
            p = s.project(y)
            for x in (p, s.project(p)):
                assert s.violation(x) <= 8 * torch.finfo(dtype).eps * (length(y) + length(p))


def test_rtol_and_steps_are_kept() -> None:
    # A running sum has a condition number that grows with its length.
    y, b = image(1, 200), image(1, 200, seed=58).cumsum(1)
    for rtol in (1e-3, 1e-9):
        s = AffineOperator(lambda x: x.cumsum(1), b, rtol=rtol)
        assert s.violation(s.project(y)) <= rtol * (length(y) + length(s.project(y)))
    assert s.violation(AffineOperator(s.A, b, rtol=1e-3).project(y)) > 1e-9
    with pytest.raises(NotConverged, match=r"row 0 is still .* after 3 steps.*raise rtol"):
        AffineOperator(s.A, b, steps=3).project(y)


def test_violation_is_the_distance_for_orthogonal_rows() -> None:
    x = image(3, 2, 3)
    s = AffineOperator(rows, B)
    torch.testing.assert_close(s.violation(x), length(x - s.project(x)))


@pytest.mark.parametrize("junk", [nan, inf, -inf])
def test_what_is_not_finite_is_not_inside(junk: float, dtype: torch.dtype) -> None:
    y = torch.tensor([[[1.0, 0, 0], [0, 1, 1]]], dtype=dtype).repeat(2, 1, 1)
    y[0, 0, 1] = junk
    s = AffineOperator(rows, B)
    assert s.contains(y).tolist() == [False, True]
    assert torch.equal(s.project(y)[1], y[1])


def test_minus_zero_inside_stays_beside_rows_outside(same_bits: Callable) -> None:
    y = torch.tensor([[[1.0, -0.0, 0.0], [-0.0, 1.0, 1.0]]]).repeat(2, 1, 1)
    y[1] = 9.0
    for sign in (1, -1):
        s = AffineOperator(lambda x, sign=sign: sign * rows(x), sign * B)
        assert same_bits(s.project(y)[0], y[0])


def test_batches_without_rows_stay_empty() -> None:
    s = AffineOperator(rows, B)
    assert s.project(torch.zeros(0, 2, 3)).shape == (0, 2, 3)
    assert s.violation(torch.zeros(0, 2, 3)).shape == (0,)


def twice(x: Tensor) -> Tensor:
    return torch.cat([rows(x), rows(x)], 1)


def test_contradictions_are_infeasible() -> None:
    y = image(2, 2, 3)
    b = torch.tensor([[1.0, 2.0, 1.0, 2.0], [1.0, 2.0, 1.5, 2.0]])
    assert (rows(AffineOperator(twice, b[:1]).project(y)) - B).abs().max() < 1e-14
    s = AffineOperator(twice, b)
    with pytest.raises(Infeasible, match=r"contradict each other: in row 1, .* below 0\.353553"):
        s.project(y)
    with pytest.raises(Infeasible, match="in row 0, no x"):
        AffineOperator(lambda x: 0 * x, B).project(torch.zeros(1, 2))
    # No point is inside an empty set.
    assert s.violation(torch.tensor([[[1.25, 0, 0], [2, 0, 0]]]).expand(2, 2, 3))[1] == inf
    # Many equalities of different sizes, one of which is repeated with another value.
    A = torch.randn(12, 30, generator=torch.Generator().manual_seed(59), dtype=torch.float64)
    A[11] = A[:5].sum(0)
    with pytest.raises(Infeasible, match="contradict each other"):
        AffineOperator(lambda x: x @ A.T, image(1, 12)).project(image(1, 30))


@pytest.mark.parametrize(
    "build, error, message",
    [
        (lambda: AffineOperator(torch.ones(3), B), InvalidType, "A is Tensor; expected a linear"),
        (lambda: AffineOperator(rows, B, torch.ones(3)), InvalidType, "transpose is Tensor"),
        (lambda: AffineOperator(None, B), InvalidType, "A is NoneType"),
        (lambda: AffineOperator(rows, B * nan), InvalidInput, "b holds nan"),
        (lambda: AffineOperator(rows, "one"), InvalidType, "b is str"),
        (lambda: AffineOperator(rows, 1.0), InvalidInput, r"b is one number; expected .*\(B, \*m\)"),
        (lambda: AffineOperator(rows, B, rtol=0.0), InvalidInput, "rtol is 0"),
        (lambda: AffineOperator(rows, B, rtol=nan), InvalidInput, "rtol is nan"),
        (lambda: AffineOperator(rows, B, steps=0), InvalidInput, "steps is 0"),
        (lambda: AffineOperator(rows, B, steps=1.5), InvalidInput, r"steps is 1\.5"),
    ],
)
def test_parameters_are_checked_at_the_door(build: Callable, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        build()


FLOAT = torch.ones(3)


@pytest.mark.parametrize(
    "s, message",
    [
        (
            AffineOperator(rows, torch.ones(1, 3)),
            r"\(4, 2, 3\) into \(4, 2\), but b has .*\(1, 3\)",
        ),
        (AffineOperator(rows, torch.ones(3, 2)), r"into \(4, 2\), but b has shape \(3, 2\)"),
        (AffineOperator(lambda x: x @ FLOAT, B), r"A fails on float64 points \(4, 2, 3\)"),
        (
            AffineOperator(lambda x: rows(x).float(), B),
            r"into torch\.float32 \(4, 2\); expected",
        ),
        (AffineOperator(lambda x: x.sum(), B), r"into torch\.float64 \(\); .* as many rows"),
        (AffineOperator(lambda x: 1.0, B), "into float; expected"),
        (AffineOperator(lambda x: rows(x.detach()), B), "no trace for automatic differentiation"),
        (AffineOperator(rows, B, lambda r: r), r"transpose turns values of shape \(4, 2\) into"),
        (AffineOperator(rows, B, lambda r: columns(r).float()), r"into torch\.float32 \(4, 2, 3\)"),
        (AffineOperator(rows, B, lambda r: r @ FLOAT), r"transpose fails on float64 values \(4, 2\)"),
    ],
)
def test_points_that_do_not_fit_are_named(s: AffineOperator, message: str) -> None:
    for use in (s.project, s.violation):
        with pytest.raises(InvalidInput, match=message):
            use(torch.zeros(4, 2, 3))


@pytest.mark.parametrize(
    "s",
    [
        AffineOperator(lambda x: rows(x) + 1, B),
        AffineOperator(lambda x: rows(x) ** 2, B),
        AffineOperator(rows, B, lambda r: 2 * columns(r)),
        AffineOperator(rows, B, lambda r: columns(r.flip(1))),
        AffineOperator(rows, B, lambda r: -columns(r)),
    ],
)
def test_what_is_not_linear_or_not_the_transpose_is_refused(s: AffineOperator) -> None:
    with pytest.raises(InvalidInput, match="A is not linear, or transpose is not its transpose"):
        s.project(9 * image(1, 2, 3))
