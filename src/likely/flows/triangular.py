"""Products with the factors of a large matrix in packed form, that skip most of their zeros."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from likely.flows.plu import bounded
from likely.flows.reversible import vjp

# Four block rows leave out 3/8 of the work; more make the products too small to be fast.
BLOCKS = 4


class FactoredProduct(torch.autograd.Function):
    """`P L (U + diag(s))` times each pixel, and log|s|; L, U and s are packed into BLOCKS^2 blocks.

    Six products of five eighths of the size, forward and backward together, where forming the matrix
    first would take three more of n columns. With few pixels this is faster.
    """

    @staticmethod
    def forward(
        packed: Tensor, sign: Tensor, permutation: Tensor, bound: float, x: Tensor
    ) -> tuple[Tensor, ...]:
        """Return z, log|s|, and for the gradient s, both corners, and `(U + diag(s)) x` as columns."""
        log_s = bounded(packed.diagonal(), bound)
        s = sign * log_s.exp()
        # The blocks on the diagonal of L and of U + diag(s); all other blocks are those of `packed`.
        corners = _corners(packed)
        lower, upper = corners.tril(-1), corners.triu(1)
        lower.diagonal(dim1=1, dim2=2).fill_(1)
        upper.diagonal(dim1=1, dim2=2).copy_(s.view(BLOCKS, -1))
        h = _upper_times(upper, packed, as_columns(x))
        z = _lower_times(lower, packed, h).index_select(0, permutation)
        return as_images(z, x.shape), log_s, s, lower, upper, h

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, float, Tensor], output: tuple[Tensor, ...]
    ) -> None:
        """Keep the factors, x and h."""
        packed, sign, permutation, ctx.bound, x = inputs
        ctx.save_for_backward(packed, sign, permutation, x, *output[1:])
        ctx.mark_non_differentiable(*output[2:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *inputs: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Form both triangles whole: torch batches no products that are added to parts of a tensor."""

        def whole(
            packed: Tensor, sign: Tensor, permutation: Tensor, bound: float, x: Tensor
        ) -> tuple[Tensor, ...]:
            lower, upper, log_s = factors(packed, sign, bound)
            h = upper @ as_columns(x)
            z = as_images((lower @ h).index_select(0, permutation), x.shape)
            return z, log_s, upper.diagonal(), _corners(lower), _corners(upper), h

        made = torch.vmap(whole, in_dims)(*inputs)
        return made, (0,) * len(made)

    @staticmethod
    def backward(
        ctx: Any, g_z: Tensor | None, g_log_s: Tensor | None, *_: None
    ) -> tuple[Tensor | None, None, None, None, Tensor | None]:
        """Return the gradients of the packed matrix and of x."""
        packed, sign, permutation, images, log_s, s, lower, upper, h = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is prepared: the matrix itself gives it
            g_packed, g_x = _ordinary(packed, sign, permutation, ctx.bound, images, g_z, g_log_s)
            return g_packed, None, None, None, g_x
        x = as_columns(images)
        g = torch.zeros_like(x)
        if g_z is not None:
            swapped = g_z.transpose(0, 1)
            g.view_as(swapped).index_copy_(0, permutation, swapped)
        g_h = _upper_times(lower.mT, packed.mT, g)
        g_packed = torch.empty_like(packed)
        n, size = len(x), len(x) // BLOCKS
        for a in range(0, n, size):
            b = a + size
            row = g_packed.narrow(0, a, size)
            if a:
                row.narrow(1, 0, a).addmm_(g.narrow(0, a, size), h.narrow(0, 0, a).mT, beta=0)
            if b < n:
                row.narrow(1, b, n - b).addmm_(g_h.narrow(0, a, size), x.narrow(0, b, n - b).mT, beta=0)
        of_lower = torch.bmm(_rows(g), _rows(h).mT).tril_(-1)
        of_upper = torch.bmm(_rows(g_h), _rows(x).mT).triu_()
        _corners(g_packed).copy_(of_lower.add_(of_upper))
        g_s = g_packed.diagonal()
        # dlog|s|/dr = 1 - (log|s| / bound)^2, as log|s| = bound tanh(r / bound)
        g_s.mul_(s).add_(0 if g_log_s is None else g_log_s).mul_(1 - (log_s / ctx.bound).square())
        g_x = _lower_times(upper.mT, packed.mT, g_h)
        return g_packed, None, None, None, as_images(g_x, images.shape)


