"""The rational-quadratic spline: a flexible increasing map with a closed inverse."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch.nn import functional as F

from likely.checks import number, whole
from likely.errors import InvalidInput
from likely.flows.transforms import Elementwise

# Smallest width, height (as a fraction of the interval) and slope: they keep the inverse accurate.
LEAST_SIZE = 1e-3
LEAST_SLOPE = 1e-2


class Bin(NamedTuple):
    """The piece of a spline that holds an entry: its corner, size, and the slopes at both ends."""

    x: Tensor
    y: Tensor
    width: Tensor
    height: Tensor
    left: Tensor
    right: Tensor


@final
@dataclass(frozen=True)
class Spline(Elementwise):
    """A monotone rational-quadratic spline on `[-limit, limit]`, the identity outside.

    In a bin from (x0, y0), w wide and h high, with `u = (x - x0) / w`, slope `r = h / w`, and slopes a
    and b at its ends,

    `z = y0 + h (r u^2 + a u (1 - u)) / (r + (a + b - 2 r) u (1 - u))`.

    The inverse is a root of a quadratic equation. Raw parameters: the logits of the widths and of the
    heights, then the slopes between the bins.

    Args:
        bins: K; an entry has `3 K - 1` parameters.
        limit: beyond it nothing moves.

    Raises:
        InvalidInput: bins is less than 2 or more than 999, or limit is not positive and finite.

    Reference: Gregory, Delbourgo 1982; Durkan, Bekasov, Murray, Papamakarios 2019.

    Example:
        >>> spline = Spline(bins=4)
        >>> x = torch.linspace(-5, 5, 3)
        >>> torch.allclose(spline.forward(x, torch.zeros(spline.parameters, 3))[0], x)
        True
    """

    bins: int = 8
    limit: float = 3.0

    def __post_init__(self) -> None:
        # With more bins than fit at their least size there would be negative ones.
        most = round(1 / LEAST_SIZE) - 1
        if not 2 <= whole("bins", self.bins) <= most or not float(number("limit", self.limit)) > 0:
            raise InvalidInput(
                f"spline has bins={self.bins}, limit={self.limit}; expected 2 to {most} and above 0."
            )

    @property
    def parameters(self) -> int:  # type: ignore[override]
        """`3 K - 1`."""
        return 3 * self.bins - 1

    def forward(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate the bin of each entry."""
        inside = x.abs() < self.limit
        at = self._bin(x, raw, inverse=False)
        u = ((x - at.x) / at.width).clamp(0, 1)
        slope = at.height / at.width
        both = u * (1 - u)
        below = slope + (at.left + at.right - 2 * slope) * both
        z = at.y + at.height * (slope * u * u + at.left * both) / below
        return torch.where(inside, z, x), torch.where(inside, _log_slope(at, slope, u, below), 0.0)

    def inverse(self, z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Solve the quadratic equation of the bin of each entry."""
        inside = z.abs() < self.limit
        at = self._bin(z, raw, inverse=True)
        y = torch.where(inside, z - at.y, 0.0)
        slope = at.height / at.width
        excess = at.left + at.right - 2 * slope
        a = at.height * (slope - at.left) + y * excess
        b = at.height * at.left - y * excess
        c = -slope * y
        # The root in [0, 1], in the form that loses no digits.
        u = (2 * c / (-b - (b * b - 4 * a * c).clamp(min=0).sqrt())).clamp(0, 1)
        x = at.x + u * at.width
        log_slope = _log_slope(at, slope, u, slope + excess * u * (1 - u))
        return torch.where(inside, x, z), torch.where(inside, -log_slope, 0.0)

    def _bin(self, value: Tensor, raw: Tensor, *, inverse: bool) -> Bin:
        k = self.bins
        widths, heights = self._sizes(raw[:k]), self._sizes(raw[k : 2 * k])
        xs, ys = self._knots(widths), self._knots(heights)
        # Raw zero is slope one, as outside.
        one = math.log(math.expm1(1 - LEAST_SLOPE))
        slopes = F.pad(
            LEAST_SLOPE + F.softplus(raw[2 * k :] + one), (0,) * 2 * (raw.ndim - 1) + (1, 1), value=1.0
        )
        index = (value >= (ys if inverse else xs)[1:]).sum(0, keepdim=True)

        def pick(t: Tensor) -> Tensor:
            return t.gather(0, index)[0]

        return Bin(pick(xs), pick(ys), pick(widths), pick(heights), pick(slopes[:-1]), pick(slopes[1:]))

    def _sizes(self, raw: Tensor) -> Tensor:
        return 2 * self.limit * (LEAST_SIZE + (1 - LEAST_SIZE * self.bins) * raw.softmax(0))

    def _knots(self, sizes: Tensor) -> Tensor:
        """Return the lower end of each bin."""
        ends = sizes[:-1].cumsum(0) - self.limit
        return torch.cat([torch.full_like(ends[:1], -self.limit), ends])


def _log_slope(at: Bin, slope: Tensor, u: Tensor, below: Tensor) -> Tensor:
    above = at.right * u * u + 2 * slope * u * (1 - u) + at.left * (1 - u) * (1 - u)
    return 2 * slope.log() + above.log() - 2 * below.log()
