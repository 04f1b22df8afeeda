"""Images, masks and a density to inpaint with."""

import torch
from torch import Tensor


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def with_value(t: Tensor, value: float, *index: int) -> Tensor:
    t = t.clone()
    t[index] = value
    return t


class Bowl:
    """A density of the user's own, most likely at 0.3."""

    def log_prob(self, x: Tensor) -> Tensor:
        return -(x - 0.3).square().flatten(1).sum(1)


IMAGE, MASK = rand(2, 1, 4, 4), rand(2, 1, 4, 4, seed=2) < 0.5
