"""Independent draws from a conditional density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch

from likely.errors import InvalidInput
from likely.samplers.given import check_conditional, draw_given
from likely.samplers.sampler import Moved, Plan, Sampler, State, Target


@final
@dataclass(frozen=True, kw_only=True)
class Direct(Sampler):
    """Independent draws, exact, from a density that is a `likely.density.Conditional`.

    Nothing is rejected and nothing needs to mix. Bounds must not be tighter than [0, 1] where an entry
    is missing; an entry whose bounds are equal counts as measured.

    Example:
        >>> method = Direct()
    """

    def plan(self, target: Target, n: int) -> Plan:
        """Return n chains of one point.

        Raises:
            InvalidType: the density is not conditional.
            InvalidInput: the bounds are tighter than [0, 1], or a measured value lies outside of it.
        """
        check_conditional("density", target.density)
        if (target.free & ((target.low > 0) | (target.high < 1))).any():
            raise InvalidInput(
                "the bounds of a missing entry are tighter than [0, 1], all of which a conditional "
                "density draws from; expected wider bounds, or a method that keeps within them: "
                "samplers.Independence(density), or samplers.Hamiltonian()."
            )
        outside = ~target.free & ((target.image < 0) | (target.image > 1))
        if outside.any():
            raise InvalidInput(
                f"a measured value is {target.image[outside][0].item():g}; a conditional density knows "
                "values from 0 to 1 only: rescale the data, as bytes by 255."
            )
        return Plan(chains=n, warmup=0, thin=1, points=n, independent=True)

    def init(self, target: Target, chains: int, generator: torch.Generator) -> State:
        """Only how many to draw."""
        return {"chains": chains}

    def move(self, k: int, state: State, target: Target, generator: torch.Generator) -> Moved:
        """Return new draws."""
        x, log_p = draw_given(target.density, target, state["chains"], generator)  # type: ignore[arg-type]
        return Moved(x, log_p, torch.ones_like(log_p))
