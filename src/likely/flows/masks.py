"""Random masks of pictures: what a model of missing entries is trained on."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

#: how often: pixels missing one by one, and the outside of a rectangle instead of its inside
SCATTERED, OUTSIDE = 0.3, 0.1
#: how often a rectangle begins at the first row (column), ends at the last one, or does both
AT_START, AT_END, WHOLE = 0.2, 0.2, 0.4


def random_missing(
    n: int, height: int, width: int, generator: torch.Generator | None = None
) -> Bool[Tensor, "n height width"]:
    """Return n masks, True where missing, with at least one missing pixel each.

    Rectangles, which are often a half, a band or all of the picture; the outside of rectangles; and
    pixels missing one by one, at a rate that is itself uniform on (0, 1).

    Example:
        >>> random_missing(5, 6, 7, torch.Generator().manual_seed(0)).flatten(1).any(1).all().item()
        True
    """
    device = None if generator is None else generator.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=device)

    def span(size: int) -> Tensor:
        ends = uniform(n, 2).sort(1).values
        kind = uniform(n)
        ends[:, 0] *= ~((kind < AT_START) | (kind > 1 - WHOLE))
        ends[:, 1] = ends[:, 1].masked_fill(kind > 1 - WHOLE - AT_END, 1.0)
        low, high = (ends[:, :1] * size).floor(), (ends[:, 1:] * size).ceil()
        at = torch.arange(size, device=ends.device)
        return (at >= low) & ((at < high) | (at == low))

    rows, columns = span(height), span(width)
    inside = rows[:, :, None] & columns[:, None, :]
    kind = uniform(n, 1, 1)
    missing = torch.where(kind < OUTSIDE, ~inside, inside)
    scattered = uniform(n, height, width) < uniform(n, 1, 1)
    missing = torch.where(kind > 1 - SCATTERED, scattered, missing)
    return missing | ~missing.flatten(1).any(1)[:, None, None]
