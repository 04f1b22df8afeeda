"""The method: how the next point is chosen. Two abstract methods; the loop is in `minimize`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import torch
from jaxtyping import Float
from torch import Tensor

from likely.errors import InvalidInput

State: TypeAlias = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A first-order method: from a point and its gradient to the next point, before projection.

    Args:
        steps: how many updates at the most.
        tol: a row stops once its stationarity `||P(x - grad) - x||_inf` is at most this; None to run
            the whole schedule.
        keep: the iterate that is returned, the "last" or the "best" (least value) of each row; a row
            that meets its tolerance returns the point where it did.
    """

    steps: int = 300
    tol: float | None = None
    keep: Literal["last", "best"] = "best"

    def __post_init__(self) -> None:
        if (
            self.steps < 0
            or self.keep not in ("last", "best")
            or not (self.tol is None or self.tol >= 0)
        ):
            raise InvalidInput(
                f"steps={self.steps}, tol={self.tol}, keep={self.keep!r}; expected steps of 0 or more, "
                "a tol of None or at least 0, and keep 'last' or 'best'."
            )

    @abstractmethod
    def init(self, x: Float[Tensor, "batch *event"]) -> State:
        """Return the state before the first step: tensors with one row for each row of x."""

    @abstractmethod
    def step(
        self,
        k: int,
        x: Float[Tensor, "batch *event"],
        grad: Float[Tensor, "batch *event"],
        state: State,
        generator: torch.Generator,
    ) -> Float[Tensor, "batch *event"]:
        """Return the next point, before projection; `k` counts from 0, `state` is updated in place."""


@final
@dataclass(frozen=True)
class ProjectedGradient(Method):
    """Projected gradient descent, `x <- P(x - lr * grad f(x))`.

    With a step below `2 / L` for an L-Lipschitz gradient the values of a convex f decrease. Its
    defaults are the plain recipe for restoration: 300 steps of 1e-3, and the last iterate.

    Args:
        lr: the step size.
        steps, tol, keep: see `Method`.

    Raises:
        InvalidInput: lr is not positive and finite.

    Reference: Goldstein 1964; Levitin, Polyak 1966.
    """

    lr: float = 1e-3
    keep: Literal["last", "best"] = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_rate(self.lr)

    def init(self, x: Tensor) -> State:
        """Nothing to remember."""
        return {}

    def step(self, k: int, x: Tensor, grad: Tensor, state: State, generator: torch.Generator) -> Tensor:
        """Return `x - lr * grad`."""
        return x - self.lr * grad


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
    """

    scale: float = 10.0
    offset: float = 100.0
    batch: float = 100.0
    noise: float = 1.0
    steps: int = 2000
    keep: Literal["last", "best"] = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        for rate in (self.scale, self.offset, self.batch):
            _check_rate(rate)
        if not 0 <= self.noise < math.inf:
            raise InvalidInput(f"noise is {self.noise}; expected a standard deviation of 0 or more.")

    def init(self, x: Tensor) -> State:
        """Nothing to remember."""
        return {}

    def step(self, k: int, x: Tensor, grad: Tensor, state: State, generator: torch.Generator) -> Tensor:
        """Return `x + a_k (-grad / batch + noise * N(0, I))`."""
        rate = self.scale / (self.offset + k)
        draw = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        return x + rate * (self.noise * draw - grad / self.batch)


@final
@dataclass(frozen=True)
class ProjectedAdam(Method):
    """Adam with a step that decays along a half cosine, then projection.

    `m <- b1 m + (1 - b1) g`, `v <- b2 v + (1 - b2) g^2`,
    `x <- P(x - lr_k (m / (1 - b1^k)) / (sqrt(v / (1 - b2^k)) + eps))`, entry by entry, where
    `lr_k = lr (1 + cos(pi k / steps)) / 2`.

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
    """

    lr: float | Float[Tensor, "*shape"] = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_rate(self.lr)
        _check_rate(self.eps)
        if not all(0 <= b < 1 for b in self.betas):
            raise InvalidInput(f"betas are {self.betas}; expected two decays from 0 to below 1.")

    def init(self, x: Tensor) -> State:
        """Both averages start at zero."""
        return {"m": torch.zeros_like(x), "v": torch.zeros_like(x)}

    def step(self, k: int, x: Tensor, grad: Tensor, state: State, generator: torch.Generator) -> Tensor:
        """Return Adam's next point."""
        b1, b2 = self.betas
        state["m"].lerp_(grad, 1 - b1)
        state["v"].lerp_(grad.square(), 1 - b2)
        rate = self.lr * 0.5 * (1 + math.cos(math.pi * k / self.steps))
        spread = (state["v"] / (1 - b2 ** (k + 1))).sqrt() + self.eps
        return x - rate * (state["m"] / (1 - b1 ** (k + 1))) / spread


def _check_rate(rate: float | Tensor) -> None:
    given = torch.as_tensor(rate)
    if not ((given > 0) & given.isfinite()).all():
        raise InvalidInput(f"got {rate} for a rate or scale; expected a positive, finite number.")
