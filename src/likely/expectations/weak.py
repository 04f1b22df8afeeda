"""Measure-valued derivatives: the difference of f at two points, and no derivative of f."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias, cast, final

import torch
from torch import Tensor
from torch import distributions as d
from torch.distributions import Distribution

from likely.errors import InvalidInput
from likely.expectations.arguments import arguments_of
from likely.expectations.gradient import Block, Gradient, connected
from likely.expectations.law import Law
from likely.expectations.linear import with_slopes
from likely.expectations.moments import average
from likely.expectations.problem import Problem, Terms, floating, plain_terms
from likely.expectations.torch_law import TorchLaw, entries
from likely.seeds import derived, generator_for


@final
@dataclass(frozen=True)
class Noise:
    """What changes are made of: variables with a row for each draw, stratified over rows or not."""

    like: Tensor
    generator: torch.Generator
    stratified: bool

    def exponential(self, rate: float = 1.0) -> Tensor:
        """Return exponential variables."""
        if not self.stratified:
            return torch.empty_like(self.like).exponential_(rate, generator=self.generator)
        return self._uniform(self._cells(1)).log_().div_(-rate)

    def normal(self) -> Tensor:
        """Return stratified normal variables, which form a shifted lattice with exponential ones."""
        like, n = self.like, len(self.like)
        # Every cell of the square is as likely as any other, so that no mean is changed.
        shift = torch.randint(n, (1, *like.shape[1:]), generator=self.generator, device=like.device)
        z: Tensor = torch.special.ndtri(self._uniform((self._cells(_stride(n)) + shift) % n))
        return z

    def _cells(self, stride: int) -> Tensor:
        make = _kept_cells if len(self.like) <= KEPT_CELLS else _cells
        return make(len(self.like), stride, self.like.ndim, self.like.device)

    def _uniform(self, cells: Tensor) -> Tensor:
        """Return one number in each of the given cells, of which n make up (0, 1)."""
        u = torch.rand(
            self.like.shape, dtype=self.like.dtype, device=self.like.device, generator=self.generator
        )
        eps = torch.finfo(u.dtype).eps
        return u.add_(cells).div_(len(u)).clamp_(eps / 4, 1 - eps)


#: cells are kept for at most so many draws
KEPT_CELLS: Final = 1024


@lru_cache(maxsize=256)
def _stride(n: int) -> int:
    """Return a number near 0.618 n that has no factor in common with n."""
    return next(k for k in range(max(1, round(0.618 * n)), 2 * n) if math.gcd(k, n) == 1)


def _cells(n: int, stride: int, dims: int, device: torch.device) -> Tensor:
    return torch.arange(0, n * stride, stride, device=device).reshape(n, *(1,) * (dims - 1))


_kept_cells = lru_cache(maxsize=256)(_cells)


#: (law, x, noise) -> c, the changed x, and what to compare it with (None: x itself), such that the
#: derivative is `E[c (f(changed) - f(other))]`
Rule: TypeAlias = Callable[[Any, Tensor, Noise], tuple[Tensor, Tensor, Tensor | None]]


def _normal_loc(p: d.Normal, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
    """`1 / (scale sqrt(2 pi)) E[f(loc + scale R) - f(loc - scale R)]`, R of Rayleigh's law."""
    r = noise.exponential(0.5).sqrt_()
    c = p.scale.reciprocal().mul_((2 * math.pi) ** -0.5)
    return c, torch.addcmul(p.loc, p.scale, r), torch.addcmul(p.loc, p.scale, r, value=-1)


def _normal_scale(p: d.Normal, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor | None]:
    """`1 / scale E[f(loc + scale M) - f(x)]`, density of M `m^2 phi(m)`.

    With `z = (x - loc) / scale`, M has the sign of z, and `M^2 - z^2` is chi-square of two degrees of
    freedom: then z is uniform between 0 and M. Stratified, z is not that of x.
    """
    z = noise.normal() if noise.stratified else (x - p.loc) / p.scale
    m = noise.exponential(0.5).addcmul_(z, z).sqrt_().copysign_(z)
    near = torch.addcmul(p.loc, p.scale, z) if noise.stratified else None
    return p.scale.reciprocal(), torch.addcmul(p.loc, p.scale, m), near


def _bernoulli(p: d.Bernoulli, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor, None]:
    """`f(1) - f(0)`, for the probability: x and its opposite."""
    return torch.rsub(x, 1, alpha=2), 1 - x, None


def _poisson(p: d.Poisson, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor, None]:
    """`E[f(x + 1) - f(x)]`."""
    return torch.ones_like(x), x + 1, None


def _exponential_rate(p: d.Exponential, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor, None]:
    """`1 / rate E[f(x) - f(x + x')]`, with x' of the same law."""
    return -1 / p.rate, x + noise.exponential() / p.rate, None


def _gamma_rate(p: d.Gamma, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor, None]:
    """`concentration / rate E[f(x) - f(x + x')]`, with x' exponential of the same rate."""
    return -p.concentration / p.rate, x + noise.exponential() / p.rate, None


def _gamma_concentration(p: d.Gamma, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor, None]:
    """`E[Gamma(k) (rate y)^-k (f(x + y) - f(x))]`, with y of the law Gamma(k, rate), k = 3/4.

    That is `int E[f(x + y) - f(x)] exp(-rate y) / y dy`, what a gamma process gains in a moment. Its
    variance is finite for k < 1 where f jumps; for a linear f it falls as k nears 1.
    """
    k = 0.75
    y = torch._standard_gamma(torch.full_like(x, k), generator=noise.generator)
    y = y.clamp_(min=torch.finfo(y.dtype).tiny)
    return y.pow(-k).mul_(math.gamma(k)), x + y / p.rate, None


