"""A law as expectations use it: rows of draws from a seed, and the log-density of each row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeAlias

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.distributions import Distribution

from likely.density import Samplable

AnyLaw: TypeAlias = "Distribution | Samplable | Law"


class Law(ABC):
    """A law of rows: n draws of shape `(n, *batch, *event)`, log-densities of shape `(n, *batch)`.

    `batch` counts separate problems that are worked on at once; it is empty unless asked for.
    """

    name: str
    batch_shape: torch.Size
    device: torch.device
    #: draws that fit into memory at once; blocks are no larger
    block: int = 100_000
    #: True for a proposal that knows it is positive wherever p is, so that its weights have the mean 1
    covers: bool = False
    #: what the draws are, where that is known: laws of different draws do not meet
    space: object = None

    @abstractmethod
    def draw(self, n: int, seed: int, attached: bool) -> Shaped[Tensor, "n *rest"]:
        """Return n draws; attached ones are differentiable in the parameters of the law."""

    @abstractmethod
    def log_prob(self, x: Shaped[Tensor, "n *rest"]) -> Float[Tensor, "n *batch"]:
        """Return log p(x) in nats; minus infinity outside of the support."""
