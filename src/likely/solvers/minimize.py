"""The one loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from likely.checks import described
from likely.density import value_and_gradient
from likely.errors import InvalidInput, InvalidType
from likely.rows import column
from likely.seeds import generator_for
from likely.sets import Box, ConvexSet
from likely.sets.convex import largest, rows_of
from likely.solvers.method import Evaluated, Method, State
from likely.solvers.solution import Iterate, Solution, Status
from likely.solvers.spectral import SpectralProjectedGradient

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
    tolerance that the set states: exactly for boxes and measured values. Every row has its own step
    and its own stop: on its tolerance, where it can go no further, or on a value or gradient that is
    not finite. From then on it is frozen; and where f is a `PerRow` it leaves the batch, so that the
    cost falls with the rows still open.

    Args:
        fun: f, differentiable, from `(B, *event)` to `(B,)`; row i of the result may depend on row i
            alone. A plain function is always given all rows, a `PerRow` those still open.
        start: the first point, `(B, *event)`; projected before use.
        within: the set C; None for no constraint.
        method: how to step; None for `SpectralProjectedGradient`, the best of those measured on smooth
            convex problems, with the root of the rounding of start's dtype as its tolerance.
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
    # A step of the size of the root of rounding is what values can still tell from none.
    method = method or SpectralProjectedGradient(tol=torch.finfo(start.dtype).eps ** 0.5)
    if not isinstance(within, ConvexSet):
        raise InvalidType(f"within is {described(within)}; expected a set such as sets.Box(0.0, 1.0).")
    if not isinstance(method, Method):
        raise InvalidType(
            f"method is {described(method)}; expected a value such as solvers.ProjectedGradient()."
        )
    if isinstance(fun, PerRow) and any(len(d) != len(start) for d in fun.data):
        raise InvalidInput(
            f"start has {len(start)} rows, but the data of the function "
            f"{[len(d) for d in fun.data]}; expected one row of each for every row of start."
        )
    draws = generator_for(seed, generator, start.device)

    x = within.project(start.detach())
    if x.shape != start.shape:
        raise InvalidInput(
            f"start has shape {tuple(start.shape)}, but within holds points of shape {tuple(x.shape)}."
        )
    state = method.init(x)
    found = _found(x, Status.COMPLETED if method.tol is None else Status.LIMIT)
    everyone = torch.arange(len(x), device=x.device)
    kept, index, shown = found, everyone, None
    for k in range(method.steps + 1):
        value, grad = value_and_gradient(fun, x)
        gap = stationarity(x, grad, within)
        step = method.step(k, Evaluated(x, value, grad), state, within.project, draws)
        kept = _keep(k, kept, method, Evaluated(x, value, grad), gap, step.accepted, step.stalled)
        if on_step is not None:
            seen = {"x": x, "value": value, "gap": gap}
            shown = seen if shown is None else _put(shown, index, seen)
            on_step(Iterate(k, *(t.clone() for t in (everyone, *shown.values()))))
        if k == method.steps:
            break
        x = torch.where(column(kept["open"], x), within.project(step.point), x)
        # Looking at the rows waits for a graphics card; there a few idle rounds cost less.
        if x.device.type == "cpu" or k % 16 == 15:
            open_rows = kept["open"].nonzero()[:, 0]
            if not len(open_rows):
                break
            if isinstance(fun, PerRow) and len(open_rows) < len(x):
                found, within = _put(found, index, kept), rows_of(within, open_rows, x.shape)
                fun, x, index = fun.rows(open_rows), x[open_rows], index[open_rows]
                state, kept = _rows(state, open_rows), _rows(kept, open_rows)
    found = _put(found, index, kept)
    return Solution(
        found["x"],
        found["value"],
        found["gap"],
        found["steps"],
        found["evaluations"],
        tuple(_STATUS[i] for i in found["status"].tolist()),
    )


@final
class PerRow:
    """A function of each row, `f_i(x_i) = f(x_i, d_i)`, that can be given some of the rows.

    Rows that are done then leave the batch of `minimize`.

    Args:
        fun: f, from `(B, *event)`, and one tensor `(B, ...)` for each of the data, to `(B,)`.
        data: what belongs to each row, such as measurements.

    Raises:
        InvalidType: fun is no function, or the data are no tensors.
        InvalidInput: the data do not have one row each.

    Example:
        >>> target = torch.tensor([[2.0, 0.25], [0.5, -1.0]])
        >>> fun = PerRow(lambda x, t: (x - t).square().sum(1), target)
        >>> fun(torch.zeros(2, 2)).tolist()
        [4.0625, 1.25]
        >>> fun.rows(torch.tensor([1]))(torch.zeros(1, 2)).tolist()
        [1.25]
    """

    def __init__(self, fun: Callable[..., Tensor], *data: Float[Tensor, "batch ..."]) -> None:
        if not callable(fun) or isinstance(fun, Tensor):
            raise InvalidType(f"fun is {type(fun).__name__}; expected a function of x and the data.")
        if not all(isinstance(d, Tensor) for d in data):
            given = [type(d).__name__ for d in data]
            raise InvalidType(f"the data are {given}; expected tensors, one row for each row of x.")
        if len({d.shape[:1] for d in data}) > 1 or any(d.ndim == 0 for d in data):
            raise InvalidInput(
                f"the data have shapes {[tuple(d.shape) for d in data]}; expected (B, ...), "
                "one row of each for every row of x."
            )
        self.fun, self.data = fun, data

    def __call__(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return f of every row."""
        return self.fun(x, *self.data)

    def rows(self, index: Int[Tensor, " k"]) -> PerRow:
        """Return the function of some rows."""
        return PerRow(self.fun, *[d[index] for d in self.data])


