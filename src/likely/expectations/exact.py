"""Expectations without draws: enumeration and adaptive quadrature."""

from __future__ import annotations

import math
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from likely.checks import share
from likely.expectations.adapter import law_of
from likely.expectations.enumeration import masses, support_of, support_size, weighed
from likely.expectations.law import AnyLaw
from likely.expectations.linear import with_slopes
from likely.expectations.problem import Function, Problem
from likely.expectations.quadrature import Quadrature
from likely.expectations.sampling import Independent


@runtime_checkable
class Tractable(Protocol):
    """A law that knows expectations exactly, such as a walk by dynamic programming."""

    def exact_expectation(self, f: Any, /) -> Tensor:
        """Return `E_p[f]`, or raise InvalidInput where it cannot."""
        ...


def exact(f: Function, p: AnyLaw | Tractable, *, rtol: float = 1e-11) -> Float[Tensor, "*shape"]:
    """Return `E_p[f]` exactly, or to `rtol`: by enumeration, or by quadrature in one or two dimensions.

    A finite support is summed. A continuous law of one or two entries is integrated by adaptive
    Gauss-Kronrod quadrature over its support, in float64, in coordinates of its own mean and scale.
    First derivatives are integrals too, `int (f grad log p + grad f) p`. A law with
    a method `exact_expectation(f)` answers itself.

    Args:
        f: from draws `(n, *event)` to values `(n,)`, or `(n, *out)`.
        p: the law.
        rtol: relative tolerance of the quadrature.

    Returns:
        The expectation, of shape `(*out)`, differentiable in the parameters of p and f. Sums are
        differentiable to any order, integrals once.

    Raises:
        InvalidType: p is no law.
        InvalidInput: p is neither finite nor a continuous law of one or two entries, or f is not finite
            where p is positive.
        NotConverged: the quadrature did not reach its tolerance; f may jump or oscillate.

    Reference: Piessens et al. 1983 (QUADPACK); scipy.integrate.cubature.

    Example:
        >>> round(exact(lambda x: x.square(), torch.distributions.Normal(1.0, 2.0)).item(), 6)
        5.0
    """
    if isinstance(p, Tractable):
        return p.exact_expectation(f)
    law = law_of(p)
    share("rtol", rtol)
    problem = Problem(f, law, None, Independent())
    if support_size(law) < math.inf:
        x = support_of(problem)
        values = problem.values(x)
        total = weighed(values, masses(law, x))[1]
        return total.to(values.dtype if values.dtype.is_floating_point else torch.float64)
    work = Quadrature(problem, rtol)
    total = work.value()
    if torch.is_grad_enabled():
        slopes = work.slopes(total.shape)
        if slopes:
            total = with_slopes(total, slopes)
    return total
