"""Ready-made models of images of any size: RealNVP, Glow, and the masked flow of missing entries."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from torch import nn

from likely.checks import shape_of, sizes
from likely.errors import InvalidInput
from likely.flows.actnorm import ActNorm
from likely.flows.base import StandardNormal
from likely.flows.bijection import Bijection, Chain, Reshape
from likely.flows.convnets import ConvNet, PooledConvNet, ResidualConvNet
from likely.flows.coupling import AdditiveCoupling, Coupling
from likely.flows.flow import Flow
from likely.flows.histogram import Histogram
from likely.flows.masked import MaskedFlow
from likely.flows.models import model
from likely.flows.permutation import Permutation
from likely.flows.plu_conv import PLUConv
from likely.flows.plu_coupling import PLUCoupling
from likely.flows.preprocess import Centred, Logit
from likely.flows.scaling import DiagonalScaling
from likely.flows.spline import Spline
from likely.flows.splits import Checkerboard, Split, channel_halves
from likely.flows.squeeze import FactorOut, Squeeze
from likely.flows.transforms import Affine, Elementwise
from likely.flows.unet import UNet

Shape = tuple[int, int, int]
PREPROCESS: dict[str, Callable[[float], list[Bijection]]] = {
    "centred": lambda margin: [Centred()],
    "logit": lambda margin: [Logit(margin)],
    "none": lambda margin: [],
}


class Nets(NamedTuple):
    """How large the networks of the couplings are."""

    width: int
    depth: int
    dropout: float

    def make(self, inputs: int, outputs: int, shape: Shape) -> nn.Module:
        """Return a network of images with the height and width of `shape`."""
        if self.depth == 0:
            return ConvNet(inputs, outputs, self.width)
        return ResidualConvNet(inputs, outputs, self.width, self.depth, self.dropout, shape[1:])


@model
def glow(
    event_shape: Sequence[int],
    levels: int = 3,
    steps: int = 8,
    width: int = 128,
    depth: int = 0,
    coupling: Literal["affine", "spline", "plu"] = "affine",
    bins: int = 8,
    preprocess: Literal["centred", "logit", "none"] = "centred",
    margin: float = 0.05,
    dropout: float = 0.0,
    reversible: bool = False,
) -> Flow:
    """Build a Glow: levels of steps of ActNorm, PLU 1x1 convolution and coupling; a normal base law.

    Each level first turns blocks of pixels into channels. After its steps half of the channels leave,
    scaled and shifted by a function of those that stay (a learned prior), and the next level goes on
    with the rest.

    No image is padded or cropped. A side is divided by 2 if it is even, else by 3 if that divides it,
    else it is left whole. Levels end early where neither side divides: (1, 28, 28) has two, of 14 x 14
    and 7 x 7 pixels; (3, 5, 7) has one, of 5 x 7. An image of one channel whose sides cannot be divided
    gets checkerboard couplings.

    Args:
        event_shape: `(C, H, W)` of an image with values in [0, 1].
        levels: at most so many.
        steps: in each level.
        width: channels in the hidden layers of each network.
        depth: gated residual blocks of each network, which also learn a bias for each pixel; 0 for
            Glow's own three layers.
        coupling: "affine"; "spline" (rational-quadratic, after an affine one's shift and scale); or
            "plu": a shift and then a PLU coupling, where the number of channels is even (affine where
            it is odd).
        bins: of the splines.
        preprocess: "centred" (2 x - 1), "logit" or "none"; its log-determinant is counted.
        margin: of the logit. Images that are mostly black, such as MNIST, want "logit" and 1e-4.
        dropout: probability of dropping a hidden entry in training, with depth at least 1.
        reversible: recompute activations from outputs when training, which saves memory.

    Raises:
        InvalidInput: the event is no image, a size too small, a name unknown, or an argument has no
            effect beside the others.

    Reference: Kingma, Dhariwal 2018, "Glow: Generative flow with invertible 1x1 convolutions".

    Example:
        >>> import torch
        >>> flow = glow((1, 6, 4), levels=2, steps=1, width=8)
        >>> flow.log_prob(torch.rand(5, 1, 6, 4)).shape
        torch.Size([5])
    """
    if coupling not in ("affine", "spline", "plu"):
        raise InvalidInput(f"coupling is {coupling!r}; expected 'affine', 'spline' or 'plu'.")
    nets = Nets(width, depth, dropout)

    def stage(shape: Shape) -> list[Bijection]:
        parts: list[Bijection] = []
        for i in range(steps):
            parts += [ActNorm(shape[0]), PLUConv(shape[0])]
            if coupling == "plu" and shape[0] % 2 == 0:
                half = shape[0] // 2
                parts.append(
                    AdditiveCoupling(channel_halves(shape[0], 1), nets.make(half, half, shape))
                )
                parts.append(PLUCoupling(shape[0], PooledConvNet(half, half**2, width)))
            else:
                parts += _couplings(shape, i % 2, nets, Spline(bins) if coupling == "spline" else None)
        return parts

    shape = _image_shape(event_shape, levels=levels, steps=steps)
    parts = _preprocess(preprocess, margin) + _multiscale(
        shape, levels, lambda shape: [], stage, nets, reversible
    )
    dim = shape[0] * shape[1] * shape[2]
    return Flow(Chain([*parts, DiagonalScaling((dim,))]), StandardNormal((dim,)), event_shape)


@model
def realnvp(
    event_shape: Sequence[int],
    levels: int = 2,
    width: int = 64,
    depth: int = 2,
    preprocess: Literal["centred", "logit", "none"] = "logit",
    margin: float = 0.05,
    dropout: float = 0.0,
    reversible: bool = False,
) -> Flow:
    """Build a RealNVP: affine couplings on checkerboards and on channels; a normal base law.

    Each level has three checkerboard couplings, turns blocks of pixels into channels, has three channel
    couplings, and lets half of the channels leave. ActNorm stands where the paper has batch
    normalisation. Sides are divided as `glow` divides them, without padding.

    Args:
        event_shape: `(C, H, W)` of an image with values in [0, 1].
        levels: at most so many.
        width: channels in the hidden layers of each network.
        depth: gated residual blocks of each network, which also learn a bias for each pixel; 0 for
            Glow's three layers.
        preprocess: "logit", "centred" (2 x - 1) or "none"; its log-determinant is counted.
        margin: of the logit. Images that are mostly black, such as MNIST, want 1e-4.
        dropout: probability of dropping a hidden entry in training, with depth at least 1.
        reversible: recompute activations from outputs when training, which saves memory.

    Raises:
        InvalidInput: the event is no image, a size too small, a name unknown, or an argument has no
            effect beside the others.

    Reference: Dinh, Sohl-Dickstein, Bengio 2017, "Density estimation using Real NVP".

    Example:
        >>> import torch
        >>> flow = realnvp((1, 6, 4), width=8, depth=1)
        >>> flow.log_prob(torch.rand(5, 1, 6, 4)).shape
        torch.Size([5])
    """
    nets = Nets(width, depth, dropout)

    def board(shape: Shape) -> list[Bijection]:
        parts: list[Bijection] = []
        for i in range(3):
            network = nets.make(shape[0], 2 * shape[0], shape)
            parts += [ActNorm(shape[0]), Coupling(Checkerboard(i % 2), Affine(), network)]
        return parts

    def stage(shape: Shape) -> list[Bijection]:
        if shape[0] == 1:
            return []
        parts: list[Bijection] = []
        for _ in range(3):
            # Reversed channels let the other half move next.
            parts += [ActNorm(shape[0]), *_couplings(shape, 0, nets, None)]
            parts.append(Permutation(range(shape[0])[::-1]))
        return parts

    shape = _image_shape(event_shape, levels=levels)
    parts = _preprocess(preprocess, margin) + _multiscale(shape, levels, board, stage, nets, reversible)
    dim = shape[0] * shape[1] * shape[2]
    return Flow(Chain(parts), StandardNormal((dim,)), event_shape)


@model
def masked(
    event_shape: Sequence[int],
    width: int = 64,
    depth: int = 4,
    bins: int = 32,
    cells: int = 256,
    blocks: int = 8,
) -> MaskedFlow:
    """Build a flow of missing entries given measured ones, for any mask, over histograms.

    `log p(x_missing | x_measured) = sum_i log f_i(x_i)`, in nats; see `MaskedFlow`.

    Args:
        event_shape: `(C, H, W)` of pictures with values in [0, 1].
        width: channels of the network at half the resolution, twice as many at a quarter.
        depth: residual blocks at a quarter of the resolution; a quarter as many before, half as many
            after.
        bins: of the histograms, at most `cells`.
        cells: levels of the data, 256 for bytes; bins are unions of the intervals that hold one.
        blocks: passes of the network that a sample takes, at most.

    Raises:
        InvalidInput: the event is no picture, or a size is out of range.

    Example:
        >>> import torch
        >>> flow = masked((1, 8, 8), width=8, bins=17, cells=17)
        >>> flow.log_prob(torch.rand(3, 1, 8, 8)).abs().max().item() < 1e-3  # uniform at first
        True
    """
    shape = _image_shape(event_shape, least=1, depth=depth)
    law = Histogram(min(bins, cells), cells)
    depths = (max(depth // 4, 1), depth, max(depth // 2, 1))
    network = UNet(2 * shape[0], shape[0] * law.bins, shape[1:], width, depths)
    return MaskedFlow(network, law, shape, blocks)


def _couplings(shape: Shape, turn: int, nets: Nets, spline: Spline | None) -> list[Bijection]:
    """Return an affine coupling, then a spline if there is one, moving the second half of the channels.

    One channel cannot be halved: it moves on the black and white cells in turn.
    """
    channels = shape[0]
    transforms: list[Elementwise] = [Affine()] if spline is None else [Affine(), spline]
    parts: list[Bijection] = []
    for transform in transforms:
        if channels == 1:
            network = nets.make(1, transform.parameters, shape)
            parts.append(Coupling(Checkerboard(turn), transform, network))
        else:
            split = channel_halves(channels, 1)
            moved, kept = split.sizes(channels)
            network = nets.make(kept, moved * transform.parameters, shape)
            parts.append(Coupling(split, transform, network))
    return parts


def _multiscale(
    shape: Shape,
    levels: int,
    before: Callable[[Shape], list[Bijection]],
    after: Callable[[Shape], list[Bijection]],
    nets: Nets,
    reversible: bool,
) -> list[Bijection]:
    """Return the parts of all levels, from an image to a flat row."""
    parts = _steps(before(shape), reversible)
    channels, height, width = shape
    a, b = _divisor(height), _divisor(width)
    if a * b > 1:
        parts.append(Squeeze(a, b))
    shape = (channels * a * b, height // a, width // b)
    parts += _steps(after(shape), reversible)
    channels, height, width = shape
    if levels == 1 or channels == 1 or _divisor(height) * _divisor(width) == 1:
        return [*parts, Reshape(shape, (channels * height * width,))]
    leave = channels // 2
    stay = channels - leave
    prior = Split(slice(None, leave), slice(leave, None), dim=-3)
    parts.append(Coupling(prior, Affine(), nets.make(stay, 2 * leave, shape)))
    rest = _multiscale((stay, height, width), levels - 1, before, after, nets, reversible)
    return [*parts, FactorOut(shape, leave, Chain(rest))]


def _steps(parts: list[Bijection], reversible: bool) -> list[Bijection]:
    # Nested whether reversible or not, so that both have the same state.
    return [Chain(parts, reversible=reversible)] if parts else []


def _divisor(side: int) -> int:
    return 2 if side % 2 == 0 else 3 if side % 3 == 0 else 1


def _image_shape(event_shape: Sequence[int], least: int = 2, **counts: int) -> Shape:
    shape = shape_of("event_shape", event_shape)
    if len(shape) != 3 or math.prod(shape) < least:
        raise InvalidInput(f"event shape is {shape}; expected (C, H, W) of at least {least} entries.")
    sizes(**counts)
    return shape[0], shape[1], shape[2]


def _preprocess(name: str, margin: float) -> list[Bijection]:
    if name not in PREPROCESS:
        raise InvalidInput(f"preprocess is {name!r}; expected one of {', '.join(PREPROCESS)}.")
    return PREPROCESS[name](margin)
