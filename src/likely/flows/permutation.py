"""A fixed order of the channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from likely.checks import whole
from likely.errors import InvalidInput
from likely.flows.bijection import Bijection


@final
class Permutation(Bijection):
    """The map `z_c = x_{order_c}` of the first dimension of a row; `log_det = 0`.

    The determinant of a permutation matrix is 1 or -1.

    Args:
        order: the indices 0 to C - 1 in another order; `range(C)[::-1]` reverses the channels.

    Raises:
        InvalidInput: order is no permutation, or x has other than C channels.

    Example:
        >>> Permutation([2, 0, 1])(torch.tensor([[1.0, 2.0, 3.0]])).tolist()
        [[3.0, 1.0, 2.0]]
    """

    order: Tensor

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        order = [whole("an entry of order", i, least=0) for i in order]
        if sorted(order) != list(range(len(order))) or not len(order):
            raise InvalidInput(f"order is {order}; expected the indices 0 to C - 1, each once.")
        self.register_buffer("order", torch.tensor(order))

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Put the channels in order."""
        return self._take(x, self.order)

    def inverse_and_log_det(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Put them back."""
        return self._take(z, self.order.argsort())

    def _take(self, x: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        if x.ndim < 2 or x.shape[1] != len(order):
            raise InvalidInput(f"x has shape {tuple(x.shape)}; expected (B, {len(order)}, ...).")
        return x[:, order], x.new_zeros(x.shape[0])
