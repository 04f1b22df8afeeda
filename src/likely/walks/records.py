"""The records of many paths: the times and states at which each one's score was higher than ever."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from likely.errors import InvalidInput, InvalidType
from likely.walks.chain import Chain, OfState


@final
class Records:
    """Paths of a chain, of which only the records of the score are kept: where branches can begin.

    The first time above any level is a record, so nothing else of a path is needed, and memory does
    not grow with the horizon but with the records, at most one a time step.

    Args:
        chain: what runs.
        target: the score at which a path need not go on.
        score: of states and times; None for the state itself.
        n: how many paths.
        generator: where randomness comes from.
    """

    def __init__(
        self, chain: Chain, target: float, score: OfState | None, n: int, generator: torch.Generator
    ) -> None:
        self.chain = chain
        self.target = target
        self.generator = generator
        self._score = score
        states = chain.start(n, generator)
        if not isinstance(states, Tensor) or states.shape[:1] != (n,):
            got = tuple(states.shape) if isinstance(states, Tensor) else type(states).__name__
            raise InvalidInput(f"start({n}, generator) returned {got}; expected a tensor of {n} rows.")
        times = torch.zeros(n, dtype=torch.long)
        #: the highest score of each path
        self.best = self.score(states, times)
        #: how many records each path has
        self.count = torch.ones(n, dtype=torch.long)
        #: rising scores with infinity after the last; times and states of the records
        self.scores = self.best[:, None].clone()
        self.times = times[:, None].clone()
        self.states = states[:, None].clone()

    def score(self, states: Tensor, times: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return the score, checked, in float64."""
        value = states if self._score is None else self._score(states, times)
        if not isinstance(value, Tensor) or value.dtype == torch.bool:
            kind = "booleans" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise InvalidType(f"score returned {kind}; expected a number for each state.")
        if value.shape != times.shape:
            raise InvalidInput(
                f"score gives shape {tuple(value.shape)} for states of shape {tuple(states.shape)}; "
                f"expected {tuple(times.shape)}, one number for each state."
            )
        if value.isnan().any():
            raise InvalidInput(f"score returned NaN for {int(value.isnan().sum())} states.")
        return value.double()

    def run(self, rows: Int[Tensor, " m"]) -> None:
        """Let paths go on from their last records until they stop, reach the target or the horizon."""
        last = self.count[rows] - 1
        states, times = self.states[rows, last], self.times[rows, last]
        go = self._going(self.best[rows], states, times)
        while True:
            if not go.all():
                rows, states, times = rows[go], states[go], times[go]
            if not len(rows):
                return
            states = self.chain.step(states, times, self.generator)
            times = times + 1
            score = self.score(states, times)
            up = score > self.best[rows]
            if up.any():
                self._append(rows[up], score[up], states[up], times[up])
            go = self._going(score, states, times)

    def branch(
        self, rows: Int[Tensor, " m"], parents: Int[Tensor, " m"], levels: Float[Tensor, " m"]
    ) -> None:
        """Make paths copies of others, up to and with the first record strictly above a level."""
        scores = self.scores[parents]
        first = torch.searchsorted(scores, levels[:, None], right=True)
        later = torch.arange(scores.shape[1]) > first
        self.scores[rows] = torch.where(later, torch.inf, scores)
        self.best[rows] = scores.gather(1, first)[:, 0]
        self.count[rows] = first[:, 0] + 1
        self.times[rows] = self.times[parents]
        self.states[rows] = self.states[parents]

    def _going(self, score: Tensor, states: Tensor, times: Tensor) -> Tensor:
        go = (score < self.target) & (times < self.chain.horizon)
        return go if self.chain.stopped is None else go & ~self.chain.stopped(states, times)

    def _append(self, rows: Tensor, score: Tensor, states: Tensor, times: Tensor) -> None:
        place = self.count[rows]
        while int(place.max()) >= self.scores.shape[1]:
            self.scores = torch.cat([self.scores, torch.full_like(self.scores, torch.inf)], 1)
            self.times = torch.cat([self.times, torch.zeros_like(self.times)], 1)
            self.states = torch.cat([self.states, torch.zeros_like(self.states)], 1)
        self.scores[rows, place] = score
        self.times[rows, place] = times
        self.states[rows, place] = states
        self.best[rows] = score
        self.count[rows] = place + 1
