"""The noisy gradient ascent of the NICE paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from likely.checks import number, positive
from likely.errors import InvalidInput
from likely.solvers.method import Evaluated, Method, Projection, State, Step


@final
@dataclass(frozen=True)
class Annealed(Method):
    """The NICE paper's noisy ascent, `x <- P(x + a_k (-grad f(x) / batch + noise * N(0, I)))`.

    The step `a_k = scale / (offset + k)` falls like 1/k. The paper's formula has no `batch`; the
    authors' program takes the gradient of the *mean* log-likelihood over 100 images, which divides
    each image's gradient by 100. It ran 111,895 steps, without bounds.

    Args:
        scale, offset: of the step.
        batch: what the gradient of each row is divided by.
        noise: standard deviation of the noise.
        steps, tol, keep: see `Method`.

    Raises:
        InvalidInput: scale, offset or batch is not positive, or noise is negative.

    Reference: Dinh, Krueger, Bengio 2015, section 5.2.

    Example:
        >>> method = Annealed(steps=2000, noise=0.5)
    """

    scale: float = 10.0
    offset: float = 100.0
    batch: float = 100.0
    noise: float = 1.0
    steps: int = 2000
    keep: Literal["last", "best"] = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("scale", "offset", "batch"):
            positive(name, getattr(self, name))
        if float(number("noise", self.noise)) < 0:
            raise InvalidInput(f"noise is {self.noise}; expected a standard deviation of 0 or more.")

    def init(self, x: Tensor) -> State:
        """Nothing to remember."""
        return {}

    def step(
        self, k: int, at: Evaluated, state: State, project: Projection, generator: torch.Generator
    ) -> Step:
        """Return `x + a_k (-grad / batch + noise * N(0, I))`."""
        rate = self.scale / (self.offset + k)
        draw = torch.randn(at.x.shape, generator=generator, dtype=at.x.dtype, device=at.x.device)
        return Step(at.x + rate * (self.noise * draw - at.grad / self.batch))
