"""A network from pictures to pictures that sees all of the picture at every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from likely.checks import sizes
from likely.errors import InvalidInput
from likely.flows.convnets import channels_last, zeroed


@final
class Residual(nn.Module):
    """A residual block, `h + c_2(relu(c_1(relu(h))))`, 3x3 convolutions; it starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = zeroed(nn.Conv2d(width, width, 3, padding=1))

    def forward(self, h: Tensor) -> Tensor:
        """Apply the block."""
        out: Tensor = h + self.second(F.relu(self.first(F.relu(h)), inplace=True))
        return out


@final
class Whole(nn.Module):
    """A residual block in which every pixel sees every other: two linear layers over few channels."""

    def __init__(
        self, width: int, size: tuple[int, int], channels: int = 16, hidden: int = 512
    ) -> None:
        super().__init__()
        entries = channels * size[0] * size[1]
        self.few = nn.Conv2d(width, channels, 1)
        self.first = nn.Linear(entries, hidden)
        self.second = nn.Linear(hidden, entries)
        self.many = nn.Conv2d(channels, width, 1)

    def forward(self, h: Tensor) -> Tensor:
        """Apply the block."""
        few = self.few(F.relu(h))
        seen = F.relu(self.first(F.relu(few).flatten(1)), inplace=True)
        out: Tensor = h + self.many(F.relu(few + self.second(seen).view_as(few)))
        return out


@final
class UNet(nn.Module):
    """Residual blocks at a half and a quarter of the resolution, dense layers over all of the picture.

    Each 2x2 block of pixels becomes channels first and last, so that no layer works at full resolution:
    a quarter of the arithmetic. Sides that four does not divide are filled up with zeros.

    Args:
        inputs: channels given.
        outputs: channels returned; the last layer starts at zero.
        size: height and width of the pictures.
        width: channels at half the resolution, twice as many at a quarter.
        depth: residual blocks before, at, and after the quarter resolution.

    Raises:
        InvalidInput: a size is less than 1.

    Reference: Ronneberger, Fischer, Brox 2015, "U-Net"; He, Zhang, Ren, Sun 2016 (the blocks).

    Example:
        >>> UNet(2, 3, (6, 5), width=8)(torch.rand(4, 2, 6, 5)).shape
        torch.Size([4, 3, 6, 5])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: Sequence[int],
        width: int = 64,
        depth: Sequence[int] = (1, 4, 2),
    ) -> None:
        super().__init__()
        if len(size) != 2 or len(depth) != 3:
            raise InvalidInput(
                f"size is {tuple(size)}, depth {tuple(depth)}; expected 2 sides and 3 depths."
            )
        before, at, after = depth
        sizes(inputs=inputs, outputs=outputs, width=width, height=size[0], columns=size[1])
        sizes(before=before, at=at, after=after)
        self.size = (size[0], size[1])
        self.filled = (-size[1] % 4, -size[0] % 4)
        quarter = (-(-size[0] // 4), -(-size[1] // 4))
        self.first = nn.Conv2d(4 * inputs, width, 3, padding=1)
        self.place = nn.Parameter(torch.zeros(width, 2 * quarter[0], 2 * quarter[1]))
        self.before = nn.Sequential(*(Residual(width) for _ in range(before)))
        self.down = nn.Conv2d(width, 2 * width, 2, stride=2)
        blocks: list[nn.Module] = []
        for i in range(at):
            blocks.append(Residual(2 * width))
            if i % 2 == 0:
                blocks.append(Whole(2 * width, quarter))
        self.at = nn.Sequential(*blocks)
        self.up = nn.Conv2d(2 * width, 4 * width, 1)
        self.after = nn.Sequential(*(Residual(width) for _ in range(after)))
        self.out = zeroed(nn.Conv2d(width, 4 * outputs, 1))

    def forward(self, x: Float[Tensor, "batch inputs h w"]) -> Float[Tensor, "batch outputs h w"]:
        """Apply the layers in turn."""
        blocks = F.pixel_unshuffle(F.pad(x, (0, self.filled[0], 0, self.filled[1])), 2)
        # Few channels go in: turning them is cheap, and every later layer is a quarter faster.
        h = self.first(channels_last(blocks)) + self.place
        h = self.before(h)
        h = h + F.pixel_shuffle(self.up(F.relu(self.at(self.down(h)))), 2)
        out = F.pixel_shuffle(self.out(F.relu(self.after(h))), 2)
        return out[..., : self.size[0], : self.size[1]]
