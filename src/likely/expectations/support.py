"""Supports of `torch.distributions` laws: their ends, and whether they move with a parameter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch.distributions import (
    AffineTransform,
    CatTransform,
    ComposeTransform,
    Distribution,
    IndependentTransform,
    StackTransform,
    Transform,
    TransformedDistribution,
    constraints,
)

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
    return _bounds(support)


def _bounds(support: Any) -> tuple[End, End] | None:
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
    if found is not None:
        both = zip(("lower end", "upper end"), found, strict=True)
        return [name for name, end in both if isinstance(end, Tensor) and _moves(end, wanted)]
    if not wanted or type(law) is not TransformedDistribution:
        return []
    # Where images are not known, any map with a parameter may move them.
    maps = any(tensor.requires_grad for t in law.transforms for _, tensor in held(t))
    return ["its ends"] if maps else moving_ends(law.base_dist)


def _images(law: TransformedDistribution) -> tuple[End, End] | None:
    found = ends(law.base_dist)
    for t in _maps(law.transforms):
        entrywise = isinstance(t, AffineTransform) or not t.domain.event_dim
        if found is None or not entrywise or isinstance(t, CatTransform | StackTransform):
            return None
        try:
            rises = torch.as_tensor(t.sign) > 0
        except NotImplementedError:  # it does not rise, or fall, everywhere
            return None
        one, two = (_image(t, end, rises, upper) for upper, end in enumerate(found))
        found = torch.where(rises, one, two), torch.where(rises, two, one)
    return found


def _maps(transforms: Iterable[Transform]) -> Iterator[Transform]:
    """Yield the maps that others are composed of, or are for several entries at once."""
    for t in transforms:
        if isinstance(t, ComposeTransform):
            yield from _maps(t.parts)
        elif isinstance(t, IndependentTransform):
            yield from _maps([t.base_transform])
        else:
            yield t


def _image(t: Any, end: End, rises: Tensor, upper: int) -> Tensor:
    """Return where a map takes an end, in float64."""
    end = torch.as_tensor(end, dtype=torch.float64)
    domain, codomain = _bounds(t.domain), _bounds(t.codomain)
    still = not end.requires_grad  # one that moves may meet an end by chance
    if domain and codomain and still and bool((end == domain[upper]).all()):
        # Limits, of which torch clips some, and of which infinite ones have no slope.
        to = [torch.as_tensor(bound, dtype=torch.float64).detach() for bound in codomain]
        return torch.where(rises, to[upper], to[1 - upper])
    image: Tensor = t(end)
    return image


def _moves(end: Tensor, wanted: list[Tensor]) -> bool:
    end = end[end.isfinite()]
    if not end.requires_grad or not end.numel():
        return False
    # Numbers of which no few cancel.
    along = torch.rand(len(end), generator=torch.Generator().manual_seed(0)).to(end)
    slopes = torch.autograd.grad(end, wanted, along, retain_graph=True, allow_unused=True)
    return any(g is not None and not bool((g == 0).all()) for g in slopes)
