"""Supports of `torch.distributions` laws: their ends, and whether they move with a parameter."""

from __future__ import annotations

import math
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch.distributions import Distribution, TransformedDistribution, constraints

from likely.expectations.torch_law import base_of, held

End: TypeAlias = "float | Tensor"
EVERYWHERE: Final = (-math.inf, math.inf)


def ends(law: Distribution) -> tuple[End, End] | None:
    """Return the ends of a support, entry by entry; None where it is not an interval.

    Of a transformed law they are the images of those of its base, as torch's own answer knows the
    transform alone: of a scaled uniform law it is the real line.

    Example:
        >>> from torch.distributions import AffineTransform, Uniform
        >>> low, high = ends(TransformedDistribution(Uniform(0.0, 1.0), AffineTransform(1.0, 2.0)))
        >>> float(low), float(high)
        (1.0, 3.0)
    """
    law = base_of(law)
    if type(law) is TransformedDistribution:
        return _images(law)
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


def moving_ends(law: Distribution) -> list[str]:
    """Return which ends of a support move with a parameter that requires gradients."""
    law = base_of(law)
    if not isinstance(type(law).support, property):  # one for all laws of the family
        return []
    wanted = [t for _, t in held(law) if t.requires_grad]
    found = ends(law) if wanted else None
    if found is None:
        return []
    both = zip(("lower end", "upper end"), found, strict=True)
    return [name for name, end in both if isinstance(end, Tensor) and _moves(end, wanted)]


def _images(law: TransformedDistribution) -> tuple[End, End] | None:
    found = ends(law.base_dist)
    for t in law.transforms:
        if found is None or t.domain.event_dim or not t.bijective:
            return None
        one, two = (t(torch.as_tensor(end, dtype=torch.float64)) for end in found)
        if bool((one > two).all()):
            one, two = two, one
        elif not bool((one <= two).all()):  # entries that are turned beside some that are not
            one, two = torch.minimum(one, two), torch.maximum(one, two)
        found = one, two
    return found


def _moves(end: Tensor, wanted: list[Tensor]) -> bool:
    end = end[end.isfinite()]
    if not end.requires_grad or not end.numel():
        return False
    along = torch.arange(1, len(end) + 1, dtype=end.dtype, device=end.device)
    slopes = torch.autograd.grad(end, wanted, along, retain_graph=True, allow_unused=True)
    return any(g is not None and not bool((g == 0).all()) for g in slopes)
