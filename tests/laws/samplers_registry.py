"""The registry of samplers: a case or more for each, and laws whose conditionals are known exactly."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from likely.samplers import Direct, Hamiltonian, Independence, Langevin, Sampler, Target, sample

EVENT = (1, 2, 2)
#: entries 1 and 2 are free, 0 and 3 known
FREE = torch.tensor([False, True, True, False])
IMAGE = torch.tensor([0.3, 0.0, 0.0, 0.9], dtype=torch.float64)
ROWS = 2_000


def normal_log_pdf(x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return -((x - loc) / scale).square() / 2 - scale.log() - math.log(2 * math.pi) / 2


class Mixture:
    """`sum_k w_k prod_i N(x_i; m_ki, s_ki)`, factors truncated to [0, 1]: exact given any entries."""

    def __init__(self, weights: Tensor, loc: Tensor, scale: Tensor) -> None:
        self.weights, self.loc, self.scale = (t.double() for t in (weights, loc, scale))
        self.low, self.high = (torch.special.ndtr((b - self.loc) / self.scale) for b in (0.0, 1.0))

    def parts(self, x: Tensor, counted: Tensor) -> Tensor:
        """Return log w_k plus the log factors of the counted entries, `(B, K)`."""
        x, counted = x.double().flatten(1)[:, None], counted.flatten(1)[:, None]
        factors = normal_log_pdf(x, self.loc, self.scale) - (self.high - self.low).log()
        factors = torch.where((x >= 0) & (x <= 1), factors, -torch.inf)
        return self.weights.log() + torch.where(counted, factors, 0.0).sum(2)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.parts(x, torch.ones_like(x, dtype=torch.bool)).logsumexp(1)

    def log_prob_given(self, x: Tensor, observed: Tensor) -> Tensor:
        known = self.parts(x, observed).logsumexp(1) - self.weights.sum().log()
        return self.log_prob(x) - self.weights.sum().log() - known

    def sample_given(
        self, image: Tensor, observed: Tensor, n: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        share = self.parts(image, observed).softmax(1)
        k = torch.multinomial(share, n, replacement=True, generator=generator).T
        low, high = self.low[k], self.high[k]
        u = torch.rand(low.shape, generator=generator, dtype=low.dtype)
        z = torch.special.ndtri(low + (high - low) * u)
        x = (self.loc[k] + self.scale[k] * z).clamp(0, 1).view(n, *image.shape)
        x = torch.where(observed, image.double(), x)
        log_p = self.log_prob_given(x.flatten(0, 1), observed.expand(x.shape).flatten(0, 1))
        return x.to(image), log_p.view(n, -1).to(image)


MIXTURE = Mixture(
    torch.tensor([0.5, 0.3, 0.2]),
    torch.tensor([[0.2, 0.1, 0.6, 0.8], [0.5, 0.8, 0.3, 0.6], [0.4, 0.4, 1.1, 0.9]]),
    torch.tensor([[0.3, 0.25, 0.3, 0.4], [0.3, 0.2, 0.4, 0.3], [0.5, 0.3, 0.3, 0.2]]),
)


class Gaussian:
    """A multivariate normal law, and its conditional given the known entries in closed form."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        draws = torch.Generator().manual_seed(3)
        root = torch.randn(4, 4, generator=draws, dtype=torch.float64)
        self.S = 0.05 * (root @ root.T + 0.3 * torch.eye(4))
        self.m = torch.tensor([0.4, 0.2, 0.9, 0.6], dtype=torch.float64)
        self.P = torch.linalg.inv(self.S)

    def log_prob(self, x: Tensor) -> Tensor:
        gap = x.flatten(1) - self.m.to(x)
        return -((gap @ self.P.to(x)) * gap).sum(1) / 2

    def conditional(self, known: Tensor = IMAGE) -> tuple[Tensor, Tensor]:
        S, k, f = self.S, ~FREE, FREE
        gain = torch.linalg.solve(S[k][:, k], S[k][:, f]).T
        return self.m[f] + gain @ (known[k] - self.m[k]), S[f][:, f] - gain @ S[k][:, f]


