"""Splits go by the positions that their slices name, and cover each entry once."""

import pytest
import torch

from likely import flows
from likely.errors import InvalidInput, InvalidType


@pytest.mark.parametrize(
    ("moved", "kept"),
    [
        (slice(0, 2), slice(2, None)),
        (slice(2, 5), slice(0, 2)),
        (slice(-1, None), slice(None, -1)),
        (slice(0, 5, 1), slice(5, None)),
        (slice(None, None, 2), slice(1, 5, 2)),
    ],
)
def test_splits_go_by_positions_however_slices_are_written(moved, kept):
    x = torch.arange(10.0).reshape(2, 5)
    for split in (flows.Split(moved, kept), flows.Split(kept, moved)):
        assert torch.equal(split.merge(*split.split(x)), x)


@pytest.mark.parametrize(
    ("moved", "kept"),
    [
        (slice(0, 2), slice(3, None)),
        (slice(0, 3), slice(2, None)),
        (slice(0, 2), slice(2, 4)),
        (slice(0, None, 2), slice(0, None, 2)),
        (slice(0, 3), slice(1, None, 2)),
        (slice(None, None, -1), slice(5, None)),
    ],
)
def test_splits_that_leave_out_or_repeat_entries_are_refused(moved, kept):
    with pytest.raises(InvalidInput, match=r"moved is slice.*expected"):
        flows.Split(moved, kept).split(torch.zeros(2, 5))


def test_splits_are_of_slices():
    with pytest.raises(InvalidType, match="kept is a list; expected a slice"):
        flows.Split(slice(0, 1), [1, 2])
