"""Small runs: digits to fit, a flow that always starts the same, and an interrupt at a step."""

import os
import signal

import torch

from likely import data, flows
from likely.seeds import borrowed_global_state, generator_for, seed_borrowed
from likely.training import Recipe

DIGITS = data.digits()
VALID = DIGITS.valid[:40]


def floats(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=generator_for(seed), dtype=torch.float64).to(dtype)


def make(dropout: float = 0.0, width: int = 16, event_shape: tuple[int, ...] = (1, 8, 8)) -> flows.Flow:
    """A flow with the same starting weights at every call."""
    with borrowed_global_state():
        seed_borrowed(0)
        return flows.nice(event_shape, width=width, depth=2, couplings=2, dropout=dropout)


def weights(flow: flows.Flow) -> list[torch.Tensor]:
    return [p.detach().clone() for p in flow.parameters()]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def recipe_for(precision: str, **changes) -> Recipe:
    settings = {"steps": 26, "batch": 32, "lr": 0.01, "evaluations": 5, "precision": precision}
    return Recipe(**settings | changes)


def interrupt_at(step: int):
    def report(progress):
        if progress.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    return report
