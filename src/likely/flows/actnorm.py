"""Normalisation of each channel by fixed numbers that the first batch chooses."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn

from likely.checks import whole
from likely.errors import InvalidInput
from likely.flows.bijection import Bijection

# A channel that is constant in the first batch is scaled by no more than 1 / LEAST_STD.
LEAST_STD = 1e-2


class NotInitialised(InvalidInput):
    """An ActNorm that has seen no data was evaluated."""


@final
class ActNorm(Bijection):
    """The map `z_c = (x_c + b_c) exp(s_c)` of each channel c; `log|det dz/dx| = H W sum_c s_c`.

    The first forward call in training mode chooses b and s so that z has mean 0 and variance 1 in every
    channel of its batch, of all processes together where torch.distributed runs. From then on b and s
    are parameters like others. Whether that has happened is part of the state.

    Args:
        channels: size of the first dimension of a row; x is `(B, channels, ...)`.

    Raises:
        InvalidInput: x has other channels; or no data has been seen, and the call is one that cannot
            choose b and s: in evaluation mode, of the inverse, under `torch.func`, with an empty batch,
            or with one that is not finite.

    Reference: Kingma, Dhariwal 2018, "Glow", section 3.1; Salimans, Kingma 2016.

    Example:
        >>> norm = ActNorm(3)
        >>> z = norm(torch.rand(50, 3, 2, 2))
        >>> torch.allclose(z.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
        True
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        whole("channels", channels)
        self.bias = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        # A plain attribute, as a compiled graph cannot branch on the value of a tensor.
        self.initialised = False

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and scale, after choosing by how much if this is the first batch."""
        self._check(x)
        if not self.initialised:
            self._initialise(x)
        return (x + self._wide(self.bias, x)) * self._wide(self.log_scale.exp(), x), self._log_det(x)

    def inverse_and_log_det(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift back."""
        self._check(z)
        if not self.initialised:
            raise self._refusal()
        x = z * self._wide((-self.log_scale).exp(), z) - self._wide(self.bias, z)
        return x, -self._log_det(z)

    def get_extra_state(self) -> Tensor:
        """Return whether data has been seen, as a tensor for the state."""
        return torch.tensor(self.initialised)

    def set_extra_state(self, state: Tensor) -> None:
        """Take it from a state."""
        self.initialised = bool(state)

    @torch.no_grad()
    def _initialise(self, x: Tensor) -> None:
        if not self.training or len(x) == 0:
            raise self._refusal()
        # What torch.func swaps in or maps over is gone, or hidden, once the call returns.
        if not torch.compiler.is_compiling() and (
            torch._C._are_functorch_transforms_active() or not isinstance(self.bias, nn.Parameter)
        ):
            raise self._refusal()
        values = x.detach().double().transpose(0, 1).flatten(1)
        count = values.new_full((1,), values.shape[1])
        sums = torch.cat([count, values.sum(1), values.square().sum(1)])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
        # NaN would stay in b and s for good; no compiled graph or meta tensor can branch on it.
        if not (torch.compiler.is_compiling() or x.is_meta or sums.isfinite().all()):
            raise InvalidInput(
                "x holds NaN or infinite values; ActNorm chooses its scales by the first batch: "
                "expected finite ones."
            )
        total, squares = sums[1:].chunk(2)
        mean = total / sums[0]
        std = (squares / sums[0] - mean.square()).clamp(min=0).sqrt().clamp(min=LEAST_STD)
        self.bias.copy_(-mean)
        self.log_scale.copy_(-std.log())
        self.initialised = True

    def _refusal(self) -> NotInitialised:
        return NotInitialised(
            "ActNorm has seen no data yet, so its scales are not chosen; call the flow on a batch in "
            "training mode first (flow.train(); flow(x)), outside of torch.func, or load trained "
            "weights."
        )

    def _log_det(self, x: Tensor) -> Tensor:
        return (self.log_scale.sum() * math.prod(x.shape[2:])).expand(x.shape[0])

    def _wide(self, row: Tensor, x: Tensor) -> Tensor:
        return row.reshape(-1, *(1,) * (x.ndim - 2))

    def _check(self, x: Tensor) -> None:
        if x.ndim < 2 or x.shape[1] != len(self.bias):
            raise InvalidInput(f"x has shape {tuple(x.shape)}; expected (B, {len(self.bias)}, ...).")
