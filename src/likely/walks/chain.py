"""A Markov chain as splitting uses it: how it starts, how it steps, and when it stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from torch import Tensor

from likely.errors import InvalidInput

#: a number for each of n states, at so many times: `(n, *state)`, `(n,)` -> `(n,)`
OfState: TypeAlias = Callable[[Tensor, Tensor], Tensor]


@final
@dataclass(frozen=True)
class Chain:
    """A Markov chain `X_(t+1) ~ K(X_t, t)` that stops when a rule says so, or at the horizon.

    Args:
        start: `(n, generator) -> states (n, *state)`, at time 0.
        step: `(states, times, generator) -> states` one later; times are integers `(n,)`.
        horizon: the last time.
        stopped: `(states, times) -> booleans (n,)`; None for never before the horizon.

    Raises:
        InvalidInput: the horizon is below 1.

    Example:
        >>> normal = lambda n, generator: torch.zeros(n, dtype=torch.float64)
        >>> def step(x, t, generator):
        ...     return x + torch.randn(x.shape, generator=generator, dtype=x.dtype)
        >>> Chain(normal, step, horizon=10).horizon
        10
    """

    start: Callable[[int, torch.Generator], Tensor]
    step: Callable[[Tensor, Tensor, torch.Generator], Tensor]
    horizon: int
    stopped: OfState | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.horizon, int) or self.horizon < 1:
            raise InvalidInput(f"horizon is {self.horizon!r:.40}; expected an integer of 1 or more.")
