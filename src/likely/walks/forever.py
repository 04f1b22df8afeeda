"""Walks without a horizon: the gambler's ruin in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from likely.errors import InvalidInput
from likely.walks.functionals import Functional
from likely.walks.homogeneous import Homogeneous
from likely.walks.steps import Steps


def ruin(f: Functional, steps: Steps) -> Tensor:
    """Return the chance that a walk of +1 and -1 between two levels stops at the one f is about.

    `P(high) = (r^a - 1) / (r^N - 1)` with `r = (1 - p) / p`, a = start - low and N = high - low;
    differentiable in p.

    Raises:
        InvalidInput: the walk is another one, or f is not whether it stops at one of its levels.

    Reference: Feller 1968, chapter XIV.
    """
    g = f.geometry
    if (
        not isinstance(steps, Homogeneous)
        or steps.values != (1, -1)
        or g.low is None
        or g.high is None
        or g.rule is not None
        or not f.by_side
    ):
        raise InvalidInput(
            "horizon is None; without one, hits(low) and hits(high) of steps of +1 and -1 of one law "
            "between two levels have exact answers. Give a horizon."
        )
    up, down = steps.probabilities
    log_r = (down / up).log()
    bottom, top = math.floor(g.low), math.ceil(g.high)
    a, whole = int(g.start) - bottom, top - bottom
    high = _share(a, whole, log_r)
    low = _share(whole - a, whole, -log_r)
    at = torch.tensor([bottom, top]).numpy()
    pays = f.payoff(at * 0, at).double()
    return pays[0] * low + pays[1] * high


def _share(a: int, whole: int, log_r: Tensor) -> Tensor:
    """Return `(r^a - 1) / (r^N - 1)`, without overflow; near r = 1 by its series."""
    if abs(float(log_r)) * whole < 1e-5:
        return a / whole * (1 + (a - whole) * log_r / 2 + (a - whole) * (2 * a - whole) * log_r**2 / 12)
    if float(log_r) < 0:
        return torch.expm1(a * log_r) / torch.expm1(whole * log_r)
    return ((a - whole) * log_r).exp() * torch.expm1(-a * log_r) / torch.expm1(-whole * log_r)
