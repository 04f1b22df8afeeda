"""Straight lines between walls, and the leapfrog along them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def reflect(
    y: Float[Tensor, "*shape"], low: Float[Tensor, "*#shape"], high: Float[Tensor, "*#shape"]
) -> tuple[Float[Tensor, "*shape"], Bool[Tensor, "*shape"]]:
    """Fold a line back between its walls, entry by entry, and say where its direction is turned.

    Between finite walls at a distance w it is the triangle wave: with `r = (y - low) mod 2w`, the
    point `low + min(r, 2w - r)`, turned where `r > w`, that is after an odd number of reflections. One
    wall alone gives `low + |y - low|`; no wall, y itself.

    Args:
        y: where the line would end, finite.
        low: the lower wall of each entry, of a shape that broadcasts to y; -inf for none.
        high: the upper wall, `low <= high`; inf for none.

    Reference: Neal 2011, section 5.1; Afshar, Domke 2015.

    Example:
        >>> y = torch.tensor([-0.25, 0.5, 1.25, 2.25])
        >>> reflect(y, torch.tensor(0.0), torch.tensor(1.0))
        (tensor([0.2500, 0.5000, 0.7500, 0.2500]), tensor([ True, False,  True, False]))
    """
    width = high - low
    closed = width.isfinite()
    # Where a wall is missing the wave is not defined; what it gives there is not used.
    period = torch.where(closed & (width > 0), 2 * width, torch.ones_like(width))
    r = torch.remainder(y - torch.where(closed, low, 0.0), period)
    over = r > width
    wave = torch.where(closed, low, 0.0) + torch.where(over, period - r, r)
    below, above = y < low, y > high
    one = torch.where(below, 2 * low - y, torch.where(above, 2 * high - y, y))
    turned = torch.where(closed, over, below | above)
    # The sums round; the bounds do not.
    return torch.clamp(torch.where(closed, wave, one), low, high), turned


def leapfrog(
    x: Float[Tensor, "*shape"],
    p: Float[Tensor, "*shape"],
    slope: Float[Tensor, "*shape"],
    step: Float[Tensor, "*shape"],
    walls: tuple[Float[Tensor, "*#shape"], Float[Tensor, "*#shape"]],
    steps: int,
    slope_at: Callable[[Tensor], Tensor],
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Return x and p after some leapfrog steps, before the last half kick.

    One step is `p += h/2 g(x)`, `x += h p` with reflections, `p += h/2 g(x)`, entry by entry; the last
    half kick needs the slope at the last x, which the caller evaluates together with the density.

    Args:
        x: where the trajectory starts, between the walls.
        p: the momentum; zero where x is to stay.
        slope: g(x), the gradient of the log density.
        step: h, each entry its own.
        walls: low and high.
        steps: how many.
        slope_at: g.

    Reference: Neal 2011, sections 2.3 and 5.1.
    """
    low, high = walls
    p = p + step / 2 * slope
    for left in reversed(range(steps)):
        ahead = x + step * p
        # A trajectory that has run away stays where it last was; it will be refused.
        x, turned = reflect(torch.where(ahead.isfinite(), ahead, x), low, high)
        p = torch.where(turned, -p, p)
        if left:
            p = p + step * slope_at(x)
    return x, p
