"""Whether chains agree, and how many independent draws they are worth."""

from __future__ import annotations

import math
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from likely.errors import InvalidInput


def rhat(traces: Float[Tensor, "*batch chains draws"]) -> Float[Tensor, "*batch"]:
    """Return the split R-hat, `sqrt(((n - 1)/n W + B) / W)`, of m chains cut in halves of n draws.

    W is the mean variance within the 2m halves and B the variance of their means. It is 1 where all
    halves are alike, and above where chains, or the halves of one, tell different stories. Constant
    traces give 1 where they all agree and infinity where they do not.

    Raises:
        InvalidInput: there are fewer than 4 draws.

    Reference: Gelman et al. 2013, section 11.4; Vehtari et al. 2021 (who add ranks).

    Example:
        >>> rhat(torch.tensor([[0.0, 1.0, 0.0, 1.0], [5.0, 6.0, 5.0, 6.0]])).round(decimals=2)
        tensor(4.1400)
    """
    halves = _halves(traces)
    return rhat_of_moments(halves.mean(-1), halves.var(-1), halves.shape[-1])


def rhat_of_moments(
    mean: Float[Tensor, "*batch halves"], var: Float[Tensor, "*batch halves"], n: int
) -> Float[Tensor, "*batch"]:
    """Return R-hat from the mean and the (unbiased) variance of each half, of n draws."""
    within, between = var.mean(-1), mean.var(-1)
    ratio = (((n - 1) / n * within + between) / within).sqrt()
    # What rounding makes of equal means is no disagreement.
    rounding = (8 * torch.finfo(mean.dtype).eps * mean.abs().amax(-1)) ** 2
    same = (within <= rounding) & (between <= rounding)
    return torch.where(same, torch.ones_like(ratio), ratio)


def ess(traces: Float[Tensor, "*batch chains draws"]) -> Float[Tensor, "*batch"]:
    """Return the effective sample size of the mean: how many independent draws would do as well.

    `m n / (1 + 2 sum_t rho_t)` for m half chains of n draws, with
    `rho_t = 1 - (W - mean of their autocovariances at lag t) / V`, `V = (n - 1)/n W + B` as in `rhat`,
    so that chains that disagree are worth little. The sum runs over Geyer's initial monotone sequence:
    pairs of neighbours, up to the first that is not positive, each at most the one before. At most
    `m n log10(m n)` is reported (m n, if that is less than 10); NaN for constant traces.

    Raises:
        InvalidInput: there are fewer than 4 draws.

    Reference: Geyer 1992; Vehtari et al. 2021, section 3.2.

    Example:
        >>> draws = torch.randn(4, 1000, generator=torch.Generator().manual_seed(0))
        >>> 3000 < ess(draws) < 5000
        tensor(True)
    """
    halves = _halves(traces)
    m, n = halves.shape[-2:]
    centred = halves - halves.mean(-1, keepdim=True)
    power = torch.fft.rfft(centred, 2 * n).abs().square()
    covariance = torch.fft.irfft(power, 2 * n)[..., :n] / n
    within = covariance[..., 0].mean(-1) * n / (n - 1)
    between = halves.mean(-1).var(-1)
    spread = (n - 1) / n * within + between
    rho = 1 - (within[..., None] - covariance.mean(-2)) / spread[..., None]
    rho[..., 0] = 1.0
    pairs = rho[..., : n - n % 2].unflatten(-1, (-1, 2)).sum(-1)
    positive = (pairs > 0).cumprod(-1)
    sums = (pairs.clamp(min=0).cummin(-1).values * positive).sum(-1)
    tau = (2 * sums - 1).clamp(min=1 / math.log10(max(m * n, 10)))
    return torch.where(_constant(halves), torch.nan, m * n / tau)


def _constant(halves: Tensor) -> Tensor:
    flat = halves.flatten(-2)
    least, most = flat.amin(-1), flat.amax(-1)
    return most - least <= 8 * torch.finfo(halves.dtype).eps * torch.maximum(least.abs(), most.abs())


def _halves(traces: Tensor) -> Tensor:
    """Return the first and last half of every chain, as chains; an odd draw between is left out."""
    n = traces.shape[-1]
    if n < FEWEST:
        raise InvalidInput(f"the chains have {n} draw(s) each; expected at least {FEWEST}.")
    return torch.cat([traces[..., : n // 2], traces[..., n - n // 2 :]], -2)


#: draws of a chain below which halves have no variance
FEWEST = 4


@final
class Moments:
    """Running mean and variance, entry by entry.

    Reference: Welford 1962.
    """

    def __init__(self) -> None:
        self.n = 0

    def add(self, x: Float[Tensor, "*shape"]) -> None:
        """Take in one more value of each entry."""
        if not self.n:
            self.mean, self.squares = torch.zeros_like(x), torch.zeros_like(x)
        self.n += 1
        gap = x - self.mean
        self.mean += gap / self.n
        self.squares += gap * (x - self.mean)

    @property
    def var(self) -> Float[Tensor, "*shape"]:
        """The unbiased variance of each entry."""
        return self.squares / max(self.n - 1, 1)
