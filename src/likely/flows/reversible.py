"""Gradients of a chain of bijections, from its output."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from likely.errors import InvalidInput

if TYPE_CHECKING:
    from likely.flows.bijection import Bijection


def recomputed(parts: Sequence[Bijection], x: Tensor) -> tuple[Tensor, Tensor]:
    """Return `f_n o ... o f_1 (x)` and its log-determinant, keeping only x and z for the gradient.

    For a second derivative the chain is applied again to x, with the ordinary graph. So it is, from the
    start, for forward-mode derivatives and under `torch.func`, which may put other tensors in place of
    parameters, and take them away again before the gradient is asked for.

    Reference: Gomez, Ren, Urtasun, Grosse 2017, "The reversible residual network".
    """
    weights = _weights(parts)
    # Replicas of nn.DataParallel have weights, but no parameters.
    own = bool(weights) and all(isinstance(p, nn.Parameter) for p in weights)
    if not own or torch._C._are_functorch_transforms_active():
        return applied(parts, x)
    try:
        z, log_det = Recomputed.apply(parts, x, *weights)  # type: ignore[no-untyped-call]
    except NotImplementedError:  # forward-mode derivatives
        return applied(parts, x)
    return z, log_det


class Recomputed(torch.autograd.Function):
    """The chain as one step of autograd."""

    @staticmethod
    def forward(
        ctx: Any, parts: Sequence[Bijection], x: Tensor, *weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Apply the parts without a graph."""
        kind = x.device.type
        ctx.parts = parts
        ctx.autocast = (
            (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
            if kind != "meta"
            else None
        )
        z, total = applied(parts, x)
        ctx.seen = [(p, p._version) for p in weights]  # after a first pass has set some
        ctx.save_for_backward(x, z)
        return z, total

    @staticmethod
    def backward(ctx: Any, g: Tensor, g_log_det: Tensor) -> tuple[Tensor | None, ...]:
        """Walk back: invert a part, apply it again with a graph, differentiate, forget the graph."""
        x, z = ctx.saved_tensors
        for p, (seen, version) in zip(_weights(ctx.parts), ctx.seen, strict=True):
            if p is not seen or p._version != version:
                raise InvalidInput(
                    "weights of a reversible chain were changed or replaced between its forward pass "
                    "and its gradient, which inverts it; take the gradient first, or build it with "
                    "reversible=False."
                )
        gradients: list[tuple[Tensor | None, ...]] = []
        kind, dtype, enabled = ctx.autocast
        if torch.is_grad_enabled():  # a second derivative is prepared
            wanted = [x, *_weights(ctx.parts)]
            with torch.autocast(kind, dtype, enabled=enabled):
                outputs = applied(ctx.parts, x)
            free = [t for t in wanted if t.requires_grad]
            each = iter(vjp(outputs, (g, g_log_det), free, create_graph=True))
            return None, *(next(each) if t.requires_grad else None for t in wanted)
        for part in reversed(ctx.parts):
            weights = list(part.parameters())
            free = [p for p in weights if p.requires_grad]
            with torch.autocast(kind, dtype, enabled=enabled):
                z, g, found = step_back(part, z, g, g_log_det, free)
            of_weights = iter(found)
            gradients.append(tuple(next(of_weights) if p.requires_grad else None for p in weights))
        return None, g, *(one for part in reversed(gradients) for one in part)


def _weights(parts: Sequence[Bijection]) -> list[Tensor]:
    return [p for part in parts for p in part.parameters()]


def one_a_row(log_det: Tensor, x: Tensor) -> Tensor:
    """Return a log-determinant, which has to be one number for each row of x.

    Raises:
        InvalidInput: it is of another shape, which sums would broadcast.

    Example:
        >>> one_a_row(torch.zeros(3), torch.zeros(3, 4)).shape
        torch.Size([3])
    """
    if log_det.shape != x.shape[:1]:
        raise InvalidInput(
            f"the bijection returned log_det of shape {tuple(log_det.shape)} for input "
            f"{tuple(x.shape)}; expected ({len(x)},), one number for each row."
        )
    return log_det


def applied(parts: Sequence[Bijection], x: Tensor) -> tuple[Tensor, Tensor]:
    """Apply the parts in turn."""
    total = x.new_zeros(x.shape[0])
    for part in parts:
        z, log_det = part.forward_and_log_det(x)
        total = total + one_a_row(log_det, x)
        x = z
    return x, total


@singledispatch
def step_back(
    part: nn.Module, z: Tensor, g: Tensor, g_log_det: Tensor, weights: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Sequence[Tensor | None]]:
    """Return x with `f(x) = z`, and the gradients of `<g, f(x)> + <g_log_det, log_det>`.

    A part may register a way of its own that shares work between its inverse and its gradient.

    Args:
        part: f.
        z: its output.
        g: the gradient that reaches z.
        g_log_det: the one that reaches its log-determinant.
        weights: the parameters whose gradients are wanted, after that of x.
    """
    bijection = cast("Bijection", part)
    with torch.no_grad():
        x = bijection.inverse_and_log_det(z)[0]
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        outputs = bijection.forward_and_log_det(x)
    g_x, *of_weights = vjp(outputs, (g, g_log_det), [x, *weights])
    return x.detach(), cast(Tensor, g_x), of_weights


def vjp(
    outputs: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    inputs: Sequence[Tensor],
    create_graph: bool = False,
) -> Sequence[Tensor | None]:
    """Return the gradients that reach the inputs, None where none does."""
    pairs = [
        (out, g)
        for out, g in zip(outputs, gradients, strict=True)
        if out.requires_grad and g is not None
    ]
    return torch.autograd.grad(
        [out for out, _ in pairs],
        inputs,
        [g for _, g in pairs],
        create_graph=create_graph,
        allow_unused=True,
    )