@dataclass(frozen=True)
class Truth:
    """Means, covariances and distribution functions of two entries, by quadrature of their density."""

    log_p: Callable[[Tensor], Tensor]
    low: tuple[float, float] = (0.0, 0.0)
    high: tuple[float, float] = (1.0, 1.0)
    nodes: int = 250

    @cache  # noqa: B019 (a handful of truths)
    def grid(self) -> tuple[list[Tensor], Tensor]:
        """Return midpoints along each entry, and the probability of each cell."""
        axes = [
            low + (high - low) * (torch.arange(self.nodes, dtype=torch.float64) + 0.5) / self.nodes
            for low, high in zip(self.low, self.high, strict=True)
        ]
        points = torch.cartesian_prod(*axes)
        log_p = torch.cat([self.log_p(part) for part in points.split(50_000)]).detach()
        return axes, log_p.softmax(0).view(self.nodes, self.nodes)

    def moments(self) -> tuple[Tensor, Tensor]:
        axes, p = self.grid()
        sides = p.sum(1), p.sum(0)
        mean = torch.stack([a @ s for a, s in zip(axes, sides, strict=True)])
        a, b = (x - m for x, m in zip(axes, mean, strict=True))
        cross = a @ p @ b
        var = [g.square() @ s for g, s in zip((a, b), sides, strict=True)]
        return mean, torch.tensor([[var[0], cross], [cross, var[1]]])

    def cdf(self, i: int) -> Callable[[np.ndarray], np.ndarray]:
        _, p = self.grid()
        total = torch.cat([torch.zeros(1), p.sum(1 - i).cumsum(0)]).numpy()
        ends = np.linspace(self.low[i], self.high[i], self.nodes + 1)
        return lambda x: np.interp(x, ends, total)


def gaussian_truth(low: tuple = (0.0, 0.0), high: tuple = (1.0, 1.0), known: Tensor = IMAGE) -> Truth:
    m, C = Gaussian().conditional(known)
    P = torch.linalg.inv(C)
    return Truth(lambda x: -(((x - m) @ P) * (x - m)).sum(1) / 2, low, high)


def slice_truth(
    log_prob: Callable[[Tensor], Tensor], low: tuple = (0.0, 0.0), high: tuple = (1.0, 1.0)
) -> Truth:
    """Return the truth of any density by its values on the slice of the free entries."""

    def log_p(pair: Tensor) -> Tensor:
        x = IMAGE.repeat(len(pair), 1)
        x[:, FREE] = pair
        return log_prob(x.view(-1, *EVENT))

    return Truth(log_p, low, high)


@dataclass(frozen=True)
class Case:
    """A method that suits small laws, and whether it needs a conditional density."""

    method: Sampler
    conditional: bool = False


CASES = {
    "hamiltonian": Case(Hamiltonian(leapfrogs=4, warmup=40, thin=4, chains=1)),
    "hamiltonian, tempered": Case(
        Hamiltonian(leapfrogs=3, warmup=40, thin=4, chains=1, temperatures=(1.0, 2.0, 5.0))
    ),
    "langevin": Case(Langevin(warmup=100, thin=4, chains=1)),
    "langevin, tempered": Case(Langevin(warmup=100, thin=4, chains=1, temperatures=(1.0, 3.0))),
    "independence": Case(Independence(MIXTURE, warmup=60, thin=4, chains=1)),
    "direct": Case(Direct(), conditional=True),
}


def target(
    density: object,
    dtype: torch.dtype,
    low: tuple = (0.0, 0.0),
    high: tuple = (1.0, 1.0),
    rows: int = ROWS,
) -> Target:
    """Return the same problem in many rows, whose chains are independent of each other."""
    bounds = [torch.zeros(4), torch.ones(4)]
    for bound, pair in zip(bounds, (low, high), strict=True):
        bound[FREE] = torch.tensor(pair)
    shape = (rows, *EVENT)
    low_, high_ = (b.to(dtype).view(EVENT).expand(shape) for b in bounds)
    image = IMAGE.to(dtype).view(EVENT).expand(shape).clamp(low_, high_)
    return Target(density, image, FREE.view(EVENT).expand(shape), low_, high_)


def pairs(method: Sampler, problem: Target, seed: int = 0) -> Tensor:
    """Return one draw of the free entries from each row, independent of each other, in float64."""
    x = sample(problem, 1, method, torch.Generator().manual_seed(seed)).x[0]
    return x.flatten(1)[:, FREE].double()
