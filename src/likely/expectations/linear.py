"""A term of value zero with a given gradient, which refuses to be differentiated twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from likely.errors import InvalidInput


def linear(pairs: Sequence[tuple[Tensor, Tensor]], batch: int = 0) -> Tensor:
    """Return `sum slope (t - detach(t))` over pairs of t and slope, and over the entries of t.

    Args:
        pairs: tensors t, `(*batch, *own)`, and their slopes, `(*batch, *own, *out)`.
        batch: how many dimensions lead in all of them.

    Returns:
        Zeros of shape `(*batch, *out)`, whose gradient in each t is its slope.

    Example:
        >>> t = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> linear([(t, torch.tensor([3.0, 4.0]))]).backward()
        >>> t.grad.tolist()
        [3.0, 4.0]
    """
    tensors, slopes = zip(*pairs, strict=True)
    result: Tensor = _Linear.apply(batch, slopes, *tensors)  # type: ignore[no-untyped-call]
    return result


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, batch: int, slopes: tuple[Tensor, ...], *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors)
        ctx.batch, ctx.slopes = batch, slopes
        slope, t = slopes[0], tensors[0]
        return slope.new_zeros(slope.shape[:batch] + slope.shape[t.ndim :])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        found = []
        for t, slope in zip(ctx.saved_tensors, ctx.slopes, strict=True):
            own = t.ndim - ctx.batch
            product = slope * grad.reshape(
                grad.shape[: ctx.batch] + (1,) * own + grad.shape[ctx.batch :]
            )
            out = tuple(range(t.ndim, slope.ndim))
            total = (product.sum(out) if out else product).to(t.dtype)
            # Only where a second derivative is being prepared does it have to be refused.
            if torch.is_grad_enabled():
                total = _FirstOnly.apply(total, t)  # type: ignore[no-untyped-call]
            found.append(total)
        return None, None, *found


class _FirstOnly(torch.autograd.Function):
    """Its first argument, which depends on the second in a way that cannot be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, t: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        raise InvalidInput(
            "weak derivatives and quadrature give first derivatives only; for higher ones use "
            "expect with grad='score', 'path' or 'enumerate'."
        )
