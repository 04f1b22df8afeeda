"""When to stop drawing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, final

import torch

from likely.checks import whole
from likely.errors import InvalidInput
from likely.expectations.estimate import Estimate

#: how often a normal variable is within one standard deviation
ONE_SIGMA: Final = 0.6827


@final
@dataclass(frozen=True)
class rel:  # noqa: N801 (read as a word: until=rel(0.05))
    """Draw blocks until the standard error is at most `tolerance` times the mean, in every entry.

    Of an event that every draw, or as many of each Sobol net, hit, half a 68% interval stands for it.

    Stopping when the error bar *looks* small favours samples whose variance was underestimated, so the
    mean is biased: upwards for rare events, whose early lucky hits end a run, by a relative amount of
    order `tolerance^2`. The minima below keep it at a fraction of the error bar. Measured on an event
    of probability 0.01: +0.2% +- 0.3% at a tolerance of 0.1, +0.8% +- 0.3% at 0.2; without minima, in
    blocks of 20 and at a tolerance of 0.6, more than +30% (tests/expectations/test_until.py).

    Args:
        tolerance: the relative standard error to reach.
        minimum: draws to make in any case.
        hits: draws with f w != 0 to see in any case.
        block: draws in a block; a new look is taken after each.

    Raises:
        InvalidInput: one of them is not positive and finite.

    Example:
        >>> import torch
        >>> from likely import expect
        >>> law = torch.distributions.Normal(0.0, 1.0)
        >>> e = expect(lambda x: x > 1, law, until=rel(0.05), seed=0)
        >>> bool(e.stderr <= 0.05 * e.mean)
        True
    """

    tolerance: float
    minimum: int = 1000
    hits: int = 50
    block: int = 1024

    def __post_init__(self) -> None:
        given = self.tolerance
        if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < math.inf:
            raise InvalidInput(f"tolerance is {given!r:.40}; expected a finite number above 0.")
        whole("minimum", self.minimum)
        whole("hits", self.hits, 0)
        whole("block", self.block)

    def __str__(self) -> str:
        return f"rel({self.tolerance:g})"

    def reached(self, e: Estimate) -> bool:
        """Return whether an estimate is good enough."""
        if e.exact:
            return True
        if e.n < self.minimum or int(e.hits.min()) < self.hits:
            return False
        error = e.stderr
        if error.isinf().any():  # units that all agree tell no spread, but counts of an event do
            low, high = e.interval(ONE_SIGMA)
            error = torch.where(error.isinf(), (high - low) / 2, error)
        return bool((error <= self.tolerance * e.mean.detach().abs()).all())
