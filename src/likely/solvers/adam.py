"""Adam, projected."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from likely.checks import number, positive
from likely.errors import InvalidInput, InvalidType
from likely.solvers.method import Evaluated, Method, Projection, State, Step


@final
@dataclass(frozen=True)
class ProjectedAdam(Method):
    """Adam with a step that decays along a half cosine, then projection.

    `m <- b1 m + (1 - b1) g`, `v <- b2 v + (1 - b2) g^2`,
    `x <- P(x - lr_k (m / (1 - b1^k)) / (sqrt(v / (1 - b2^k)) + eps))`, entry by entry, where
    `lr_k = lr (1 + cos(pi k / steps)) / 2`.

    It is for sets that constrain entries one by one, such as boxes and measured values. On others, such
    as a simplex, it may rest where the problem is not stationary, as it scales every entry on its own
    while the projection mixes them.

    Args:
        lr: the first step size, in units of x; or a tensor of them that broadcasts to x. The default
            is the width of the box of pictures: large first steps try the corners, and the decay
            settles what they found. On MNIST it reached higher likelihoods than every smaller one
            (benchmarks/inpaint_methods.py).
        betas: decay of the two averages.
        eps: keeps the quotient finite.
        steps, tol, keep: see `Method`.

    Raises:
        InvalidInput: lr or eps is not positive, or a beta is not in [0, 1).

    Reference: Kingma, Ba 2015; the schedule is Loshchilov, Hutter 2017.

    Example:
        >>> method = ProjectedAdam(steps=100)  # nearly as good as 300, in a third of the time
        >>> in_a_hurry = ProjectedAdam(lr=1.0, steps=16, betas=(0.5, 0.9))
    """

    lr: float | Float[Tensor, "*shape"] = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("lr", self.lr)
        positive("eps", self.eps)
        if not isinstance(self.betas, tuple | list) or len(self.betas) != 2:
            raise InvalidType(f"betas is {self.betas!r:.80}; expected a pair of numbers.")
        if not all(0 <= float(number("a beta", b)) < 1 for b in self.betas):
            raise InvalidInput(f"betas are {self.betas}; expected two decays from 0 to below 1.")

    def init(self, x: Tensor) -> State:
        """Both averages start at zero."""
        state = {"m": torch.zeros_like(x), "v": torch.zeros_like(x)}
        if isinstance(self.lr, Tensor):
            state["lr"] = self.lr.to(x).expand(x.shape)
        return state

    def step(
        self, k: int, at: Evaluated, state: State, project: Projection, generator: torch.Generator
    ) -> Step:
        """Return Adam's next point."""
        b1, b2 = self.betas
        state["m"].lerp_(at.grad, 1 - b1)
        state["v"].mul_(b2).addcmul_(at.grad, at.grad, value=1 - b2)
        rate = state.get("lr", self.lr) * 0.5 * (1 + math.cos(math.pi * k / max(self.steps, 1)))
        spread = (state["v"] / (1 - b2 ** (k + 1))).sqrt() + self.eps
        return Step(at.x - rate * (state["m"] / (1 - b1 ** (k + 1))) / spread)
