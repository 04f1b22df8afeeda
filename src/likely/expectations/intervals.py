"""What intervals of units that are few, skewed or nearly alike are made of."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from likely.expectations.moments import Moments


def even(m: Moments) -> Tensor:
    """Return where each unit had k or k + 1 hits: where squared deviations have their least sum."""
    most = m.hits % m.units
    return m.aa * m.unit**2 - most * (m.units - most) / m.units < 1  # otherwise 2 or more


def counted(m: Moments, alpha: float) -> tuple[Tensor, Tensor]:
    """Return the ends of the interval of Clopper and Pearson for units with k or k + 1 hits each."""
    k, most = (t.cpu().numpy() for t in (m.hits // m.units, m.hits % m.units))
    # Where all have k hits, they may be all of k - 1 + 1 as well as none of k + 1.
    below = most == 0
    side = np.where(k == m.unit, alpha, alpha / 2)
    low = stats.beta.ppf(side, np.where(below, m.units, most), np.where(below, 1, m.units - most + 1))
    high = stats.beta.ppf(1 - alpha / 2, most + 1, m.units - most)
    return m.aa.new_tensor((k - below + low) / m.unit), m.aa.new_tensor((k + high) / m.unit)


def unskewed(m: Moments, t: float) -> Tensor:
    """Return what Hall's transformation turns into t, `3 / a ((1 + a (t - a / 6))^(1/3) - 1)`."""
    if m.aaa is None or m.b is not None or m.units < 3:
        return torch.full_like(m.aa, t)
    u = m.units
    # The usual correction for a skewness from few values, and that for laws that are skewed.
    g = m.aaa / u / (m.aa / u) ** 1.5 * math.sqrt(u * (u - 1)) / (u - 2) * (1 + 21 / (4 * u))
    a = (g / math.sqrt(u)).nan_to_num(0.0)
    base = 1 + a * (t - a / 6)
    found = 3 / a * (base.abs().pow(1 / 3).copysign(base) - 1)
    return torch.where(a.abs() < 1e-6, t, found)
