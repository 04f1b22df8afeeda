"""The networks inside couplings. Nothing here needs to be invertible."""

from __future__ import annotations

from itertools import pairwise
from typing import cast, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.checks import number, sizes
from likely.errors import InvalidInput, InvalidType


@final
class Dropout(nn.Module):
    """Set each entry to zero with probability p and scale the rest by 1 / (1 - p), when training.

    One random byte decides an entry, so p is rounded to a multiple of 1/256. On a CPU this is about
    ten times faster than `torch.nn.Dropout`, which otherwise takes most of a training step.

    Args:
        p: the probability, from 0 to below 1.

    Example:
        >>> Dropout(0.2).eval()(torch.ones(2)).tolist()
        [1.0, 1.0]
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0.0 <= float(number("dropout", p)) < 1.0:
            raise InvalidInput(f"dropout is {p}; expected a probability from 0 to below 1.")
        self.threshold = min(round(256 * p), 255)

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return `x * keep / (1 - p)` when training, x otherwise."""
        if not self.training or self.threshold == 0:
            return x
        words = torch.randint(
            -(2**63), 2**63 - 1, ((x.numel() + 7) // 8,), dtype=torch.int64, device=x.device
        )
        byte = words.view(torch.uint8)[: x.numel()].view(x.shape)
        return x * ((byte >= self.threshold).to(x.dtype) * (256 / (256 - self.threshold)))


def answer(network: nn.Module, kept: Tensor) -> Tensor:
    """Return what a network makes of the kept part of x.

    Raises:
        InvalidType: it fails, and x has another dtype than its weights.

    Example:
        >>> answer(nn.Linear(2, 3), torch.zeros(4, 2)).shape
        torch.Size([4, 3])
    """
    try:
        return cast(Tensor, network(kept))
    except RuntimeError as failed:
        own = next((p.dtype for p in network.parameters()), kept.dtype)
        if own == kept.dtype:
            raise
        raise InvalidType(
            f"x has dtype {kept.dtype}; expected {own}, as the weights: give x.to({own})."
        ) from failed


def draws(module: nn.Module) -> bool:
    """Return whether a module itself draws random numbers in training."""
    if isinstance(module, Dropout):
        return module.threshold > 0
    return isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0


@final
class MLP(nn.Module):
    """A network `inputs -> width -> ... -> width -> outputs` with ReLU after each of `depth` layers.

    Its last layer starts at zero, so that a coupling starts as the identity. Dropout follows every
    hidden layer but the first.

    Args:
        inputs: entries of a row given.
        outputs: entries of a row returned.
        width: entries of each hidden layer.
        depth: number of hidden layers, at least 1.
        dropout: probability with which a hidden entry is dropped in training.

    Raises:
        InvalidInput: a size is less than 1, or dropout is not in [0, 1).

    Example:
        >>> MLP(2, 3, width=8, depth=2)(torch.zeros(5, 2)).shape
        torch.Size([5, 3])
    """

    def __init__(self, inputs: int, outputs: int, width: int, depth: int, dropout: float = 0.0) -> None:
        super().__init__()
        sizes(inputs=inputs, outputs=outputs, width=width, depth=depth)
        entries = [inputs, *[width] * depth]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(entries))
        self.out = nn.Linear(width, outputs)
        self.dropout = Dropout(dropout)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch outputs"]:
        """Apply the layers in turn."""
        for i, layer in enumerate(self.hidden):
            x = layer(x).relu()
            if i > 0:
                x = self.dropout(x)
        out: Tensor = self.out(x)
        return out
