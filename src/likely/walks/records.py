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
        score: of (time, states); None for the state itself.
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
            raise InvalidInput(
                f"start({n}, generator) returned {_kind(states)}; expected a tensor of {n} rows."
            )
        #: the highest score of each path
        self.best = self.score(0, states)
        #: how many records each path has
        self.count = torch.ones(n, dtype=torch.long)
        #: rising scores with infinity after the last; times and states of the records
        self.scores = self.best[:, None].clone()
        self.times = torch.zeros(n, 1, dtype=torch.long)
        self.states = states[:, None].clone()

    def score(self, time: int, states: Tensor) -> Float[Tensor, " n"]:
        """Return the score, checked, in float64."""
        value = states if self._score is None else self._score(time, states)
        if not isinstance(value, Tensor) or value.dtype == torch.bool:
            raise InvalidType(f"score returned {_kind(value)}; expected a number for each state.")
        if value.shape != states.shape[:1]:
            raise InvalidInput(
                f"score gives shape {tuple(value.shape)} for states of shape {tuple(states.shape)}; "
                f"expected ({len(states)},), one number for each state."
            )
        if value.isnan().any():
            raise InvalidInput(f"score returned NaN for {int(value.isnan().sum())} states.")
        return value.double()

    def run(self, rows: Int[Tensor, " m"]) -> None:
        """Let paths go on from their last records until they stop, reach the target or the horizon.

        They go on together: each joins at the time of its last record.
        """
        begin = self.times[rows, self.count[rows] - 1]
        times, sizes = begin.unique(return_counts=True)  # type: ignore[no-untyped-call]
        groups = torch.split(rows[begin.argsort()], sizes.tolist())
        joining = dict(zip(times.tolist(), groups, strict=True))
        rows, states, time = rows[:0], self.states[:0, 0], 0
        while joining or len(rows):
            time = time + 1 if len(rows) else min(joining)
            if len(rows):
                states = self._stepped(time - 1, states)
                score = self.score(time, states)
                up = score > self.best[rows]
                if up.any():
                    self._append(rows[up], score[up], states[up], time)
            if time in joining:
                new = joining.pop(time)
                rows = torch.cat([rows, new])
                states = torch.cat([states, self.states[new, self.count[new] - 1]])
            go = self._going(time, rows, states)
            if not go.all():
                rows, states = rows[go], states[go]

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

    def _going(self, time: int, rows: Tensor, states: Tensor) -> Tensor:
        if time >= self.chain.horizon:
            return torch.zeros_like(rows, dtype=torch.bool)
        go = self.best[rows] < self.target  # to reach it makes a record
        if self.chain.stopped is None:
            return go
        stopped = self.chain.stopped(time, states)
        if not isinstance(stopped, Tensor) or (stopped.dtype, stopped.shape) != (go.dtype, go.shape):
            raise InvalidInput(
                f"stopped returned {_kind(stopped)} for {len(rows)} states; expected one boolean each."
            )
        return go & ~stopped

    def _stepped(self, time: int, states: Tensor) -> Tensor:
        after = self.chain.step(time, states, self.generator)
        if not isinstance(after, Tensor) or after.shape != states.shape:
            raise InvalidInput(
                f"step returned {_kind(after)} for states of shape {tuple(states.shape)}; "
                "expected as many states."
            )
        if after.dtype != states.dtype:
            raise InvalidType(
                f"step returned {after.dtype} for states of {states.dtype}; expected the same: let "
                "start return them as step does."
            )
        return after

    def _append(self, rows: Tensor, score: Tensor, states: Tensor, time: int) -> None:
        place = self.count[rows]
        while int(place.max()) >= self.scores.shape[1]:
            self.scores = torch.cat([self.scores, torch.full_like(self.scores, torch.inf)], 1)
            self.times = torch.cat([self.times, torch.zeros_like(self.times)], 1)
            self.states = torch.cat([self.states, torch.zeros_like(self.states)], 1)
        self.scores[rows, place] = score
        self.times[rows, place] = time
        self.states[rows, place] = states
        self.best[rows] = score
        self.count[rows] = place + 1


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"
