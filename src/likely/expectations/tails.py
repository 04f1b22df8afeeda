"""How heavy the tail of a sample is: the Pareto shape k of its largest values."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

#: how many of the largest values an estimate keeps; one more than the tail that k is fitted to
KEPT = 513


def tail_length(n: int) -> int:
    """Return how many of n values count as the tail, `min(n / 5, 3 sqrt(n))`, and at most 512."""
    return min(n // 5, math.ceil(3 * math.sqrt(n)), KEPT - 1)


def pareto_k(largest: NDArray[np.float64], n: int) -> float:
    """Return the shape k of the generalised Pareto law fitted to the tail of n positive values.

    The tail is what exceeds the `(M + 1)`-th largest value, `M = min(n / 5, 3 sqrt(n), 512)`. Moments
    of order below `1 / k` are finite: from k = 1/2 on, the variance is not. Ties do no harm: values
    that equal the threshold do not exceed it, and a tail of equal values is bounded, so k is minus
    infinity. Fewer than five values in the tail tell nothing: k is plus infinity.

    Args:
        largest: the largest values in falling order, at least M + 1 of them unless n is smaller.
        n: how many positive values there were.

    Reference: Zhang, Stephens 2009, the fit; Vehtari, Simpson, Gelman, Yao, Gabry 2024, the tail
    length and the weakly informative prior.

    Example:
        >>> values = np.sort((1 - np.linspace(0, 1, 1000, endpoint=False)) ** -0.7)[::-1]
        >>> 0.6 < pareto_k(values, 1000) < 0.8
        True
    """
    m = tail_length(n)
    if m < 5:
        return math.inf
    excess = largest[:m] - largest[m]
    excess = excess[excess > 1e-12 * largest[0]]
    if len(excess) == 0 or excess[0] - excess[-1] <= 1e-12 * excess[0]:
        return -math.inf
    if len(excess) < 5:
        return math.inf
    return _zhang_stephens(excess[::-1])


def threshold(n: int) -> float:
    """Return the k above which an estimate from n draws is not to be trusted, `1 - 1 / log10(n)`.

    At most 0.7, and at least 0.5 here, where the variance ends.

    Reference: Vehtari et al. 2024.
    """
    return min(0.7, max(0.5, 1 - 1 / math.log10(max(n, 11))))


def _zhang_stephens(x: NDArray[np.float64]) -> float:
    """Fit a generalised Pareto law to positive values in rising order; k is drawn towards 1/2."""
    n = len(x)
    grid = 30 + int(math.sqrt(n))
    quartile = x[max(0, int(n / 4 + 0.5) - 1)]
    theta = 1 / x[-1] + (1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))) / (3 * quartile)
    k = np.log1p(-theta[:, None] * x).mean(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        profile = n * (np.log(-theta / k) - k - 1)
    profile = np.where(np.isfinite(profile), profile, -np.inf)
    weight = np.exp(profile - profile.max())
    best = float((theta * weight).sum() / weight.sum())
    shape = float(np.log1p(-best * x).mean())
    return (n * shape + 10 * 0.5) / (n + 10)
