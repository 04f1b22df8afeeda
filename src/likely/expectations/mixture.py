"""Several proposals as one: the balance heuristic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from likely.errors import InvalidInput, InvalidType
from likely.expectations.adapter import law_of
from likely.expectations.law import AnyLaw, Law
from likely.seeds import derived


@final
class Mixture(Law):
    """The mixture `q(x) = sum_j share_j q_j(x)`; weights `p / q` are the balance heuristic.

    With p among the components the weights are at most 1 / share of p: a defensive mixture, whose
    error cannot explode.

    Args:
        laws: the components.
        shares: their shares, positive; None for equal ones. They are divided by their sum.

    Raises:
        InvalidInput: there is no law, a share is not positive, or there are not as many as laws; when
            drawn from, draws of the laws differ.

    Reference: Veach, Guibas 1995; Hesterberg 1995; Owen, Zhou 2000.

    Example:
        >>> from torch.distributions import Normal
        >>> from likely import expect
        >>> p, q = Normal(0.0, 1.0), Normal(5.0, 1.0)
        >>> e = expect(lambda x: x > 5, p, n=2000, via=Mixture([q, p], [0.9, 0.1]), seed=0)
        >>> bool((e.mean / 2.8665e-7 - 1).abs() < 0.15)
        True
    """

    def __init__(self, laws: Sequence[AnyLaw], shares: Sequence[float] | None = None) -> None:
        if not isinstance(laws, Sequence):
            raise InvalidType(f"laws is a {type(laws).__name__}; expected a list of laws.")
        numbers = [] if shares is None else shares
        if not isinstance(numbers, Sequence) or not all(isinstance(s, int | float) for s in numbers):
            raise InvalidType(f"shares are {shares!r:.60}; expected a list of numbers.")
        given = [1.0] * len(laws) if shares is None else [float(share) for share in shares]
        positive = all(0 < share < math.inf for share in given)
        if not laws or len(given) != len(laws) or not positive:
            raise InvalidInput(
                f"{len(laws)} laws with shares {given}; expected one positive share for each law."
            )
        self.given = tuple(laws)
        self.laws = tuple(law_of(law, what=f"laws[{i}]") for i, law in enumerate(laws))
        self.shares = tuple(share / sum(given) for share in given)
        self.name = f"Mixture of {', '.join(law.name for law in self.laws)}"
        self.batch_shape = torch.Size()
        self.device = self.laws[0].device
        self.block = min(law.block for law in self.laws)

    def draw(self, n: int, seed: int, attached: bool) -> Tensor:
        """Return n independent draws, those of one component after those of another."""
        if attached:
            raise InvalidInput("draws of a mixture are not differentiable; use grad='score'.")
        spaces = [law.space for law in self.laws if law.space is not None]
        for space in spaces:
            if space != spaces[0]:
                raise InvalidInput(f"the laws draw {spaces[0]} and {space}; expected the same.")
        generator = torch.Generator().manual_seed(derived(seed, 0))
        which = torch.multinomial(torch.tensor(self.shares), n, replacement=True, generator=generator)
        counts = which.bincount(minlength=len(self.laws)).tolist()
        parts = [
            law.draw(count, derived(seed, 1 + j), attached)
            for j, (law, count) in enumerate(zip(self.laws, counts, strict=True))
            if count
        ]
        return torch.cat(parts)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return `logsumexp_j (log share_j + log q_j(x))`."""
        logs = [
            law.log_prob(x) + math.log(share) for law, share in zip(self.laws, self.shares, strict=True)
        ]
        return torch.stack(logs).logsumexp(0)

    def share_of(self, p: AnyLaw) -> float:
        """Return the share of the components that are p itself."""
        return sum(share for law, share in zip(self.given, self.shares, strict=True) if law is p)
