"""Replica exchange: hot chains hand what they found to cold ones."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def exchange(
    k: int,
    log_p: Float[Tensor, "batch chains temps"],
    inverse: Float[Tensor, " temps"],
    generator: torch.Generator,
) -> tuple[Int[Tensor, "batch chains temps"], Bool[Tensor, "batch chains pairs"]]:
    """Return which temperature's point each temperature gets, and which neighbours swapped.

    Neighbours of temperatures `1/a < 1/b` swap with the chance `min(1, exp((a - b) (log p_b - log
    p_a)))`, which keeps the joint law `prod_t p(x_t)^(1/T_t)`. Even steps try the pairs (0, 1), (2, 3),
    ..., odd ones (1, 2), (3, 4), ...

    Args:
        k: the number of the step.
        log_p: of the point at each temperature.
        inverse: the inverse temperatures, falling.
        generator: to draw from.

    Reference: Geyer 1991; Hukushima, Nemoto 1996; Syed et al. 2022 (even and odd pairs).
    """
    first = torch.arange(k % 2, log_p.shape[-1] - 1, 2, device=log_p.device)
    second = first + 1
    order = torch.arange(log_p.shape[-1], device=log_p.device).expand(log_p.shape).clone()
    gain = (inverse[first] - inverse[second]) * (log_p[..., second] - log_p[..., first])
    u = torch.rand(gain.shape, generator=generator, dtype=gain.dtype, device=gain.device)
    swap = u < gain.exp()
    order[..., first] = torch.where(swap, second, first)
    order[..., second] = torch.where(swap, first, second)
    return order, swap
