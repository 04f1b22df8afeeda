"""Check a flow against its definition: does it invert, and is its log-determinant right?"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from likely.flows.bijection import Bijection
from likely.flows.flow import Flow


@final
@dataclass(frozen=True)
class Check:
    """Largest errors over a batch, of the map as given and against autograd in float64."""

    #: `max |f^-1(f(x)) - x|`, in the precision of the flow
    round_trip: float
    #: `max |log_det - log|det df/dx||`, the Jacobian by autograd, in float64, in nats
    log_det: float
    #: `max |log_det of the inverse + log_det of the map|`, in float64, in nats
    inverse_log_det: float


def check(flow_or_bijection: Flow | Bijection, x: Float[Tensor, "batch *event"]) -> Check:
    """Measure round-trip and log-determinant errors at x.

    The Jacobian of each row is formed by autograd on a float64 copy and its log-determinant taken by
    `slogdet`: the definition itself, in O(D^3), so give it a few rows.

    Args:
        flow_or_bijection: what to check; it is left as it was.
        x: a few rows of data.

    Returns:
        The three largest errors.

    Example:
        >>> from likely import flows
        >>> flows.check(flows.nice((6,), width=8, depth=2), torch.rand(3, 6)).log_det < 1e-12
        True
    """
    bijection = (
        flow_or_bijection.bijection if isinstance(flow_or_bijection, Flow) else flow_or_bijection
    )
    # In training mode dropout would make another map of each call.
    exact = copy.deepcopy(bijection).eval().requires_grad_(False)
    native = x.detach().to(next(bijection.parameters(), x).dtype)
    round_trip = (exact.inverse(exact(native)) - native).abs().max().item()

    exact.double()
    rows = x.detach().double()

    def single(row: Tensor) -> Tensor:
        return exact.forward_and_log_det(row[None])[0].flatten()

    truth = torch.stack(
        [
            torch.linalg.slogdet(
                torch.autograd.functional.jacobian(single, row, vectorize=True).flatten(1)  # type: ignore[no-untyped-call]
            )[1]
            for row in rows
        ]
    )
    z, log_det = exact.forward_and_log_det(rows)
    inverse_log_det = exact.inverse_and_log_det(z)[1]
    return Check(
        round_trip,
        (log_det - truth).abs().max().item(),
        (log_det + inverse_log_det).abs().max().item(),
    )
