"""A conditional flow for any mask: the exact density of what is missing, given what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from likely.checks import kind, whole
from likely.errors import InvalidInput, InvalidType
from likely.flows.exact import ExactDensity
from likely.flows.frozen import InPrecision
from likely.flows.histogram import Histogram
from likely.flows.masks import random_missing
from likely.seeds import generator_for

#: how often training shows the measured entries alone, and nothing of the missing ones
MEASURED_ALONE = 0.75
#: rows that the network works on at once
ROWS = 256


@final
class MaskedFlow(ExactDensity):
    """The density of the missing entries given the measured ones, whichever they are.

    The missing entries come in a fixed order that spreads over the picture, cut into blocks. The map

        u_i = F_i(x_i),   F_i the distribution function of entry i given the measured entries and all
                          earlier blocks, as one network sees them,

    has a triangular Jacobian, and u is uniform on the unit cube, so that

        log p(x_missing | x_measured) = sum_i log F_i'(x_i),

    exactly, with one pass of the network a block. With nothing measured it is a density of pictures.
    Given different entries, the densities come from one network but need not agree with each other as
    those of one joint law would. It is piecewise constant in each x_i: a density to sample from and to
    compare with, not one to climb.

    Args:
        network: from the known entries, zeros elsewhere, and the mask of the known, `(B, 2 C, H, W)`,
            to `(B, C bins, H, W)` logits.
        law: the histogram that the logits are of.
        event_shape: `(C, H, W)`.
        blocks: how many, at most; block g of G ends at the fraction `((g + 1) / G)^2` of the missing
            entries. More are slower and likelier. It may be changed at any time, and is saved as it is.
        config: how to build this model again.

    Reference: Uria, Murray, Larochelle 2014 (any order, one network); Papamakarios, Pavlakou, Murray
    2017 (autoregressive flows); Roberts 2018 (the order: a rank-one sequence).

    Example:
        >>> from likely import flows
        >>> flow = flows.masked((1, 6, 5), width=8, bins=4)
        >>> observed = torch.arange(30).view(1, 6, 5) < 20
        >>> samples, log_p = flow.sample_given(torch.rand(2, 1, 6, 5), observed, 3, seed=0)
        >>> samples.shape, log_p.shape
        (torch.Size([3, 2, 1, 6, 5]), torch.Size([3, 2]))
    """

    order: Tensor

    def __init__(
        self,
        network: nn.Module,
        law: Histogram,
        event_shape: Sequence[int],
        blocks: int = 8,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(event_shape, config)
        self.network = network
        self.law = law
        self.blocks = blocks
        self.register_buffer("order", spread_order(event_shape), persistent=False)

    @property
    def blocks(self) -> int:
        """How many blocks the missing entries are cut into, at most."""
        return self._blocks

    @blocks.setter
    def blocks(self, blocks: int) -> None:
        self._blocks = whole("blocks", blocks)
        if self.config is not None:
            self.config = {**self.config, "blocks": self._blocks}

    def log_prob(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return `log p(x)` in nats with nothing measured; -inf outside of [0, 1].

        Raises:
            InvalidType: x is not a floating-point tensor.
            InvalidInput: its rows are not of shape `event_shape`.
        """
        return self.log_prob_given(x, torch.zeros(1, dtype=torch.bool, device=x.device))

    def log_prob_given(
        self, x: Float[Tensor, "batch *event"], observed: Bool[Tensor, "*shape"]
    ) -> Float[Tensor, " batch"]:
        """Return `log p(x_missing | x_measured)` in nats, one value a row; 0 where nothing is missing.

        Args:
            x: whole rows.
            observed: broadcastable to x, True where the value was measured.

        Raises:
            InvalidType: x is not floating point, or the mask not boolean.
            InvalidInput: the shapes do not fit, or a measured entry is not finite.
        """
        return self.forward_and_log_det(x, observed)[1]

    def sample(
        self, n: int, seed: int | None = None, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n *event"]:
        """Return n independent draws with nothing measured, `(n, *event_shape)`."""
        nothing = self._like.new_zeros(1, *self.event_shape)
        return self.sample_given(nothing, nothing > 0, n, generator, seed)[0][:, 0]

    @torch.no_grad()
    def sample_given(
        self,
        image: Float[Tensor, "batch *event"],
        observed: Bool[Tensor, "*shape"],
        n: int,
        generator: torch.Generator | None = None,
        seed: int | None = None,
    ) -> tuple[Float[Tensor, "n batch *event"], Float[Tensor, "n batch"]]:
        """Return n independent completions of each row, and their `log p(missing | measured)`.

        Measured entries are bitwise those of `image`; all others lie in [0, 1).

        Raises:
            InvalidType: the image is not floating point, or the mask not boolean.
            InvalidInput: the shapes do not fit, n is negative, or a measured entry is not finite.
        """
        whole("n", n, least=0)
        observed = self._check(image, observed, "image")
        draws = generator_for(seed, generator, image.device)
        shape = (n, *image.shape)
        u = torch.rand(shape, generator=draws, dtype=self._dtype, device=image.device)
        u = torch.where(observed, image.to(u), u).flatten(0, 1)
        x, log_det = self.inverse_and_log_det(u, observed.expand(shape).flatten(0, 1))
        # An image of fewer digits than the model could round what is drawn up to 1.
        below = 1 - torch.finfo(image.dtype).eps / 2
        x = torch.where(observed, image, x.view(shape).to(image.dtype).clamp(max=below))
        return x, -log_det.view(shape[:2])

    def forward_and_log_det(
        self, x: Float[Tensor, "batch *event"], observed: Bool[Tensor, "*shape"]
    ) -> tuple[Float[Tensor, "batch *event"], Float[Tensor, " batch"]]:
        """Return u, which is `F_i(x_i)` where missing and x where measured, and the log-determinant.

        Where x follows the model, the missing entries of u are independent and uniform on [0, 1].
        """
        observed = self._check(x, observed)
        u, total = x.to(self._dtype), self._like.new_zeros(len(x))
        # An infinite entry has density zero, and later ones that it is shown to would have none.
        shown = u.masked_fill(u.isinf() & ~observed, 0)
        for now, known in self._in_turn(self._turns(observed)):
            entries, each = self.law(x[now].to(u), self._logits(shown, known, now))
            u = u.masked_scatter(now, entries)
            total = total.index_add(0, now.nonzero()[:, 0], each)
        return u.to(x.dtype), total.to(x.dtype)

    def inverse_and_log_det(
        self, u: Float[Tensor, "batch *event"], observed: Bool[Tensor, "*shape"]
    ) -> tuple[Float[Tensor, "batch *event"], Float[Tensor, " batch"]]:
        """Return x, `F_i^-1(u_i)` where missing and u where measured, and the log-determinant."""
        turns = self._turns(self._check(u, observed))
        found = []
        # Rows are worked on in parts, so that what a part leaves in the cache is used again.
        for x, turn in zip(torch.split(u.to(self._dtype), ROWS), torch.split(turns, ROWS), strict=True):
            total = x.new_zeros(len(x))
            for now, known in self._in_turn(turn):
                entries, each = self.law.inverse(x[now], self._logits(x, known, now))
                x = x.masked_scatter(now, entries)
                total = total.index_add(0, now.nonzero()[:, 0], each)
            found.append((x, total))
        x, total = (torch.cat(parts) for parts in zip(*found, strict=True))
        return x.to(u.dtype), -total.to(u.dtype)

    def objective(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return `log p(x)`; in training, a random part of all the conditional densities.

        Each row is given a random mask, and a random number of its missing entries, in their order, are
        shown. The result is D times the mean log-density of the entries that are not shown, each given
        what is.

        Raises:
            InvalidType: x is not a floating-point tensor.
            InvalidInput: its rows are not of shape `event_shape`, or there are none in training.
        """
        if not self.training:
            return self.log_prob(x)
        self.check_rows(x)
        if not len(x):
            raise InvalidInput("x has no rows; expected one or more to train on.")
        missing = random_missing(len(x), *self.event_shape[-2:]).to(x.device)
        hidden = missing[:, None].expand(x.shape)
        rank, count = self._ranks(hidden)
        t = torch.rand(len(x), device=x.device)
        t = (t - MEASURED_ALONE).clamp(min=0) / (1 - MEASURED_ALONE)
        shown = torch.minimum((count * t.square()).floor(), count - 1)
        unknown = hidden & (rank >= shown.view(-1, *[1] * len(self.event_shape)))
        each = self.law.log_prob(x[unknown], self._logits(x, ~unknown, unknown))
        count = unknown.flatten(1).sum(1)
        return (x[0].numel() * x.new_zeros(len(x)).index_add(0, unknown.nonzero()[:, 0], each)) / count

    def frozen(self, dtype: torch.dtype = torch.float32) -> MaskedFlow:
        """Return a copy for evaluation alone whose network works in `dtype`.

        Raises:
            InvalidType: dtype is not a floating-point type.
        """
        if dtype not in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
            raise InvalidType(f"dtype is {dtype!r}; expected a floating-point type, as torch.bfloat16.")
        network = InPrecision(self.network, dtype)
        return MaskedFlow(network, self.law, self.event_shape, self.blocks).to(self._like.device).eval()

    def _logits(self, x: Tensor, known: Tensor, wanted: Tensor) -> Float[Tensor, "wanted bins"]:
        """Return the logits of the wanted entries, given the known ones."""
        like = next(self.network.parameters())
        channels, height, width = self.event_shape
        found = []
        rows = wanted.flatten(1).any(1).nonzero()[:, 0]
        for part in torch.split(rows, ROWS):
            shown = known[part]
            given = torch.cat([x[part].masked_fill(~shown, 0).to(like), shown.to(like)], 1)
            out: Tensor = self.network(given)
            out = out.view(len(part), channels, -1, height, width).movedim(2, -1)
            found.append(out[wanted[part]].to(x.dtype))
        return torch.cat(found)

    def _check(self, x: Tensor, observed: Tensor, name: str = "x") -> Bool[Tensor, "batch *event"]:
        """Return the mask in the shape of x, which has to be finite where it was measured."""
        self.check_rows(x, name)
        if not isinstance(observed, Tensor) or observed.dtype != torch.bool:
            given = observed.dtype if isinstance(observed, Tensor) else kind(observed)
            raise InvalidType(
                f"observed is {given}; expected torch.bool, True where the value was measured."
            )
        try:
            observed = observed.expand(x.shape)
        except RuntimeError:
            raise InvalidInput(
                f"observed has shape {tuple(observed.shape)}, which does not broadcast to {name}, "
                f"{tuple(x.shape)}."
            ) from None
        if not (x.isfinite() | ~observed).all():
            raise InvalidInput(f"{name} is NaN or infinite where it was measured; expected numbers.")
        return observed

    def _turns(self, observed: Tensor) -> Int[Tensor, "batch *event"]:
        """Return in which block each entry comes, -1 where it was measured."""
        rank, count = self._ranks(~observed)
        share = (rank + 0.5) / count.clamp(min=1).view(-1, *[1] * len(self.event_shape))
        return (self.blocks * share.sqrt()).long().masked_fill(observed, -1)

    def _ranks(self, missing: Tensor) -> tuple[Tensor, Tensor]:
        """Return the place of each missing entry in the order of its row's, and how many there are."""
        in_order = missing.flatten(1)[:, self.order]
        rank = torch.zeros_like(in_order, dtype=torch.float64)
        rank[:, self.order] = in_order.cumsum(1).double() - 1
        return rank.view(missing.shape), in_order.sum(1)

    def _in_turn(self, turn: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield, block by block, which entries come now and which are known by then."""
        for g in range(self.blocks):
            now = turn == g
            if now.any():
                yield now, turn < g


def spread_order(event_shape: Sequence[int]) -> Int[Tensor, " entries"]:
    """Return an order of the entries of `(C, H, W)` in which early ones lie far apart.

    Entry (c, i, j) comes by the fractional part of `c / C + i / g + j / g^2`, g the real root of
    `g^3 = g + 1` (Roberts 2018).
    """
    channels, height, width = event_shape
    g = 1.324717957244746
    at = (
        torch.arange(channels, dtype=torch.float64)[:, None, None] / channels
        + torch.arange(height, dtype=torch.float64)[:, None] / g
        + torch.arange(width, dtype=torch.float64) / g**2
    )
    return at.frac().flatten().argsort(stable=True)
