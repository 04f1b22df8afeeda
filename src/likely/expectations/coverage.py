"""Whether a proposal is positive wherever the law is, as far as anybody can tell."""

from __future__ import annotations

import math
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    OneHotCategorical,
    constraints,
)

from likely.expectations.law import Law
from likely.expectations.mixture import Mixture
from likely.expectations.object_law import PlainLaw, ReparameterisedLaw
from likely.expectations.torch_law import TorchLaw, base_of

End: TypeAlias = "float | Tensor"
EVERYWHERE: Final = (-math.inf, math.inf)


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
    outer = _ends(q.distribution)
    if outer is None or not _positive(q.distribution):
        return False
    inner = _ends(p.distribution) if isinstance(p, TorchLaw) else None
    inner = inner or EVERYWHERE  # an unknown p is covered by what covers all
    return _all(outer[0], inner[0]) and _all(inner[1], outer[1])


def _same(q: Law, p: Law) -> bool:
    if isinstance(q, TorchLaw) and isinstance(p, TorchLaw):
        return q.distribution is p.distribution
    if isinstance(q, PlainLaw | ReparameterisedLaw) and isinstance(p, PlainLaw | ReparameterisedLaw):
        return q.law is p.law
    return q is p


def _ends(law: Distribution) -> tuple[End, End] | None:
    """Return the ends of a support, entry by entry; None where it is not an interval."""
    try:
        support: Any = law.support
    except NotImplementedError:
        return None
    if not isinstance(support, constraints.Constraint):
        return None
    known = vars(support)
    while "base_constraint" in known:  # of independent entries, and of mixtures of one family
        support = known["base_constraint"]
        known = vars(support)
    if isinstance(support, type(constraints.real)):
        return EVERYWHERE
    if isinstance(support, type(constraints.boolean)):
        return 0.0, 1.0
    if not known.keys() & {"lower_bound", "upper_bound"}:
        return None
    return known.get("lower_bound", -math.inf), known.get("upper_bound", math.inf)


def _positive(law: Distribution) -> bool:
    """Whether no value of a law of few values has probability zero."""
    base = base_of(law)
    if isinstance(base, Bernoulli):
        return bool((base.probs * (1 - base.probs) > 0).all())
    if isinstance(base, Categorical | OneHotCategorical):
        return bool((base.probs > 0).all())
    return True


def _all(low: End, high: End) -> bool:
    return bool((torch.as_tensor(low) <= torch.as_tensor(high)).all())
