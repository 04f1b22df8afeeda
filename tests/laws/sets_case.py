"""What a set is tested against: its meaning in plain numpy, row by row, and points to project."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from likely.sets import ConvexSet

ROWS, EVENT = 3, (2, 5)
SHAPE = (ROWS, *EVENT)
IMAGES = (ROWS, 2, 2, 3)


@dataclass(frozen=True)
class Case:
    """A set, and what it means in plain words, in numpy and float64, for each row."""

    make: Callable[[], ConvexSet]
    row: Callable[[int], ConvexSet]
    #: how far a flat point is outside: the distance from the farthest of the rules
    breach: Callable[[int, np.ndarray], float]
    #: the nearest point, the slow and obvious way
    oracle: Callable[[int, np.ndarray], np.ndarray]
    #: a random point of the set for each row, made without projecting
    point: Callable[[torch.Generator], Tensor]
    shape: tuple[int, ...] = SHAPE
    #: the bounds on each entry of a row, where that is all there is
    bounds: Callable[[int], tuple[np.ndarray, np.ndarray]] | None = None
    #: what the docstring grants to rounding: so many eps times the size of (y, projection)
    tol: float = 0.0
    #: how far away the points are that the laws project
    scales: tuple[float, ...] = (0.5, 3.0, 1e6)
    size: Callable[[Tensor, Tensor], Tensor] = lambda y, p: length(y) + length(p)
    #: what the docstring grants to an iteration, times the same size
    stop: Callable[[torch.dtype], float] = lambda dtype: 0.0

    def slack(self, y: Tensor, p: Tensor) -> Tensor:
        """Return the stated tolerance for each row, in float64."""
        eps = torch.finfo(p.dtype).eps
        granted = self.tol * eps + self.stop(p.dtype)
        return granted * self.size(y.double(), p.double()).broadcast_to(len(y))


def length(x: Tensor) -> Tensor:
    return x.double().flatten(1).norm(dim=1)


def far(a: Tensor, b: Tensor) -> Tensor:
    """Return for each row the largest difference, in float64."""
    return (a.double() - b.double()).abs()[:, None].flatten(1).amax(1)


def dyadic(shape: tuple[int, ...], generator: torch.Generator, top: int = 64) -> Tensor:
    """Return multiples of 1/64 from -top/64 to top/64: sums and products are exact in every dtype."""
    draws = torch.randint(-top, top + 1, shape, generator=generator)
    return draws.double() / 64


def draw(*shape: int, seed: int) -> Tensor:
    # Multiples of 1/64 are exact in float32, so every dtype sees the same set.
    return torch.randint(0, 65, shape, generator=torch.Generator().manual_seed(seed)) / 64


def points(case: Case, dtype: torch.dtype, seed: int = 0) -> Iterator[Tensor]:
    """Yield batches near and far, with both zeros and huge values among them."""
    generator = torch.Generator().manual_seed(seed)
    for scale in case.scales:
        y = scale * torch.randn(case.shape, generator=generator, dtype=dtype)
        if y[0].numel() > 3:
            y.flatten(1)[:, :2] = torch.tensor([0.0, -0.0])
        yield y
