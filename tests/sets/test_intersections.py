"""Intersections by `&`: contradictions, shapes that disagree, sets that likely does not know."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from likely.errors import Infeasible, InvalidInput
from likely.sets import Box, ConvexSet, Intersection, Observed


@pytest.mark.parametrize(
    "build",
    [
        lambda: Box(torch.zeros(3), torch.ones(4)),
        lambda: Observed(torch.ones(3, dtype=torch.bool), torch.zeros(4)),
        lambda: Box(torch.zeros(3), 1.0) & Box(torch.zeros(4), 1.0),
        lambda: Box(torch.zeros(3), 1.0) & Observed(torch.ones(4, dtype=torch.bool), torch.zeros(4)),
    ],
)
def test_shapes_that_do_not_agree_are_named(build: Callable[[], ConvexSet]) -> None:
    with pytest.raises(InvalidInput, match=r"(?=.*\(3,\)).*\(4,\)"):
        build()


@pytest.mark.parametrize("shape", [(3, 4), (1, 4), (4,)])
def test_a_measured_value_outside_the_bounds_is_named(shape: tuple[int, ...]) -> None:
    # Only the last row is too narrow; the values may be broadcast over the rows.
    high = torch.tensor([[9.0], [9.0], [1.0]]).expand(3, 4)
    values = torch.zeros(shape)
    values[..., 2] = 2.5
    message = r"^1 measured.* 2\.5 at index \(2, 2\)"
    keep = Observed(torch.ones(4, dtype=torch.bool), values)
    with pytest.raises(Infeasible, match=message):
        Box(0.0, high) & keep
    with pytest.raises(Infeasible, match=message):
        keep & Box(0.0, high)
    # Below the lower bound as well, and also where the box is only narrowed later.
    with pytest.raises(Infeasible, match=re.escape("-2.5 at index (2, 2)")):
        Box(-high, 9.0) & Observed(keep.mask, -keep.values)
    with pytest.raises(Infeasible, match=message):
        Box(0.0, high) & (Box(-9.0, 9.0) & keep)


def test_outside_values_may_be_missing() -> None:
    Box(0.0, 1.0) & Observed(torch.tensor([True, False]), torch.tensor([1.0, 9.0]))


def test_values_measured_twice_must_agree() -> None:
    mask = torch.tensor([[True, True, False], [True, False, True]])
    first = Observed(mask, torch.tensor([0.5, 0.25, 1.0]))
    second = Observed(torch.tensor([False, True, True]), torch.tensor([[9.0, 0.25, 0.75]]))
    message = r"^1 value.* (1 and 0\.75|0\.75 and 1) at index \(1, 2\)"
    for a in (first, Box(0.0, 9.0) & first):
        for b in (second, Box(0.0, 9.0) & second):
            with pytest.raises(Infeasible, match=message):
                a & b
            with pytest.raises(Infeasible, match="measured twice"):
                b & a
    assert (first & Observed(mask, first.values)).mask.equal(mask)
    with pytest.raises(InvalidInput, match=r"(?=.*\(2, 3\)).*\(4,\)"):
        first & Observed(torch.ones(4, dtype=torch.bool), torch.zeros(4))


def test_bounds_and_values_from_both_sides_are_checked() -> None:
    known = Observed(torch.tensor([True, False]), torch.tensor([0.5, 0.0]))
    other = Observed(torch.tensor([False, True]), torch.tensor([0.0, 2.0]))
    with pytest.raises(Infeasible, match=r"2 at index \(1,\)"):
        (Box(0.0, 1.0) & known) & other
    with pytest.raises(Infeasible, match=r"0\.5 at index \(0,\)"):
        (Box(0.0, 9.0) & known) & (Box(1.0, 3.0) & other)
    with pytest.raises(Infeasible, match="empty"):
        (Box(0.0, 1.0) & known) & (Box(2.0, 3.0) & other)


class Everything(ConvexSet):
    """A set that likely does not know."""

    def project(self, y: Tensor) -> Tensor:
        return y.clone()

    def violation(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x))


def test_pairs_without_a_closed_form_are_intersections() -> None:
    box = Box(0.0, 1.0)
    y = torch.tensor([[-1.0, 0.5]])
    for a, b in ((box, Everything()), (Everything(), box), (Everything(), Everything())):
        assert isinstance(a & b, Intersection)
        assert torch.equal((a & b).project(y), y.clamp(min=0.0) if box in (a, b) else y)
