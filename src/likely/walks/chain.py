"""A Markov chain as splitting uses it: how it starts, how it steps, and when it stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
import torch
from torch import Tensor

from likely.checks import function, whole
from likely.errors import InvalidType
from likely.walks.bits import Bits
from likely.walks.walk import Walk

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
        InvalidType: start, step or stopped is no function.
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
        whole("horizon", self.horizon)
        function("start", self.start, "(n, generator) -> states")
        function("step", self.step, "(time, states, generator) -> states")
        if self.stopped is not None:
            function("stopped", self.stopped, "(time, states) -> booleans")


def chain_of(walk: Walk | Chain) -> Chain:
    """Return a walk as a chain with the same law of paths; a chain is returned as it is.

    Raises:
        InvalidType: it is neither.
        InvalidInput: the walk has no horizon.

    Example:
        >>> chain_of(Walk(p=0.5, low=-3, horizon=10)).start(2, torch.Generator()).tolist()
        [0, 0]
    """
    if isinstance(walk, Chain):
        return walk
    if not isinstance(walk, Walk):
        raise InvalidType(f"chain is a {type(walk).__name__}; expected a Chain or a Walk.")
    geometry, steps = walk.geometry, walk.steps

    def start(n: int, generator: torch.Generator) -> Tensor:
        return torch.from_numpy(np.full(n, geometry.start, walk.dtype))

    def step(time: int, states: Tensor, generator: torch.Generator) -> Tensor:
        bits = Bits(int(torch.randint(2**63 - 1, (), generator=generator)))
        x = states.numpy()
        return torch.from_numpy(steps.draw(time, x, np.ones_like(x), 1, bits)[0])

    def stopped(time: int, states: Tensor) -> Tensor:
        return torch.from_numpy(geometry.stops(time, states.numpy()))

    return Chain(start, step, geometry.end, stopped)
