"""Measure-valued derivatives: the difference of f at two points, and no derivative of f."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias, final

import torch
from torch import Tensor
from torch import distributions as d

from likely.errors import InvalidInput
from likely.expectations.arguments import arguments_of
from likely.expectations.gradient import Block, Gradient, connected
from likely.expectations.law import Law
from likely.expectations.linear import with_slopes
from likely.expectations.moments import average
from likely.expectations.problem import Problem, Terms, floating, plain_terms
from likely.expectations.torch_law import innermost
from likely.seeds import derived

#: what depends on the number of draws, or of entries, alone is kept for at most so many
KEPT: Final = 1024


@final
class Noise(NamedTuple):
    """What changes are made of: variables with a row for each draw, stratified over rows or not."""

    like: Tensor
    seed: int
    stratified: bool

    def exponential(self, rate: float = 1.0) -> Tensor:
        """Return exponential variables."""
        generator = self._generator(1)
        if not self.stratified:
            return torch.empty_like(self.like).exponential_(rate, generator=generator)
        return self._uniform(self._cells(1), generator).log_().div_(-rate)

    def normal(self) -> Tensor:
        """Return stratified normal variables, which form a shifted lattice with exponential ones."""
        n, generator = len(self.like), self._generator(2)
        # Every cell of the square is as likely as any other, so that no mean is changed.
        shift = torch.randint(
            n, (1, *self.like.shape[1:]), generator=generator, device=generator.device
        )
        u = self._uniform((self._cells(_stride(n)) + shift) % n, generator)
        z: Tensor = torch.special.ndtri(u)
        return z

    def gamma(self, concentration: float) -> Tensor:
        """Return gamma variables of rate one, above zero."""
        y = torch.full_like(self.like, concentration)
        y = torch._standard_gamma(y, generator=self._generator(3))
        return y.clamp_(min=torch.finfo(y.dtype).tiny)

    def _generator(self, stream: int) -> torch.Generator:
        return torch.Generator(self.like.device).manual_seed(derived(self.seed, stream))

    def _cells(self, stride: int) -> Tensor:
        make = _kept_cells if len(self.like) <= KEPT else _cells
        return make(len(self.like), stride, self.like.ndim, self.like.device)

    def _uniform(self, cells: Tensor, generator: torch.Generator) -> Tensor:
        """Return one number in each of the given cells, of which n make up (0, 1)."""
        like = self.like
        u = torch.rand(like.shape, dtype=like.dtype, device=like.device, generator=generator)
        eps = torch.finfo(u.dtype).eps
        return u.add_(cells).div_(len(u)).clamp_(eps / 4, 1 - eps)


@lru_cache(maxsize=256)
def _stride(n: int) -> int:
    """Return a number near 0.618 n that has no factor in common with n."""
    return next(k for k in range(max(1, round(0.618 * n)), 2 * n) if math.gcd(k, n) == 1)


def _cells(n: int, stride: int, dims: int, device: torch.device) -> Tensor:
    return torch.arange(0, n * stride, stride, device=device).reshape(n, *(1,) * (dims - 1))


_kept_cells = lru_cache(maxsize=256)(_cells)


#: c, the changed x, and what to compare it with (left out: x itself), such that the derivative is
#: `E[c (f(changed) - f(other))]`
Change: TypeAlias = tuple[Tensor, ...]
#: (law, x, noise, names) -> the changes for the tensors of these names
Rule: TypeAlias = Callable[[Any, Tensor, Noise, Sequence[str]], dict[str, Change]]


def _normal(p: d.Normal, x: Tensor, noise: Noise, names: Sequence[str]) -> dict[str, Change]:
    """Of both by the same R of Rayleigh's law.

    loc: `1 / (scale sqrt(2 pi)) E[f(loc + scale R) - f(loc - scale R)]`.
    scale: `1 / scale E[f(loc + scale M) - f(x)]`, density of M `m^2 phi(m)`. With
    `z = (x - loc) / scale`, M has the sign of z, and `M^2 - z^2 = R^2`: then z is uniform between 0
    and M. Stratified, z is not that of x.
    """
    r = noise.exponential(0.5).sqrt_()
    c = p.scale.reciprocal()
    found: dict[str, Change] = {}
    if "loc" in names:
        up, down = torch.addcmul(p.loc, p.scale, r), torch.addcmul(p.loc, p.scale, r, value=-1)
        found["loc"] = c * (2 * math.pi) ** -0.5, up, down
    if "scale" in names:
        z = noise.normal() if noise.stratified else (x - p.loc) / p.scale
        far = torch.addcmul(p.loc, p.scale, torch.hypot(z, r).copysign_(z))
        near = (torch.addcmul(p.loc, p.scale, z),) if noise.stratified else ()
        found["scale"] = c, far, *near
    return found


def _bernoulli(p: d.Bernoulli, x: Tensor, noise: Noise, names: Sequence[str]) -> dict[str, Change]:
    """`f(1) - f(0)`, for the probability: x and its opposite."""
    opposite = 1 - x
    return {"probs": (opposite - x, opposite)}


def _poisson(p: d.Poisson, x: Tensor, noise: Noise, names: Sequence[str]) -> dict[str, Change]:
    """`E[f(x + 1) - f(x)]`."""
    return {"rate": (torch.ones_like(p.rate), x + 1)}


def _exponential(p: d.Exponential, x: Tensor, noise: Noise, names: Sequence[str]) -> dict[str, Change]:
    """`1 / rate E[f(x) - f(x + x')]`, with x' of the same law."""
    return {"rate": (-1 / p.rate, x + noise.exponential() / p.rate)}


