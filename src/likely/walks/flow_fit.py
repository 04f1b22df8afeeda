"""Train a flow on weighted points, and stop where points held out say so."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from likely.flows import Flow

#: points in a step, and the largest step size
BATCH = 256
RATE = 3e-3
#: steps from one look at the held-out points to the next
EVERY = 25


def train_flow(
    flow: Flow,
    z: Float[Tensor, "n dim"],
    w: Float[Tensor, " n"],
    held: Bool[Tensor, " n"],
    steps: int,
    generator: torch.Generator,
) -> None:
    """Maximise `sum_i w_i log q(z_i)` over the parameters of a flow, in place, by Adam.

    The parameters kept are those with the largest sum over the held-out points, the first included.
    """
    rows = z.to(next(flow.parameters())).reshape(-1, *flow.event_shape)
    shown = w * ~held
    best, kept = _fit(flow, rows[held], w[held]), copy.deepcopy(flow.state_dict())
    optimiser = torch.optim.Adam(flow.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    for step in range(1, steps + 1):
        batch = rows[torch.multinomial(shown, BATCH, replacement=True, generator=generator)]
        flow.train()
        optimiser.zero_grad()
        with torch.enable_grad():
            loss = -flow.log_prob(batch).mean()
            loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 10.0)
        optimiser.step()
        schedule.step()
        if step % EVERY == 0 or step == steps:
            now = _fit(flow, rows[held], w[held])
            if now > best:
                best, kept = now, copy.deepcopy(flow.state_dict())
    flow.load_state_dict(kept)
    flow.eval()


@torch.no_grad()
def _fit(flow: Flow, rows: Tensor, w: Tensor) -> float:
    flow.eval()
    return float((w * flow.log_prob(rows)).sum())
