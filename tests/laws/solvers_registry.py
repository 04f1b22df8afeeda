"""The registry of methods: a case or more for every method, and the quadratics to minimize."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from unittest import mock

import torch
from torch import Tensor

from likely import minimize, sets
from likely.solvers import (
    Accelerated,
    Annealed,
    Iterate,
    Method,
    ProjectedAdam,
    ProjectedGradient,
    Solution,
    SpectralProjectedGradient,
    Step,
)

ROWS, EVENT = 3, (2, 3)
SHAPE = (ROWS, *EVENT)
BOX = sets.Box(0.0, 1.0)


@dataclass(frozen=True)
class Case:
    """A method that suits the quadratics below, whether it draws, and whether trials may fail."""

    method: Method
    draws: bool = False
    searches: bool = False
    #: how close to the optimum it must come, in float64
    close: float = 1e-9


CASES = {
    "gradient": Case(ProjectedGradient(lr=0.4, steps=120)),
    # The steps fall from 0.4 to 0.35, and their sum suffices for the least curvature, 1/2.
    "annealed, quiet": Case(Annealed(scale=400.0, offset=1000.0, batch=1.0, noise=0.0, steps=150)),
    "annealed": Case(Annealed(scale=4.0, offset=8.0, batch=1.0, noise=0.1, steps=100), draws=True),
    "schedule": Case(ProjectedGradient(lr=lambda k: 0.4 if k % 2 else 0.3, steps=150)),
    # Without a tolerance it hovers where values differ by rounding alone: about sqrt(eps), 1.5e-8.
    "backtracking": Case(
        ProjectedGradient(lr=4.0, backtracking=True, steps=150), searches=True, close=3e-8
    ),
    "accelerated": Case(Accelerated(lr=4.0, steps=120)),
    "spectral": Case(SpectralProjectedGradient(steps=60), searches=True),
    "adam": Case(ProjectedAdam(lr=0.1, steps=200, betas=(0.8, 0.9)), close=1e-6),
}
EXACT = {name: c for name, c in CASES.items() if not c.draws}
SEARCHES = {name: c for name, c in CASES.items() if c.searches}


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
    names = ("x", "value", "stationarity", "steps", "evaluations")
    return a.status == b.status and all(torch.equal(getattr(a, n), getattr(b, n)) for n in names)


def slowly(method: Method, lr: float) -> Method:
    """Return the method with small steps at first, where there is a step size to choose."""
    return replace(method, lr=lr) if hasattr(method, "lr") else method


@contextmanager
def watched(method: Method) -> Iterator[list[Tensor | None]]:
    """Yield a list that gets, at each evaluation, the rows whose point the method accepts."""
    accepted: list[Tensor | None] = []
    original = type(method).step

    def step(self: Method, *args: object) -> Step:
        decided = original(self, *args)
        accepted.append(decided.accepted)
        return decided

    with mock.patch.object(type(method), "step", step):
        yield accepted


def run(
    fun: Callable[[Tensor], Tensor], x: Tensor, method: Method, within: sets.ConvexSet | None = BOX
) -> tuple[Solution, list[Iterate]]:
    seen: list[Iterate] = []
    return minimize(fun, x, within, method, seed=5, on_step=seen.append), seen
