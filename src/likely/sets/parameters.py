"""What the sets share: parameters checked at the door, and points as flat rows in double precision."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from likely.errors import InvalidInput, InvalidType


def double(name: str, value: Any) -> Tensor:
    """Return a parameter in float64, so that 0.1 means the same number for data of every dtype.

    Raises:
        InvalidType: it is no number and no real tensor.
        InvalidInput: it holds a NaN or an infinity.
    """
    try:
        tensor = torch.as_tensor(value)
        if tensor.is_complex():
            raise TypeError
        # Numbers go to float64 directly, not by way of the default dtype.
        tensor = (
            tensor.double() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
        )
    except (TypeError, ValueError, RuntimeError):
        given = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise InvalidType(
            f"{name} is {given}; expected a number or a tensor of real numbers."
        ) from None
    if not tensor.isfinite().all():
        bad = tensor[~tensor.isfinite()][0].item()
        raise InvalidInput(f"{name} holds {bad:g}; expected finite numbers only.")
    return tensor


def one_each(name: str, value: Any) -> Tensor:
    """Return a number, or one number for each row, in float64: of shape `()` or `(B,)`."""
    tensor = double(name, value)
    if tensor.ndim > 1:
        raise InvalidInput(
            f"{name} has shape {tuple(tensor.shape)}; expected one number, or one for each row, (B,)."
        )
    return tensor


def column(name: str, value: Tensor, y: Float[Tensor, "batch *event"]) -> Float[Tensor, "*rows"]:
    """Return what `one_each` gave so that it goes with the rows of y: `()`, `(1, 1)` or `(B, 1)`."""
    if value.ndim == 1 and len(value) not in (1, len(y)):
        raise InvalidInput(
            f"{name} holds {len(value)} numbers, but there are {len(y)} rows; "
            "expected one number, or one for each row."
        )
    value = value.to(y.device)
    return value.unsqueeze(1) if value.ndim else value


def select_each(parameter: Tensor, index: Int[Tensor, " k"]) -> Tensor:
    """Return the rows of what `one_each` gave: itself, where all rows share it."""
    return (
        parameter[index.to(parameter.device)]
        if parameter.ndim == 1 and len(parameter) > 1
        else parameter
    )


def rows_in(y: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch n"]:
    """Return the rows of y, each flattened row-major."""
    return y if y.ndim == 2 else y[:, None].flatten(1)


def flat(y: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch n"]:
    """Return the rows of y, each flattened row-major, in float64."""
    return rows_in(y).double()


def unflat(x: Float[Tensor, "batch n"], y: Float[Tensor, "batch *event"]) -> Tensor:
    """Return flat rows in the shape of y."""
    return x if y.ndim == 2 else x.reshape(y.shape)


def like(x: Float[Tensor, "batch n"], y: Float[Tensor, "batch *event"]) -> Tensor:
    """Return flat rows in the shape and dtype of y: the one rounding of float32 results."""
    return unflat(x.type_as(y), y)
