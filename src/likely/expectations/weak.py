"""Measure-valued derivatives: the difference of f at two points, and no derivative of f."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, final

import torch
from torch import Tensor
from torch import distributions as d
from torch.distributions import Distribution

from likely.errors import InvalidInput
from likely.expectations.arguments import arguments_of
from likely.expectations.gradient import Block, Gradient, connected
from likely.expectations.law import Law, TorchLaw, derived, entries
from likely.expectations.linear import linear
from likely.expectations.problem import Problem, Terms, plain_terms
from likely.seeds import generator_for

#: (law, x, generator) -> coefficient c and the points x+ and x-: the derivative is `c E[f(x+) - f(x-)]`
Rule: TypeAlias = Callable[[Any, Tensor, torch.Generator], tuple[Tensor, Tensor, Tensor]]


def _normal_loc(p: d.Normal, x: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """`1 / (scale sqrt(2 pi)) E[f(loc + scale R) - f(loc - scale R)]`, R of Rayleigh's law."""
    step = p.scale * (2 * _exponential(x, g)).sqrt()
    return 1 / (p.scale * math.sqrt(2 * math.pi)), p.loc + step, p.loc - step


def _normal_scale(p: d.Normal, x: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """`1 / scale E[f(loc + scale M) - f(loc + scale M U)]`, density of M `m^2 phi(m)`, U uniform.

    M U is standard normal, which couples the two points.
    """
    size = (2 * _exponential(x, g) + _normal(x, g).square()).sqrt()  # chi with three degrees of freedom
    m = size * (2 * _uniform(x, g).round() - 1)
    return 1 / p.scale, p.loc + p.scale * m, p.loc + p.scale * m * _uniform(x, g)


def _bernoulli(p: d.Bernoulli, x: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """`f(1) - f(0)`, for the probability."""
    return torch.ones_like(x), torch.ones_like(x), torch.zeros_like(x)


def _poisson(p: d.Poisson, x: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """`E[f(x + 1) - f(x)]`."""
    return torch.ones_like(x), x + 1, x


def _exponential_rate(p: d.Exponential, x: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """`1 / rate E[f(x) - f(x + x')]`, with x' of the same law."""
    return 1 / p.rate, x, x + _exponential(x, g) / p.rate


def _gamma_rate(p: d.Gamma, x: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """`concentration / rate E[f(x) - f(x + x')]`, with x' exponential of the same rate."""
    return p.concentration / p.rate, x, x + _exponential(x, g) / p.rate


#: for each family and argument, the tensor that the rule differentiates and the rule
RULES: Final[dict[type[Distribution], dict[str, tuple[str, Rule]]]] = {
    d.Normal: {"loc": ("loc", _normal_loc), "scale": ("scale", _normal_scale)},
    d.Bernoulli: {"probs": ("probs", _bernoulli), "logits": ("probs", _bernoulli)},
    d.Poisson: {"rate": ("rate", _poisson)},
    d.Exponential: {"rate": ("rate", _exponential_rate)},
    d.Gamma: {"rate": ("rate", _gamma_rate)},
}


@final
@dataclass(frozen=True)
class Weak(Gradient):
    """Measure-valued (weak) derivatives: `d/dtheta E_p[f] = c E[f(x+) - f(x-)]`.

    The derivative of a density is a difference of two densities, times c (Hahn, Jordan); the two points
    are coupled. f need not be differentiable, nor continuous. It costs two evaluations of f for each
    argument of each entry, and knows normal loc and scale, Bernoulli, Poisson, exponential and gamma
    rate. First derivatives only: a second one raises an error.

    Reference: Pflug 1989; Heidergott, Vazquez-Abad, Pflug, Farenhorst-Yuan 2010; Rosca et al. 2019.

    Example:
        >>> from likely import expect
        >>> rate = torch.tensor(2.0, requires_grad=True)
        >>> p = torch.distributions.Poisson(rate)
        >>> expect(lambda x: x.square(), p, n=10_000, grad=Weak(), seed=1).mean.backward()
        >>> bool((rate.grad - 5).abs() < 0.1)
        True
    """

    def prepare(self, problem: Problem, n: int, seed: int) -> Block:
        """Refuse proposals, and arguments without a rule."""
        if problem.via is not None:
            raise InvalidInput("grad='weak' draws from p itself; with via, use grad='score'.")
        wanted = weak_arguments(problem.law)

        def block(n: int, seed: int) -> Terms:
            x = problem.draw(n, seed)
            values = problem.values(x)
            correction = None
            if torch.is_grad_enabled():
                connected(bool(wanted) or values.requires_grad, problem)
                if wanted:
                    correction = weak_term(problem, x, wanted, derived(seed, 7))
            return plain_terms(values, correction=correction)

        return block


def weak_arguments(law: Law) -> list[str]:
    """Return the arguments of a law that require gradients, each of which has a rule.

    Raises:
        InvalidInput: one has none.
    """
    wanted = [name for name, tensor in arguments_of(law).items() if tensor.requires_grad]
    rules = RULES.get(type(entries(law)[0]), {}) if isinstance(law, TorchLaw) else {}
    missing = [name for name in wanted if name not in rules]
    if missing or not rules:
        known = ", ".join(f"{family.__name__} {'/'.join(names)}" for family, names in RULES.items())
        raise InvalidInput(
            f"there is no weak derivative of {' '.join([law.name, *missing])}; it exists for {known}. "
            "Use grad='score', or 'path' where it applies."
        )
    return wanted


def weak_term(problem: Problem, x: Tensor, wanted: Sequence[str], seed: int) -> Tensor:
    """Return a term of value zero whose gradient in the wanted arguments is the weak derivative.

    f is called once, on the 2 x arguments x entries changed copies of x.
    """
    law = problem.law
    assert isinstance(law, TorchLaw)  # weak_arguments has seen to it
    base, number = entries(law)
    batch, n = law.batch_shape, x.shape[0]
    flat = x.reshape(n, *batch, number)
    generator = generator_for(seed, None, x.device)
    tensors, slopes, changed = [], [], []
    with torch.no_grad():
        for name in wanted:
            attribute, rule = RULES[type(base)][name]
            tensors.append(getattr(base, attribute))
            c, *points = rule(base, x, generator)
            slopes.append(c.expand(x.shape).reshape(n, *batch, number))
            for point in points:
                new = point.reshape(n, *batch, number, 1)
                eye = torch.eye(number, dtype=torch.bool, device=x.device)
                changed.append(torch.where(eye, new, flat[..., None, :]).movedim(-2, 0))
        # (arguments, 2, entries, n, *batch, *event)
        rows = torch.stack(changed).reshape(-1, *x.shape[1:])
        y = problem.values(rows).double()
        y = y.reshape(len(wanted), 2, number, n, *y.shape[1:])
        gaps = (y[:, 0] - y[:, 1]).movedim(1, 2 + len(batch))  # (arguments, n, *batch, entries, *out)
        out = (1,) * (gaps.ndim - 3 - len(batch))
        slope = torch.stack(slopes).double()
        slope = (slope.reshape(slope.shape + out) * gaps).mean(1)  # (arguments, *batch, entries, *out)
    total: Tensor | None = None
    for k, tensor in enumerate(tensors):
        term = linear(tensor.reshape(*batch, number), slope[k], own=1, batch=len(batch))
        total = term if total is None else total + term
    assert total is not None  # there is at least one argument
    return total


def _exponential(like: Tensor, g: torch.Generator) -> Tensor:
    return torch.empty_like(like).exponential_(generator=g)


def _normal(like: Tensor, g: torch.Generator) -> Tensor:
    return torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=g)


def _uniform(like: Tensor, g: torch.Generator) -> Tensor:
    return torch.rand(like.shape, dtype=like.dtype, device=like.device, generator=g)
