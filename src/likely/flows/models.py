"""Ready-made models: functions that build a flow and remember how, so that it can be saved."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

import numpy as np

from likely.checks import shape_of, whole
from likely.errors import InvalidInput
from likely.flows.base import StandardLogistic, StandardNormal
from likely.flows.bijection import Bijection, Chain, Reshape
from likely.flows.coupling import AdditiveCoupling, Coupling
from likely.flows.exact import ExactDensity
from likely.flows.flow import Flow
from likely.flows.networks import MLP
from likely.flows.scaling import DiagonalScaling
from likely.flows.spline import Spline
from likely.flows.splits import halves, interleaved
from likely.flows.transforms import Affine

Built = TypeVar("Built", bound=ExactDensity)

MODELS: dict[str, Callable[..., ExactDensity]] = {}
#: arguments that others leave without effect: which one, where it has one, and that in words
NEEDS: dict[str, tuple[str, Callable[[object], bool], str]] = {
    "dropout": ("depth", lambda depth: depth != 0, "1 or more"),
    "margin": ("preprocess", lambda name: name == "logit", "'logit'"),
    "bins": ("coupling", lambda name: name == "spline", "'spline'"),
}


def model(build: Callable[..., Built]) -> Callable[..., Built]:
    """Register a builder by its name, and note its arguments as the `config` of what it builds."""

    @functools.wraps(build)
    def remember(*args: object, **kwargs: object) -> Built:
        call = inspect.signature(build).bind(*args, **kwargs)
        call.apply_defaults()
        _refuse_without_effect(call)
        flow = build(*call.args, **call.kwargs)
        settings = {k: _plain(v) for k, v in call.arguments.items()}
        flow.config = {"model": build.__name__, **settings, "event_shape": list(flow.event_shape)}
        return flow

    MODELS[build.__name__] = remember
    return remember


def has_effect(name: str, given: Mapping[str, object]) -> bool:
    """Return whether an argument of a model has an effect beside the others.

    Example:
        >>> has_effect("bins", {"coupling": "affine"}), has_effect("bins", {"coupling": "spline"})
        (False, True)
    """
    other, works, _ = NEEDS.get(name, ("", None, ""))
    return works is None or other not in given or works(given[other])


def _refuse_without_effect(call: inspect.BoundArguments) -> None:
    given = call.arguments
    for name in [name for name in NEEDS if name in given and not has_effect(name, given)]:
        if given[name] != call.signature.parameters[name].default:
            other, _, wanted = NEEDS[name]
            raise InvalidInput(
                f"{name} is {given[name]!r}, which has no effect where {other} is {given[other]!r}; "
                f"leave {name} out, or let {other} be {wanted}."
            )


def _plain(value: object) -> object:
    """Return an argument as JSON gives it back, which knows neither tuples nor numbers of NumPy."""
    if isinstance(value, tuple):
        return list(value)
    return value.item() if isinstance(value, np.generic) else value


@model
def nice(
    event_shape: Sequence[int],
    width: int = 1000,
    depth: int = 5,
    couplings: int = 4,
    dropout: float = 0.0,
    split: Literal["interleaved", "halves"] = "interleaved",
    first: int = 0,
) -> Flow:
    """Build a NICE: additive couplings, then a diagonal scaling, with a logistic base law.

    `log p(x) = sum_i [log sigmoid(z_i) + log sigmoid(-z_i)] + sum_i s_i`, where z is x after the
    couplings, times `exp(s)`; the couplings have `log_det = 0`. The couplings move the even and
    the odd entries of the flattened row in turn.

    Args:
        event_shape: the shape of one data point, such as `(1, 28, 28)`; at least 2 entries.
        width: entries of each hidden layer.
        depth: hidden layers in each coupling's network.
        couplings: how many; at least 2, so that every entry moves.
        dropout: probability of dropping a hidden entry in training.
        split: "interleaved" (even and odd entries, as published) or "halves".
        first: which entries the first coupling moves: 0 for the even ones (first half), 1 for the odd.

    Raises:
        InvalidInput: a size is too small, or the split is unknown.

    Reference: Dinh, Krueger, Bengio 2015, "NICE: Non-linear independent components estimation".

    Example:
        >>> flow = nice((1, 8, 8), width=32, depth=2)
        >>> sum(p.numel() for p in flow.parameters())
        12736
    """
    dim = math.prod(shape_of("event_shape", event_shape))
    if dim < 2 or whole("couplings", couplings, least=0) < 2:
        raise InvalidInput(
            f"nice was given event shape {tuple(event_shape)} and {couplings} coupling(s); expected at "
            "least 2 entries and 2 couplings, so that every entry moves."
        )
    if split not in ("interleaved", "halves") or first not in (0, 1):
        raise InvalidInput(
            f"split is {split!r} and first {first!r}; expected 'interleaved' or 'halves', and 0 or 1."
        )
    parts: list[Bijection] = [Reshape(event_shape, (dim,))]
    for i in range(couplings):
        side = interleaved((first + i) % 2) if split == "interleaved" else halves(dim, (first + i) % 2)
        moved, kept = side.sizes(dim)
        parts.append(AdditiveCoupling(side, MLP(kept, moved, width, depth, dropout)))
    parts.append(DiagonalScaling((dim,)))
    return Flow(Chain(parts), StandardLogistic((dim,)), event_shape)


@model
def nsf(
    event_shape: Sequence[int],
    width: int = 64,
    depth: int = 2,
    couplings: int = 4,
    bins: int = 8,
    limit: float = 5.0,
) -> Flow:
    """Build a neural spline flow over flat rows: affine and spline couplings; a normal base law.

    The couplings move the even and the odd entries of the flattened row in turn, each by an affine map
    and then by a monotone spline. It starts as the standard normal law.

    Args:
        event_shape: the shape of one data point; at least 2 entries.
        width: entries of each hidden layer.
        depth: hidden layers in each coupling's network.
        couplings: how many of both kinds; at least 2, so that every entry moves.
        bins: pieces of a spline.
        limit: splines move what lies between minus this and this.

    Raises:
        InvalidInput: a size is too small.

    Reference: Durkan, Bekasov, Murray, Papamakarios 2019, "Neural spline flows".

    Example:
        >>> import torch
        >>> flow = nsf((2,), width=16, couplings=2)
        >>> round(flow.log_prob(torch.zeros(1, 2)).item(), 4)
        -1.8379
    """
    dim = math.prod(shape_of("event_shape", event_shape))
    if dim < 2 or whole("couplings", couplings, least=0) < 2:
        raise InvalidInput(
            f"nsf was given event shape {tuple(event_shape)} and {couplings} coupling(s); expected at "
            "least 2 entries and 2 couplings, so that every entry moves."
        )
    parts: list[Bijection] = [Reshape(event_shape, (dim,))]
    for i in range(couplings):
        side = interleaved(i % 2)
        moved, kept = side.sizes(dim)
        for transform in (Affine(), Spline(bins, limit)):
            network = MLP(kept, transform.parameters * moved, width, depth)
            parts.append(Coupling(side, transform, network))
    return Flow(Chain(parts), StandardNormal((dim,)), event_shape)
