"""Failure regions whose probabilities are known, and chains that reach levels with known ones."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy import integrate, stats
from torch import Tensor
from torch.distributions import Distribution, Normal

from likely.walks.chain import Chain


@dataclass(frozen=True)
class Region:
    f: Callable[[Tensor], Tensor]
    p: Distribution
    truth: float


def normal(dim: int, dtype: torch.dtype = torch.float64) -> Normal:
    return Normal(torch.zeros(dim, dtype=dtype), 1.0)


def branches(x: Tensor, k: float = 7.0) -> Tensor:
    """The four-branch series system of walks.json, one column a branch."""
    bowl = 3 + 0.1 * (x[:, 0] - x[:, 1]).square()
    s, d = (x[:, 0] + x[:, 1]) / math.sqrt(2), x[:, 0] - x[:, 1]
    return torch.stack([bowl - s, bowl + s, d + k / math.sqrt(2), k / math.sqrt(2) - d], 1)


def linear(beta: float, dim: int) -> Region:
    return Region(lambda x: beta - x.sum(1) / math.sqrt(dim), normal(dim), stats.norm.sf(beta))


def below_parabola(u: float) -> float:
    return stats.norm.pdf(u) * stats.norm.sf(5 - 0.5 * (u - 0.1) ** 2)


REGIONS = {
    "four branches, k=7": Region(lambda x: branches(x).amin(1), normal(2), 2.2227950661944398872e-3),
    "four branches, k=6": Region(lambda x: branches(x, 6.0).amin(1), normal(2), 4.45733149062649e-3),
    "resistance minus stress": Region(
        lambda x: x[:, 0] - x[:, 1],
        Normal(torch.tensor([7.0, 2.0]).double(), torch.tensor([1.0, 0.8]).double()),
        stats.norm.sf(5 / math.hypot(1, 0.8)),
    ),
    "linear in 20 dimensions": linear(5.0, 20),
    "outside a sphere": Region(lambda x: 6 - x.norm(dim=1), normal(5), stats.chi2.sf(36, 5)),
    "two sides of a parabola": Region(
        lambda x: 5 - x[:, 1] - 0.5 * (x[:, 0] - 0.1).square(),
        normal(2),
        integrate.quad(below_parabola, -12, 12, epsabs=0, epsrel=1e-12, points=[-3, 0, 3])[0],
    ),
    "one dimension": Region(
        lambda x: 4.5 - x.abs(), Normal(torch.tensor(0.0).double(), 1.0), 2 * stats.norm.sf(4.5)
    ),
}


def lattice(p: float, start: int, horizon: int, low: int | None = None) -> Chain:
    """A walk of steps +1 with probability p and -1 otherwise."""

    def step(time: int, x: Tensor, generator: torch.Generator) -> Tensor:
        up = torch.rand(x.shape, generator=generator, dtype=torch.float64) < p
        return x + 2 * up.long() - 1

    stopped = None if low is None else lambda time, x: x <= low
    return Chain(lambda n, generator: torch.full((n,), start), step, horizon, stopped)


def reach(p: float, start: int, level: int, horizon: int, low: int | None = None) -> float:
    """The chance of that walk to be at the level by the horizon, by adding up over the states."""
    mass, hit = {start: 1.0}, 0.0
    for _ in range(horizon):
        after: dict[int, float] = {}
        for x, m in mass.items():
            for y, share in ((x + 1, p), (x - 1, 1 - p)):
                if y >= level:
                    hit += m * share
                elif low is None or y > low:
                    after[y] = after.get(y, 0.0) + m * share
        mass = after
    return hit
