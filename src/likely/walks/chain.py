"""A Markov chain as splitting uses it: how it starts, how it steps, and when it stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from torch import Tensor

from likely.errors import InvalidInput

#: (time, states) -> a value for each of n states, `(n,)`
OfState: TypeAlias = Callable[[int, Tensor], Tensor]


@final
@dataclass(frozen=True)
class Chain:
    """A Markov chain `X_(t+1) ~ K(X_t, t)` that stops when a rule says so, or at the horizon.

    Args:
        start: `(n, generator) -> states (n, *state)`, at time 0.
        step: `(time, states, generator) -> states` one later.
        horizon: the last time.
        stopped: `(time, states) -> booleans (n,)`; None for never before the horizon.

    Raises:
        InvalidInput: the horizon is below 1.

    Example:
        >>> def step(t, x, generator):
        ...     return x + torch.randn(x.shape, generator=generator, dtype=x.dtype)
        >>> Chain(lambda n, generator: torch.zeros(n).double(), step, horizon=10).horizon
        10
    """

    start: Callable[[int, torch.Generator], Tensor]
    step: Callable[[int, Tensor, torch.Generator], Tensor]
    horizon: int
    stopped: OfState | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.horizon, int) or self.horizon < 1:
            raise InvalidInput(f"horizon is {self.horizon!r:.40}; expected an integer of 1 or more.")
