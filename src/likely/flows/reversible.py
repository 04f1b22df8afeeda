"""Gradients of a chain of bijections from its output alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from likely.flows.bijection import Bijection


def recomputed(parts: Sequence[Bijection], x: Tensor) -> tuple[Tensor, Tensor]:
    """Return `f_n o ... o f_1 (x)` and its log-determinant, keeping only the output for the gradient.

    Reference: Gomez, Ren, Urtasun, Grosse 2017, "The reversible residual network".
    """
    weights = [p for part in parts for p in part.parameters()]
    z, log_det = Recomputed.apply(parts, x, *weights)  # type: ignore[no-untyped-call]
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
        total = x.new_zeros(x.shape[0])
        for part in parts:
            x, log_det = part.forward_and_log_det(x)
            total = total + log_det
        ctx.save_for_backward(x)
        return x, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, g_log_det: Tensor) -> tuple[Tensor | None, ...]:
        """Walk back: invert a part, apply it again with a graph, differentiate, forget the graph."""
        (z,) = ctx.saved_tensors
        gradients: list[tuple[Tensor | None, ...]] = []
        for part in reversed(ctx.parts):
            weights = list(part.parameters())
            free = [p for p in weights if p.requires_grad]
            kind, dtype, enabled = ctx.autocast
            with torch.autocast(kind, dtype, enabled=enabled):
                with torch.no_grad():
                    x = part.inverse_and_log_det(z)[0]
                with torch.enable_grad():
                    x = x.detach().requires_grad_()
                    again, log_det = part.forward_and_log_det(x)
            outputs = [(again, g), (log_det, g_log_det)]
            pairs = [(out, grad) for out, grad in outputs if out.requires_grad]
            found = torch.autograd.grad(
                [out for out, _ in pairs], [x, *free], [grad for _, grad in pairs], allow_unused=True
            )
            of_weights = iter(found[1:])
            gradients.append(tuple(next(of_weights) if p.requires_grad else None for p in weights))
            g = found[0]
            z = x.detach()
        return None, g, *(one for part in reversed(gradients) for one in part)
