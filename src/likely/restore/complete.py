"""Plausible completions: draws of what is missing, given what was measured."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from likely.checks import described, whole
from likely.density import Conditional, Density, LogProb, evaluating, log_prob_given_of
from likely.errors import InvalidInput, InvalidType
from likely.restore.doors import check, frozen, numbers_where_missing
from likely.samplers import Direct, Hamiltonian, Sampler, Status, Sweep, Target, sample
from likely.samplers.leapfrog import Leapfrog
from likely.seeds import generator_for


@final
@dataclass(frozen=True, repr=False)
class Completions:
    """The outcome of `complete`; log-probabilities in nats.

    Example:
        >>> import likely
        >>> flow = likely.load("digits-complete")
        >>> observed = torch.arange(64).view(1, 8, 8) < 32
        >>> c = likely.complete(flow, torch.full((1, 1, 8, 8), 0.5), observed, n=19, seed=0)
        >>> c.samples.shape, bool((c.quantile(0.05) <= c.quantile(0.95)).all())
        (torch.Size([19, 1, 1, 8, 8]), True)
    """

    #: the draws: measured entries bitwise as given, all others within the bounds
    samples: Float[Tensor, "n batch *event"]
    #: their mean, of all guesses the one with the least squared error in expectation
    mean: Float[Tensor, "batch *event"]
    #: log p of each completed image; of a conditional density, `log p(missing | measured)`
    log_prob: Float[Tensor, "n batch"]
    #: the mean chance of acceptance; 1 for independent draws
    acceptance: Float[Tensor, " batch"]
    #: how many independent draws the chains are worth, of log p or of the mean missing entry, whichever
    #: is less
    ess: Float[Tensor, " batch"]
    #: split R-hat, the largest over the missing entries and log p: 1 where chains agree
    rhat: Float[Tensor, " batch"]
    #: what the draws of each image are worth
    status: tuple[Status, ...]

    def quantile(self, q: float) -> Float[Tensor, "batch *event"]:
        """Return the q-quantile of every entry, below which one more draw lies with probability q.

        It is the draw of rank `q (n + 1)` in order of size, interpolated: for independent draws of a
        continuous law one more has each rank equally likely, so that `quantile(0.05)` and
        `quantile(0.95)` hold it with probability 0.9. Ranks below 1 and above n are those of the
        smallest and the largest draw: a 90% interval takes 19 of them, and fewer cover less.

        Raises:
            InvalidInput: q is not a number from 0 to 1.

        Reference: Hyndman, Fan 1996, definition 6.
        """
        if not isinstance(q, int | float) or not 0 <= q <= 1:
            raise InvalidInput(f"q is {q}; expected one probability, a number from 0 to 1.")
        n = len(self.samples)
        at = min(max(q * (n + 1) - 1, 0), n - 1)
        i = min(int(at), max(n - 2, 0))
        parts = []
        for drawn in torch.split(self.samples, 1, dim=1):
            ordered = drawn.sort(0).values
            low, high = ordered[i], ordered[min(i + 1, n - 1)]
            parts.append(torch.where(low == high, low, low + (high - low) * (at - i)))
        return torch.cat(parts)

    def __repr__(self) -> str:
        ends = ", ".join(f"{n} {end.name}" for end, n in Counter(self.status).items())
        return f"Completions({ends}; samples {tuple(self.samples.shape)})"


def complete(
    density: Density | LogProb,
    image: Float[Tensor, "batch *event"],
    observed: Bool[Tensor, "*shape"],
    n: int = 16,
    bounds: tuple[float | Tensor, float | Tensor] = (0.0, 1.0),
    method: Sampler | None = None,
    *,
    precision: torch.dtype | None = None,
    chunk: int = 512,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    on_step: Callable[[Sweep], None] | None = None,
) -> Completions:
    """Draw what is missing from its law given what was measured.

    `x_missing ~ p(. | x_i = image_i where measured, low <= x <= high)`. In every draw, and on the way
    there, the measured entries are bitwise those of `image` and all others are within the bounds.
    Nothing measured is an unconditional sample; nothing missing gives the image. An entry whose bounds
    are equal counts as measured. Where the draws are not worth what they seem, a warning says so, and
    `status` which.

    Args:
        density: anything with `log_prob(x)`, or a function `x -> log p(x)`; see `likely.density`. A
            module is put into evaluation mode meanwhile.
        image: `(B, *event)`, images `(B, C, H, W)` in [0, 1]; values at missing entries do not matter,
            and may be NaN.
        observed: boolean, broadcastable to `image`; True where the value was measured.
        n: how many draws of each image.
        bounds: `(low, high)`, numbers or tensors that broadcast to `image`; infinite ones for none.
        method: how to draw; None for `samplers.Direct()` where the density is a
            `likely.density.Conditional`, else `samplers.Hamiltonian()`.
        precision: a dtype lets trajectories follow the gradient of the density's frozen copy, as in
            `inpaint`, which is faster. Acceptance, and all that is reported, is by the density itself,
            so that the draws are as exact as without; methods without gradients have no use for it.
        chunk: how many points the density is given at once: memory grows with this number, beyond that
            of the image and the draws themselves. The draws depend on it.
        seed: of the draws; the global random state is never touched. The draws of an image depend on
            the images beside it.
        generator: to draw from, instead of a seed.
        on_step: shown all chains of the rows at work after every step.

    Raises:
        InvalidType: the image is not floating point, the mask is not boolean, or the density does not
            have what the method or the precision needs.
        InvalidInput: shapes do not agree, a value is NaN or infinite, or n or chunk is less than 1.
        Infeasible: a measured value lies outside the bounds, or low lies above high.

    Reference: Neal 2011; Vehtari et al. 2021 (R-hat, effective sample size).

    Example:
        >>> law = torch.distributions.Normal(torch.full((1, 1, 2), 0.25), 1.0)
        >>> image = torch.tensor([[[[0.5, 0.0]]]])
        >>> c = complete(law, image, torch.tensor([True, False]), n=100, seed=0)
        >>> c.samples.shape, c.status[0].name
        (torch.Size([100, 1, 1, 1, 2]), 'MIXED')
        >>> c.quantile(0.5)[..., 0], bool(c.quantile(0.05)[..., 1] < c.quantile(0.95)[..., 1])
        (tensor([[[0.5000]]]), True)
    """
    image = numbers_where_missing(image, observed)
    mask, allowed = check(image, observed, bounds)
    whole("n", n)
    whole("chunk", chunk)
    method = method or (Direct() if isinstance(density, Conditional) else Hamiltonian())
    if not isinstance(method, Sampler):
        raise InvalidType(
            f"method is {described(method)}; expected a value such as samplers.Hamiltonian()."
        )
    draws = generator_for(seed, generator, image.device)
    steer = None if precision is None else frozen(density, precision)
    log_prob = log_prob_given_of(density, image.shape[1:])
    given = allowed.project(image.detach())
    low, high = (torch.as_tensor(b).to(given).expand_as(given) for b in bounds)
    # Where the caller is in inference mode, only copies made outside of it can enter gradients.
    with torch.inference_mode(False), torch.no_grad():
        given, low, high = given.clone(), low.clone(), high.clone()
        free = ~mask & (low < high)
    target = Target(density, given, free, low, high, steer)
    points = method.plan(target, n).points

    with evaluating(density, *vars(method).values()), torch.inference_mode(False), torch.no_grad():
        samples = given.expand(n, *given.shape).clone()
        ones = given.new_ones(len(given))
        log_p, acceptance, worth, rhat = given.new_zeros(n, len(given)), ones, n * ones, ones.clone()
        status = [Status.UNCHANGED] * len(given)
        some = free.flatten(1).any(1)
        for rows in torch.split((~some).nonzero()[:, 0], chunk) if not some.all() else ():
            log_p[:, rows] = log_prob(given[rows], ~free[rows])
        for rows in torch.split(some.nonzero()[:, 0], max(1, chunk // points)) if some.any() else ():
            show = on_step and _show_as(on_step, rows)
            found = sample(target.rows(rows), n, _for_rows(method, rows), draws, show)
            samples[:, rows], log_p[:, rows] = found.x, found.log_prob
            acceptance[rows], worth[rows], rhat[rows] = found.acceptance, found.ess, found.rhat
            for row, why in zip(rows.tolist(), found.status, strict=True):
                status[row] = why
    _warn(status, rhat, worth)
    mean = torch.where(free, samples.mean(0).clamp(low, high), given)
    return Completions(samples, mean, log_p, acceptance, worth, rhat, tuple(status))


def _for_rows(method: Sampler, rows: Tensor) -> Sampler:
    """Return the method for some rows, whose starts may differ."""
    if isinstance(method, Leapfrog) and isinstance(method.start, Tensor):
        return replace(method, start=method.start[:, rows.to(method.start.device)])
    return method


def _show_as(on_step: Callable[[Sweep], None], rows: Tensor) -> Callable[[Sweep], None]:
    return lambda now: on_step(replace(now, rows=rows))


def _warn(status: list[Status], rhat: Tensor, worth: Tensor) -> None:
    """Say once what the draws are not worth."""
    bad = Counter(s for s in status if not s.ok)
    if bad:
        said = "; ".join(
            f"{count} of {len(status)} images {s.name}: {s.value}" for s, count in bad.items()
        )
        warnings.warn(
            f"{said}. R-hat is up to {rhat.max().item():.3g}, the least effective sample size "
            f"{worth.min().item():.3g}.",
            stacklevel=3,
        )