def _gamma(p: d.Gamma, x: Tensor, noise: Noise, names: Sequence[str]) -> dict[str, Change]:
    """Of both by one more jump of a gamma process.

    rate: `concentration / rate E[f(x) - f(x + x')]`, with x' exponential of the same rate.
    concentration: `E[Gamma(k) (rate y)^-k (f(x + y) - f(x))]`, with y of the law Gamma(k, rate),
    k = 3/4. That is `int E[f(x + y) - f(x)] exp(-rate y) / y dy`, what the process gains in a moment.
    Its variance is finite for k < 1 where f jumps; for a linear f it falls as k nears 1.
    """
    found: dict[str, Change] = {}
    if "concentration" in names:
        k = 0.75
        y = noise.gamma(k)
        found["concentration"] = y.pow(-k).mul_(math.gamma(k)), x + y / p.rate
    if "rate" in names:
        found["rate"] = -p.concentration / p.rate, x + noise.exponential() / p.rate
    return found


#: for each family, the tensors that it can be differentiated by, and its rule
RULES: Final[dict[type[Any], tuple[tuple[str, ...], Rule]]] = {
    d.Normal: (("loc", "scale"), _normal),
    d.Bernoulli: (("probs",), _bernoulli),
    d.Poisson: (("rate",), _poisson),
    d.Exponential: (("rate",), _exponential),
    d.Gamma: (("concentration", "rate"), _gamma),
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
        names = weak_names(problem.law)

        def block(n: int, seed: int) -> Terms:
            x = problem.draw(n, seed)
            values = problem.values(x)
            connected(bool(names) or values.requires_grad, problem)
            return weakly(problem, names, x, values, plain_terms(values), seed, self.stratified)

        return block


def weak_names(law: Law) -> list[str]:
    """Return the names of the tensors of a law that require gradients, for each of which it has a rule.

    Raises:
        InvalidInput: there is none for laws of its family.
    """
    base = innermost(law)
    if type(base) not in RULES:
        known = ", ".join(
            f"{family.__name__} {'/'.join(names)}" for family, (names, _) in RULES.items()
        )
        missing = [name for name, tensor in arguments_of(law).items() if tensor.requires_grad]
        raise InvalidInput(
            f"there is no weak derivative of {' '.join([law.name, *missing])}; it exists for {known}. "
            "Use grad='score', or 'path' where it applies."
        )
    return [name for name in RULES[type(base)][0] if getattr(base, name).requires_grad]


def weakly(
    problem: Problem,
    names: Sequence[str],
    x: Tensor,
    values: Tensor,
    terms: Terms,
    seed: int,
    stratified: bool,
) -> Terms:
    """Return terms whose mean has the weak derivatives, in the named tensors, besides its own gradient.

    f is called once, on copies of x in which one entry is changed, for each name and entry; not at all
    if there are none, or no gradient is wanted.

    Args:
        problem: what is estimated.
        names: those of `weak_names`.
        x: draws of its law, `(n, *batch, *event)`.
        values: f(x).
        terms: of the draws.
        seed: of the block.
        stratified: as in `Weak`.
    """
    if not names or not torch.is_grad_enabled():
        return terms
    base, lead = innermost(problem.law), len(problem.law.batch_shape)
    noise = Noise(x, derived(seed, 7), stratified)
    event, out = x.shape[1 + lead :], values.shape[1 + lead :]
    with torch.no_grad():
        changes = RULES[type(base)][1](base, x, noise, names)
        points = [point for _, *pair in changes.values() for point in pair]
        y = torch.cat(points) if not event else _one_entry_each(x, points, event, lead)
        each = (len(points), event.numel()) if event else (len(points),)
        y = floating(problem.values(y)).reshape(*each, *values.shape)
        before = floating(values)
        early = all(c.ndim < x.ndim for c, *_ in changes.values())
        if early:  # means come first
            y, before = average(y, len(each)), terms.mean
        found = iter(y.unbind())
        pairs = []
        for name, (c, *pair) in changes.items():
            tensor = getattr(base, name)
            gap = next(found) - (next(found) if len(pair) > 1 else before)
            if event:  # entries behind the batch, as in x
                gap = gap.movedim(0, lead if early else 1 + lead)
                if len(event) > 1:
                    gap = gap.reshape((tensor if early else x).shape + out)
            slope = (c.reshape(c.shape + (1,) * len(out)) if out else c) * gap
            pairs.append((tensor, slope if early else average(slope)))
    return terms._replace(mean=with_slopes(terms.mean, pairs, lead))


def _one_entry_each(x: Tensor, points: Sequence[Tensor], event: torch.Size, lead: int) -> Tensor:
    """Return `(points, entries, n, *batch, *event)`, flat: x with one entry taken from each point."""
    make = _kept_each if event.numel() <= KEPT else _each
    changed = points[0] if len(points) == 1 else torch.stack([*points]).unsqueeze(1)
    return torch.where(make(event, lead, x.device), changed, x).reshape(-1, *x.shape[1:])


def _each(event: torch.Size, lead: int, device: torch.device) -> Tensor:
    each = torch.eye(event.numel(), dtype=torch.bool, device=device)
    return each.reshape(-1, *(1,) * (1 + lead), *event)


_kept_each = lru_cache(maxsize=16)(_each)
