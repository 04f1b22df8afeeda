"""What every model with an exact likelihood has in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.checks import shape_of, tensor, whole
from likely.errors import InvalidInput


class ExactDensity(nn.Module, ABC):
    """A model whose density can be evaluated exactly, and sampled.

    Args:
        event_shape: the shape of one data point.
        config: how to build this model again, `{"model": name, ...}`; None for hand-made ones, which
            cannot be saved.
    """

    def __init__(self, event_shape: Sequence[int], config: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.event_shape = torch.Size(shape_of("event_shape", event_shape))
        self.config = None if config is None else dict(config)

    @abstractmethod
    def log_prob(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return `log p(x)` in nats, one value a row, in the dtype of x."""

    @abstractmethod
    def sample(
        self, n: int, seed: int | None = None, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n *event"]:
        """Return n independent draws, `(n, *event_shape)`, without a graph."""

    @abstractmethod
    def objective(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return what training maximises the mean of, in nats: `log p(x)`, or what bounds it."""

    def forward(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return `objective(x)`, so that wrappers that call modules train the likelihood."""
        return self.objective(x)

    def bits_per_dim(
        self, x: Float[Tensor, "batch *event"], levels: int = 256
    ) -> Float[Tensor, " batch"]:
        """Return `(log2(levels) - log2 p(x) / D)` for D entries a row: bits for each entry.

        It bounds the code length of data with that many levels when x is dequantised to [0, 1), which
        `likely.data.dequantize` does.
        """
        whole("levels", levels)
        dims = math.prod(self.event_shape)
        return math.log2(levels) - self.log_prob(x) / (dims * math.log(2))

    def check_rows(self, x: Tensor, name: str = "x") -> None:
        """Raise `InvalidType` or `InvalidInput` unless x is a floating-point batch of events."""
        tensor(name, x, "floating point, images in [0, 1]")
        if x.shape[1:] != self.event_shape or x.ndim == 0:
            raise InvalidInput(
                f"{name} has shape {tuple(x.shape)}; expected a batch of rows of shape "
                f"{tuple(self.event_shape)}: use {name}[None] for a single one."
            )

    @property
    def _like(self) -> Tensor:
        return next(self.parameters(), torch.empty(()))

    @property
    def _dtype(self) -> torch.dtype:
        return self._like.dtype
