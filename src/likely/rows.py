"""Numbers of each row."""

from __future__ import annotations

from jaxtyping import Float, Shaped
from torch import Tensor


def column(numbers: Shaped[Tensor, "*batch"], x: Shaped[Tensor, "*batch_and_event"]) -> Tensor:
    """Return one number for each row in a shape that broadcasts to x."""
    return numbers.reshape(*numbers.shape, *[1] * (x.ndim - numbers.ndim))


def inner(a: Float[Tensor, "batch *event"], b: Float[Tensor, "batch *event"]) -> Tensor:
    """Return the inner product of each row, `(batch,)`."""
    return (a * b)[:, None].flatten(1).sum(1)
