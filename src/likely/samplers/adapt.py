"""Step sizes, found during warm-up."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from likely.rows import column
from likely.samplers.diagnostics import Moments

#: of dual averaging: how hard it pulls, how it begins, how fast it forgets
GAMMA, OFFSET, FORGET = 0.05, 10.0, 0.75
#: the logarithm of a step that is far beyond any law worth drawing from
LONGEST = 30.0


@final
class DualAveraging:
    """The step size of each chain, driven towards a chance of acceptance.

    After warm-up step t with chance a_t: `log h_{t+1} = mu - sqrt(t) / gamma * H_t`,
    `H_t = (1 - 1/(t + 10)) H_{t-1} + (target - a_t) / (t + 10)`; what is used afterwards is the average
    of the log h_t with weights that fall like `t^-0.75`.

    Reference: Hoffman, Gelman 2014, section 3.2.1.
    """

    def __init__(self, step: Float[Tensor, "batch chains"], target: float) -> None:
        self.target = target
        self.restart(step)

    def restart(self, step: Float[Tensor, "batch chains"]) -> None:
        """Begin again, from a first guess."""
        self.t = 0
        self.log_step = step.log()
        self.mu = self.log_step + 1.0
        self.error = torch.zeros_like(step)
        self.average = torch.zeros_like(step)

    def update(self, accepted: Float[Tensor, "batch chains"]) -> None:
        """Learn from the chances of one step."""
        self.t += 1
        weight = 1 / (self.t + OFFSET)
        self.error = (1 - weight) * self.error + weight * (self.target - accepted)
        # Of a flat law every step is accepted, however long.
        self.log_step = (self.mu - self.t**0.5 / GAMMA * self.error).clamp(-LONGEST, LONGEST)
        self.average = self.average.lerp(self.log_step, self.t**-FORGET)

    def exploring(self) -> Float[Tensor, "batch chains"]:
        """Return the step sizes to try next."""
        return self.log_step.exp()

    def settled(self) -> Float[Tensor, "batch chains"]:
        """Return the step sizes to keep."""
        return (self.average if self.t else self.log_step).exp()


@final
class Scales:
    """A scale for each entry: how far it varied during a part of the warm-up.

    At a quarter, a half and three quarters of the warm-up, the standard deviation over the steps since
    and over the chains of a row takes the place of the scales, floored at a hundredth of the root mean
    square of the row, and with the geometric mean that the scales had.

    Args:
        unit: the first scales, zero where an entry is known.
        warmup: the steps of the warm-up.
        groups: rows, chains, temperatures.
    """

    def __init__(
        self, unit: Float[Tensor, "batch #chains *event"], warmup: int, groups: tuple[int, int, int]
    ) -> None:
        self.unit, self.groups, self.seen = unit, groups, Moments()
        # In a shorter warm-up a few wandering points would pass for a law.
        self.ends = {warmup * i // 4 for i in (1, 2, 3)} if warmup >= SHORTEST else set()

    def update(self, k: int, x: Float[Tensor, "batch chains *event"]) -> bool:
        """Take in the points after step k; say whether the scales are new."""
        if not self.ends or k >= max(self.ends):
            return False
        self.seen.add(x)
        if k + 1 not in self.ends:
            return False
        shape = (*self.groups, *x.shape[2:])
        mean, var = (t.view(shape) for t in (self.seen.mean, self.seen.var))
        var = var.mean(1, keepdim=True) + mean.var(1, correction=0, keepdim=True)
        var = var.expand_as(mean).flatten(1, 2)
        self.seen = Moments()
        free = self.unit > 0
        count = free.flatten(2).sum(2).clamp(min=1)
        typical = column(var.flatten(2).sum(2) / count, var)
        new = torch.maximum(var, 1e-4 * typical).sqrt()
        level = (self._logs(self.unit, free) - self._logs(new, free)).flatten(2).sum(2) / count
        new = torch.where(free, new * column(level.exp(), var), 0.0)
        self.unit = torch.where(typical > 0, new, self.unit)
        return True

    @staticmethod
    def _logs(scale: Tensor, free: Tensor) -> Tensor:
        return torch.where(free, scale, 1.0).log()


#: steps of a warm-up below which no scales are adapted
SHORTEST = 40