def factored_product(
    packed: Tensor, sign: Tensor, permutation: Tensor, bound: float, x: Tensor
) -> tuple[Tensor, Tensor]:
    """Return `P L (U + diag(s))` times each pixel of x, and `log|s|`.

    Args:
        packed: `(n, n)`, n a multiple of BLOCKS; L strictly below its diagonal, U strictly above, on it
            r, with `log|s_i| = bound tanh(r_i / bound)`.
        sign: `(n,)`, the signs of s.
        permutation: `(n,)`, with `P y = y[permutation]`.
        bound: of `|log|s_i||`.
        x: `(B, n, H, W)`.

    Example:
        >>> packed = torch.zeros(4, 4)
        >>> packed[0, 1], packed[3, 0] = 2, 3
        >>> x, one = torch.ones(1, 4, 1, 1), torch.ones(4)
        >>> factored_product(packed, one, torch.arange(4), 8.0, x)[0].flatten().tolist()
        [3.0, 1.0, 1.0, 10.0]
    """
    try:
        made = FactoredProduct.apply(packed, sign, permutation, bound, x)  # type: ignore[no-untyped-call]
    except NotImplementedError:  # forward-mode derivatives: torch.compile takes no function with a jvp
        return _whole(packed, sign, permutation, bound, x)
    return made[0], made[1]


def factors(packed: Tensor, sign: Tensor, bound: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return L, U + diag(s) and log|s| of a packed matrix, with their graph."""
    log_s = bounded(packed.diagonal(), bound)
    one, s = torch.ones_like(log_s).diag(), (sign * log_s.exp()).diag()
    return packed.tril(-1) + one, packed.triu(1) + s, log_s


def _whole(
    packed: Tensor, sign: Tensor, permutation: Tensor, bound: float, x: Tensor
) -> tuple[Tensor, Tensor]:
    """Do as `factored_product`, with the whole matrix."""
    lower, upper, log_s = factors(packed, sign, bound)
    matrix = (lower @ upper).index_select(0, permutation)
    return as_images(matrix @ as_columns(x), x.shape), log_s


def _ordinary(
    packed: Tensor,
    sign: Tensor,
    permutation: Tensor,
    bound: float,
    x: Tensor,
    g_z: Tensor | None,
    g_log_s: Tensor | None,
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of the packed matrix and of x, with a graph of their own."""
    z, log_s = _whole(packed, sign, permutation, bound, x)
    wanted = [t for t in (packed, x) if t.requires_grad]
    found = iter(vjp((z, log_s), (g_z, g_log_s), wanted, create_graph=True))
    g_packed, g_x = (next(found) if t.requires_grad else None for t in (packed, x))
    return g_packed, g_x


def as_columns(x: Tensor) -> Tensor:
    """Return the pixels of all images as columns, `(C, B H W)`."""
    return x.transpose(0, 1).reshape(x.shape[1], x.shape[0] * x.shape[2] * x.shape[3])


def as_images(columns: Tensor, shape: torch.Size) -> Tensor:
    """View columns as images, the inverse of `as_columns`."""
    batch, channels, height, width = shape
    return columns.view(channels, batch, height, width).transpose(0, 1)


def _rows(x: Tensor) -> Tensor:
    """View the rows as BLOCKS blocks of rows."""
    return x.view(BLOCKS, len(x) // BLOCKS, x.shape[1])


def _corners(matrix: Tensor) -> Tensor:
    """View the blocks on the diagonal, `(BLOCKS, n / BLOCKS, n / BLOCKS)`."""
    size = len(matrix) // BLOCKS
    return matrix.view(BLOCKS, size, BLOCKS, size).diagonal(dim1=0, dim2=2).movedim(-1, 0)


def _upper_times(corners: Tensor, matrix: Tensor, x: Tensor) -> Tensor:
    """Multiply x by the upper triangle that the corners and what is right of them in `matrix` make."""
    out, n = torch.bmm(corners, _rows(x)), len(x)
    size = n // BLOCKS
    for k, row in enumerate(out.unbind()[:-1], 1):
        a = k * size
        row.addmm_(matrix.narrow(0, a - size, size).narrow(1, a, n - a), x.narrow(0, a, n - a))
    return out.view_as(x)


def _lower_times(corners: Tensor, matrix: Tensor, x: Tensor) -> Tensor:
    out = torch.bmm(corners, _rows(x))
    size = len(x) // BLOCKS
    for k, row in enumerate(out.unbind()[1:], 1):
        a = k * size
        row.addmm_(matrix.narrow(0, a, size).narrow(1, 0, a), x.narrow(0, 0, a))
    return out.view_as(x)
