"""Seeds: the same one draws the same, and bad ones are refused."""

import pytest
import torch

from likely.errors import InvalidInput
from likely.seeds import generator_for
from likely.training import Recipe


def test_a_seed_decides_and_none_does_not():
    def draw(seed):
        return torch.rand(4, generator=generator_for(seed))

    assert torch.equal(draw(3), draw(3)) and not torch.equal(draw(3), draw(4))
    assert not torch.equal(draw(None), draw(None))


@pytest.mark.parametrize("seed", [-1, 10**23, 1.5, "a"])
def test_bad_seeds_are_refused(seed):
    with pytest.raises(InvalidInput, match="expected an integer from 0"):
        generator_for(seed)
    with pytest.raises(InvalidInput, match="seed is"):
        Recipe(seed=seed)


def test_a_generator_and_a_seed_are_one_too_many():
    with pytest.raises(InvalidInput, match="both seed and generator"):
        generator_for(0, torch.Generator())
