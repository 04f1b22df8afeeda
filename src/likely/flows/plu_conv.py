"""The invertible 1x1 convolution whose weight is kept factorised."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Final, NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from likely.checks import number, tensor, whole
from likely.errors import InvalidInput, InvalidType
from likely.flows.bijection import Bijection
from likely.flows.kept import Kept
from likely.flows.plu import full_precision, plu_factor, solve
from likely.flows.triangular import BLOCKS, as_columns, as_images, factored_product, factors


def _processor() -> str:
    """Return what the system says of its first processor, its maker among it."""
    try:
        with Path("/proc/cpuinfo").open() as lines:
            return lines.read(100)
    except OSError:
        return platform.processor()


# From this size on, forming the matrix costs more than applying its factors to few pixels.
LARGE = 128
# There MKL, which multiplies, has half of the speed of oneDNN, which convolves.
AMD: Final = "AuthenticAMD" in _processor()
# A log|s| nearer to its bound, relatively, has next to no gradient.
STEEPEST = 0.99


class Frozen(NamedTuple):
    """What frozen weights need: A, its inverse and log|s|."""

    matrix: Tensor
    inverse: Tensor
    log_s: Tensor


@final
class PLUConv(Bijection):
    """The 1x1 convolution `z[:, :, i, j] = A x[:, :, i, j]` with `A = P L (U + diag(s))`.

    `log|det dz/dx| = H W sum_i log|s_i|`, as A acts on each of the H W pixels alone. P and the signs
    of s are fixed; `log|s_i| = bound tanh(r_i / bound)` keeps A invertible whatever the weights. The
    inverse solves two triangular systems with the pixels as right-hand sides.

    A is formed anew for each call that trains it. In evaluation mode, without gradients to its weights,
    it is formed once for each version of them and kept without a graph. So is the solution of the two
    systems, whose right-hand sides are then the unit vectors.

    Args:
        channels: C; x and z are `(B, C, H, W)`, of any height and width.
        weight: A at the start, an invertible `(C, C)` matrix; None for a random rotation.
        bound: of `|log|s_i||`.

    Raises:
        InvalidInput: channels is less than 1, bound not positive and finite; weight is singular, of
            another shape, or has a pivot beyond the bound; x has other channels.
        InvalidType: weight is no floating-point tensor, or x of another dtype than the weights.

    Reference: Kingma, Dhariwal 2018, "Glow", section 3.2.

    Example:
        >>> conv = PLUConv(4)
        >>> x = torch.rand(2, 4, 3, 5)
        >>> torch.allclose(conv.inverse(conv(x)), x, atol=1e-5)
        True
    """

    permutation: Tensor
    sign: Tensor

    def __init__(
        self,
        channels: int,
        weight: Float[Tensor, "channels channels"] | None = None,
        bound: float = 8.0,
    ) -> None:
        super().__init__()
        whole("channels", channels)
        if not float(number("bound", bound)) > 0:
            raise InvalidInput(f"bound is {bound}; expected a positive number.")
        given = weight is not None
        if weight is None:
            weight = nn.init.orthogonal_(torch.empty(channels, channels))
        if tensor("weight", weight).shape != (channels, channels):
            raise InvalidInput(f"weight has shape {tuple(weight.shape)}; expected {(channels,) * 2}.")
        P, L, U, s = plu_factor(weight.detach())  # noqa: N806
        self.channels, self.bound = channels, bound
        share = s.abs().log() / bound
        most = float(share.abs().max())
        if given and not most < STEEPEST:
            raise InvalidInput(
                f"weight has pivots s with |log|s|| up to {bound * most:.3g}; expected less than "
                f"{STEEPEST} of bound={bound:g}. Give a larger bound."
            )
        raw = bound * share.clamp(-STEEPEST, STEEPEST).atanh()
        #: below the diagonal L, above it U, on it the unbounded log|s|
        self.packed = nn.Parameter(L.tril(-1) + U + raw.diag())
        # P x = x[permutation]
        self.register_buffer("permutation", P.argmax(1))
        self.register_buffer("sign", s.sign())
        self._kept: Kept[Frozen] = Kept()

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply each pixel by A."""
        self._check(x)
        few = self.channels >= LARGE and len(x) * x.shape[2] * x.shape[3] < 4 * self.channels
        with full_precision(x):
            frozen = self._kept.get(self.packed, self.training, self._freeze)
            if frozen:
                z, log_s = _each_pixel(frozen.matrix, x), frozen.log_s
            elif few and self.channels % BLOCKS == 0:
                z, log_s = factored_product(self.packed, self.sign, self.permutation, self.bound, x)
            else:
                lower, upper, log_s = self._factors()
                z = _each_pixel(self._product(lower, upper), x)
        return z, self._log_det(x, log_s)

    def inverse_and_log_det(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Solve `L (U + diag(s)) x = P^T z` for all pixels at once."""
        self._check(z)
        with full_precision(z):
            frozen = self._kept.get(self.packed, self.training, self._freeze)
            if frozen:
                x, log_s = _each_pixel(frozen.inverse, z), frozen.log_s
            else:
                lower, upper, log_s = self._factors()
                x = as_images(self._solve(lower, upper, as_columns(z)), z.shape)
        return x, -self._log_det(z, log_s)

    def matrix(self) -> Float[Tensor, "channels channels"]:
        """Return A, with its graph."""
        lower, upper, _ = self._factors()
        return self._product(lower, upper)

    def _factors(self) -> tuple[Tensor, Tensor, Tensor]:
        return factors(self.packed, self.sign, self.bound)

    def _product(self, lower: Tensor, upper: Tensor) -> Tensor:
        # Its gradient is several times faster than that of indexing.
        return (lower @ upper).index_select(0, self.permutation)

    def _solve(self, lower: Tensor, upper: Tensor, columns: Tensor) -> Tensor:
        columns = columns[self.permutation.argsort()]
        columns = solve(lower, columns, upper=False, unitriangular=True)
        return solve(upper, columns, upper=True)

    def _freeze(self) -> Frozen:
        lower, upper, log_s = self._factors()
        one = torch.ones_like(log_s).diag()
        return Frozen(self._product(lower, upper), self._solve(lower, upper, one), log_s)

    def _log_det(self, x: Tensor, log_s: Tensor) -> Tensor:
        return (log_s.sum() * (x.shape[2] * x.shape[3])).expand(x.shape[0])

    def _check(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise InvalidInput(f"x has shape {tuple(x.shape)}; expected (B, {self.channels}, H, W).")
        # Triangular systems would take other numbers without a word.
        if x.dtype != self.packed.dtype:
            raise InvalidType(f"x has dtype {x.dtype}; expected {self.packed.dtype}, as the weights.")


def _each_pixel(matrix: Tensor, x: Tensor) -> Tensor:
    """Multiply each pixel by a matrix: for few channels three times as fast as to convolve."""
    if AMD and x.shape[1] >= LARGE and x.dtype == torch.float32 and x.device.type == "cpu":
        return F.conv2d(x, matrix[:, :, None, None])
    if x.shape[2] * x.shape[3] < x.shape[1]:
        return as_images(matrix @ as_columns(x), x.shape)
    # One product an image, whose gradients take no more room than x.
    return torch.bmm(matrix.expand(len(x), *matrix.shape), x.flatten(2)).view_as(x)
