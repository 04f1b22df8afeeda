"""Rounding: the stated tolerances at size, sums in float64, and numbers that are nearly equal."""

from collections.abc import Callable
from math import sqrt

import pytest
import torch

from laws.sets_case import length
from likely.sets import Affine, Ball, Halfspace, L1Ball, Monotone, Simplex


@pytest.mark.parametrize("n", [1000, 10**6])
def test_stated_tolerances_hold_at_size(n: int, dtype: torch.dtype, large: Callable) -> None:
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


def test_a_short_simplex_keeps_its_tolerance(dtype: torch.dtype) -> None:
    # The running sums grow to 31 times the total, and t, rounded, is taken from all entries.
    for total in (1.0, 1.3):
        y = 1e-3 * torch.rand(4000, 32, generator=torch.Generator().manual_seed(43), dtype=dtype)
        y[:, 0] += 1
        s = Simplex(total)
        assert s.violation(s.project(y)).max() <= 2 * torch.finfo(dtype).eps * total


def test_whatever_sum_is_right_as_computed_is_kept(same_bits: Callable) -> None:
    # Tiny entries among large ones, and sums that are right after rounding only.
    generator = torch.Generator().manual_seed(22)
    x = torch.rand(4000, 9, generator=generator, dtype=torch.float64)
    x[:, 6:] *= 1e-18
    x /= x.sum(1, keepdim=True)
    inside = Simplex(1.0).violation(x) == 0
    assert inside.sum() > 50
    assert same_bits(Simplex(1.0).project(x)[inside], x[inside])


def test_nearly_equal_means_stay_in_order(same_bits: Callable) -> None:
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


def test_numbers_and_tensors_say_the_same(same_bits: Callable) -> None:
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
