"""The coupling whose matrix, acting on one half of the channels, is a function of the other half."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from likely.checks import number, whole
from likely.errors import InvalidInput
from likely.flows.bijection import Bijection
from likely.flows.convnets import PooledConvNet
from likely.flows.networks import answer
from likely.flows.plu import bounded, full_precision, solve


@final
class PLUCoupling(Bijection):
    """The map `Z_a = X_a`, `Z_b = A X_b` with `A = P L(X_a) (U(X_a) + diag(s(X_a)))`.

    X has 2C channels; X_a is the first half, X_b the second. A is one C by C matrix for each image: it
    multiplies every pixel of X_b, `Z_b[:, i, j] = A X_b[:, i, j]`, as a 1x1 convolution whose weight
    depends on X_a. The Jacobian is block triangular, and the H W pixels meet the same matrix:

    `log|det dz/dx| = H W sum_i log|s_i(X_a)|`.

    A network that returns a picture instead of a row gives each pixel a matrix of its own, and
    `log|det dz/dx| = sum over pixels and i of log|s_i|`.

    L, U and s come from one packed output; P is a fixed permutation; `s_i = exp(bound tanh(r_i /
    bound))` is positive. Where the network returns zeros and P is the identity, so is the map: it
    starts there.

    Args:
        channels: 2C, even; x and z are `(B, 2C, H, W)`.
        network: from X_a, `(B, C, H, W)`, to `(B, C * C)` or `(B, C * C, H, W)`: the matrix, row-major,
            L below its diagonal, U above it, r on it. None for a small convolutional network, averaged
            over the pixels, that works for any height and width.
        permutation: P as indices, `(P y)_i = y_[permutation_i]`; None for the identity.
        bound: of `|log s_i|`.

    Raises:
        InvalidInput: channels is odd or less than 2; permutation is none of C entries; x has other
            channels; the network returns another width.
        InvalidType: x has another dtype than the network takes.

    Reference: Kingma, Dhariwal 2018 (the factors); Dinh, Sohl-Dickstein, Bengio 2017 (the coupling).

    Example:
        >>> coupling = PLUCoupling(6)
        >>> x = torch.rand(2, 6, 3, 5)
        >>> torch.equal(coupling(x), x)
        True
    """

    permutation: Tensor

    def __init__(
        self,
        channels: int,
        network: nn.Module | None = None,
        permutation: Sequence[int] | None = None,
        bound: float = 2.0,
    ) -> None:
        super().__init__()
        if whole("channels", channels) % 2 or not float(number("bound", bound)) > 0:
            raise InvalidInput(
                f"channels is {channels}, bound {bound}; expected an even number of channels, one half "
                "to keep and one to move, and a positive bound."
            )
        self.size, self.bound = channels // 2, bound
        order = (
            list(range(self.size))
            if permutation is None
            else [whole("an entry of permutation", i, least=0) for i in permutation]
        )
        if sorted(order) != list(range(self.size)):
            raise InvalidInput(f"permutation is {order}; expected the indices 0 to {self.size - 1}.")
        self.register_buffer("permutation", torch.tensor(order))
        self.network = PooledConvNet(self.size, self.size**2) if network is None else network

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply the second half by the matrix of the first."""
        kept, moved = self._split(x)
        lower, upper, log_det = self._factors(kept)
        with full_precision(x):
            columns = _columns(moved, lower.shape[1])
            columns = ((lower @ upper)[:, :, self.permutation]) @ columns
        return torch.cat([kept, _images(columns, moved)], 1), log_det

    def inverse_and_log_det(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Solve two triangular systems, with the pixels of the second half as right-hand sides."""
        kept, moved = self._split(z)
        lower, upper, log_det = self._factors(kept)
        with full_precision(z):
            columns = _columns(moved, lower.shape[1])[:, :, self.permutation.argsort()]
            columns = solve(lower, columns, upper=False, unitriangular=True)
            columns = solve(upper, columns, upper=True)
        return torch.cat([kept, _images(columns, moved)], 1), -log_det

    def _factors(self, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return L and U + diag(s), `(B, 1 or H W, C, C)`, and the log-determinant."""
        out = answer(self.network, kept)
        batch, n, height, width = kept.shape
        shared = out.shape == (batch, n * n)
        if not shared and out.shape != (batch, n * n, height, width):
            raise InvalidInput(
                f"the network returned shape {tuple(out.shape)} for {tuple(kept.shape)}; expected "
                f"{(batch, n * n)}, or {(batch, n * n, height, width)} for a matrix a pixel."
            )
        packed = out.to(kept.dtype).reshape(batch, n, n, 1 if shared else height * width)
        packed = packed.movedim(3, 1)
        log_s = bounded(packed.diagonal(dim1=-2, dim2=-1), self.bound)
        lower = packed.tril(-1) + torch.eye(n, dtype=packed.dtype, device=packed.device)
        upper = packed.triu(1) + log_s.exp().diag_embed()
        # A matrix that all pixels share counts once for each of them.
        times = height * width if shared else 1
        return lower, upper, times * log_s.sum((1, 2))

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.ndim != 4 or x.shape[1] != 2 * self.size:
            raise InvalidInput(f"x has shape {tuple(x.shape)}; expected (B, {2 * self.size}, H, W).")
        return x[:, : self.size], x[:, self.size :]


def _columns(x: Tensor, matrices: int) -> Tensor:
    """Return the pixels as columns, those that share a matrix together: `(B, matrices, C, -1)`."""
    pixels = x.flatten(2)
    return pixels[:, None] if matrices == 1 else pixels.mT[..., None]


def _images(columns: Tensor, like: Tensor) -> Tensor:
    return (columns[:, 0] if columns.shape[1] == 1 else columns[..., 0].mT).reshape(like.shape)
