"""Sums over finite supports: exact expectations, and the estimator that has no error."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, OneHotCategorical

from likely.errors import InvalidInput
from likely.expectations.gradient import Block, Gradient
from likely.expectations.law import Law
from likely.expectations.problem import Problem, Terms, floating, over
from likely.expectations.torch_law import innermost, log_prob_inside, made_of

#: at most so many points are enumerated
MOST_POINTS: Final = 2**20
#: combinations are kept of supports of at most so many points
KEPT_POINTS: Final = 1024


@final
@dataclass(frozen=True)
class Enumerate(Gradient):
    """The exact sum over a finite support, `sum_x p(x) f(x)`; differentiable to any order.

    Raises:
        InvalidInput: the support is not finite, or has more than about a million points.

    Example:
        >>> from likely import expect
        >>> eta = torch.zeros(3, requires_grad=True)
        >>> p = torch.distributions.Bernoulli(logits=eta)
        >>> expect(lambda b: b.sum(1), p, n=1, grad=Enumerate()).mean.backward()
        >>> eta.grad.tolist()
        [0.25, 0.25, 0.25]
    """

    def prepare(self, problem: Problem, n: int, seed: int) -> Block:
        """Refuse infinite supports and proposals."""
        if problem.via is not None:
            raise InvalidInput("grad='enumerate' goes over the support of p; leave out via.")
        x = support_of(problem)

        def block(n: int, seed: int) -> Terms:
            values = problem.values(x)
            a, total = weighed(values, masses(problem.law, x))
            return Terms(a, total, values.dtype, exact=True)

        return block


def _of_bernoulli(p: Bernoulli, x: Tensor) -> Tensor:
    if made_of(p, ("probs", "logits")) == "logits":
        return torch.sigmoid((2 * x - 1) * p.logits.double())
    return torch.addcmul(1 - x, 2 * x - 1, p.probs.double())


def _of_categorical(p: Categorical, x: Tensor) -> Tensor:
    mass = p.probs.double().expand(len(x), *p.batch_shape, -1)
    return mass.gather(-1, x.expand(mass.shape[:-1])[..., None])[..., 0]


#: masses of the entries of points; those that are 0 have derivatives, which their logarithms have not
MASSES: Final[dict[type[Any], Callable[[Any, Tensor], Tensor]]] = {
    Bernoulli: _of_bernoulli,
    Categorical: _of_categorical,
    OneHotCategorical: lambda p, x: (x * p.probs.double()).sum(-1),
}


def masses(law: Law, x: Tensor) -> Tensor:
    """Return p(x) of points of the support of a law, `(points, *batch)`, in float64."""
    base, lead = innermost(law), 1 + len(law.batch_shape)
    rule = MASSES.get(type(base))
    if rule is None:
        return log_prob_inside(law, x).double().exp()
    each = rule(base, x)
    if each.ndim == lead:
        return each
    # One factor after the other: derivatives of `prod` divide by factors, which may be tiny.
    first, *others = each.flatten(lead).unbind(-1) or [each.new_ones(each.shape[:lead])]
    return reduce(torch.mul, others, first)


def weighed(values: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
    """Return `p f` of every point, in float64, and their sum.

    Points where p is 0 and f is not finite are left out, of the sum and of its derivatives in p; those
    in what f itself depends on may be NaN there.
    """
    f = floating(values)
    mass = over(mass, f)
    a = mass * f
    total = a.sum(0)
    if not (math.isfinite(total.item()) if total.ndim == 0 else total.isfinite().all()):
        a = mass * torch.where((mass > 0) | f.isfinite(), f, 0.0)
        total = a.sum(0)
    return a, total


def support_size(law: Law) -> float:
    """Return of how many points the support of a law consists; infinity where none can be listed."""
    single = _support_of_entry(law)
    return math.inf if single is None else len(single) ** _number_of_entries(law)


def _support_of_entry(law: Law) -> Tensor | None:
    base = innermost(law)
    try:
        return base.enumerate_support(expand=False) if base is not None else None
    except NotImplementedError:  # infinite, or another one for each entry
        return None


def _number_of_entries(law: Law) -> int:
    base = innermost(law)
    return math.prod(base.batch_shape[len(law.batch_shape) :]) if base is not None else 0


def support_of(problem: Problem) -> Tensor:
    """Return every point of a finite support, `(points, *batch, *event)`."""
    law = problem.law
    base, single = innermost(law), _support_of_entry(law)
    if base is None or single is None:
        raise InvalidInput(
            f"{law.name} has no finite support to enumerate; use grad='score', or 'path' or 'weak' "
            "where they apply."
        )
    lead = len(law.batch_shape)
    choices, entries = len(single), base.batch_shape[lead:]
    number = _number_of_entries(law)
    if choices**number > MOST_POINTS:
        raise InvalidInput(
            f"the support of {law.name} has {choices}^{number} points; expected at most "
            f"{MOST_POINTS:,}. Use grad='score' or 'weak'."
        )
    make = _combinations if choices**number > KEPT_POINTS else _kept_combinations
    points = single.flatten(0, -1 - len(base.event_shape))[make(choices, lead, entries, single.device)]
    return points.expand(-1, *base.batch_shape, *base.event_shape) if lead else points


def _combinations(choices: int, lead: int, entries: torch.Size, device: torch.device) -> Tensor:
    """Return every way to make a choice for each entry, `(choices ** number, 1, ..., *entries)`."""
    place = choices ** torch.arange(entries.numel() - 1, -1, -1, device=device)
    ways = torch.arange(choices ** len(place), device=device)[:, None] // place % choices
    return ways.reshape(len(ways), *(1,) * lead, *entries)


#: those of small supports are kept: to make them takes as long as the rest of a sum over eight points
_kept_combinations = lru_cache(maxsize=64)(_combinations)
