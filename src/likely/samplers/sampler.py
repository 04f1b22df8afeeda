"""The sampler: how chains move. Three abstract methods; the loop is in `chains`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from likely.checks import whole
from likely.density import Density, LogProb, log_prob_given_of, value_and_gradient

State: TypeAlias = dict[str, Any]


@final
@dataclass(frozen=True)
class Target:
    """The law to draw from, for each row: p given the known entries, on the box of the others.

    The points of a batch are `(B, S, *event)`: S chains for each of the B rows.

    Args:
        density: anything with `log_prob(x)`; of a `Conditional`, `log p(missing | measured)` counts.
        image: the known entries, `(B, *event)`, and points within the bounds elsewhere.
        free: `(B, *event)`, True where an entry is to be drawn.
        low, high: the bounds, `(B, *event)`; infinite for none.
        steer: a faster density that trajectories follow; None for the density itself. Acceptance is
            always by the density, and so exact.
    """

    density: Density | LogProb
    image: Float[Tensor, "batch *event"]
    free: Bool[Tensor, "batch *event"]
    low: Float[Tensor, "batch *event"]
    high: Float[Tensor, "batch *event"]
    steer: Density | None = None

    def rows(self, index: Int[Tensor, " k"]) -> Target:
        """Return the target of some rows."""
        some = {name: getattr(self, name)[index] for name in ("image", "free", "low", "high")}
        return replace(self, **some)

    def fill(self, x: Float[Tensor, "batch chains *event"]) -> Float[Tensor, "batch chains *event"]:
        """Return x with the known entries in place, bit by bit, and the others within the bounds."""
        inside = torch.clamp(x, self.low[:, None], self.high[:, None])
        return torch.where(self.free[:, None], inside, self.image[:, None])

    def log_prob(self, x: Float[Tensor, "batch chains *event"]) -> Float[Tensor, "batch chains"]:
        """Return the log density of each point; `-inf` where it is not a number."""
        with torch.no_grad():
            return _number(self._of(self.density, x)(x.flatten(0, 1)), x)

    def value_and_slope(self, x: Float[Tensor, "batch chains *event"]) -> tuple[Tensor, Tensor]:
        """Return the log density of each point, and the gradient to follow."""
        if self.steer is not None:
            return self.log_prob(x), self.slope(x)
        value, slope = value_and_gradient(self._of(self.density, x), x.flatten(0, 1))
        return _number(value, x), slope.view_as(x)

    def slope(self, x: Float[Tensor, "batch chains *event"]) -> Float[Tensor, "batch chains *event"]:
        """Return the gradient to follow."""
        density = self.density if self.steer is None else self.steer
        return value_and_gradient(self._of(density, x), x.flatten(0, 1))[1].view_as(x)

    def _of(self, density: Density | LogProb, x: Tensor) -> Callable[[Tensor], Tensor]:
        log_prob = log_prob_given_of(density, self.image.shape[1:])
        known = ~self.free[:, None].expand_as(x)
        return lambda flat: log_prob(flat, known.flatten(0, 1))


class Moved(NamedTuple):
    """Where the chains are after a step, and the chance that each had of being accepted."""

    x: Float[Tensor, "batch chains *event"]
    log_prob: Float[Tensor, "batch chains"]
    accepted: Float[Tensor, "batch chains"]


class Plan(NamedTuple):
    """How chains are run: each warms up, and then every `thin`-th of its points is kept."""

    chains: int
    warmup: int
    thin: int
    #: how many points the density is given at once for each row
    points: int
    #: whether every draw is independent of all others; needs no diagnostics
    independent: bool = False


class Sampler(ABC):
    """Markov chains whose law in the limit is the target, or independent draws from it."""

    @abstractmethod
    def plan(self, target: Target, n: int) -> Plan:
        """Return how to make n draws for each row, or raise an error where this does not apply."""

    @abstractmethod
    def init(self, target: Target, chains: int, generator: torch.Generator) -> State:
        """Return what `move` needs before the first step."""

    @abstractmethod
    def move(self, k: int, state: State, target: Target, generator: torch.Generator) -> Moved:
        """Move every chain once; `state` is updated in place.

        Args:
            k: counts steps from 0; those below the plan's `warmup` are not kept.
            state: what `init` gave.
            target: the law to draw from.
            generator: to draw from.
        """


def check_lengths(chains: int, warmup: int, thin: int) -> None:
    """Raise an error unless these are whole numbers, and large enough."""
    whole("chains", chains)
    whole("warmup", warmup, 0)
    whole("thin", thin)


def _number(value: Tensor, x: Tensor) -> Tensor:
    return torch.where(value.isnan(), -torch.inf, value).view(x.shape[:2])
