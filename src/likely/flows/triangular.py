"""Products with the factors of a matrix in packed form, that skip the halves that are zero."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from likely.flows.plu import bounded

# Four block rows leave out 3/8 of the work; more make the products too small to be fast.
BLOCKS = 4


class FactoredProduct(torch.autograd.Function):
    """`L (U + diag(s)) x` and log|s|, with L, U and s packed into one matrix.

    Six products of five eighths of the size, forward and backward together, where forming the matrix
    first would take three more of n columns. With few columns this is faster.
    """

    @staticmethod
    def forward(packed: Tensor, sign: Tensor, bound: float, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the product, log|s|, and `h = (U + diag(s)) x`."""
        log_s = bounded(packed.diagonal(), bound)
        h = _add_strict((sign * log_s.exp())[:, None] * x, packed, x, upper=True)
        return _add_strict(h.clone(), packed, h, upper=False), log_s, h

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Tensor, float, Tensor], output: tuple[Tensor, ...]
    ) -> None:
        """Keep the factors, x and h."""
        packed, sign, ctx.bound, x = inputs
        ctx.save_for_backward(packed, sign, x, *output[1:])
        ctx.mark_non_differentiable(output[2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, g_log_s: Tensor, _: Tensor) -> tuple[Tensor, None, None, Tensor]:
        """Return the gradients of the packed matrix and of x."""
        packed, sign, x, log_s, h = ctx.saved_tensors
        s = sign * log_s.exp()
        g_h = _add_strict(g.clone(), packed.mT, g, upper=True)
        g_packed = torch.empty_like(packed)
        for a, b in _blocks(len(packed)):
            g_packed[a:b, :b].addmm_(g[a:b], h[:b].mT, beta=0)
            g_packed[a:b, b:].addmm_(g_h[a:b], x[b:].mT, beta=0)
            upper = g_h[a:b] @ x[a:b].mT
            g_packed[a:b, a:b].tril_(-1).add_(upper.triu_(1))
        g_log_s = g_log_s + (g_h * x).sum(1) * s
        g_packed.diagonal().copy_(g_log_s * (1 - (log_s / ctx.bound).square()))
        return g_packed, None, None, _add_strict(s[:, None] * g_h, packed.mT, g_h, upper=False)


def factored_product(packed: Tensor, sign: Tensor, bound: float, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return `L (U + diag(s)) x` for columns x, and `log|s|`.

    Args:
        packed: `(n, n)`; L strictly below its diagonal, U strictly above, on it r, with
            `log|s_i| = bound tanh(r_i / bound)`.
        sign: `(n,)`, the signs of s.
        bound: of `|log|s_i||`.
        x: `(n, m)`.

    Example:
        >>> packed = torch.tensor([[0.0, 2.0], [3.0, 0.0]])
        >>> factored_product(packed, torch.ones(2), 8.0, torch.ones(2, 1))[0].flatten().tolist()
        [3.0, 10.0]
    """
    product, log_s, _ = FactoredProduct.apply(packed, sign, bound, x)  # type: ignore[no-untyped-call]
    return product, log_s


def _blocks(n: int) -> list[tuple[int, int]]:
    return list(pairwise(n * i // BLOCKS for i in range(BLOCKS + 1)))


def _add_strict(out: Tensor, matrix: Tensor, x: Tensor, upper: bool) -> Tensor:
    """Add the strict upper (lower) triangle of a matrix times x to `out`, in place."""
    for a, b in _blocks(len(matrix)):
        block = matrix[a:b, a:b]
        out[a:b].addmm_(block.triu(1) if upper else block.tril(-1), x[a:b])
        if upper:
            out[a:b].addmm_(matrix[a:b, b:], x[b:])
        else:
            out[a:b].addmm_(matrix[a:b, :a], x[:a])
    return out
