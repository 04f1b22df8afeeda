"""The likelihood of rows that are not trained on."""

from __future__ import annotations

import math

import torch
from jaxtyping import Shaped
from torch import Tensor

from likely.checks import kind, whole
from likely.data import dequantize
from likely.density import evaluating
from likely.errors import InvalidInput, InvalidType
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

    The flow is evaluated without dropout, and left in the mode it was in.

    Raises:
        InvalidInput: the rows do not fit the flow, are not finite, or hold a level of `levels` or more;
            or the flow has seen no data.
        InvalidType: the rows are neither floats nor uint8 levels.

    Example:
        >>> from likely import data, flows
        >>> mean, stderr = evaluate(flows.nice((1, 8, 8), width=8), data.digits().test, levels=17)
    """
    check_rows("rows", rows, flow, levels)
    with evaluating(flow):
        values = log_likelihoods(flow, rows, levels, seed, Processes(), whole("batch", batch))
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


def check_rows(name: str, rows: Tensor, flow: ExactDensity, levels: int) -> None:
    """Refuse rows that are no data for a flow, finite floats or levels below `levels`."""
    if not isinstance(rows, Tensor):
        raise InvalidType(f"{name} is {kind(rows)}; expected a tensor of rows.")
    if rows.shape[1:] != flow.event_shape or len(rows) == 0:
        raise InvalidInput(
            f"{name} has shape {tuple(rows.shape)}; expected (N, "
            f"{', '.join(map(str, flow.event_shape))}) with N at least 1."
        )
    if not (rows.is_floating_point() or rows.dtype == torch.uint8):
        raise InvalidType(f"{name} has dtype {rows.dtype}; expected floats, or levels as torch.uint8.")
    if rows.dtype == torch.uint8 and int(rows.max()) >= whole("levels", levels):
        raise InvalidInput(f"{name} holds level {int(rows.max())}; expected 0 to {levels - 1}.")
    if rows.is_floating_point() and not rows.isfinite().all():
        raise InvalidInput(f"{name} holds NaN or infinite values; remove those rows.")


def continuous(rows: Tensor, levels: int, generator: torch.Generator | None = None) -> Tensor:
    """Return floats as they are, and levels dequantised."""
    return rows if rows.is_floating_point() else dequantize(rows, levels, generator)
