"""Accelerated projected gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from likely.checks import positive
from likely.rows import column, inner
from likely.solvers.method import Evaluated, Method, Projection, State, Step


@final
@dataclass(frozen=True)
class Accelerated(Method):
    """Accelerated projected gradients with restart (FISTA, in the form that never leaves the set).

    With `t = 1` at first, and x and z starting together: `y = (1 - t) x + t z`,
    `z <- P(z - (s / t) grad f(y))`, `x <- (1 - t) x + t z`, `t <- (sqrt(t^4 + 4 t^2) - t^2) / 2`.
    Each y is an average of points of the set, and f is evaluated there alone. For a convex f with an
    L-Lipschitz gradient and `s <= 1 / L` the values at x approach the least like 1/k^2; projected
    gradients promise 1/k. A row starts anew, with t = 1 and z = x, where the momentum points uphill,
    `<grad f(y), x_new - x> > 0`; and its s falls to the inverse of the largest slope change seen,
    `||grad f(y) - grad f(y')|| / ||y - y'||`, so that lr may be guessed too large. Guessed too small,
    it stays so; and as y is an average, it only draws near to a corner of the set.

    Args:
        lr: the step s of each row at first.
        steps, tol, keep: see `Method`.

    Raises:
        InvalidInput: lr is not positive and finite.

    Reference: Beck, Teboulle 2009; Auslender, Teboulle 2006 (this form); O'Donoghue, Candes 2015
    (restart).

    Example:
        >>> method = Accelerated(lr=1.0, tol=1e-6)
    """

    lr: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("lr", self.lr)

    def init(self, x: Tensor) -> State:
        """All points start together."""
        one = x.new_ones(x.shape[0])
        points = {"x": x, "z": x, "y": x, "grad": torch.zeros_like(x)}
        return {**points, "t": one, "s": one * self.lr}

    def step(
        self, k: int, at: Evaluated, state: State, project: Projection, generator: torch.Generator
    ) -> Step:
        """Return the next y."""
        x, t = state["x"], state["t"]
        if k:
            moved, bent = (inner(d, d).sqrt() for d in (at.x - state["y"], at.grad - state["grad"]))
            # A move near rounding says nothing about slopes.
            far = moved > torch.finfo(at.x.dtype).eps ** 0.5 * (1 + inner(at.x, at.x).sqrt())
            steep = far & (bent * state["s"] > moved)
            state["s"] = torch.where(steep, moved / bent, state["s"])
        z = project(state["z"] - column(state["s"] / t, x) * at.grad)
        new = x + column(t, x) * (z - x)
        again = inner(at.x - new, new - x) > 0
        z = torch.where(column(again, x), new, z)
        t = torch.where(again, torch.ones_like(t), ((t**4 + 4 * t**2).sqrt() - t**2) / 2)
        state.update(x=new, z=z, y=at.x, grad=at.grad, t=t)
        return Step(new + column(t, x) * (z - new))
