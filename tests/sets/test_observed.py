"""Measured values: they survive anything, with and without bounds, and what is refused."""

from collections.abc import Callable
from math import inf, nan

import pytest
import torch
from torch import Tensor

from laws.sets_case import ROWS, SHAPE, draw
from likely.errors import InvalidInput, InvalidType
from likely.sets import Box, Observed


def test_nan_is_never_inside(dtype: torch.dtype) -> None:
    y = torch.tensor([[0.5, nan], [0.5, 0.5]], dtype=dtype)
    keep = Observed(torch.tensor([False, True]), torch.tensor([0.0, 0.5]))
    for s in (Box(0.0, 1.0), keep, Box(0.0, 1.0) & keep):
        assert s.contains(y).tolist() == [False, True]


@pytest.mark.parametrize("junk", [nan, inf, -inf])
@pytest.mark.parametrize("bounded", [False, True])
def test_measured_values_survive_anything(
    junk: float, bounded: bool, dtype: torch.dtype, same_bits: Callable
) -> None:
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


def test_whole_numbers_are_bounds_and_values() -> None:
    s = Box(0, 255) & Observed(torch.tensor([True, False, False]), torch.tensor([7, 0, 0]))
    assert s.project(torch.tensor([[0.0, -1.0, 256.0]])).tolist() == [[7.0, 0.0, 255.0]]


@pytest.mark.parametrize("mask", [torch.ones(2), torch.ones(2, dtype=torch.uint8), [True, False]])
def test_masks_are_boolean_tensors(mask: Tensor) -> None:
    with pytest.raises(InvalidType, match=r"mask .*torch\.bool"):
        Observed(mask, torch.zeros(2))


def test_values_are_a_tensor() -> None:
    with pytest.raises(InvalidType, match="values"):
        Observed(torch.tensor([True]), [0.5])


@pytest.mark.parametrize("value", [nan, inf])
def test_measured_values_are_finite(value: float) -> None:
    with pytest.raises(InvalidInput, match="NaN or infinite"):
        Observed(torch.tensor([True, False]), torch.tensor([value, 0.0]))
