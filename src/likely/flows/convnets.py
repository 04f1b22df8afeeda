"""Convolutional networks inside couplings of images. Nothing here needs to be invertible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from likely.checks import sizes
from likely.flows.networks import Dropout

Layer = TypeVar("Layer", bound=nn.Module)


@final
class ConvNet(nn.Module):
    """Glow's network: 3x3, 1x1 and 3x3 convolutions with ReLU between; the last one starts at zero.

    It works for any height and width.

    Args:
        inputs: channels given.
        outputs: channels returned.
        width: channels of both hidden layers.

    Raises:
        InvalidInput: a size is less than 1.

    Reference: Kingma, Dhariwal 2018, "Glow", section 4.

    Example:
        >>> ConvNet(2, 4, width=8)(torch.rand(5, 2, 3, 7)).shape
        torch.Size([5, 4, 3, 7])
    """

    def __init__(self, inputs: int, outputs: int, width: int = 128) -> None:
        super().__init__()
        sizes(inputs=inputs, outputs=outputs, width=width)
        self.first = nn.Conv2d(inputs, width, 3, padding=1)
        self.middle = nn.Conv2d(width, width, 1)
        self.out = zeroed(nn.Conv2d(width, outputs, 3, padding=1))

    def forward(self, x: Float[Tensor, "batch inputs h w"]) -> Float[Tensor, "batch outputs h w"]:
        """Apply the layers in turn."""
        h = F.relu(self.first(channels_last(x)), inplace=True)
        h = F.relu(self.middle(h), inplace=True)
        out: Tensor = self.out(h)
        return out


@final
class ResidualConvNet(nn.Module):
    """Gated residual blocks, `h + a(h) sigmoid(b(h))`, between two convolutions; starts at zero.

    Each block is ReLU, 3x3 convolution, ReLU, dropout, 1x1 convolution to twice the width, whose halves
    are a and b.

    Args:
        inputs: channels given.
        outputs: channels returned.
        width: channels of the hidden layers.
        depth: number of blocks, at least 1.
        dropout: probability with which a hidden entry is dropped in training.
        size: height and width of the images, each of whose pixels then gets a bias of its own after the
            first convolution; None for a network of images of any size.

    Raises:
        InvalidInput: a size is less than 1, or dropout is not in [0, 1).

    Reference: He et al. 2016; van den Oord et al. 2016 (the gates); Ho et al. 2019, "Flow++".

    Example:
        >>> ResidualConvNet(2, 4, width=8, depth=1)(torch.rand(5, 2, 3, 7)).shape
        torch.Size([5, 4, 3, 7])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int = 64,
        depth: int = 2,
        dropout: float = 0.0,
        size: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        sizes(inputs=inputs, outputs=outputs, width=width, depth=depth)
        self.first = nn.Conv2d(inputs, width, 3, padding=1)
        self.spread = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        self.gates = nn.ModuleList(nn.Conv2d(width, 2 * width, 1) for _ in range(depth))
        self.out = zeroed(nn.Conv2d(width, outputs, 3, padding=1))
        self.dropout = Dropout(dropout)
        self.place = nn.Parameter(torch.zeros(width, *(size or (1, 1))))

    def forward(self, x: Float[Tensor, "batch inputs h w"]) -> Float[Tensor, "batch outputs h w"]:
        """Apply the blocks in turn."""
        h: Tensor = self.first(channels_last(x)) + self.place
        for spread, gate in zip(self.spread, self.gates, strict=True):
            h = h + F.glu(gate(self.dropout(F.relu(spread(F.relu(h)), inplace=True))), 1)
        out: Tensor = self.out(F.relu(h))
        return out


@final
class PooledConvNet(nn.Module):
    """Two 3x3 convolutions with ReLU, the mean over all pixels, and a linear layer that starts at zero.

    One row for each image, whatever its height and width.

    Args:
        inputs: channels given.
        outputs: entries returned.
        width: channels of the hidden layers.

    Raises:
        InvalidInput: a size is less than 1.

    Example:
        >>> PooledConvNet(2, 4, width=8)(torch.rand(5, 2, 3, 7)).shape
        torch.Size([5, 4])
    """

    def __init__(self, inputs: int, outputs: int, width: int = 64) -> None:
        super().__init__()
        sizes(inputs=inputs, outputs=outputs, width=width)
        self.first = nn.Conv2d(inputs, width, 3, padding=1)
        self.middle = nn.Conv2d(width, width, 3, padding=1)
        self.out = zeroed(nn.Linear(width, outputs))

    def forward(self, x: Float[Tensor, "batch inputs h w"]) -> Float[Tensor, "batch outputs"]:
        """Apply the layers in turn."""
        h = F.relu(self.first(channels_last(x)), inplace=True)
        h = F.relu(self.middle(h), inplace=True)
        out: Tensor = self.out(h.mean((2, 3)))
        return out


def channels_last(x: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch channels h w"]:
    """Return images whose channels lie side by side: with few of them every later layer is faster.

    As `contiguous(memory_format=torch.channels_last)`, which vmap does not take.

    Example:
        >>> channels_last(torch.rand(2, 3, 4, 5)).stride()
        (60, 1, 15, 3)
    """
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def zeroed(layer: Layer) -> Layer:
    """Return the layer with all its parameters at zero."""
    for p in layer.parameters():
        nn.init.zeros_(p)
    return layer
