"""Projected gradient descent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from likely.checks import positive
from likely.errors import InvalidInput
from likely.rows import column, inner
from likely.solvers.method import Evaluated, Method, Projection, State, Step, descends


@final
@dataclass(frozen=True)
class ProjectedGradient(Method):
    """Projected gradient descent, `x <- P(x - lr * grad f(x))`.

    With a step below `2 / L` for an L-Lipschitz gradient the values of a convex f decrease. Its
    defaults are the plain recipe for restoration: 300 steps of 1e-3, and the last iterate.

    With `backtracking`, every row has its own step: a trial y is taken if
    `f(y) <= f(x) + 1e-4 <grad f(x), y - x>`, and the step grows by a quarter; else it is halved.

    Args:
        lr: the step size; or a schedule, a function of the number of the step, from 0; with
            backtracking, the first step to try.
        backtracking: whether each row searches for its step.
        steps, tol, keep: see `Method`.

    Raises:
        InvalidInput: lr is not positive and finite, or both a schedule and backtracking are given.

    Reference: Goldstein 1964; Levitin, Polyak 1966; for backtracking Bertsekas 1976.

    Example:
        >>> method = ProjectedGradient(lr=lambda k: 1.0 / (1 + k), steps=100)
        >>> method = ProjectedGradient(lr=1.0, backtracking=True, tol=1e-6)
    """

    lr: float | Callable[[int], float] = 1e-3
    backtracking: bool = False
    keep: Literal["last", "best"] = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        if callable(self.lr) and self.backtracking:
            raise InvalidInput("lr is a schedule, and backtracking is on; expected one of the two.")
        positive("lr", self.lr(0) if callable(self.lr) else self.lr)

    def init(self, x: Tensor) -> State:
        """With backtracking: the point last taken, and the step of each row."""
        if callable(self.lr) or not self.backtracking:
            return {}
        one = x.new_ones(x.shape[0])
        return {
            "x": x,
            "value": one * torch.inf,
            "grad": torch.zeros_like(x),
            # The first point is always taken, which makes the step grow.
            "rate": one * self.lr / _GROWTH,
        }

    def step(
        self, k: int, at: Evaluated, state: State, project: Projection, generator: torch.Generator
    ) -> Step:
        """Return `x - lr * grad`."""
        if not self.backtracking:
            return Step(at.x - (self.lr(k) if callable(self.lr) else self.lr) * at.grad)
        moved = at.x - state["x"]
        slopes = inner(state["grad"], moved), inner(at.grad, moved)
        accepted = descends(at.value, state["value"], *slopes)
        state["rate"] = torch.where(accepted, state["rate"] * _GROWTH, state["rate"] / 2)
        state["value"] = torch.where(accepted, at.value, state["value"])
        rows = column(accepted, at.x)
        state["x"] = torch.where(rows, at.x, state["x"])
        state["grad"] = torch.where(rows, at.grad, state["grad"])
        point = state["x"] - column(state["rate"], at.x) * state["grad"]
        return Step(point, accepted, (point == state["x"])[:, None].flatten(1).all(1))


_GROWTH = 1.25
