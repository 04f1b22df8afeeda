"""Couplings: one part of a row moves by a function of the other part, which stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, final

import torch
from torch import Tensor, nn

from likely.errors import InvalidInput
from likely.flows.bijection import Bijection
from likely.flows.networks import answer
from likely.flows.reversible import step_back, vjp
from likely.flows.splits import Partition
from likely.flows.transforms import Elementwise


@final
class AdditiveCoupling(Bijection):
    """The map `z_moved = x_moved + m(x_kept)`, `z_kept = x_kept`, with `log_det = 0`.

    The Jacobian is triangular with ones on its diagonal, whatever the network m is (Dinh, Krueger,
    Bengio 2015, section 3.2).

    Args:
        split: which entries move and which are kept.
        network: m, from `(B, kept)` to `(B, moved)`.

    Raises:
        InvalidInput: the network returns another shape.
        InvalidType: x has another dtype than the network takes.

    Example:
        >>> import torch
        >>> from likely.flows import interleaved
        >>> coupling = AdditiveCoupling(interleaved(0), torch.nn.Linear(2, 2))
        >>> x = torch.rand(3, 4)
        >>> torch.allclose(coupling.inverse(coupling(x)), x)
        True
    """

    def __init__(self, split: Partition, network: nn.Module) -> None:
        super().__init__()
        self.split = split
        self.network = network

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Add the shift."""
        moved, kept = self.split.split(x)
        z = self.split.merge(moved + self._shift(kept, moved), kept)
        return z, x.new_zeros(x.shape[0])

    def inverse_and_log_det(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Subtract the shift."""
        moved, kept = self.split.split(z)
        x = self.split.merge(moved - self._shift(kept, moved), kept)
        return x, z.new_zeros(z.shape[0])

    def _shift(self, kept: Tensor, moved: Tensor) -> Tensor:
        # Under autocast the network answers in bfloat16; sums with the data stay in its precision.
        shift = answer(self.network, kept)
        _fits(shift, kept, moved.shape)
        return shift.to(kept.dtype)


@final
class Coupling(Bijection):
    """The map `z_moved = T(x_moved; m(x_kept))` entry by entry, `z_kept = x_kept`.

    With the entries ordered as (moved, kept), the Jacobian is block triangular with `dT/dx` and ones on
    its diagonal: `log|det dz/dx| = sum over moved entries of log|T'|`.

    Args:
        split: which entries move and which are kept.
        transform: T, such as `Affine()` or `Spline()`.
        network: m, from the kept part to `transform.parameters` times as many values as move, stacked
            along the dimension of the split.

    Raises:
        InvalidInput: the network returns another shape.
        InvalidType: x has another dtype than the network takes.

    Reference: Dinh, Sohl-Dickstein, Bengio 2017, "Density estimation using Real NVP".

    Example:
        >>> import torch
        >>> from likely.flows import Affine, ConvNet, channel_halves
        >>> coupling = Coupling(channel_halves(4, 0), Affine(), ConvNet(2, 4, width=8))
        >>> x = torch.rand(3, 4, 5, 6)
        >>> torch.equal(coupling(x), x)
        True
    """

    def __init__(self, split: Partition, transform: Elementwise, network: nn.Module) -> None:
        super().__init__()
        self.split = split
        self.transform = transform
        self.network = network

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Transform the moved entries."""
        moved, kept = self.split.split(x)
        z, entries = self.transform.forward(moved, self.raw(kept, moved))
        return self.split.merge(z, kept), self.split.only_moved(entries).flatten(1).sum(1)

    def inverse_and_log_det(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Transform them back."""
        moved, kept = self.split.split(z)
        x, entries = self.transform.inverse(moved, self.raw(kept, moved))
        return self.split.merge(x, kept), self.split.only_moved(entries).flatten(1).sum(1)

    def raw(self, kept: Tensor, moved: Tensor) -> Tensor:
        """Return the unbounded parameters of T, `(parameters, *moved.shape)`."""
        # Under autocast the network answers in bfloat16; what acts on the data stays in its precision.
        out: Tensor = answer(self.network, kept).to(kept.dtype)
        wanted, k = list(moved.shape), self.transform.parameters
        wanted[self.split.dim] *= k
        _fits(out, kept, wanted)
        out = out.unflatten(self.split.dim, (k, -1))  # type: ignore[no-untyped-call]
        return out.movedim(self.split.dim - 1, 0)


def _fits(out: Tensor, kept: Tensor, wanted: Sequence[int]) -> None:
    """Refuse what would be broadcast: the log-determinant would count an entry once for several."""
    if tuple(out.shape) != tuple(wanted):
        raise InvalidInput(
            f"the network returned shape {tuple(out.shape)} for {tuple(kept.shape)}; expected "
            f"{tuple(wanted)}."
        )


@step_back.register
def _(
    part: Coupling, z: Tensor, g: Tensor, g_log_det: Tensor, weights: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Sequence[Tensor | None]]:
    # The inverse and the gradient see the same kept entries, so they share one pass of the network.
    moved, kept = part.split.split(z)
    with torch.enable_grad():
        kept = kept.detach().requires_grad_()
        raw = part.raw(kept, moved)
        given = raw.detach().requires_grad_()
    with torch.no_grad():
        x = part.split.merge(part.transform.inverse(moved, given)[0], kept)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        moved, again = part.split.split(x)
        out, entries = part.transform.forward(moved, given)
        outputs = part.split.merge(out, again), part.split.only_moved(entries).flatten(1).sum(1)
    # A transform may have weights of its own, which get theirs at once; those of the network after.
    g_x, g_raw, *direct = vjp(outputs, (g, g_log_det), [x, given, *weights])
    g_kept, *through = vjp([raw], [g_raw], [kept, *weights])
    of_weights = [
        a if b is None else b if a is None else a + b for a, b in zip(direct, through, strict=True)
    ]
    if g_kept is not None:
        # Back from the kept part to the row: the transpose of a projection is the merge with zeros.
        g_x = cast(Tensor, g_x) + part.split.merge(torch.zeros_like(moved), g_kept)
    return x.detach(), cast(Tensor, g_x), of_weights
