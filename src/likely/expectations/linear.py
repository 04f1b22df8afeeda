"""A value with a given gradient, which refuses to be differentiated twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from likely.errors import InvalidInput


def with_slopes(value: Tensor, pairs: Sequence[tuple[Tensor, Tensor]], batch: int = 0) -> Tensor:
    """Return `value + sum slope (t - detach(t))` over pairs of t and slope, and over the entries of t.

    Args:
        value: `(*batch, *out)`; its own gradient stays.
        pairs: tensors t, `(*batch, *own)`, and their slopes, `(*batch, *own, *out)`.
        batch: how many dimensions lead in all of them.

    Example:
        >>> t = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> with_slopes(torch.tensor(5.0), [(t, torch.tensor([3.0, 4.0]))]).backward()
        >>> t.grad.tolist()
        [3.0, 4.0]
    """
    result: Tensor = _WithSlopes.apply(value, (batch, pairs), *[t for t, _ in pairs])  # type: ignore[no-untyped-call]
    return result


def first_only(value: Tensor) -> Tensor:
    """Return a value whose gradient is right, and that of its gradient is not: it is refused.

    Example:
        >>> t = torch.tensor(3.0, requires_grad=True)
        >>> first_only(t.square()).backward()
        >>> t.grad.item()
        6.0
    """
    result: Tensor = _FirstGradient.apply(value)  # type: ignore[no-untyped-call]
    return result


class _FirstGradient(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return grad
        found: Tensor = _FirstOnly.apply(grad, *ctx.saved_tensors)  # type: ignore[no-untyped-call]
        return found


class _WithSlopes(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, value: Tensor, given: tuple[int, Sequence[tuple[Tensor, Tensor]]], *tensors: Tensor
    ) -> Tensor:
        ctx.given = given
        return value.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        batch, pairs = ctx.given
        found: list[Tensor | None] = [grad, None]
        # Only where a second derivative is being prepared does it have to be refused.
        higher = torch.is_grad_enabled()
        for t, slope in pairs:
            if t.ndim == slope.ndim == grad.ndim:  # a number for each entry of the batch
                total = slope * grad
            else:
                product = slope * grad.reshape(
                    grad.shape[:batch] + (1,) * (t.ndim - batch) + grad.shape[batch:]
                )
                out = tuple(range(t.ndim, slope.ndim))
                total = product.sum(out) if out else product
            if total.dtype != t.dtype:
                total = total.to(t.dtype)
            found.append(_FirstOnly.apply(total, t) if higher else total)  # type: ignore[no-untyped-call]
        return tuple(found)


class _FirstOnly(torch.autograd.Function):
    """Its first argument, which depends on the second in a way that cannot be differentiated."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, t: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        """Nothing is kept."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        raise InvalidInput(
            "weak derivatives, quadrature, 'stl' and 'dreg' give first derivatives only; for higher "
            "ones use expect or elbo with grad='score', 'path' or 'enumerate'."
        )
