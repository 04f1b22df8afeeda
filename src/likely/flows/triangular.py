"""Products with the factors of a matrix in packed form, that skip the halves that are zero."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Four block rows leave out 3/8 of the work; more make the products too small to be fast.
BLOCKS = 4


class FactoredProduct(torch.autograd.Function):
    """`L (U + diag(s)) x`, L below and U above the diagonal of one packed matrix, s apart.

    Six products of five eighths of the size, forward and backward together, where forming the matrix
    first would take three more of n columns. With few columns this is faster.
    """

    @staticmethod
    def forward(packed: Tensor, s: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the product and `h = (U + diag(s)) x`."""
        h = _add_strict(s[:, None] * x, packed, x, upper=True)
        return _add_strict(h.clone(), packed, h, upper=False), h

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        """Keep the factors, x and h."""
        ctx.save_for_backward(*inputs, output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients: of the packed triangles, of s and of x."""
        packed, s, x, h = ctx.saved_tensors
        g_h = _add_strict(g.clone(), packed.mT, g, upper=True)
        g_packed = torch.empty_like(packed)
        for a, b in _blocks(len(packed)):
            g_packed[a:b, :a] = g[a:b] @ h[:a].mT
            g_packed[a:b, b:] = g_h[a:b] @ x[b:].mT
            lower, upper = g[a:b] @ h[a:b].mT, g_h[a:b] @ x[a:b].mT
            g_packed[a:b, a:b] = lower.tril_(-1).add_(upper.triu_(1))
        return g_packed, (g_h * x).sum(1), _add_strict(s[:, None] * g_h, packed.mT, g_h, upper=False)


def factored_product(packed: Tensor, s: Tensor, x: Tensor) -> Tensor:
    """Return `L (U + diag(s)) x` for columns x.

    Args:
        packed: `(n, n)`; L strictly below its diagonal, U strictly above, the diagonal unread.
        s: `(n,)`.
        x: `(n, m)`.

    Example:
        >>> packed = torch.tensor([[9.0, 2.0], [3.0, 9.0]])
        >>> factored_product(packed, torch.ones(2), torch.ones(2, 1)).flatten().tolist()
        [3.0, 10.0]
    """
    product: Tensor = FactoredProduct.apply(packed, s, x)[0]  # type: ignore[no-untyped-call]
    return product


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
