"""The one loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from likely.errors import InvalidInput, InvalidType
from likely.seeds import generator_for
from likely.sets import Box, ConvexSet
from likely.sets.convex import largest
from likely.solvers.method import Method, ProjectedAdam
from likely.solvers.solution import Iterate, Solution, Status

Function: TypeAlias = Callable[[Tensor], Tensor]


def minimize(
    fun: Function,
    start: Float[Tensor, "batch *event"],
    within: ConvexSet | None = None,
    method: Method | None = None,
    *,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    on_step: Callable[[Iterate], None] | None = None,
) -> Solution:
    """Minimise a function of each row over a convex set, `min_{x in C} f(x)`.

    Every iterate is the projection of some point, the start included, and so lies in the set, to the
    tolerance that the set states: exactly for boxes and measured values. A row stops by itself, on its
    tolerance or on a value or gradient that is not finite, and is frozen from then on.

    Args:
        fun: f, differentiable, from `(B, *event)` to `(B,)`; row i of the result may depend on row i
            alone.
        start: the first point, `(B, *event)`; projected before use.
        within: the set C; None for no constraint.
        method: how to step; None for `ProjectedAdam()`.
        seed: of methods that draw; the global random state is never touched.
        generator: to draw from, instead of a seed.
        on_step: shown every iterate, the projected start included.

    Returns:
        A `Solution`: the kept point of each row, its value and stationarity, and why it stopped.

    Raises:
        InvalidType: start is not a floating-point tensor.
        InvalidInput: start holds NaN, the set is over another shape, or fun does not return one
            differentiable value a row.

    Reference: Bertsekas 1999, section 2.3.

    Example:
        >>> from likely import sets, solvers
        >>> target = torch.tensor([[2.0, 0.25]])
        >>> sol = minimize(lambda x: (x - target).square().sum(1), torch.zeros(1, 2),
        ...                sets.Box(0.0, 1.0), solvers.ProjectedGradient(lr=0.25, tol=1e-6))
        >>> sol.x.numpy().round(4).tolist(), sol.status[0].name
        ([[1.0, 0.25]], 'CONVERGED')
    """
    if not isinstance(start, Tensor) or not start.is_floating_point():
        given = start.dtype if isinstance(start, Tensor) else type(start).__name__
        raise InvalidType(f"start is {given}; expected a floating-point tensor (B, *event).")
    if start.ndim == 0 or not start.isfinite().all():
        raise InvalidInput(
            f"start has shape {tuple(start.shape)} with "
            f"{int((~start.isfinite()).sum())} NaN or infinite value(s); "
            "expected (B, *event), all finite."
        )
    within = within or Box(-torch.inf, torch.inf)
    method = method or ProjectedAdam()
    if not isinstance(within, ConvexSet):
        raise InvalidType(f"within is {within!r:.80}; expected a set such as sets.Box(0.0, 1.0).")
    if not isinstance(method, Method):
        raise InvalidType(
            f"method is {method!r:.80}; expected a value such as solvers.ProjectedAdam()."
        )
    draws = generator_for(seed, generator, start.device)
    rows = start.shape[0]

    x = within.project(start.detach())
    if x.shape != start.shape:
        raise InvalidInput(
            f"start has shape {tuple(start.shape)}, but within holds points of shape {tuple(x.shape)}."
        )
    state = method.init(x)
    kept_x = x
    kept_value = x.new_full((rows,), torch.inf)
    kept_gap = x.new_full((rows,), torch.inf)
    status = [Status.COMPLETED if method.tol is None else Status.LIMIT] * rows
    running = torch.ones(rows, dtype=torch.bool, device=x.device)
    steps = torch.zeros(rows, dtype=torch.long, device=x.device)

    for k in range(method.steps + 1):
        value, grad = _value_and_gradient(fun, x)
        gap = largest((within.project(x - grad) - x).abs())
        # The gap alone would not tell: bounds clip an infinite gradient to a finite gap.
        finite = value.isfinite() & largest((~grad.isfinite()).to(grad)).eq(0)
        done = torch.zeros_like(running) if method.tol is None else finite & (gap <= method.tol)
        better = running & finite & (done | (value < kept_value) | (method.keep == "last"))
        kept_x = torch.where(_as_rows(better, x), x, kept_x)
        kept_value = torch.where(better, value, kept_value)
        kept_gap = torch.where(better, gap, kept_gap)
        _stop(running, ~finite, status, Status.NONFINITE)
        _stop(running, done, status, Status.CONVERGED)
        if on_step is not None:
            on_step(Iterate(k, x.clone(), value, gap))
        if k == method.steps or not running.any():
            break
        proposal = within.project(method.step(k, x, grad, state, draws))
        x = torch.where(_as_rows(running, x), proposal, x)
        steps += running
    return Solution(kept_x, kept_value, kept_gap, steps, tuple(status))


def _value_and_gradient(fun: Function, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False), torch.enable_grad():
        point = x.clone().requires_grad_()
        value = fun(point)
        grad = None
        if isinstance(value, Tensor) and value.shape == x.shape[:1] and value.requires_grad:
            (grad,) = torch.autograd.grad(value.sum(), point, allow_unused=True)
        if grad is None:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            flat = isinstance(value, Tensor) and value.shape == x.shape[:1]
            raise InvalidInput(
                f"the function, or log p, returned {got} for input {tuple(x.shape)}"
                + (", but does not depend on its input in a way" if flat else "")
                + f"; expected a tensor of shape ({x.shape[0]},) that is differentiable in its input."
            )
    return value.detach(), grad


def _stop(running: Tensor, where: Tensor, status: list[Status], why: Status) -> None:
    """Take the rows of `where` out of `running`, in place, and note why."""
    for row in (running & where).nonzero().flatten().tolist():
        status[row] = why
        running[row] = False


def _as_rows(mask: Tensor, x: Tensor) -> Tensor:
    return mask.reshape(-1, *[1] * (x.ndim - 1))
