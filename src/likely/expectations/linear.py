"""A term of value zero with a given gradient, which refuses to be differentiated twice."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from likely.errors import InvalidInput


def linear(t: Tensor, slope: Tensor, own: int, batch: int = 0) -> Tensor:
    """Return `sum slope (t - detach(t))` over the last `own` dimensions of t and the like of slope.

    Args:
        t: `(*batch, *own)`.
        slope: `(*batch, *own, *out)`.
        own: how many dimensions of t are summed over.
        batch: how many dimensions lead in both.

    Returns:
        Zeros of shape `(*batch, *out)`, whose gradient in t is slope.

    Example:
        >>> t = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> linear(t, torch.tensor([3.0, 4.0]), own=1).backward()
        >>> t.grad.tolist()
        [3.0, 4.0]
    """
    flat = slope.reshape(*slope.shape[:batch], -1, *slope.shape[batch + own :])
    result: Tensor = _Linear.apply(t.reshape(*t.shape[:batch], -1), flat, batch)  # type: ignore[no-untyped-call]
    return result


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, t: Tensor, slope: Tensor, batch: int) -> Tensor:
        ctx.save_for_backward(t, slope)
        ctx.batch = batch
        return slope.new_zeros(slope.shape[:batch] + slope.shape[batch + 1 :])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        t, slope = ctx.saved_tensors
        out = tuple(range(ctx.batch + 1, slope.ndim))
        product = slope * grad.unsqueeze(ctx.batch)
        total = product.sum(out) if out else product
        return _FirstOnly.apply(total.to(t.dtype), t), None, None  # type: ignore[no-untyped-call]


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
