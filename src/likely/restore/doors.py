"""What restorations check at the door."""

from __future__ import annotations

import torch
from torch import Tensor

from likely.density import Density, Freezable, LogProb
from likely.errors import InvalidInput, InvalidType
from likely.sets import Box, ConvexSet, Observed


def check(
    image: Tensor, observed: Tensor, bounds: tuple[float | Tensor, float | Tensor]
) -> tuple[Tensor, ConvexSet]:
    """Return the mask in the shape of the image and the set of allowed images, or raise."""
    for name, given, kind in (("image", image, "floats"), ("observed", observed, "torch.bool")):
        if not isinstance(given, Tensor):
            raise InvalidType(
                f"{name} is a {type(given).__name__}; expected a tensor of {kind}, as "
                "torch.as_tensor makes."
            )
    if not image.is_floating_point():
        raise InvalidType(
            f"image is {image.dtype}; expected floating point in [0, 1]: image.float(), divided by 255 "
            "if it holds bytes."
        )
    if image.ndim < 2 or image.numel() == 0:
        raise InvalidInput(
            f"image has shape {tuple(image.shape)}; expected (B, *event) with at least one entry: "
            "use image[None] for a single one."
        )
    if not image.isfinite().all():
        where = tuple(int(i) for i in (~image.isfinite()).nonzero()[0])
        raise InvalidInput(
            f"image holds {int((~image.isfinite()).sum())} NaN or infinite value(s), the first at "
            f"index {where}; put any finite value there, as torch.nan_to_num(image) does, and let "
            "observed be False where nothing was measured."
        )
    if observed.dtype != torch.bool:
        raise InvalidType(
            f"observed is {observed.dtype}; expected torch.bool, True where the value was measured."
        )
    mask = _expand("observed", observed.to(image.device), image)
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise InvalidInput(f"bounds is {bounds!r}; expected a pair (low, high) of numbers or tensors.")
    for name, bound in zip(("low", "high"), bounds, strict=True):
        if isinstance(bound, Tensor):
            _expand(f"bounds: {name}", bound, image)
    return mask, Box(*bounds) & Observed(mask, image.detach())


def numbers_where_missing(image: Tensor, observed: Tensor) -> Tensor:
    """Return the image with 0 for NaN where nothing was measured, which is how tables mark it."""
    if not (isinstance(image, Tensor) and isinstance(observed, Tensor)):
        return image  # `check` says what is wrong
    try:
        missing = (observed.to(image.device) == 0).expand(image.shape)
    except RuntimeError:
        return image
    return image.masked_fill(missing & image.isnan(), 0)


def check_measured(mask: Tensor) -> None:
    """Raise InvalidInput where a row has no measured entry."""
    empty = (~mask.flatten(1).any(1)).nonzero().flatten().tolist()
    if empty:
        raise InvalidInput(
            f"nothing was measured in row {empty[0]}{' and others' if empty[1:] else ''}: observed is "
            "False everywhere. Mark what was measured, or draw from the density with sample()."
        )


def _expand(name: str, given: Tensor, image: Tensor) -> Tensor:
    try:
        return given.expand(image.shape)
    except RuntimeError:
        raise InvalidInput(
            f"{name} has shape {tuple(given.shape)}; expected one that broadcasts to the image's, "
            f"{tuple(image.shape)}."
        ) from None


def frozen(density: Density | LogProb, precision: torch.dtype) -> Density:
    """Return the faster copy of a density, or raise InvalidType where it has none."""
    if not isinstance(density, Freezable):
        raise InvalidType(
            f"precision is {precision}, but density {type(density).__name__} cannot be frozen, as a "
            "likely flow can; leave precision out."
        )
    return density.frozen(precision)
