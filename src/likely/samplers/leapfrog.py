"""The one kernel of gradient-driven chains: momentum, a trajectory, an exact accept step, swaps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from likely.checks import positive, share
from likely.errors import InvalidInput, InvalidType
from likely.rows import column
from likely.samplers.adapt import DualAveraging, Scales
from likely.samplers.exchange import exchange
from likely.samplers.sampler import Moved, Plan, Sampler, State, Target, check_lengths
from likely.samplers.starts import Start, check_start, check_start_fits, starts
from likely.samplers.trajectory import leapfrog

#: every trajectory's step is drawn from these times the adapted one, lest it come round in a circle
JITTER = 0.8, 1.2


@dataclass(frozen=True, kw_only=True)
class Leapfrog(Sampler):
    """Chains that follow the gradient of log p between the bounds, accepted exactly.

    A step draws a momentum, `p ~ N(0, I)` on the free entries, follows a trajectory of leapfrog steps
    that are reflected at the bounds, and accepts where it ended with the chance `min(1, exp(H - H'))`,
    `H = -log p(x) / T + |p|^2 / 2`. Step sizes, and a scale for each entry, are adapted during warm-up,
    for each chain and temperature by itself, and then kept.

    Args:
        step: the first step size, in units of the distance between the bounds (1 where they are
            infinite); without a warm-up, the one that is used. None for a tenth.
        warmup: steps at first that are not kept, during which step sizes are found.
        thin: steps from one kept draw of a chain to its next; all of them enter the diagnostics.
        chains: how many chains for each row.
        target: the chance of acceptance to adapt to.
        temperatures: 1 first, then rising: each chain has a replica at each temperature T, with the law
            `p^(1/T)`, and neighbours swap (replica exchange); only what is at 1 is kept.
        start: "uniform" between the bounds (as given where one is infinite), "given" by the image, a
            tensor `(chains, B, *event)`, or a `likely.density.Conditional` to draw from. Chains that
            start alike hide that they do not mix.

    Raises:
        InvalidType, InvalidInput: a setting is not what it should be.
    """

    step: float | None = None
    warmup: int = 300
    thin: int = 25
    chains: int = 4
    target: float = 0.8
    temperatures: Sequence[float] = (1.0,)
    start: Start = "uniform"

    def __post_init__(self) -> None:
        check_lengths(self.chains, self.warmup, self.thin)
        if self.step is not None:
            positive("step", self.step)
        share("target", self.target)
        if not isinstance(self.temperatures, tuple | list):
            raise InvalidType(
                f"temperatures is {self.temperatures!r:.80}; expected a tuple of numbers."
            )
        for t in self.temperatures:
            positive("a temperature", t)
        ladder = [*self.temperatures]
        if not ladder or ladder[0] != 1 or any(b <= a for a, b in pairwise(ladder)):
            raise InvalidInput(
                f"temperatures are {self.temperatures!r:.80}; expected 1.0 first, then rising numbers."
            )
        check_start(self.start)

    @abstractmethod
    def trajectory(self) -> int:
        """Return how many leapfrog steps a trajectory has."""

    def plan(self, target: Target, n: int) -> Plan:
        """Return how the chains run."""
        check_start_fits(self.start, target, self.chains)
        return Plan(self.chains, self.warmup, self.thin, self.chains * len(self.temperatures))

    def init(self, target: Target, chains: int, generator: torch.Generator) -> State:
        """Starts, the density there, and first guesses of the step sizes."""
        temps = len(self.temperatures)
        if isinstance(self.start, Tensor):
            x = starts(self.start, target, chains, generator).repeat_interleave(temps, 1)
        else:
            x = starts(self.start, target, chains * temps, generator)
        log_p, slope = target.value_and_slope(x)
        width = (target.high - target.low)[:, None]
        unit = torch.where(width.isfinite(), width, 1.0) * target.free[:, None]
        first = torch.full_like(log_p, 0.1 if self.step is None else self.step)
        inverse = 1 / torch.tensor(self.temperatures, dtype=x.dtype, device=x.device)
        hot, free = inverse.repeat(chains), target.free[:, None]
        # Known entries have no walls, and no momentum.
        low = torch.where(free, target.low[:, None], -torch.inf)
        high = torch.where(free, target.high[:, None], torch.inf)
        return {
            "hot": hot,
            "warmth": column(hot, slope[0]),
            "walls": (low, high),
            "width": width,
            "x": x,
            "log_prob": log_p,
            "slope": slope,
            "inverse": inverse,
            "step": DualAveraging(first, self.target),
            "scales": Scales(unit, self.warmup, (len(x), chains, temps)),
        }

    def move(self, k: int, state: State, target: Target, generator: torch.Generator) -> Moved:
        """Return the chains after one more trajectory each."""
        x, log_p, slope = state["x"], state["log_prob"], state["slope"]
        adapting, scales = state["step"], state["scales"]
        warming = k < self.warmup
        hot, warmth, free = state["hot"], state["warmth"], target.free[:, None]

        like = {"generator": generator, "dtype": x.dtype, "device": x.device}
        p = torch.randn(x.shape, **like) * free
        jitter = JITTER[0] + (JITTER[1] - JITTER[0]) * torch.rand(log_p.shape, **like)
        size = adapting.exploring() if warming else adapting.settled()
        # Longer than from wall to wall helps nobody, and rounds.
        h = torch.minimum(column(size * jitter, x) * scales.unit, state["width"])
        end, q = leapfrog(
            x,
            p,
            warmth * slope,
            h,
            state["walls"],
            self.trajectory(),
            lambda y: warmth * target.slope(y),
        )
        end = torch.where(free, end, x)
        new_p, new_slope = target.value_and_slope(end)
        q = q + h / 2 * warmth * new_slope
        kinetic = (p.square() - q.square()).flatten(2).sum(2) / 2
        accepted = (hot * (new_p - log_p) + kinetic).exp().clamp(max=1).nan_to_num(0.0)
        taken = torch.rand(log_p.shape, **like) < accepted
        x = torch.where(column(taken, x), end, x)
        log_p = torch.where(taken, new_p, log_p)
        slope = torch.where(column(taken, x), new_slope, slope)
        if warming:
            adapting.update(accepted)
            if scales.update(k, x):
                adapting.restart(adapting.exploring())
        temps = len(self.temperatures)
        if temps > 1:
            order, _ = exchange(k, log_p.view(len(x), -1, temps), state["inverse"], generator)
            index = (order + temps * torch.arange(order.shape[1], device=x.device)[:, None]).flatten(1)
            log_p = log_p.gather(1, index)
            wide = column(index, x).expand_as(x)
            x, slope = x.gather(1, wide), slope.gather(1, wide)
        state.update(x=x, log_prob=log_p, slope=slope)
        return Moved(x[:, ::temps], log_p[:, ::temps], accepted[:, ::temps])
