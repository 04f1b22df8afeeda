"""Histograms on [0, 1]: densities that are constant on bins, and their distribution functions."""

from __future__ import annotations

import math
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from likely.checks import whole
from likely.errors import InvalidInput


@final
class Histogram(nn.Module):
    """The law on [0, 1] with log-density `logits_k - log sum_j w_j exp(logits_j)` on bin k, w_k wide.

    Bin k holds `p_k = w_k f_k`; with all logits equal the law is uniform.

    Its distribution function `F(x) = p_1 + ... + p_{k-1} + f_k (x - e_k)` is increasing and piecewise
    linear, maps [0, 1] onto itself, and has `log F' = log f`. Bins are unions of `cells`
    intervals of equal length, one for each level of dequantised data, with edges near
    `sin^2(pi k / (2 bins))`: single cells at both ends, where pictures have their black and white.

    Args:
        bins: how many; at most `cells`.
        cells: levels of the data, 256 for bytes.

    Raises:
        InvalidInput: there are fewer than 2 bins, or more than cells.

    Reference: Müller, McWilliams, Rousselle, Gross, Novák 2019, "Neural importance sampling" (the
    piecewise-linear coupling).

    Example:
        >>> law = Histogram(2, 2)
        >>> law.log_prob(torch.tensor([0.7]), torch.tensor([[0.0, 0.0]])).item()
        0.0
    """

    edges: Tensor

    def __init__(self, bins: int, cells: int = 256) -> None:
        super().__init__()
        if not 2 <= whole("bins", bins, least=0) <= whole("cells", cells):
            raise InvalidInput(f"bins is {bins} and cells {cells}; expected 2 <= bins <= cells.")
        self.bins = bins
        spread = [round(cells * math.sin(math.pi * k / (2 * bins)) ** 2) for k in range(bins + 1)]
        # At least one cell a bin, from either end.
        at_least = [max(k, e) for k, e in enumerate(spread)]
        cut = [min(e, cells - (bins - k)) for k, e in enumerate(at_least)]
        self.register_buffer("edges", torch.tensor(cut, dtype=torch.float64) / cells, persistent=False)

    def log_prob(
        self, x: Float[Tensor, "*shape"], logits: Float[Tensor, "*shape bins"]
    ) -> Float[Tensor, "*shape"]:
        """Return `log f(x)` in nats, -inf outside of [0, 1]."""
        return self._at(x, logits, self._log_sum(logits), self._bin(x))

    def forward(
        self, x: Float[Tensor, "*shape"], logits: Float[Tensor, "*shape bins"]
    ) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
        """Return `u = F(x)`, uniform on [0, 1] where x follows the law, and `log f(x)`."""
        log_sum, k = self._log_sum(logits), self._bin(x)
        p = (logits + self._log_widths(logits) - log_sum).exp()
        low, width = self._corner(k, x.dtype)
        below = (p.cumsum(-1) - p).gather(-1, k[..., None])[..., 0]
        u = below + p.gather(-1, k[..., None])[..., 0] * (x - low) / width
        return u, self._at(x, logits, log_sum, k)

    def inverse(
        self, u: Float[Tensor, "*shape"], logits: Tensor
    ) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
        """Return `x = F^-1(u)` and `log f(x)`."""
        log_sum = self._log_sum(logits)
        p = (logits + self._log_widths(logits) - log_sum).exp()
        above = p.cumsum(-1)
        k = torch.searchsorted(above, u[..., None].contiguous(), right=True)
        # Rounding can leave the last sum below u, whose bin is then the last that holds anything.
        k = torch.minimum(k, torch.searchsorted(above, above[..., -1:].contiguous()))
        p_k = p.gather(-1, k)[..., 0]
        low, width = self._corner(k[..., 0], u.dtype)
        part = ((u - above.gather(-1, k)[..., 0] + p_k) / p_k).clamp(0, 1)
        # The right edge belongs to the next bin: stay below it, so that x is in the bin that was drawn.
        top = torch.nextafter(low + width, low)
        x = torch.minimum(low + part * width, top)
        return x, logits.gather(-1, k)[..., 0] - log_sum[..., 0]

    def mean(self, logits: Float[Tensor, "*shape bins"]) -> Float[Tensor, "*shape"]:
        """Return `E x = sum_k p_k (e_k + e_{k+1}) / 2`."""
        p = (logits + self._log_widths(logits)).softmax(-1)
        return p @ ((self.edges[1:] + self.edges[:-1]) / 2).to(logits.dtype)

    def _log_sum(self, logits: Tensor) -> Float[Tensor, "*shape 1"]:
        return (logits + self._log_widths(logits)).logsumexp(-1, keepdim=True)

    def _at(self, x: Tensor, logits: Tensor, log_sum: Tensor, k: Tensor) -> Float[Tensor, "*shape"]:
        inside = (x >= 0) & (x <= 1) | x.isnan()
        log_f = (logits.gather(-1, k[..., None]) - log_sum)[..., 0]
        return (log_f + 0 * x).masked_fill(~inside, -math.inf)

    def _log_widths(self, like: Tensor) -> Tensor:
        return (self.edges[1:] - self.edges[:-1]).log().to(like.dtype)

    def _bin(self, x: Tensor) -> Int[Tensor, "*shape"]:
        # 1 itself belongs to the last bin, and what lies outside to the nearest.
        inner = self.edges[1:-1].to(x.dtype)
        return torch.searchsorted(inner, x.detach().contiguous(), right=True)

    def _corner(self, k: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        low, high = self.edges[:-1].to(dtype)[k], self.edges[1:].to(dtype)[k]
        return low, high - low
