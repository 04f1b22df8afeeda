"""How good a restoration is, where the truth is known."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def psnr(
    image: Float[Tensor, "batch *event"],
    truth: Float[Tensor, "batch *event"],
    missing: Bool[Tensor, "batch *event"],
) -> Float[Tensor, " batch"]:
    """Return the hole-only peak signal-to-noise ratio of each row, in dB, for values in [0, 1].

    `-10 log10(mean over missing entries of (image - truth)^2)`; infinite where they agree exactly.

    Example:
        >>> psnr(torch.full((1, 2), 0.1), torch.zeros(1, 2), torch.tensor([[True, False]])).round()
        tensor([20.])
    """
    error = torch.where(missing, image - truth, torch.zeros_like(image)).square().flatten(1).sum(1)
    return -10 * (error / missing.expand(image.shape).flatten(1).sum(1)).log10()
