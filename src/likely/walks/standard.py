"""Failure in standard normal space: a law of independent normals, and the function that fails."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal

from likely.checks import function
from likely.errors import InvalidInput, InvalidType
from likely.expectations.adapter import law_of
from likely.expectations.law import AnyLaw, Law
from likely.expectations.torch_law import TorchLaw, entries


@final
@dataclass(frozen=True, eq=False)
class Standardised:
    """The function `z -> f(loc + scale z)` of standard normal rows z, checked.

    Args:
        f: the limit state function, from draws `(n, *event)` to `(n,)`; it fails where `f <= 0`.
        loc: the means of the entries, `(*event)`.
        scale: their standard deviations.
    """

    f: Callable[[Tensor], Tensor]
    loc: Float[Tensor, "*event"]
    scale: Float[Tensor, "*event"]

    @property
    def dim(self) -> int:
        """How many entries a row has."""
        return math.prod(self.loc.shape)

    def x(self, z: Float[Tensor, "*many dim"]) -> Float[Tensor, "rows *event"]:
        """Return the rows in the units of f."""
        return self.loc + self.scale * z.reshape(-1, *self.loc.shape)

    @torch.no_grad()
    def __call__(self, z: Float[Tensor, "*many dim"]) -> Float[Tensor, "*many"]:
        """Return f at rows of standard normal entries.

        Raises:
            InvalidType: f returns no tensor of numbers.
            InvalidInput: it returns another shape than one value a row, or NaN.
        """
        x = self.x(z)
        y = self.f(x)
        if not isinstance(y, Tensor) or y.dtype == torch.bool:
            kind = "booleans" if isinstance(y, Tensor) else f"a {type(y).__name__}"
            raise InvalidType(
                f"f returned {kind}; expected a tensor of numbers that fall to 0 at the edge of the "
                "event, such as 5 - x for x >= 5: thresholds on them lead to it."
            )
        if y.shape != x.shape[:1]:
            raise InvalidInput(
                f"f returned shape {tuple(y.shape)} for draws of shape {tuple(x.shape)}; "
                f"expected ({len(x)},), one value for each draw."
            )
        if y.isnan().any():
            raise InvalidInput(f"f returned NaN for {int(y.isnan().sum())} of {len(x)} draws.")
        return y.double().reshape(z.shape[:-1])


def standardised(f: Callable[[Tensor], Tensor], p: AnyLaw) -> Standardised:
    """Return f as a function of standard normal rows.

    Raises:
        InvalidType: f is no function.
        InvalidInput: p is not a law of independent normal entries.

    Example:
        >>> g = standardised(lambda x: 5 - x.sum(1), Normal(torch.ones(2), 1.0))
        >>> g(torch.zeros(3, 2)).tolist()
        [3.0, 3.0, 3.0]
    """
    function("f", f, "of the draws")
    law = law_of(p)
    base = entries(law)[0] if isinstance(law, TorchLaw) else None
    if not isinstance(base, Normal):
        raise InvalidInput(
            f"p is a {law.name}; expected independent normal entries, such as Normal(zeros(d), 1.0). "
            "Write other laws as functions of normal ones."
        )
    loc = base.loc.detach()  # torch has made both of one shape
    return Standardised(f, loc, base.scale.detach())


@final
class Scaled(Law):
    """The law of `loc + scale z` for z of another law over flat rows.

    Args:
        law: of z, `(n, dim)`.
        loc: `(*event)`.
        scale: positive, `(*event)`.
    """

    batch_shape = torch.Size()

    def __init__(
        self, law: AnyLaw, loc: Float[Tensor, "*event"], scale: Float[Tensor, "*event"]
    ) -> None:
        self.law = law_of(law)
        self.loc = loc
        self.scale = scale
        self.name = self.law.name
        self.device = loc.device

    def draw(self, n: int, seed: int, attached: bool) -> Float[Tensor, "n *event"]:
        """Return draws of that law, scaled, in the dtype of loc."""
        z = self.law.draw(n, seed, attached).to(self.loc)
        return self.loc + self.scale * z.reshape(-1, *self.loc.shape)

    def log_prob(self, x: Float[Tensor, "n *event"]) -> Float[Tensor, " n"]:
        """Return `log q(z) - sum log scale`."""
        z = ((x - self.loc) / self.scale).reshape(len(x), -1)
        return self.law.log_prob(z).double() - self.scale.double().log().sum()
