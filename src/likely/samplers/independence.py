"""Metropolis-Hastings with proposals from a conditional density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from likely.density import Conditional, log_prob_given_of
from likely.errors import InvalidInput
from likely.rows import column
from likely.samplers.given import check_conditional, draw_given
from likely.samplers.sampler import Moved, Plan, Sampler, State, Target, check_lengths


@final
@dataclass(frozen=True)
class Independence(Sampler):
    """Independence Metropolis-Hastings: whole completions from q, accepted so that p is left as it is.

    A draw x' from `q(. | measured)` replaces x with the chance `min(1, r)`,
    `log r = log p(x') - log p(x) + log q(x | measured) - log q(x' | measured)`. The chain forgets its
    start as fast as `1 - 1/M` to the power of the steps, if `p(x | measured) <= M q(x | measured)`
    everywhere; a region that q hardly reaches may be missed, and no figure shows it.

    Args:
        proposal: q, a `likely.density.Conditional`, over [0, 1]; the bounds must lie within.
        chains: how many chains for each row, all of which start from q.
        warmup: steps at first that are not kept.
        thin: steps from one kept draw of a chain to its next; all of them enter the diagnostics.

    Raises:
        InvalidType: the proposal is not conditional, or a setting is no whole number.

    Reference: Tierney 1994; Mengersen, Tweedie 1996.
    """

    proposal: Conditional
    chains: int = 8
    warmup: int = 50
    thin: int = 10

    def __post_init__(self) -> None:
        check_conditional("proposal", self.proposal)
        check_lengths(self.chains, self.warmup, self.thin)

    def plan(self, target: Target, n: int) -> Plan:
        """Return how the chains run.

        Raises:
            InvalidInput: the bounds are wider than [0, 1].
        """
        if (target.free & ((target.low < 0) | (target.high > 1))).any():
            raise InvalidInput(
                "the bounds of a missing entry are wider than [0, 1], and the proposal never leaves "
                "that; expected bounds within [0, 1], or samplers.Hamiltonian()."
            )
        return Plan(self.chains, self.warmup, self.thin, self.chains)

    def init(self, target: Target, chains: int, generator: torch.Generator) -> State:
        """Draws from q, brought within the bounds."""
        drawn, log_q = draw_given(self.proposal, target, chains, generator)
        x = target.fill(drawn)
        if not torch.equal(x, drawn):
            log_q = self._log_q(x, target)
        return {"x": x, "log_prob": target.log_prob(x), "log_q": log_q}

    def move(self, k: int, state: State, target: Target, generator: torch.Generator) -> Moved:
        """Return the chains after one more proposal each."""
        x, log_p, log_q = state["x"], state["log_prob"], state["log_q"]
        new, new_q = draw_given(self.proposal, target, x.shape[1], generator)
        within = (new == target.fill(new)).flatten(2).all(2)
        new_p = torch.where(within, target.log_prob(new), -torch.inf)
        accepted = (new_p - log_p + log_q - new_q).exp().clamp(max=1).nan_to_num(0.0)
        u = torch.rand(log_p.shape, generator=generator, dtype=log_p.dtype, device=log_p.device)
        taken = u < accepted
        state["x"] = torch.where(column(taken, x), new, x)
        state["log_prob"] = torch.where(taken, new_p, log_p)
        state["log_q"] = torch.where(taken, new_q, log_q)
        return Moved(state["x"], state["log_prob"], accepted)

    def _log_q(self, x: Tensor, target: Target) -> Tensor:
        log_q = log_prob_given_of(self.proposal, target.image.shape[1:])
        known = ~target.free[:, None].expand_as(x)
        with torch.no_grad():
            return log_q(x.flatten(0, 1), known.flatten(0, 1)).view(x.shape[:2])
