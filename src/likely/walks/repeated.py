"""Estimates from independent repetitions, each of which is unbiased."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from likely.expectations.estimate import Estimate
from likely.expectations.moments import Block


def estimate_of(log_values: Float[Tensor, " repeats"]) -> Estimate:
    """Return the estimate of a probability from the logarithms of independent unbiased values.

    `n` and `hits` count repetitions. The values are divided by the largest, so none underflows.

    Example:
        >>> e = estimate_of(torch.tensor([-1000.0, -1001.0]).double())
        >>> e.n, round(e.log_mean.item(), 3)
        (2, -1000.38)
    """
    top = log_values.amax()
    top = torch.where(top.isfinite(), top, 0.0)
    return Estimate(
        Block((log_values - top).exp(), scale=top), torch.float64, event=True, bound=math.inf
    )
