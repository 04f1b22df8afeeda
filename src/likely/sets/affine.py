"""Linear equalities."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from likely.errors import InvalidInput
from likely.sets.convex import ConvexSet, largest, rows_of, select, with_parameters
from likely.sets.normal import Normal
from likely.sets.parameters import double, flat, like, rows_in, unflat


@final
class Affine(ConvexSet):
    """The affine set `{x : A x = b}`, over the flattened event (row-major); one row: a hyperplane.

    Projection: `argmin_{A x = b} ||x - y||_2 = y - A^T (A A^T)^-1 (A y - b)`. The Cholesky factor of
    `A A^T`, for rows scaled to length one, is formed once, in float64, as the R of a QR factorisation
    of `A^T`, as that does not square the condition number: `P y = y - Q R^-T (A y - b)`. A second such
    step takes out the rounding of the first; for one equality, a single step along its normal does.
    Points with `A x = b` keep every bit. The violation of a projected point is at most
    `2 eps (||y||_2 + ||x||_2)`, eps being that of the dtype of y.

    Args:
        A: the matrix, `(m, n)` for m equalities over n entries; or a vector `(n,)` for one equality.
        b: the right-hand side, `(m,)`, or one for each row of a batch, `(B, m)`; for a vector A a
            number, or one for each row, `(B,)`.

    Raises:
        InvalidInput: rows of A are linearly dependent, a parameter is not finite or the shapes do not
            agree; on use, A or b does not fit the points.
        InvalidType: a parameter is no number and no real tensor.

    Reference: Boyd and Vandenberghe 2004, section 8.1; Golub and Van Loan 2013, section 5.6.

    Example:
        >>> Affine(torch.tensor([1.0, 1.0]), 1.0).project(torch.tensor([[2.0, 1.5]]))
        tensor([[0.7500, 0.2500]])
        >>> A = torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, -1.0]])
        >>> Affine(A, torch.tensor([3.0, 0.0])).project(torch.tensor([[0.0, 2.0, 1.0]]))
        tensor([[0.0000, 1.5000, 1.5000]])
    """

    def __init__(
        self,
        A: Float[Tensor, "*m n"],  # noqa: N803
        b: float | Float[Tensor, "*shape"],
    ) -> None:
        matrix, right = double("A", A), double("b", b)
        if matrix.ndim == 1:
            matrix, right = matrix[None], right[..., None]
        if matrix.ndim != 2 or 0 in matrix.shape:
            raise InvalidInput(
                f"A has shape {tuple(matrix.shape)}; expected a matrix (m, n), or a vector (n,)."
            )
        if right.ndim not in (1, 2) or right.shape[-1] != len(matrix):
            raise InvalidInput(
                f"A has {len(matrix)} row(s), but b has shape {tuple(torch.as_tensor(b).shape)}; "
                "expected one for each row of A, (m,), or these for each row of a batch, (B, m)."
            )
        norms = torch.linalg.vector_norm(matrix, dim=1)
        if (norms == 0).any():
            raise InvalidInput(
                f"row {int((norms == 0).nonzero()[0])} of A is zero; leave it out, with its entry of b."
            )
        # A = R^T Q^T; |R_ii| is the distance of row i from the span of the rows before it.
        basis, factor = torch.linalg.qr((matrix / norms[:, None]).T)
        apart = torch.zeros_like(norms)
        apart[: len(factor)] = factor.diagonal().abs()
        eps = torch.finfo(A.dtype).eps if isinstance(A, Tensor) and A.is_floating_point() else 0.0
        near = (apart <= max(1e-7, 16 * eps)).nonzero()
        if len(near):
            raise InvalidInput(
                f"row {int(near[0])} of A (shape {tuple(matrix.shape)}) is a linear combination of the "
                "rows before it, or nearly so; leave it out, with its entry of b, after making sure "
                "that it does not contradict the others."
            )
        self.A, self.b = matrix, right.reshape(-1, len(matrix))
        self._norms, self._basis, self._factor = norms, basis.T, factor.T
        self._normal = Normal(matrix[0]) if len(matrix) == 1 else None

    def project(self, y: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch *event"]:
        """Return `y - A^T (A A^T)^-1 (A y - b)`."""
        if self._normal is not None:
            rows = rows_in(y)
            self._check(rows, y)
            return unflat(self._normal.back(rows, self._normal.excess(rows, self.b.to(y.device))), y)
        x, basis, factor = flat(y), self._basis.to(y.device), self._factor.to(y.device)
        for _ in range(2):  # the second step removes what rounding left of the first
            weights = torch.linalg.solve_triangular(factor, self._residual(x, y).T, upper=False)
            # Plus zero: -0.0 - (-0.0) would lose a sign where nothing needs to move.
            x = x - (weights.T @ basis + 0.0)
        return like(x, y)

    def violation(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return the distance from the farthest hyperplane, `max_i |<A_i, x> - b_i| / ||A_i||_2`."""
        return largest(self._residual(flat(x), x).abs()).to(x.dtype)

    def _residual(self, rows: Tensor, y: Tensor) -> Float[Tensor, "batch m"]:
        self._check(rows, y)
        excess: Tensor = rows @ self.A.to(y.device).T - self.b.to(y.device)
        return torch.divide(excess, self._norms.to(y.device))

    def _check(self, rows: Tensor, y: Tensor) -> None:
        """Raise InvalidInput unless A and b fit the points."""
        if rows.shape[1] != self.A.shape[1]:
            raise InvalidInput(
                f"A has {self.A.shape[1]} columns, but an event of shape {tuple(y.shape[1:])} has "
                f"{rows.shape[1]} entries; expected one column for each entry."
            )
        if len(self.b) not in (1, len(y)):
            raise InvalidInput(
                f"b is given for {len(self.b)} rows, but there are {len(y)}; "
                "expected one for all rows, or one for each."
            )


@rows_of.register
def _(within: Affine, index: Tensor, shape: torch.Size) -> Affine:
    return with_parameters(within, b=select(within.b, index, within.b.shape))
