"""Whether a proposal is positive wherever the law is, as far as anybody can tell."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch.distributions import Distribution, Geometric, Multinomial

from likely.expectations.law import Law
from likely.expectations.mixture import Mixture
from likely.expectations.object_law import PlainLaw, ReparameterisedLaw
from likely.expectations.support import EVERYWHERE, End, ends
from likely.expectations.torch_law import CLAMPED, TorchLaw, base_of

#: families with probabilities that may be zero, and whether these are of two outcomes
MASSES: Final[dict[type[Distribution], bool]] = CLAMPED | {Geometric: True, Multinomial: False}


def covers(q: Law, p: Law) -> bool:
    """Return whether q is known to be positive wherever p is.

    Then the weights p / q have the mean 1 for all parameters of p, and a baseline takes nothing off the
    mean gradient. Supports of `torch.distributions` laws are compared; walks know it of themselves; of
    any other object nothing is known.

    Example:
        >>> from torch.distributions import Exponential, Normal
        >>> normal, half = (TorchLaw(law) for law in (Normal(0.0, 1.0), Exponential(1.0)))
        >>> covers(normal, half), covers(half, normal), covers(Mixture([half, normal]), normal)
        (True, False, True)
    """
    if isinstance(q, Mixture):
        return any(covers(part, p) for part in q.laws)
    if _same(q, p):
        return True
    if not isinstance(q, TorchLaw):
        return q.covers
    outer = ends(q.distribution)
    if outer is None or not _positive(q.distribution):
        return False
    inner = ends(p.distribution) if isinstance(p, TorchLaw) else None
    inner = inner or EVERYWHERE  # an unknown p is covered by what covers all
    return _all(outer[0], inner[0]) and _all(inner[1], outer[1])


def _same(q: Law, p: Law) -> bool:
    if isinstance(q, TorchLaw) and isinstance(p, TorchLaw):
        return q.distribution is p.distribution
    if isinstance(q, PlainLaw | ReparameterisedLaw) and isinstance(p, PlainLaw | ReparameterisedLaw):
        return q.law is p.law
    return q is p


def _positive(law: Distribution) -> bool:
    """Whether no value of a law of few values has probability zero."""
    base: Any = base_of(law)
    two = MASSES.get(type(base))
    if two is None:
        return True
    return bool(((base.probs > 0) & (base.probs < 1 if two else True)).all())


def _all(low: End, high: End) -> bool:
    return bool((torch.as_tensor(low) <= torch.as_tensor(high)).all())
