"""Measured entries together with linear equalities."""

from __future__ import annotations

from math import prod
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from likely.errors import Infeasible
from likely.sets.affine import Affine
from likely.sets.convex import ConvexSet, closed_form, rows_of, with_parameters
from likely.sets.observed import Observed
from likely.sets.parameters import flat, like

#: directions in which the free entries move the equalities by less than this part count as fixed
RANK = 1e-7


@final
class ObservedAffine(ConvexSet):
    """The set `Observed & Affine`: measured entries keep their value, the free ones solve `A x = b`.

    Projection: `argmin ||x - y||_2` over `x_M = v_M` and `A x = b`. Substituting the measured entries
    leaves `A_F x_F = b - A_M v_M` for the free ones, so that
    `x_F = y_F - A_F^+ (A_F y_F + A_M v_M - b)`, the pseudo-inverse from a singular value decomposition
    with the rows of A scaled to length one: one for each row of the batch, or one where all share the
    mask. Rows of A may be zero, or dependent, on the free entries: singular values up to 1e-7 count as
    zero. Then the measured values must agree with the equations that they alone decide, to
    `16 eps (||v_M||_2 + max_i |b_i| / ||A_i||_2)`, eps being that of the dtype of the values.

    Measured entries are exact, bit by bit. The violation of a projected point is at most
    `2 eps (||y||_2 + ||x||_2)`, eps being that of the dtype of y, and what the measured values have.

    Args:
        observed: the measured entries.
        affine: the equalities.

    Raises:
        Infeasible: the measured values contradict an equality; raised on use where the mask alone
            does not tell the shape of an event.
        InvalidInput: on use, the shapes do not fit the points.

    Reference: Golub and Van Loan 2013, section 5.5.

    Example:
        >>> from likely.sets import Observed
        >>> first = Observed(torch.tensor([True, False, False]), torch.tensor([0.5, 0.0, 0.0]))
        >>> (first & Affine(torch.ones(3), 1.0)).project(torch.tensor([[9.0, 1.0, 0.0]]))
        tensor([[ 0.5000,  0.7500, -0.2500]])
    """

    def __init__(self, observed: Observed, affine: Affine) -> None:
        self.observed, self.affine = observed, affine
        self._solved: tuple[torch.Size, Tensor] | None = None
        shape, n = observed.mask.shape, affine.A.shape[1]
        # A mask with a dimension of 1 may stand for several entries: that shows when it is used.
        if prod(shape[1:]) == n:
            self._inverse(shape)
        elif prod(shape) == n and 1 not in shape:
            self._inverse(torch.Size([1, *shape]))

    def project(self, y: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch *event"]:
        """Return the measured values, and the nearest free entries that solve the equalities."""
        x = self.observed.project(y)
        rows, inverse = flat(x), None
        for _ in range(2):  # the second step removes what rounding left of the first
            residual = self.affine._residual(rows, y)[:, :, None]
            inverse = self._inverse(y.shape).to(y.device) if inverse is None else inverse
            # Plus zero: -0.0 - (-0.0) would lose a sign where nothing needs to move.
            rows = rows - ((inverse @ residual)[:, :, 0] + 0.0)
        return self.observed.project(like(rows, y))

    def violation(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return the larger of the two violations."""
        return torch.maximum(self.observed.violation(x), self.affine.violation(x))

    def _inverse(self, shape: torch.Size) -> Float[Tensor, "rows n m"]:
        """Return `A_F^+`, for A with rows of length one, after making sure that there is a solution."""
        if self._solved is None or self._solved[0] != shape[1:]:
            given = self.observed.mask
            each = given.ndim == len(shape) and len(given) > 1
            whole = torch.Size([shape[0] if each else 1, *shape[1:]])
            mask, values = (t.expand(whole)[:, None].flatten(1) for t in (given, self.observed.values))
            self._solved = shape[1:], _solve(mask, values, self.affine)
        return self._solved[1]


def _solve(mask: Tensor, values: Tensor, affine: Affine) -> Tensor:
    eps = torch.finfo(values.dtype).eps if values.is_floating_point() else 0.0
    known = torch.where(mask, values, torch.zeros_like(values)).double()
    a, right = (affine.A / affine._norms[:, None]).to(known), (affine.b / affine._norms).to(known)
    free = ~(mask[:1] if (mask == mask[:1]).all() else mask)[:, None]
    u, s, vh = torch.linalg.svd(a * free, full_matrices=False)
    kept = s > RANK
    u, s = u * kept[:, None], torch.where(kept, s, torch.ones_like(s))
    rest = (right - known @ a.T)[:, :, None]
    gap = (rest - u @ (u.mT @ rest))[:, :, 0].abs()
    most = 16 * eps * (known.norm(dim=1) + right.abs().amax(1))[:, None]
    bad = (gap > most).nonzero()
    if len(bad):
        i, j = (int(k) for k in bad[gap[tuple(bad.T)].argmax()])
        raise Infeasible(
            f"the measured values contradict row {j} of A x = b, in row {i} of the batch: whatever the "
            f"missing entries are, some equality is off by {gap[i, j].item():.3g}, for rows of A of "
            f"length one; expected at most {most[i, 0].item():.3g}. Correct b or the measured values, "
            "or mark some of them as missing."
        )
    inverse: Tensor = (vh.mT * free.mT) @ (u / s[:, None]).mT
    return inverse


closed_form(Observed, Affine)(ObservedAffine)


@closed_form(Observed, ObservedAffine)
def _(observed: Observed, both: ObservedAffine) -> ObservedAffine:
    return ObservedAffine(both.observed & observed, both.affine)  # type: ignore[arg-type]


@rows_of.register
def _(within: ObservedAffine, index: Tensor, shape: torch.Size) -> ObservedAffine:
    inverse = within._inverse(shape)
    return with_parameters(
        within,
        observed=rows_of(within.observed, index, shape),
        affine=rows_of(within.affine, index, shape),
        _solved=(shape[1:], inverse if len(inverse) == 1 else inverse[index.to(inverse.device)]),
    )