def stationarity(
    x: Float[Tensor, "batch *event"], grad: Float[Tensor, "batch *event"], within: ConvexSet
) -> Float[Tensor, " batch"]:
    """Return `||P(x - grad) - x||_inf`, zero exactly at a constrained stationary point."""
    moved = x - grad
    # Where x is so large that it swallows its slope, only the slope itself tells.
    return largest(torch.where(moved == x, grad, within.project(moved) - x).abs())


_STATUS = list(Status)


def _found(x: Tensor, status: Status) -> State:
    """Return what is known of each row before the first evaluation."""
    none = torch.zeros(len(x), dtype=torch.long, device=x.device)
    worst = x.new_full((len(x),), torch.inf)
    return {
        "x": x,
        "value": worst,
        "gap": worst,
        "steps": none,
        "evaluations": none,
        "status": none + _STATUS.index(status),
        "open": none == 0,
    }


def _keep(
    k: int,
    kept: State,
    method: Method,
    at: Evaluated,
    gap: Tensor,
    accepted: Tensor | None,
    stalled: Tensor | None,
) -> State:
    """Return what is known of each row after one more evaluation."""
    is_open = kept["open"]
    none = torch.zeros_like(is_open)
    accepted = ~none if accepted is None or k == 0 else accepted
    # The gap alone would not tell: bounds clip an infinite gradient to a finite gap.
    finite = at.value.isfinite() & largest((~at.grad.isfinite()).to(at.grad)).eq(0)
    # A trial that failed may be stationary, and yet worse than the point it was tried from.
    done = none if method.tol is None else accepted & finite & (gap <= method.tol)
    wanted = accepted if method.keep == "last" else _lower(at.value, gap, kept)
    better = is_open & finite & (done | wanted)
    ends = {
        Status.UNBOUNDED: accepted & (at.value == -torch.inf),
        Status.NONFINITE: accepted & ~finite,
        Status.CONVERGED: done,
        Status.COMPLETED if method.tol is None else Status.STALLED: none
        if stalled is None
        else stalled,
    }
    status, still = kept["status"], is_open
    for why, rows in ends.items():
        status = torch.where(still & rows, _STATUS.index(why), status)
        still = still & ~rows
    return {
        "x": torch.where(column(better, at.x), at.x, kept["x"]),
        "value": torch.where(better, at.value, kept["value"]),
        "gap": torch.where(better, gap, kept["gap"]),
        "steps": kept["steps"] + (is_open & accepted if k else none),
        "evaluations": kept["evaluations"] + is_open,
        "status": status,
        "open": still,
    }


def _lower(value: Tensor, gap: Tensor, kept: State) -> Tensor:
    """Return where the value is less; where the values differ by rounding alone, the stationarity."""
    same = (value - kept["value"]).abs() <= 2 * torch.finfo(value.dtype).eps * value.abs()
    return torch.where(same, gap < kept["gap"], value < kept["value"])


def _rows(state: State, index: Tensor) -> State:
    return {name: tensor[index] for name, tensor in state.items()}


def _put(all_rows: State, index: Tensor, some: State) -> State:
    """Return `all_rows` with the rows `index` replaced."""
    return {name: all_rows[name].index_copy(0, index, t) for name, t in some.items()}
