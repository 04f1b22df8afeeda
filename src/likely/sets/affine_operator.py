"""Linear equalities given by a function: no matrix is formed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from likely.errors import Infeasible, InvalidInput, InvalidType, NotConverged
from likely.sets.convex import ConvexSet, rows_of, select, with_parameters
from likely.sets.parameters import double

Linear = Callable[[Tensor], Tensor]


@final
class AffineOperator(ConvexSet):
    """The affine set `{x : A x = b}`, A being a linear function such as a blur, or means over blocks.

    Projection: `argmin_{A x = b} ||x - y||_2 = y - A^T (A A^T)^+ (A y - b)`, by conjugate gradients,
    started at y, on `A^T A x = A^T b`: their steps stay in the range of A^T, so the solution that they
    reach is the nearest one. Each row stops by itself. Points with `A x = b` keep every bit. The
    arithmetic is in float64 and rounded once; the violation of a projected point is at most
    `rtol (||y||_2 + ||x||_2)`. The derivative is the same projection with b = 0, at every point, and
    takes no record of the steps. Equalities may follow from one another, as long as none contradict.

    Args:
        A: a linear function; it is given float64 points `(B, *event)` and returns `(B, *m)`, treating
            each row by itself. What it holds, such as a kernel, must be float64 too, and is given no
            gradient.
        b: what A must return, `(B, *m)`, or `(1, *m)` for all rows.
        transpose: the function A^T, from `(B, *m)` to `(B, *event)`; found by automatic differentiation
            of A if None.
        rtol: how exact; 8 eps if None, eps being that of the dtype of y. To be raised where A is so
            ill-conditioned that float64 cannot reach it.
        steps: how many steps of conjugate gradients a row may take.

    Raises:
        InvalidType: A or transpose is no function, or b is no real tensor.
        InvalidInput: b is not finite or has no batch axis, rtol is not above 0 or steps is not a whole
            number above 0; on use, A fails on the points or returns what does not fit b, A is not
            linear, or transpose is not its transpose.
        Infeasible: on use, the equalities contradict each other.
        NotConverged: on use, a row took all its steps.

    Reference: Hestenes and Stiefel 1952; Björck 1996, section 7.4.

    Example:
        >>> rows = AffineOperator(lambda x: x.sum(-1), torch.tensor([[1.0, 4.0]]))
        >>> rows.project(torch.tensor([[[1.0, 2.0], [1.0, 2.0]]]))
        tensor([[[0.0000, 1.0000],
                 [1.5000, 2.5000]]])
        >>> halve = lambda x: torch.nn.functional.avg_pool2d(x, 2)
        >>> sharper = AffineOperator(halve, torch.full((1, 1, 1, 1), 0.5))
        >>> sharper.project(torch.tensor([[[[0.0, 1.0], [0.5, 1.0]]]]))
        tensor([[[[-0.1250,  0.8750],
                  [ 0.3750,  0.8750]]]])
    """

    def __init__(
        self,
        A: Linear,  # noqa: N803
        b: Float[Tensor, "rows *m"],
        transpose: Linear | None = None,
        rtol: float | None = None,
        steps: int = 1000,
    ) -> None:
        for name, function in (("A", A), ("transpose", transpose)):
            if not callable(function) and (name == "A" or function is not None):
                raise InvalidType(f"{name} is {type(function).__name__}; expected a linear function.")
        self.b = double("b", b)
        if not self.b.ndim:
            raise InvalidInput("b is one number; expected what A returns, (B, *m), or (1, *m).")
        if rtol is not None and not rtol > 0:
            raise InvalidInput(f"rtol is {rtol}; expected a number above 0, or None.")
        if not (isinstance(steps, int) and steps > 0):
            raise InvalidInput(f"steps is {steps}; expected a whole number above 0.")
        self.A, self.transpose, self.rtol, self.steps = A, transpose, rtol, steps

    def project(self, y: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch *event"]:
        """Return `y - A^T (A A^T)^+ (A y - b)`."""
        x: Tensor = _Project.apply(y, self)  # type: ignore[no-untyped-call]
        return x

    def violation(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return `||r||^2 / ||A^T r||` for `r = A x - b`.

        The distance from the hyperplane `<A^T r, z> = <r, b>`, which holds all of the set; the distance
        from the set itself, where the rows of A are orthogonal and equally long.
        """
        r = self._residual(x.double())
        return _distance(_norm(r), _norm(self._back(r, x))).to(x.dtype)

    def _residual(self, x: Tensor) -> Float[Tensor, "batch *m"]:
        """Return `A x - b`."""
        image, b = self._forward(x), self.b.to(x.device)
        if image.shape[1:] != b.shape[1:] or len(b) not in (1, len(x)):
            raise InvalidInput(
                f"A turns points of shape {tuple(x.shape)} into {tuple(image.shape)}, but b has shape "
                f"{tuple(b.shape)}; expected this shape, or one row of it for all."
            )
        return image - b

    def _forward(self, x: Tensor) -> Tensor:
        try:
            image = self.A(x)
        except RuntimeError as error:
            raise InvalidInput(f"A fails on float64 points {tuple(x.shape)}: {error}") from error
        if not isinstance(image, Tensor) or image.dtype != x.dtype or image.shape[:1] != x.shape[:1]:
            raise InvalidInput(
                f"A turns points of shape {tuple(x.shape)} into {_what(image)}; "
                "expected a float64 tensor with as many rows."
            )
        return image

    def _back(self, r: Tensor, x: Tensor) -> Float[Tensor, "batch *event"]:
        """Return `A^T r`, in the shape of x."""
        if self.transpose is None:
            with torch.enable_grad():
                point = x.detach().to(r.dtype).requires_grad_()
                image = self._forward(point)
                if not image.requires_grad:
                    raise InvalidInput(
                        "A leaves no trace for automatic differentiation; use torch only, or give the "
                        "argument transpose."
                    )
                (back,) = torch.autograd.grad(image, point, r, create_graph=r.requires_grad)
            return back
        try:
            back = self.transpose(r)
        except RuntimeError as error:
            raise InvalidInput(
                f"transpose fails on float64 values {tuple(r.shape)}: {error}"
            ) from error
        if not isinstance(back, Tensor) or (back.shape, back.dtype) != (x.shape, r.dtype):
            raise InvalidInput(
                f"transpose turns values of shape {tuple(r.shape)} into {_what(back)}; "
                f"expected a float64 tensor of the shape of the points, {tuple(x.shape)}."
            )
        return back


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, within: AffineOperator) -> Tensor:
        ctx.within = within
        rtol = 8 * torch.finfo(y.dtype).eps if within.rtol is None else within.rtol
        return _nearest(within, y.double(), rtol).to(y.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        level = with_parameters(ctx.within, b=torch.zeros_like(ctx.within.b[:1]))
        return level.project(grads[0]), None


def _nearest(within: AffineOperator, y: Tensor, rtol: float) -> Tensor:
    """Return the projection of y, all in float64, by conjugate gradients; each row stops by itself."""
    x, size, b = y.clone(), _norm(y), _norm(within.b).to(y.device)
    used = torch.zeros(len(y), dtype=torch.long, device=y.device)
    peak = torch.zeros_like(size)
    while True:
        # From the residual as it is, not as the recurrence has it: that takes out the rounding so far.
        r = -within._residual(x)
        s = within._back(r, x)
        peak = torch.maximum(peak, _norm(s) / torch.where(_norm(r) > 0, _norm(r), 1.0))
        # Half the tolerance is for the recurrence, so that what it meets is met by the residual too.
        target = rtol / 2 * (size + _norm(x))
        active = _distance(_norm(r), _norm(s)) > 2 * target
        if not active.any():
            return x
        _refuse(within, active, used, r, s, peak, b)
        p, first = s, True
        while active.any():
            q = within._forward(p)
            if first:
                _check_transpose(active, r, s, q)
                first = False
            gamma = _norm(s).square()
            alpha = gamma / torch.where(active & (_norm(q) > 0), _norm(q).square(), torch.inf)
            x = torch.where(_tall(active, x), x + _tall(alpha, x) * p, x)
            r = torch.where(_tall(active, r), r - _tall(alpha, r) * q, r)
            s = within._back(r, x)
            p = s + _tall(_norm(s).square() / torch.where(gamma > 0, gamma, 1.0), p) * p
            used += active
            stuck = _norm(s) <= 1e-12 * peak * _norm(r)
            active &= (_distance(_norm(r), _norm(s)) > target) & (used < within.steps) & ~stuck


def _refuse(
    within: AffineOperator, active: Tensor, used: Tensor, r: Tensor, s: Tensor, peak: Tensor, b: Tensor
) -> None:
    """Raise where a row that is not there yet can go no further."""
    # No step makes such a residual shorter: it is no value of A.
    apart = active & (_norm(s) <= 1e-10 * peak * _norm(r)) & (_norm(r) > 1e-10 * b)
    if apart.any():
        i = int(apart.nonzero()[0, 0])
        raise Infeasible(
            f"the equalities contradict each other: in row {i}, no x brings ||A x - b|| below "
            f"{_norm(r)[i].item():g}; correct b, or leave out measurements."
        )
    over = active & (used >= within.steps)
    if over.any():
        i = int(over.nonzero()[0, 0])
        raise NotConverged(
            f"row {i} is still {_distance(_norm(r), _norm(s))[i].item():g} outside after "
            f"{within.steps} steps of conjugate gradients; allow more steps, or raise rtol."
        )


def _check_transpose(active: Tensor, r: Tensor, s: Tensor, q: Tensor) -> None:
    """Raise unless `<r, A s> = ||s||^2` for s = A^T r, as it is for a linear A and its transpose."""
    forth, back = (r * q).flatten(1).sum(1), _norm(s).square()
    bad = active & ((forth - back).abs() > 1e-6 * (_norm(r) * _norm(q) + back))
    if bad.any():
        i = int(bad.nonzero()[0, 0])
        raise InvalidInput(
            f"A is not linear, or transpose is not its transpose: in row {i}, <r, A A^T r> is "
            f"{forth[i].item():g} and ||A^T r||^2 is {back[i].item():g} for one r; expected the same."
        )


def _norm(x: Tensor) -> Float[Tensor, " batch"]:
    """Return the length of each row; its gradient at 0 is 0."""
    length: Tensor = torch.linalg.vector_norm(x[:, None].flatten(1), dim=1)
    return length


def _distance(r: Tensor, s: Tensor) -> Float[Tensor, " batch"]:
    """Return `r^2 / s`, 0 for r = 0; infinite for s = 0, as then no x has A x = b."""
    return torch.where((s == 0) & (r > 0), torch.inf, r * (r / torch.where(s == 0, 1.0, s)))


def _tall(v: Shaped[Tensor, " batch"], x: Tensor) -> Tensor:
    return v.reshape(-1, *[1] * (x.ndim - 1))


def _what(value: object) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


@rows_of.register
def _(within: AffineOperator, index: Tensor, shape: torch.Size) -> AffineOperator:
    return with_parameters(within, b=select(within.b, index, within.b.shape))
