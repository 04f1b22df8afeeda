"""The factorisation A = P L (U + diag(s)), both ways."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor

from likely.checks import tensor
from likely.errors import InvalidInput, InvalidType


def plu_compose(
    P: Float[Tensor, "*batch n n"],  # noqa: N803 (the symbols of the formula)
    L: Float[Tensor, "*batch n n"],  # noqa: N803
    U: Float[Tensor, "*batch n n"],  # noqa: N803
    s: Float[Tensor, "*batch n"],
) -> Float[Tensor, "*batch n n"]:
    """Return `A = P L (U + diag(s))`, for which `log|det A| = sum_i log|s_i|`.

    Args:
        P: a permutation matrix.
        L: lower triangular with ones on its diagonal.
        U: strictly upper triangular.
        s: the diagonal, without zeros.

    All four are taken as they are: the determinant above holds if they are of these kinds.

    Raises:
        InvalidInput: the shapes are not `(*batch, n, n)`, three times, and `(*batch, n)`.
        InvalidType: they are no floating-point tensors of one dtype.

    Reference: Kingma, Dhariwal 2018, "Glow", section 3.2.

    Example:
        >>> A = torch.tensor([[0.0, 2.0], [3.0, 1.0]])
        >>> torch.equal(plu_compose(*plu_factor(A)), A)
        True
    """
    n = s.shape[-1] if tensor("s", s).ndim else -1
    for name, matrix in (("P", P), ("L", L), ("U", U)):
        if tensor(name, matrix).dtype != s.dtype:
            raise InvalidType(f"{name} has dtype {matrix.dtype} and s {s.dtype}; expected one dtype.")
        if matrix.shape[-2:] != (n, n):
            raise InvalidInput(
                f"{name} has shape {tuple(matrix.shape)} and s {tuple(s.shape)}; expected (..., n, n) "
                "and (..., n)."
            )
    return P @ (L @ (U + s.diag_embed()))


def plu_factor(
    A: Float[Tensor, "*batch n n"],  # noqa: N803
) -> tuple[
    Float[Tensor, "*batch n n"],
    Float[Tensor, "*batch n n"],
    Float[Tensor, "*batch n n"],
    Float[Tensor, "*batch n"],
]:
    """Return P, L, U, s with `A = P L (U + diag(s))`, of any invertible matrix, by partial pivoting.

    P is a permutation matrix, L lower triangular with ones on its diagonal and no entry above 1 in
    absolute value, U strictly upper triangular, s the diagonal. Batched, and differentiable in A.

    Raises:
        InvalidInput: A is not square, not finite, or singular to working precision: a pivot is smaller
            than the rounding errors of the products that it is the difference of.
        InvalidType: A is not a tensor of float32 or float64.

    Reference: Golub, Van Loan 2013, "Matrix computations", section 3.4.

    Example:
        >>> P, L, U, s = plu_factor(torch.tensor([[0.0, 2.0], [3.0, 1.0]]))
        >>> s.tolist(), U.tolist()
        ([3.0, 2.0], [[0.0, 1.0], [0.0, 0.0]])
    """
    if tensor("A", A).dtype not in (torch.float32, torch.float64):
        raise InvalidType(f"A has dtype {A.dtype}; expected float32 or float64, as A.float() is.")
    if A.ndim < 2 or A.shape[-1] != A.shape[-2] or A.shape[-1] == 0:
        raise InvalidInput(f"A has shape {tuple(A.shape)}; expected square matrices, (..., n, n).")
    if not A.isfinite().all():
        raise InvalidInput("A holds NaN or infinite values; expected invertible matrices.")
    P, L, both = torch.linalg.lu(A)  # noqa: N806
    s = both.diagonal(dim1=-2, dim2=-1)
    with torch.no_grad():
        # A pivot carries the rounding errors of row i of |L| times column i of |U|.
        error = A.shape[-1] * torch.finfo(A.dtype).eps * (L.abs() * both.abs().mT).sum(-1)
        # A pivot so small that 1 / it overflows leaves NaN in L, and in its error.
        singular = ~(s.abs() > error).flatten()
    if singular.any():
        at = int(singular.nonzero()[0]) // A.shape[-1]
        which = "A" if A.ndim == 2 else f"matrix {at} of A (counted row-major over the batch)"
        raise InvalidInput(f"{which} is singular to working precision; expected invertible matrices.")
    return P, L, both.triu(1), s


def bounded(raw: Tensor, bound: float) -> Tensor:
    """Return `bound tanh(raw / bound)`: a log-scale that no network can drive to overflow."""
    return bound * (raw / bound).tanh()


def solve(matrix: Tensor, columns: Tensor, *, upper: bool, unitriangular: bool = False) -> Tensor:
    """Solve triangular systems; those of fewer digits, which torch does not take, in float32."""
    dtype = columns.dtype
    if dtype.itemsize < 4:
        matrix, columns = matrix.float(), columns.float()
    solved: Tensor = torch.linalg.solve_triangular(
        matrix, columns, upper=upper, unitriangular=unitriangular
    )
    return solved.to(dtype)


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Return a context without autocast: what acts on the data itself must not round it."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if _autocasts(kind) else nullcontext()


def _autocasts(kind: str) -> bool:
    return kind != "meta" and torch.is_autocast_enabled(kind)
