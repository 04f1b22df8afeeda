"""The registry of methods: a case or more for every method, and the quadratics to minimize."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from likely import minimize, sets
from likely.solvers import Annealed, Iterate, Method, ProjectedAdam, ProjectedGradient, Solution

ROWS, EVENT = 3, (2, 3)
SHAPE = (ROWS, *EVENT)
BOX = sets.Box(0.0, 1.0)


@dataclass(frozen=True)
class Case:
    """A method that suits the quadratics below, and whether it draws."""

    method: Method
    draws: bool = False
    #: how close to the optimum it must come, in float64
    close: float = 1e-9


CASES = {
    "gradient": Case(ProjectedGradient(lr=0.4, steps=120)),
    # The steps fall from 0.4 to 0.35, and their sum suffices for the least curvature, 1/2.
    "annealed, quiet": Case(Annealed(scale=400.0, offset=1000.0, batch=1.0, noise=0.0, steps=150)),
    "annealed": Case(Annealed(scale=4.0, offset=8.0, batch=1.0, noise=0.1, steps=100), draws=True),
    "adam": Case(ProjectedAdam(lr=0.1, steps=200, betas=(0.8, 0.9)), close=1e-6),
}
EXACT = {name: c for name, c in CASES.items() if not c.draws}


def quadratic(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Return curvatures in [0.5, 2] and centres, some outside [0, 1], of sum(a (x - c)^2) / 2."""
    generator = torch.Generator().manual_seed(0)
    a = 0.5 + 1.5 * torch.rand(SHAPE, generator=generator, dtype=torch.float64)
    c = 0.5 + torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    assert ((c < 0) | (c > 1)).any() and ((c > 0) & (c < 1)).any()
    return a.to(dtype), c.to(dtype)


def value_of(a: Tensor, c: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: 0.5 * (a * (x - c).square()).flatten(1).sum(1)


def start(dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(SHAPE, generator=generator, dtype=dtype)


def overshoot(x: Tensor) -> Tensor:
    """(x - 1/2)^2 with the slope of x: methods run past the best point down to 0."""
    return (x - x.detach() + (x.detach() - 0.5).square()).flatten(1).sum(1)


def equal(a: Solution, b: Solution) -> bool:
    pairs = ((a.x, b.x), (a.value, b.value), (a.stationarity, b.stationarity), (a.steps, b.steps))
    return all(torch.equal(p, q) for p, q in pairs) and a.status == b.status


def run(
    fun: Callable[[Tensor], Tensor], x: Tensor, method: Method, within: sets.ConvexSet | None = BOX
) -> tuple[Solution, list[Iterate]]:
    seen: list[Iterate] = []
    return minimize(fun, x, within, method, seed=5, on_step=seen.append), seen