#: for each family and argument, the tensor that the rule differentiates and the rule
RULES: Final[dict[type[Distribution], dict[str, tuple[str, Rule]]]] = {
    d.Normal: {"loc": ("loc", _normal_loc), "scale": ("scale", _normal_scale)},
    d.Bernoulli: {"probs": ("probs", _bernoulli), "logits": ("probs", _bernoulli)},
    d.Poisson: {"rate": ("rate", _poisson)},
    d.Exponential: {"rate": ("rate", _exponential_rate)},
    d.Gamma: {
        "concentration": ("concentration", _gamma_concentration),
        "rate": ("rate", _gamma_rate),
    },
}


@final
@dataclass(frozen=True)
class Weak(Gradient):
    """Measure-valued (weak) derivatives: `d/dtheta E_p[f] = c E[f(x+) - f(x-)]`.

    The derivative of a density is a difference of two densities, times c (Hahn, Jordan); the two points
    are coupled, and one of them is the draw itself wherever its law allows. f need not be
    differentiable, nor continuous. It costs one more evaluation of f for each argument of each entry,
    two for a normal loc, and knows normal, Bernoulli, Poisson, exponential and gamma laws.
    First derivatives only: a second one raises an error.

    Args:
        stratified: what changes are made of takes one value in each of n cells of equal probability,
            so that for smooth f the variance falls faster than 1/n; for a normal loc and scale it pays
            from a few draws on.

    Reference: Pflug 1989; Heidergott, Vazquez-Abad, Pflug, Farenhorst-Yuan 2010; Rosca et al. 2019.

    Example:
        >>> from likely import expect
        >>> rate = torch.tensor(2.0, requires_grad=True)
        >>> p = torch.distributions.Poisson(rate)
        >>> expect(lambda x: x.square(), p, n=10_000, grad=Weak(), seed=1).mean.backward()
        >>> bool((rate.grad - 5).abs() < 0.1)
        True
    """

    stratified: bool = False

    def prepare(self, problem: Problem, n: int, seed: int) -> Block:
        """Refuse proposals, and arguments without a rule."""
        if problem.via is not None:
            raise InvalidInput("grad='weak' draws from p itself; with via, use grad='score'.")
        wanted = weak_arguments(problem.law)

        def block(n: int, seed: int) -> Terms:
            x = problem.draw(n, seed)
            values = problem.values(x)
            terms = plain_terms(values)
            if not torch.is_grad_enabled():
                return terms
            connected(bool(wanted) or values.requires_grad, problem)
            if not wanted:
                return terms
            return weakly(terms, problem, x, values, wanted, seed, self.stratified)

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


def weakly(
    terms: Terms,
    problem: Problem,
    x: Tensor,
    values: Tensor,
    wanted: Sequence[str],
    seed: int,
    stratified: bool,
) -> Terms:
    """Return terms whose mean has the weak derivative in the wanted arguments besides its own.

    f is called once, on copies of x in which one entry is changed, for each argument and entry.

    Args:
        terms: of the draws.
        problem: what is estimated.
        x: draws of its law, `(n, *batch, *event)`.
        values: f(x).
        wanted: the names of the arguments, one or more.
        seed: of the block.
        stratified: as in `Weak`.
    """
    law = cast(TorchLaw, problem.law)  # weak_arguments has seen to it
    base, number = entries(law)
    lead = len(law.batch_shape)
    noise = Noise(x, generator_for(derived(seed, 7), None, x.device), stratified)
    with torch.no_grad():
        rules = RULES[type(base)]
        changes = [(rules[name][0], rules[name][1](base, x, noise)) for name in wanted]
        points = [point for _, (_, *pair) in changes for point in pair if point is not None]
        y = floating(problem.values(_one_entry_each(x, points, number, lead)))
        before = floating(values)
        several = x.ndim != 1 + lead  # a draw has entries
        y = y.reshape(len(points), *(number,) * several, *before.shape)
        out = before.shape[1 + lead :]
        early = all(c.ndim < x.ndim for _, (c, *_) in changes)  # then means come first
        if early:
            y, before = average(y, 1 + several), terms.mean
        found = list(y.unbind())
        pairs = []
        for attribute, (c, _, other) in changes:
            tensor = getattr(base, attribute)
            gap = found.pop(0) - (before if other is None else found.pop(0))
            if several:  # entries first
                gap = gap.movedim(0, lead + (not early)).reshape(
                    (tensor.shape if early else x.shape) + out
                )
            slope = (c.reshape(c.shape + (1,) * len(out)) if out else c) * gap
            pairs.append((tensor, slope if early else average(slope).reshape(tensor.shape + out)))
    return terms._replace(mean=with_slopes(terms.mean, pairs, lead))


def _one_entry_each(x: Tensor, points: Sequence[Tensor], number: int, lead: int) -> Tensor:
    """Return `(points, entries, n, *batch, entries)`, flat: x with one entry taken from each point."""
    if x.ndim == 1 + lead:
        return torch.cat([*points])
    flat = (*x.shape[: 1 + lead], number)
    rows = x.reshape(flat).expand(len(points), number, *flat).contiguous()
    for row, point in zip(rows, points, strict=True):
        row.diagonal(0, 0, -1).copy_(point.reshape(flat))
    return rows.view(-1, *x.shape[1:])
