"""Couplings: one part of a row moves by a function of the other part, which stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor, nn

from likely.errors import InvalidInput
from likely.flows.bijection import Bijection


@final
@dataclass(frozen=True)
class Split:
    """How the last dimension divides into entries that move and entries that are kept.

    Example:
        >>> import torch
        >>> moved, kept = interleaved(0).split(torch.arange(5.0))
        >>> moved.tolist(), kept.tolist()
        ([0.0, 2.0, 4.0], [1.0, 3.0])
    """

    moved: slice
    kept: slice

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the moved and the kept entries."""
        return x[..., self.moved], x[..., self.kept]

    def merge(self, moved: Tensor, kept: Tensor) -> Tensor:
        """Put both parts back in their places, the inverse of `split`."""
        x = moved.new_empty(*moved.shape[:-1], moved.shape[-1] + kept.shape[-1])
        x[..., self.moved] = moved
        x[..., self.kept] = kept
        return x

    def sizes(self, dim: int) -> tuple[int, int]:
        """Return how many of `dim` entries move and how many are kept."""
        return len(range(dim)[self.moved]), len(range(dim)[self.kept])


def interleaved(moved: int) -> Split:
    """Split into even (0, 2, ...) and odd positions; `moved` is 0 to move the even ones, 1 the odd."""
    return Split(slice(_side(moved), None, 2), slice(1 - moved, None, 2))


def halves(dim: int, moved: int) -> Split:
    """Split `dim` entries in the middle; `moved` is 0 to move the first half, 1 the second."""
    parts = slice(None, dim // 2), slice(dim // 2, None)
    return Split(parts[_side(moved)], parts[1 - moved])


def _side(moved: int) -> int:
    if moved not in (0, 1):
        raise InvalidInput(f"moved is {moved}; expected 0 (even, or first half) or 1 (odd, or second).")
    return moved


@final
class AdditiveCoupling(Bijection):
    """The map `z_moved = x_moved + m(x_kept)`, `z_kept = x_kept`, with `log_det = 0`.

    The Jacobian is triangular with ones on its diagonal, whatever the network m is (Dinh, Krueger,
    Bengio 2015, section 3.2).

    Args:
        split: which entries move and which are kept.
        network: m, from `(B, kept)` to `(B, moved)`.

    Example:
        >>> import torch
        >>> coupling = AdditiveCoupling(interleaved(0), torch.nn.Linear(2, 2))
        >>> x = torch.rand(3, 4)
        >>> torch.allclose(coupling.inverse(coupling(x)), x)
        True
    """

    def __init__(self, split: Split, network: nn.Module) -> None:
        super().__init__()
        self.split = split
        self.network = network

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Add the shift."""
        moved, kept = self.split.split(x)
        z = self.split.merge(moved + self._shift(kept), kept)
        return z, x.new_zeros(x.shape[0])

    def inverse_and_log_det(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Subtract the shift."""
        moved, kept = self.split.split(z)
        x = self.split.merge(moved - self._shift(kept), kept)
        return x, z.new_zeros(z.shape[0])

    def _shift(self, kept: Tensor) -> Tensor:
        # Under autocast the network answers in bfloat16; sums with the data stay in its precision.
        shift: Tensor = self.network(kept)
        return shift.to(kept.dtype)
