"""The registry of walks and their proposals, small enough to enumerate every path."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import torch
from torch import Tensor

from likely import Walk
from likely.walks import finite
from likely.walks.functionals import Functional


def drifting(t: int, x: Tensor) -> Tensor:
    """A chance of a step up that depends on time and state."""
    return 0.45 + 0.01 * t + 0.02 * (x % 3)


def aim(t: int, x: Tensor) -> Tensor:
    return (0.5 + 0.05 * (4 - x) / (9 - t)).clamp(0.1, 0.9)


@dataclass(frozen=True)
class Case:
    """A walk, its events, its proposals, and which of them cover which event."""

    walk: Walk
    #: the chance of each value at (time, state), independently of the package
    chance: Callable[[int, int], dict[int, float]]
    functionals: dict[str, Functional]
    proposals: dict[str, Walk] = field(default_factory=dict)
    #: proposals for one event alone
    aimed: dict[str, Walk] = field(default_factory=dict)

    def paths(self) -> tuple[Tensor, Tensor]:
        """Every path, stopped where the walk stops, and its probability, by enumeration."""
        g = self.walk.geometry
        found: dict[tuple[int, ...], float] = {}

        def stops(t: int, x: int) -> bool:
            beyond = (g.low is not None and x <= g.low) or (g.high is not None and x >= g.high)
            return beyond or (g.rule is not None and bool(g.rule(t, torch.tensor([x]))[0]))

        for moves in itertools.product(self.chance(0, int(g.start)), repeat=g.end):
            path, p = [int(g.start)], 1.0
            on = True
            for t, move in enumerate(moves):
                on = on and not (g.absorbing and stops(t, path[-1]))
                p *= self.chance(t, path[-1])[move] if on else 1.0
                path.append(path[-1] + (move if on else 0))
            found[tuple(path)] = p
        return torch.tensor(list(found)), torch.tensor(list(found.values()), dtype=torch.float64)


def two(p: float) -> Callable[[int, int], dict[int, float]]:
    return lambda t, x: {1: p, -1: 1 - p}


def events(w: Walk) -> dict[str, Functional]:
    found = {"stopping time": w.stopping_time(), "survives": w.survives(), "above": w.ends_above(1)}
    found["last"] = w.terminal(lambda x: x.double() - 0.5)
    if w.geometry.high is not None:
        found["hits"] = w.hits(w.geometry.high)
        found["inner level"] = w.hits(w.geometry.high - 1)
        found["passage"] = w.passage_time(w.geometry.high)
        found["inner passage"] = w.passage_time(w.geometry.high - 1, missed=-1.0)
    if w.geometry.low is not None:
        found["ruined"] = w.ruined()
    return found


def case(
    w: Walk,
    chance: Callable[[int, int], dict[int, float]],
    proposals: dict[str, Walk],
    transforms: bool = True,
) -> Case:
    aimed = {}
    if transforms:
        aimed["doob"] = w.doob(w.geometry.high)
    if transforms and w.steps.fractions != () and "const" in proposals:
        aimed["bridge"] = w.bridge(w.geometry.high, last=2)
        aimed["bridge, last=0"] = w.bridge(w.geometry.high, last=0)
    return Case(w, chance, events(w), {k: v for k, v in proposals.items() if k != "const"}, aimed)


GAMBLER = Walk(Fraction(18, 37), start=2, low=0, high=5, horizon=9)
LOOSE = Walk(0.3, start=0, horizon=8)
STEP = finite([-1, 0, 2], [0.5, 0.125, 0.375])
LEAPS = Walk(steps=STEP, start=3, low=0, high=7, horizon=6)
MOVING = Walk(drifting, start=1, low=-2, high=4, horizon=8)
RULED = Walk(0.4, 1, -3, 4, 8, stop=lambda t, x: (x == 2) & torch.tensor(t >= 3))
WAVES = finite(
    [2, -1, -2], lambda t, x: torch.stack([x * 0 + 0.3, 0.3 + 0.02 * (x % 2), 0.4 - 0.02 * (x % 2)], 1)
)
WAVY = Walk(steps=WAVES, start=0, low=-4, high=4, horizon=5)
FULL = GAMBLER.unstopped()

CASES = {
    "gambler": case(
        GAMBLER, two(18 / 37),
        {"tilt": GAMBLER.tilt(0.6), "feedback": GAMBLER.feedback(aim), "const": GAMBLER},
    ),
    "no levels": case(LOOSE, two(0.3), {"tilt": LOOSE.tilt(0.5)}, transforms=False),
    "finite": case(
        LEAPS, lambda t, x: {-1: 0.5, 0: 0.125, 2: 0.375}, {"tilt": LEAPS.tilt(0.2), "const": LEAPS}
    ),
    "moving": case(
        MOVING,
        lambda t, x: two(float(drifting(t, torch.tensor(x, dtype=torch.float64))))(t, x),
        {"tilt": MOVING.tilt(0.55), "feedback": MOVING.feedback(aim)},
    ),
    "rule": case(RULED, two(0.4), {"tilt": RULED.tilt(0.5)}, transforms=False),
    "finite and moving": case(
        WAVY,
        lambda t, x: {2: 0.3, -1: 0.3 + 0.02 * (x % 2), -2: 0.4 - 0.02 * (x % 2)},
        {"feedback": WAVY.feedback(lambda t, x: torch.tensor([0.5, 0.25, 0.25]).expand(len(x), 3))},
    ),
    "unstopped": case(FULL, two(18 / 37), {"tilt": FULL.tilt(0.6)}, transforms=False),
}  # fmt: skip

TRIPLES = [
    (name, event, via)
    for name, one in CASES.items()
    for event in one.functionals
    for via in [*one.proposals, *(one.aimed if event in ("hits", "passage") else [])]
]


def weights(p: Tensor, q: Tensor) -> Tensor:
    """p / q where q comes."""
    return torch.where(q > 0, p / torch.where(q > 0, q, 1.0), 0.0)


__all__ = ["CASES", "TRIPLES", "Case", "math", "weights"]
