"""Space to depth, and channels that leave early."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from likely.checks import shape_of, sizes, whole
from likely.errors import InvalidInput
from likely.flows.bijection import Bijection, bijection_of, rows


@final
class Squeeze(Bijection):
    """Turn each block of `height` by `width` pixels into channels; `log_det = 0`, as entries only move.

    `(B, C, H, W)` becomes `(B, C height width, H / height, W / width)`, the channels in the order
    (c, row in the block, column in the block).

    Args:
        height: rows of a block.
        width: its columns.

    Raises:
        InvalidInput: a side of x is not a multiple of the block's.

    Reference: Dinh, Sohl-Dickstein, Bengio 2017, section 3.6.

    Example:
        >>> Squeeze()(torch.arange(4.0).reshape(1, 1, 2, 2)).flatten().tolist()
        [0.0, 1.0, 2.0, 3.0]
    """

    def __init__(self, height: int = 2, width: int = 2) -> None:
        super().__init__()
        sizes(height=height, width=width)
        self.height, self.width = height, width

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Move pixels to channels."""
        a, b = self.height, self.width
        if x.ndim != 4 or x.shape[2] % a or x.shape[3] % b:
            raise InvalidInput(
                f"x has shape {tuple(x.shape)}; expected (B, C, H, W), H a multiple of {a}, W of {b}."
            )
        batch, c, h, w = x.shape
        x = x.reshape(batch, c, h // a, a, w // b, b).permute(0, 1, 3, 5, 2, 4)
        return x.reshape(batch, c * a * b, h // a, w // b), x.new_zeros(batch)

    def inverse_and_log_det(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Move channels to pixels."""
        a, b = self.height, self.width
        if z.ndim != 4 or z.shape[1] % (a * b):
            raise InvalidInput(
                f"z has shape {tuple(z.shape)}; expected (B, C, H, W), C a multiple of {a * b}."
            )
        batch, c, h, w = z.shape
        z = z.reshape(batch, c // (a * b), a, b, h, w).permute(0, 1, 4, 2, 5, 3)
        return z.reshape(batch, c // (a * b), h * a, w * b), z.new_zeros(batch)


@final
class FactorOut(Bijection):
    """Send the first channels to the latent row as they are, the others through another bijection.

    `z = [x_first, f(x_rest)]`, flattened. The Jacobian is block diagonal with blocks I and df/dx_rest:
    `log|det dz/dx| = log|det df/dx_rest|`. Nested, this is the multiscale architecture, and the
    likelihood stays exact.

    Args:
        event_shape: `(C, H, W)` of a row.
        channels: how many leave, 1 to C - 1.
        rest: f, from rows `(C - channels, H, W)` to flat rows.

    Raises:
        InvalidInput: channels is out of range, or rows are of another shape.
        InvalidType: rest is no bijection.

    Reference: Dinh, Sohl-Dickstein, Bengio 2017, section 3.6.

    Example:
        >>> from likely.flows import Reshape
        >>> FactorOut((2, 3, 5), 1, Reshape((1, 3, 5), (15,)))(torch.rand(4, 2, 3, 5)).shape
        torch.Size([4, 30])
    """

    def __init__(self, event_shape: Sequence[int], channels: int, rest: Bijection) -> None:
        super().__init__()
        self.event_shape = shape_of("event_shape", event_shape)
        whole("channels", channels)
        if len(self.event_shape) != 3 or not channels < self.event_shape[0]:
            raise InvalidInput(
                f"{channels} channels of rows {self.event_shape} are to leave; expected rows (C, H, W) "
                "and 1 to C - 1 channels."
            )
        self.channels = channels
        self.rest = bijection_of("rest", rest)

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Part, and map the rest."""
        rows(x, self.event_shape)
        rest, log_det = self.rest.forward_and_log_det(x[:, self.channels :])
        return torch.cat([x[:, : self.channels].flatten(1), rest], 1), log_det

    def inverse_and_log_det(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map the rest back, and join."""
        rows(z, (math.prod(self.event_shape),))
        shape = (self.channels, *self.event_shape[1:])
        size = math.prod(shape)
        rest, log_det = self.rest.inverse_and_log_det(z[:, size:])
        return torch.cat([z[:, :size].reshape(len(z), *shape), rest], 1), log_det
