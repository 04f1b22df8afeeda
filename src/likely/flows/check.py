"""Check a flow against its definition: does it invert, is its log-determinant right, and where not?"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast, final

import torch
from jaxtyping import Float
from torch import Tensor

from likely.checks import kind, tensor
from likely.errors import InvalidInput, InvalidType
from likely.flows.bijection import Bijection, Chain
from likely.flows.flow import Flow
from likely.flows.reversible import one_a_row
from likely.flows.squeeze import FactorOut


@final
@dataclass(frozen=True)
class Layer:
    """The errors of one layer alone, at what reaches it, in the precision of the flow."""

    #: where it is, such as `parts.3 (PLUConv)`
    name: str
    #: `max |f^-1(f(x)) - x|`
    round_trip: float
    #: `max |log_det - log|det df/dx||`, the Jacobian by autograd in float64, in nats
    log_det: float


@final
@dataclass(frozen=True)
class Check:
    """Largest errors over a batch, of the map as given and against autograd in float64.

    Example:
        >>> from likely import flows
        >>> found = flows.check(flows.PLUConv(4), torch.rand(2, 4, 3, 3))
        >>> found.log_det < 1e-12, found.round_trip < 1e-5, found.layers[0].name
        (True, True, '(PLUConv)')
    """

    #: `max |f^-1(f(x)) - x|`, in the precision of the flow
    round_trip: float
    #: `max |log_det - log|det df/dx||`, the Jacobian by autograd, in float64, in nats
    log_det: float
    #: `max |log_det of the inverse + log_det of the map|`, in float64, in nats
    inverse_log_det: float
    #: the same of each layer, in the order in which data meets them
    layers: tuple[Layer, ...]

    @property
    def weakest(self) -> Layer:
        """The layer that loses the most accuracy, by the larger of its errors; NaN is the largest."""

        def error(layer: Layer) -> tuple[bool, float]:
            return max((math.isnan(e), e) for e in (layer.round_trip, layer.log_det))

        return max(self.layers, key=error)


def check(flow_or_bijection: Flow | Bijection, x: Float[Tensor, "batch *event"]) -> Check:
    """Measure round-trip and log-determinant errors at x, of the whole and of each layer.

    The Jacobian of each row is formed by autograd on a float64 copy and its log-determinant taken by
    `slogdet`: the definition itself, in O(D^3), so give it a few rows.

    Args:
        flow_or_bijection: what to check; it is left as it was.
        x: a few rows of data.

    Raises:
        InvalidType: it is neither a flow nor a bijection, or x is no floating-point tensor.
        InvalidInput: x holds no numbers, or a log-determinant is not one number a row.

    Returns:
        The largest errors, and those of each layer.

    Example:
        >>> from likely import flows
        >>> found = flows.check(flows.nice((6,), width=8, depth=2), torch.rand(3, 6))
        >>> found.log_det < 1e-12, len(found.layers)
        (True, 6)
    """
    bijection = (
        flow_or_bijection.bijection if isinstance(flow_or_bijection, Flow) else flow_or_bijection
    )
    if not isinstance(bijection, Bijection):
        raise InvalidType(f"{kind(bijection)} was given; expected a flow or a bijection.")
    if tensor("x", x).numel() == 0:
        raise InvalidInput(f"x has shape {tuple(x.shape)}; expected one row or more.")
    # In training mode dropout would make another map of each call.
    native = copy.deepcopy(bijection).eval().requires_grad_(False)
    given = x.detach().to(next(bijection.parameters(), x).dtype)
    round_trip = _largest(native.inverse(native(given)) - given)
    layers = tuple(_layer(name, part, at) for name, part, at in _walk(native, given))

    exact = copy.deepcopy(native).double()
    rows = x.detach().double()
    z, log_det = exact.forward_and_log_det(rows)
    inverse_log_det = exact.inverse_and_log_det(z)[1]
    return Check(
        round_trip,
        _largest(one_a_row(log_det, rows) - _log_det_by_autograd(exact, rows)),
        _largest(log_det + one_a_row(inverse_log_det, z)),
        layers,
    )


def _layer(name: str, part: Bijection, x: Tensor) -> Layer:
    z, log_det = part.forward_and_log_det(x)
    truth = _log_det_by_autograd(copy.deepcopy(part).double(), x.double())
    return Layer(name, _largest(part.inverse(z) - x), _largest(one_a_row(log_det, x) - truth))


def _walk(part: Bijection, x: Tensor, name: str = "") -> Iterator[tuple[str, Bijection, Tensor]]:
    """Yield every layer with its place and what reaches it, in the order of the data."""
    if isinstance(part, Chain):
        for i, child in enumerate(cast(Iterable[Bijection], part.parts)):
            yield from _walk(child, x, f"{name}parts.{i}.")
            x = child(x)
    elif isinstance(part, FactorOut):
        yield from _walk(part.rest, x[:, part.channels :], f"{name}rest.")
    else:
        yield f"{name[:-1]} ({type(part).__name__})".strip(), part, x


def _log_det_by_autograd(bijection: Bijection, rows: Tensor) -> Tensor:
    def single(row: Tensor) -> Tensor:
        return bijection.forward_and_log_det(row[None])[0].flatten()

    jacobians = [
        torch.autograd.functional.jacobian(single, row, vectorize=True).flatten(1)  # type: ignore[no-untyped-call]
        for row in rows
    ]
    return torch.stack([torch.linalg.slogdet(jacobian)[1] for jacobian in jacobians])


def _largest(errors: Tensor) -> float:
    return errors.abs().max().item()
