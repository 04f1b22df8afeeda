"""`torch.distributions` laws: draws, log-densities, supports and entries."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from likely.errors import InvalidInput
from likely.expectations.law import Law
from likely.seeds import borrowed_global_state, seed_borrowed


@final
class TorchLaw(Law):
    """A `torch.distributions` law: its batch shape is part of the event, or counts separate laws.

    Args:
        distribution: the law.
        batched: read its batch shape as so many separate problems.
        rows: for a batched law, the leaf tensors with a row of parameters for each problem.
    """

    def __init__(
        self, distribution: Distribution, batched: bool = False, rows: tuple[Tensor, ...] = ()
    ) -> None:
        self.rows = rows
        self.distribution = distribution
        self.name = type(distribution).__name__
        self.batched = batched
        self.batch_shape = distribution.batch_shape if batched else torch.Size()
        self.event_shape = (distribution.batch_shape + distribution.event_shape)[
            len(self.batch_shape) :
        ]
        self.space = f"events of shape {tuple(self.event_shape)}"
        self.device = _place_of(distribution) or torch.device("cpu")

    def draw(self, n: int, seed: int, attached: bool) -> Tensor:
        """Return draws made in a borrowed global random state, which is put back."""
        if attached and not self.distribution.has_rsample:
            raise InvalidInput(
                f"{self.name} has no rsample: its draws are not differentiable, so 'path' does not "
                "apply; use grad='score', 'weak' or 'enumerate'."
            )
        with borrowed_global_state(self.device):
            seed_borrowed(seed, self.device)
            if attached:
                return self.distribution.rsample((n,))
            with torch.no_grad():  # the same draws, and cheaper than `sample` of some laws
                if self.distribution.has_rsample:
                    return self.distribution.rsample((n,))
                return self.distribution.sample((n,))

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density, with minus infinity outside of the support."""
        value = self._log_prob(x)
        return value if self.batched or value.ndim == 1 else value.sum(tuple(range(1, value.ndim)))

    def _log_prob(self, x: Tensor) -> Tensor:
        law = self.distribution
        if _validates(law):
            try:
                return law.log_prob(x)
            except ValueError:  # some of x lies outside of the support, or has another shape
                pass
        inside = _inside(law, x)
        if inside is None:
            return law.log_prob(x)
        within = inside.reshape(inside.shape + (1,) * len(law.event_shape))
        anywhere = self.draw(1, 0, attached=False).to(x.dtype)
        return torch.where(inside, law.log_prob(torch.where(within, x, anywhere)), -torch.inf)


def entries(law: TorchLaw) -> tuple[Distribution, int]:
    """Return the law of one entry with its batch of entries, and how many entries one draw has.

    Raises:
        InvalidInput: the entries of a draw are not independent scalars.
    """
    base = law.distribution
    while isinstance(base, Independent):
        base = base.base_dist
    if base.event_shape:
        raise InvalidInput(
            f"{law.name} has dependent entries (event shape {tuple(base.event_shape)}); "
            "expected independent scalar entries."
        )
    return base, math.prod(base.batch_shape[len(law.batch_shape) :])


def _inside(law: Distribution, x: Tensor) -> Tensor | None:
    """Return which entries lie in the support, or None if all do or nobody can tell."""
    try:
        support = law.support
    except NotImplementedError:
        return None
    if support is None or not isinstance(support, torch.distributions.constraints.Constraint):
        return None
    inside = support.check(x)  # type: ignore[no-untyped-call]
    return None if inside.all() else inside


def moving_ends(law: Distribution) -> list[str]:
    """Return the ends of a support that are parameters to differentiate by, by name."""
    try:
        ends = vars(law.support)
    except NotImplementedError:
        return []
    return [name for name, end in ends.items() if isinstance(end, Tensor) and end.requires_grad]


def _validates(law: Distribution) -> bool:
    """Whether the law itself refuses points outside of its support."""
    while isinstance(law, Independent):
        law = law.base_dist
    return bool(law._validate_args)


def _place_of(law: object) -> torch.device | None:
    """Where the first tensor lies that a distribution was made of, at any depth."""
    for value in vars(law).values():
        if isinstance(value, Tensor):
            return value.device
        for item in value if isinstance(value, list | tuple) else (value,):
            if isinstance(item, Distribution | torch.distributions.Transform | Tensor):
                place = item.device if isinstance(item, Tensor) else _place_of(item)
                if place is not None:
                    return place
    return None
