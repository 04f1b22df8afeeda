"""The one loop."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from likely.samplers.diagnostics import FEWEST, Moments, ess, rhat, rhat_of_moments
from likely.samplers.sampler import Moved, Sampler, Target
from likely.samplers.samples import MIXED, Samples, Status, Sweep


def sample(
    target: Target,
    n: int,
    method: Sampler,
    generator: torch.Generator,
    on_step: Callable[[Sweep], None] | None = None,
) -> Samples:
    """Draw n points for each row of a target.

    Of all steps after the warm-up it keeps every `thin`-th; the diagnostics use them all, by running
    moments of every entry over each half of each chain, so that memory does not grow with the steps.

    Args:
        target: the law to draw from.
        n: how many draws of each row; those of the chains in turn.
        method: how to draw.
        generator: to draw from.
        on_step: shown all chains after every step.

    Returns:
        `Samples`: the draws, and what they are worth.

    Example:
        >>> low, high = torch.zeros(1, 2), torch.ones(1, 2)
        >>> target = Target(lambda x: -8 * x.square().sum(1), low, low == 0, low, high)
        >>> from likely.samplers import Langevin
        >>> draws = sample(target, 100, Langevin(), torch.Generator().manual_seed(0))
        >>> draws.x.shape, draws.status[0].name
        (torch.Size([100, 1, 2]), 'MIXED')
    """
    plan = method.plan(target, n)
    kept = -(-n // plan.chains)
    length = kept * plan.thin
    state = method.init(target, plan.chains, generator)
    image = target.image
    shape = (len(image), plan.chains)
    draws = image.new_empty(kept, *shape, *image.shape[1:])
    log_p = image.new_empty(kept, *shape)
    history = _History(target, shape, length) if not plan.independent else None
    rows = torch.arange(len(image), device=image.device)
    for k in range(plan.warmup + length):
        now = method.move(k, state, target, generator)
        done = k - plan.warmup + 1
        if on_step is not None:
            on_step(Sweep(k, done <= 0, rows, *(t.clone() for t in now)))
        if history is not None and done > 0:
            history.add(done - 1, now)
        if done > 0 and done % plan.thin == 0:
            draws[done // plan.thin - 1], log_p[done // plan.thin - 1] = now.x, now.log_prob
    # The chains take turns, so that any n of the draws come from as many of them as can be.
    x = draws.transpose(1, 2).flatten(0, 1)[:n]
    log_p = log_p.transpose(1, 2).flatten(0, 1)[:n]
    if history is None:
        one = image.new_ones(len(image))
        return Samples(x, log_p, one, one * n, one, (Status.INDEPENDENT,) * len(image))
    return history.samples(x, log_p)


class _History:
    """What is remembered of the steps after the warm-up."""

    def __init__(self, target: Target, shape: tuple[int, int], length: int) -> None:
        self.free, self.length = target.free, length
        self.halves = Moments(), Moments()
        self.accepted = target.image.new_zeros(shape[0])
        # log p, and the mean of the free entries
        self.traces = target.image.new_empty(2, *shape, length)

    def add(self, i: int, now: Moved) -> None:
        if i < self.length // 2:
            self.halves[0].add(now.x)
        if i >= self.length - self.length // 2:
            self.halves[1].add(now.x)
        self.accepted += now.accepted.mean(1) / self.length
        free = self.free[:, None]
        self.traces[0, ..., i] = now.log_prob
        total = torch.where(free, now.x, 0.0).flatten(2).sum(2)
        self.traces[1, ..., i] = total / free.flatten(2).sum(2).clamp(min=1)

    def samples(self, x: Tensor, log_p: Tensor) -> Samples:
        worth, ratio = self._ess(), self._rhat()
        finite = self.traces[0].isfinite().flatten(1).all(1)
        few = worth < len(x)
        status = [
            Status.NONFINITE
            if not f
            else Status.UNMIXED
            if not r <= MIXED
            else Status.FEW
            if s
            else Status.MIXED
            for f, r, s in zip(finite.tolist(), ratio.tolist(), few.tolist(), strict=True)
        ]
        return Samples(x, log_p, self.accepted, worth, ratio, tuple(status))

    def _ess(self) -> Float[Tensor, " batch"]:
        if self.length < FEWEST:
            return self.accepted.new_zeros(len(self.accepted))
        both = ess(self.traces.double())
        # A constant trace, as log p of a uniform law, tells nothing.
        return both.nan_to_num(torch.inf).amin(0).nan_to_num(posinf=0.0).to(self.accepted)

    def _rhat(self) -> Float[Tensor, " batch"]:
        if self.length < FEWEST:
            return torch.full_like(self.accepted, torch.nan)
        mean, var = (
            torch.stack([getattr(h, name) for h in self.halves], 2).flatten(1, 2).movedim(1, -1)
            for name in ("mean", "var")
        )
        entries = rhat_of_moments(mean, var, self.length // 2)
        entries = torch.where(self.free, entries, 1.0).flatten(1).amax(1)
        return torch.maximum(entries, rhat(self.traces[0]))
