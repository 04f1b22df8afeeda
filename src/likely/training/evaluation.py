"""The likelihood of rows that are not trained on."""

from __future__ import annotations

import math

import torch
from jaxtyping import Shaped
from torch import Tensor

from likely.data import dequantize
from likely.flows import ExactDensity
from likely.training.processes import Processes


def evaluate(
    flow: ExactDensity,
    rows: Shaped[Tensor, "n *event"],
    *,
    levels: int = 256,
    seed: int = 0,
    batch: int = 500,
) -> tuple[float, float]:
    """Return the mean log-likelihood in nats and its standard error, of rows dequantised once.

    Example:
        >>> from likely import data, flows
        >>> mean, stderr = evaluate(flows.nice((1, 8, 8), width=8), data.digits().test, levels=17)
    """
    values = log_likelihoods(flow, rows, levels, seed, Processes(), batch)
    spread = values.std().item() if len(values) > 1 else math.nan
    return values.mean().item(), spread / len(values) ** 0.5


@torch.no_grad()
def log_likelihoods(
    flow: ExactDensity, rows: Tensor, levels: int, seed: int, processes: Processes, batch: int = 500
) -> Tensor:
    """Return the log-likelihood of each row in nats, float64; processes take the batches in turn."""
    like = next(flow.parameters())
    generator = torch.Generator().manual_seed(seed)
    values = torch.zeros(len(rows), dtype=torch.float64, device=like.device)
    for i, (part, found) in enumerate(
        zip(torch.split(rows, batch), torch.split(values, batch), strict=True)
    ):
        x = continuous(part, levels, generator)  # drawn by all, so that all draw the same
        if i % processes.count == processes.rank:
            found.copy_(flow.log_prob(x.to(like)))
    return processes.sum_(values).cpu()


def continuous(rows: Tensor, levels: int, generator: torch.Generator | None = None) -> Tensor:
    """Return floats as they are, and levels dequantised."""
    return rows if rows.is_floating_point() else dequantize(rows, levels, generator)
