"""Where chains start."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from likely.density import Conditional
from likely.errors import InvalidInput
from likely.samplers.given import draw_given
from likely.samplers.sampler import Target

Start: TypeAlias = Literal["uniform", "given"] | Float[Tensor, "chains batch *event"] | Conditional


def check_start(start: object) -> None:
    """Raise InvalidInput unless this says where to start."""
    named = isinstance(start, str) and start in ("uniform", "given")
    if not (named or isinstance(start, Tensor | Conditional)):
        raise InvalidInput(
            f"start is {start!r:.80}; expected 'uniform', 'given', a tensor or a conditional density."
        )
    if isinstance(start, Tensor) and not (start.is_floating_point() and start.isfinite().all()):
        raise InvalidInput(
            f"start is a tensor of {start.dtype} with {int((~start.isfinite()).sum())} NaN or infinite "
            "value(s); expected floating point, all finite."
        )


def check_start_fits(start: object, target: Target, chains: int) -> None:
    """Raise InvalidInput where a start does not fit the image, the chains or the bounds."""
    wanted = (chains, *target.image.shape)
    if isinstance(start, Tensor) and start.shape != wanted:
        raise InvalidInput(
            f"start has shape {tuple(start.shape)}; expected {wanted}: a point for each chain of each "
            "image."
        )


def starts(
    start: Start, target: Target, chains: int, generator: torch.Generator
) -> Float[Tensor, "batch chains *event"]:
    """Return a point for each chain, known entries in place and the others within the bounds.

    A uniform start is uniform where both bounds are finite, and as given where one is not.
    """
    image = target.image
    if isinstance(start, Tensor):
        return target.fill(start.to(image).transpose(0, 1))
    if isinstance(start, str) and start == "given":
        return image[:, None].repeat_interleave(chains, 1)
    if isinstance(start, str):
        shape = (len(image), chains, *image.shape[1:])
        u = torch.rand(shape, generator=generator, dtype=image.dtype, device=image.device)
        bounded = (target.free & target.low.isfinite() & target.high.isfinite())[:, None]
        low, high = (torch.where(bounded, b[:, None], 0.0) for b in (target.low, target.high))
        return target.fill(torch.where(bounded, low + (high - low) * u, image[:, None]))
    return target.fill(draw_given(start, target, chains, generator)[0])
