"""Boxes: bounds that are numbers or tensors, zeros of both signs, and bounds that are refused."""

from math import nan

import pytest
import torch

from likely.errors import Infeasible, InvalidInput
from likely.sets import Box, Observed


def test_a_number_bounds_float64_data_exactly() -> None:
    # 0.1 in float32 is 1.5e-9 above 0.1 in float64.
    y = torch.tensor([[-1.0, 0.1, 2.0]], dtype=torch.float64)
    assert Box(0.1, 0.7).project(y).tolist() == [[0.1, 0.1, 0.7]]
    (Box(0.1, 0.7) & Observed(torch.tensor([True]), y[:, 1:2])).project(y[:, 1:2])


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
