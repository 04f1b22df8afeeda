"""Draws from a conditional density, checked."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from likely.density import Conditional
from likely.errors import InvalidInput, InvalidType
from likely.samplers.sampler import Target


def check_conditional(name: str, density: object) -> None:
    """Raise InvalidType unless a density can be drawn from given any measured entries."""
    if not isinstance(density, Conditional):
        raise InvalidType(
            f"{name} is a {type(density).__name__}; expected a conditional density, with "
            "sample_given(image, observed, n, generator) and log_prob_given(x, observed)."
        )


def draw_given(
    density: Conditional, target: Target, n: int, generator: torch.Generator
) -> tuple[Float[Tensor, "batch n *event"], Float[Tensor, "batch n"]]:
    """Return n draws for each row and their `log p(missing | measured)`, known entries bit by bit.

    Raises:
        InvalidInput: what the density returned does not fit.
    """
    image, name = target.image, type(density).__name__
    with torch.no_grad():
        drawn, log_p = density.sample_given(image, ~target.free, n, generator)
    wanted = (n, *image.shape)
    if drawn.shape != wanted or log_p.shape != wanted[:2]:
        raise InvalidInput(
            f"{name}.sample_given returned shapes {tuple(drawn.shape)} and {tuple(log_p.shape)}; "
            f"expected {wanted} and {wanted[:2]}: is it a density over other events?"
        )
    x = torch.where(target.free[:, None], drawn.to(image).transpose(0, 1), image[:, None])
    # A tenth of a grey level may be rounding; more is another law.
    far = torch.maximum(-x, x - 1).masked_fill(~target.free[:, None], 0.0).amax()
    if not far < 4e-4:
        raise InvalidInput(
            f"{name}.sample_given drew values {far.item():.3g} outside [0, 1], or NaN; expected a "
            "density over [0, 1]."
        )
    return torch.where(target.free[:, None], x.clamp(0, 1), x), log_p.to(image).transpose(0, 1)
