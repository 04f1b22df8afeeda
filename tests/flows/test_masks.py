"""Random masks of pictures."""

import torch

from likely.flows import random_missing


def test_masks_of_every_kind():
    missing = random_missing(4000, 9, 14, torch.Generator().manual_seed(0))
    assert missing.shape == (4000, 9, 14) and missing.dtype == torch.bool
    assert missing.flatten(1).any(1).all()
    rows, columns = missing.any(2), missing.any(1)
    box = rows[:, :, None] & columns[:, None, :]
    rectangles = (box == missing).flatten(1).all(1)
    assert 0.5 < rectangles.double().mean() < 0.75
    assert missing.flatten(1).all(1).double().mean() > 0.02
    halves = missing[:, :4].flatten(1).all(1) & ~missing[:, 5:].flatten(1).any(1)
    assert halves.any()
    # No pixel is spared, and none is always missing.
    share = missing.double().mean(0)
    assert share.min() > 0.3 and share.max() < 0.8


def test_they_are_drawn_from_the_generator(same_global_state):
    with same_global_state():
        a, b = (random_missing(5, 4, 4, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(a, b)


def test_one_pixel():
    assert random_missing(50, 1, 1, torch.Generator().manual_seed(0)).all()
