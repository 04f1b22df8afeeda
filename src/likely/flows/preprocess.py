"""From pixels in [0, 1] to numbers that a flow handles well, log-determinants counted."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from likely.checks import share, tensor
from likely.flows.bijection import Bijection


@final
class Centred(Bijection):
    """The map `z = 2 x - 1`, from [0, 1] to [-1, 1]; `log|det dz/dx| = D log 2` for D entries a row.

    Example:
        >>> round(Centred().forward_and_log_det(torch.zeros(1, 3))[1].item(), 4)
        2.0794
    """

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Stretch and centre."""
        tensor("x", x)
        return 2 * x - 1, x.new_full(x.shape[:1], math.prod(x.shape[1:]) * math.log(2))

    def inverse_and_log_det(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Back to [0, 1]."""
        tensor("z", z)
        return (z + 1) / 2, z.new_full(z.shape[:1], -math.prod(z.shape[1:]) * math.log(2))


@final
class Logit(Bijection):
    """The map `z = log(y / (1 - y))` with `y = margin + (1 - 2 margin) x`.

    `log|det dz/dx| = sum_i [log(1 - 2 margin) - log y_i - log(1 - y_i)]`, defined for y in
    (0, 1), a little more than x in [0, 1]. Where a row has an entry outside, its log-determinant is
    -inf, and so is the density of a flow there; its gradient is finite.

    Args:
        margin: keeps 0 and 1 away from infinity. A small one, such as 1e-4, spreads values near 0 and
            near 1 far apart, which suits images that are mostly black or white.

    Raises:
        InvalidInput: margin is not in (0, 1/2).

    Reference: Dinh, Sohl-Dickstein, Bengio 2017, section 4.1.

    Example:
        >>> Logit().forward_and_log_det(torch.tensor([[0.5], [2.0]]))[1].tolist()[1]
        -inf
    """

    def __init__(self, margin: float = 0.05) -> None:
        super().__init__()
        self.margin = share("margin", margin, most=0.5)

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Take the logit."""
        tensor("x", x)
        # y and 1 - y, each without cancellation: with a small margin both ends matter.
        low = self.margin + (1 - 2 * self.margin) * x
        high = self.margin + (1 - 2 * self.margin) * (1 - x)
        # NaN counts as inside, so that it stays NaN.
        outside = ((low <= 0) | (high <= 0)).flatten(1).any(1)
        tiny = torch.finfo(x.dtype).tiny
        log_low, log_high = low.clamp(min=tiny).log(), high.clamp(min=tiny).log()
        log_det = (math.log(1 - 2 * self.margin) - log_low - log_high).flatten(1).sum(1)
        return log_low - log_high, log_det.masked_fill(outside, -math.inf)

    def inverse_and_log_det(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Take the sigmoid."""
        tensor("z", z)
        y = z.sigmoid()
        log_slope = torch.nn.functional.logsigmoid(z) + torch.nn.functional.logsigmoid(-z)
        log_det = (log_slope - math.log(1 - 2 * self.margin)).flatten(1).sum(1)
        return (y - self.margin) / (1 - 2 * self.margin), log_det
