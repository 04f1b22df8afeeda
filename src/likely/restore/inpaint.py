"""Inpainting: the most likely completion of what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from likely.checks import whole
from likely.density import Density, LogProb, evaluating, log_prob_of, value_and_gradient
from likely.errors import InvalidInput
from likely.restore.doors import check, check_measured, frozen
from likely.seeds import generator_for
from likely.sets.convex import rows_of, select
from likely.solvers import Iterate, Method, PerRow, ProjectedAdam, Status, minimize
from likely.solvers.minimize import stationarity


@final
@dataclass(frozen=True)
class Restoration:
    """The outcome of `inpaint`, row by row; log-probabilities in nats.

    Example:
        >>> from likely import inpaint
        >>> image, observed = torch.tensor([[0.5, 0.0]]), torch.tensor([True, False])
        >>> r = inpaint(lambda x: -(x[:, 1] - x[:, 0]).square(), image, observed)
        >>> [round(v, 3) for v in r.image[0].tolist()], r.status[0].ok
        ([0.5, 0.5], True)
    """

    #: measured entries bitwise as given, all others within the bounds
    image: Float[Tensor, "batch *event"]
    #: log p of `image`, and of what was given (missing entries brought within the bounds)
    log_prob: Float[Tensor, " batch"]
    log_prob_before: Float[Tensor, " batch"]
    #: `||P(x + grad log p(x)) - x||_inf`, zero exactly at a constrained stationary point
    stationarity: Float[Tensor, " batch"]
    #: updates made, and how often log p and its gradient were evaluated
    steps: Int[Tensor, " batch"]
    evaluations: Int[Tensor, " batch"]
    #: why each row stopped
    status: tuple[Status, ...]


def inpaint(
    density: Density | LogProb,
    image: Float[Tensor, "batch *event"],
    observed: Bool[Tensor, "*shape"],
    bounds: tuple[float | Tensor, float | Tensor] = (0.0, 1.0),
    method: Method | None = None,
    start: Literal["given", "uniform"] | Float[Tensor, "batch *event"] = "given",
    *,
    precision: torch.dtype | None = None,
    chunk: int = 512,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    on_step: Callable[[Iterate], None] | None = None,
) -> Restoration:
    """Fill in what is missing by constrained maximum likelihood.

    `min_X -log p(X)` subject to `X_i = image_i` where measured and `low <= X_i <= high` elsewhere. At
    every iterate, and in the result, the measured entries are bitwise those of `image` and all others
    are within the bounds. The result is a stationary point as far as `stationarity` says, one of
    possibly many: the likelihood of a flow is not concave.

    Args:
        density: anything with `log_prob(x)`, or a function `x -> log p(x)`; see `likely.density`. A
            module is put into evaluation mode meanwhile: with dropout it would not be a density.
        image: `(B, *event)`, images `(B, C, H, W)` in [0, 1]; values at missing entries only matter as
            a start.
        observed: boolean, broadcastable to `image`; True where the value was measured.
        bounds: `(low, high)`, numbers or tensors that broadcast to `image`.
        method: how to search; None for `solvers.ProjectedAdam`, the best of those measured, its first
            steps as long as the bounds are apart (1 where they are infinite: bring unbounded columns
            to comparable ranges).
        start: "given" starts from `image`, "uniform" draws the missing entries between the bounds, a
            tensor of the shape of `image` starts there.
        precision: None searches with the density itself. A dtype searches with its frozen copy, as
            `Flow.frozen` makes it, which is faster: `torch.float32` differs by rounding alone;
            `torch.bfloat16` is the fastest where the processor has it, and steers by gradients that
            are off by a percent in large networks, up to a tenth in small ones. Iterates, and all that
            is reported, are in full precision.
        chunk: how many rows are worked on at once: memory grows with this number, beyond that of
            image and result themselves.
        seed: of a uniform start and of methods that draw.
        generator: to draw from, instead of a seed.
        on_step: shown every iterate of the rows at work, from their start, k = 0.

    Raises:
        InvalidType: the image is not floating point, the mask is not boolean, or a precision is asked
            for that the density cannot be frozen in.
        InvalidInput: shapes do not agree, a value is NaN or infinite, nothing was measured, or chunk is
            less than 1.
        Infeasible: a measured value lies outside the bounds, or low lies above high.

    Reference: Dinh, Krueger, Bengio 2015, section 5.2.

    Example:
        >>> law = torch.distributions.Normal(torch.full((1, 1, 2), 0.25), 1.0)
        >>> image = torch.tensor([[[[0.5, 0.0]]]])
        >>> result = inpaint(law, image, torch.tensor([True, False]))
        >>> result.image.numpy().round(2).tolist()
        [[[[0.5, 0.25]]]]
    """
    mask, allowed = check(image, observed, bounds)
    check_measured(mask)
    whole("chunk", chunk)
    log_prob = log_prob_of(density, image.shape[1:])
    search = log_prob if precision is None else log_prob_of(frozen(density, precision), image.shape[1:])
    draws = generator_for(seed, generator, image.device)
    given = allowed.project(image.detach())
    first = _start(start, given, bounds, draws)
    method = method or ProjectedAdam(lr=_widths(bounds, image))
    with evaluating(density), torch.no_grad():
        before = torch.cat([log_prob(rows) for rows in torch.split(given, chunk)])
    filled, log_p, gap = given.clone(), before.clone(), torch.zeros_like(before)
    steps = torch.zeros(len(image), dtype=torch.long, device=image.device)
    evaluations, status = steps.clone(), [Status.UNCHANGED] * len(image)

    incomplete = (~mask.flatten(1).all(1)).nonzero()[:, 0]
    for rows in torch.split(incomplete, chunk) if len(incomplete) else ():
        here = rows_of(allowed, rows, image.shape)
        show = on_step and _show_as(on_step, rows)
        with evaluating(density):
            found = minimize(
                PerRow(lambda x: -search(x)),
                first[rows],
                here,
                _for_rows(method, rows, image.shape),
                generator=draws,
                on_step=show,
            )
            value, stationary = found.value, found.stationarity
            if precision is not None:
                value, grad = value_and_gradient(lambda x: -log_prob(x), found.x)
                stationary = stationarity(found.x, grad, here)
        filled[rows], log_p[rows], gap[rows] = found.x, -value, stationary
        steps[rows], evaluations[rows] = found.steps, found.evaluations
        for row, why in zip(rows.tolist(), found.status, strict=True):
            status[row] = why
    return Restoration(filled, log_p, before, gap, steps, evaluations, tuple(status))


def _for_rows(method: Method, rows: Tensor, shape: torch.Size) -> Method:
    """Return the method for some rows, whose step sizes may differ."""
    if isinstance(method, ProjectedAdam) and isinstance(method.lr, Tensor):
        return replace(method, lr=select(method.lr, rows, shape))
    return method


def _show_as(on_step: Callable[[Iterate], None], rows: Tensor) -> Callable[[Iterate], None]:
    return lambda now: on_step(replace(now, rows=rows))


def _widths(bounds: tuple[float | Tensor, float | Tensor], image: Tensor) -> float | Tensor:
    """How far apart the bounds are, entry by entry; 1 where they are infinite or equal."""
    low, high = (torch.as_tensor(b, dtype=image.dtype, device=image.device) for b in bounds)
    width = high - low
    return torch.where(width.isfinite() & (width > 0), width, torch.ones_like(width))


def _start(
    start: str | Tensor,
    given: Tensor,
    bounds: tuple[float | Tensor, float | Tensor],
    generator: torch.Generator,
) -> Tensor:
    if isinstance(start, Tensor):
        if start.shape != given.shape:
            raise InvalidInput(
                f"start has shape {tuple(start.shape)}; expected the image's, {tuple(given.shape)}."
            )
        return start.to(given)
    if isinstance(start, str) and start == "given":
        return given
    if isinstance(start, str) and start == "uniform":
        low, high = (torch.as_tensor(b).to(given) for b in bounds)
        if not (low.isfinite().all() and high.isfinite().all()):
            raise InvalidInput("start is 'uniform' and a bound is infinite; expected finite bounds.")
        u = torch.rand(given.shape, generator=generator, dtype=given.dtype, device=given.device)
        return low + (high - low) * u
    raise InvalidInput(f"start is {start!r:.80}; expected 'given', 'uniform' or a tensor.")
