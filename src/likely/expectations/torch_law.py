"""`torch.distributions` laws: draws, log-densities, supports and entries."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, cast, final

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Binomial,
    Categorical,
    Distribution,
    Exponential,
    Independent,
    MixtureSameFamily,
    NegativeBinomial,
    Normal,
    OneHotCategorical,
    Poisson,
    Transform,
    TransformedDistribution,
)

from likely.errors import InvalidInput
from likely.expectations.law import Law
from likely.seeds import borrowed_global_state


def _coins(probs: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if probs.dtype == torch.float64:
        return torch.bernoulli(probs.expand(shape), generator=generator)
    # In float32 torch's uniform numbers are multiples of 2^-24.
    return torch.bernoulli(probs.double().expand(shape), generator=generator).to(probs.dtype)


#: families that torch draws by one function that takes a generator: no global state is borrowed
GENERATED: Final[
    dict[type[Distribution], Callable[[Any, tuple[int, ...], torch.Generator], Tensor]]
] = {
    Normal: lambda p, shape, generator: torch.addcmul(
        p.loc, p.scale, p.loc.new_empty(shape).normal_(generator=generator)
    ),
    Bernoulli: lambda p, shape, generator: _coins(p.probs, shape, generator),
    Poisson: lambda p, shape, generator: torch.poisson(p.rate.expand(shape), generator=generator),
    Exponential: lambda p, shape, generator: (
        p.rate.new_empty(shape).exponential_(generator=generator) / p.rate
    ),
}
#: families whose logits torch makes of clamped probabilities, and whether these are of two outcomes
CLAMPED: Final[dict[type[Distribution], bool]] = {
    **dict.fromkeys((Bernoulli, Binomial, NegativeBinomial), True),
    **dict.fromkeys((Categorical, OneHotCategorical), False),
}
#: entries of the draws of a block
ROOM: Final = 2**25
CPU: Final = torch.device("cpu")
SCALAR: Final = torch.Size()


@final
class TorchLaw(Law):
    """A `torch.distributions` law: its batch shape is part of the event, or counts separate laws.

    Args:
        distribution: the law.
        batched: read its batch shape as so many separate problems.
        rows: for a batched law, the leaf tensors with a row of parameters for each problem.
    """

    def __init__(
        self, distribution: Distribution, batched: bool = False, rows: tuple[Tensor, ...] = ()
    ) -> None:
        self.rows = rows
        self.distribution = distribution
        self.name = type(distribution).__name__
        self.batched = batched
        self.batch_shape = distribution.batch_shape if batched else SCALAR
        whole = distribution.batch_shape + distribution.event_shape
        self.event_shape = distribution.event_shape if batched else whole
        self.space = _events(self.event_shape)
        self.block = _block(whole) if whole else Law.block
        self.device = _place_of(distribution)

    def draw(self, n: int, seed: int, attached: bool) -> Tensor:
        """Return draws by a generator of their own, or in a borrowed global state that is put back."""
        if attached and not self.distribution.has_rsample:
            raise InvalidInput(
                f"{self.name} has no rsample: its draws are not differentiable, so 'path' does not "
                "apply; use grad='score', 'weak' or 'enumerate'."
            )
        if own := GENERATED.get(type(self.distribution)):
            generator = torch.Generator(self.device).manual_seed(seed)
            shape = (n, *self.distribution.batch_shape)
            if attached:
                return own(self.distribution, shape, generator)
            with torch.no_grad():
                return own(self.distribution, shape, generator)
        with borrowed_global_state(self.device, seed):
            if attached:
                return self.distribution.rsample((n,))
            with torch.no_grad():  # the same draws, and cheaper than `sample` of some laws
                if self.distribution.has_rsample:
                    return self.distribution.rsample((n,))
                return self.distribution.sample((n,))

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density, with minus infinity outside of the support."""
        return self._joint(self._log_prob(x))

    def inside(self, x: Tensor) -> Tensor:
        """Return the log-density of points that are known to lie in the support."""
        try:
            return self._joint(_trusting(_unclamped(self.distribution)).log_prob(x))
        except ValueError:  # a law within looked, and found one that rounding put outside
            return self.log_prob(x)

    def _joint(self, value: Tensor) -> Tensor:
        return value if self.batched or value.ndim == 1 else value.sum(tuple(range(1, value.ndim)))

    def _log_prob(self, x: Tensor) -> Tensor:
        law = _unclamped(self.distribution)
        if _validates(law):
            try:
                return law.log_prob(x)
            except ValueError:  # some of x lies outside of the support, or has another shape
                pass
        inside = _inside(law, x)
        if inside is not None:
            within = inside.reshape(inside.shape + (1,) * len(law.event_shape))
            x = torch.where(within, x, self.draw(1, 0, attached=False).to(x.dtype))
        try:
            value = law.log_prob(x)
        except ValueError as error:  # torch has no density of this law at its own draws
            raise InvalidInput(f"log_prob of {self.name} refuses its argument: {error}") from error
        return value if inside is None else torch.where(inside, value, -torch.inf)


def log_prob_inside(law: Law, x: Tensor) -> Tensor:
    """Return the log-density of points of the support, such as the law's own draws."""
    return law.inside(x) if isinstance(law, TorchLaw) else law.log_prob(x)


@lru_cache(maxsize=64)
def _block(shape: torch.Size) -> int:
    """Return how many draws fit into memory at once, a multiple of many units that draws come in."""
    return min(Law.block, max(64, ROOM // max(1, shape.numel()) // 64 * 64))


@lru_cache(maxsize=64)
def _events(shape: torch.Size) -> str:
    return f"events of shape {tuple(shape)}"


def innermost(law: Law) -> Distribution | None:
    """Return the distribution of the entries of a law, if it is one of torch's."""
    return base_of(law.distribution) if isinstance(law, TorchLaw) else None


def base_of(law: Distribution) -> Distribution:
    """Return the distribution whose entries `Independent` ones are read as one event."""
    while isinstance(law, Independent):
        law = law.base_dist
    return law


def made_of(base: Distribution, alternatives: Sequence[str]) -> str:
    """Return which of some arguments a law was made of; it may keep others once they were asked for."""
    held = vars(vars(base).get("_categorical", base))  # in the order in which they came
    return next((name for name in held if name in alternatives), alternatives[0])


def entries(law: TorchLaw) -> tuple[Distribution, int]:
    """Return the law of one entry with its batch of entries, and how many entries one draw has.

    Raises:
        InvalidInput: the entries of a draw are not independent scalars.
    """
    base = base_of(law.distribution)
    if base.event_shape:
        raise InvalidInput(
            f"{law.name} has dependent entries (event shape {tuple(base.event_shape)}); "
            "expected independent scalar entries."
        )
    return base, math.prod(base.batch_shape[len(law.batch_shape) :])


def _inside(law: Distribution, x: Tensor) -> Tensor | None:
    """Return which entries lie in the support, or None if all do or nobody can tell."""
    if isinstance(law, MixtureSameFamily):  # whose own support is what all of its parts share
        each = _inside(law.component_distribution, x.unsqueeze(-1 - len(law.event_shape)))
        return None if each is None else each.any(-1)
    found: Tensor | None = None
    try:
        support = law.support
    except NotImplementedError:
        support = None
    if isinstance(support, torch.distributions.constraints.Constraint):
        found = support.check(x)  # type: ignore[no-untyped-call]
    if type(law) is TransformedDistribution:  # whose support is that of any base
        for transform in reversed(law.transforms):
            x = transform.inv(x)
        within = _inside(law.base_dist, x)
        found = within if found is None or within is None else found & within
    return None if found is None or found.all() else found


def discrete(law: Law) -> bool | None:
    """Return whether the draws of a law of torch's are discrete; None where nobody can tell."""
    base = innermost(law)
    try:
        support = None if base is None else base.support
        return None if support is None else bool(support.is_discrete)
    except NotImplementedError:
        return None


def _trusting(law: Distribution) -> Distribution:
    """Return the same law, which does not look whether points lie in its support."""
    if not law._validate_args and not isinstance(law, Independent):
        return law
    return _with(law, _validate_args=False)


def _unclamped(law: Distribution) -> Distribution:
    """Return the same law with logits that tell any probability from 0 and 1, not from 1.2e-7 on."""
    base: Any = base_of(law)
    two = CLAMPED.get(type(base))
    if two is None or made_of(base, ("probs", "logits")) == "logits":
        return law
    p, tiny = base.probs, torch.finfo(base.probs.dtype).tiny
    logits = p.clamp(min=tiny).log()
    return _with(law, logits=logits - (1 - p).clamp(min=tiny).log() if two else logits)


def _with(law: Distribution, **changes: Any) -> Distribution:
    """Return a copy with other attributes, as have the laws that it reads as its own."""
    copy = object.__new__(type(law))
    vars(copy).update(vars(law), **changes)
    inner = "base_dist" if isinstance(law, Independent) else "_categorical"
    if inner in vars(law):
        vars(copy)[inner] = _with(vars(law)[inner], **changes)
    return copy


def doubled(law: Distribution) -> tuple[Distribution, list[tuple[Tensor, Tensor]]]:
    """Return the same law made of float64 leaves, and (tensor, leaf) of what requires gradients."""
    made: dict[int, Any] = {}
    pairs: list[tuple[Tensor, Tensor]] = []

    def copied(value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point():
            leaf = value.detach().double().requires_grad_(value.requires_grad)
            if leaf.requires_grad:
                pairs.append((value, leaf))
            return leaf
        if isinstance(value, list):
            return [copied(item) for item in value]
        if not isinstance(value, Distribution | Transform):
            return value
        if id(value) not in made:  # a transform and its inverse know each other
            copy = made[id(value)] = object.__new__(type(value))
            vars(copy).update({name: copied(item) for name, item in vars(value).items()})
        return made[id(value)]

    return cast(Distribution, copied(law)), pairs


def _validates(law: Distribution) -> bool:
    """Whether the law itself refuses points outside of its support."""
    return bool(base_of(law)._validate_args)


def refuse_nan(law: Distribution, what: str) -> None:
    """Refuse NaN among the parameters of a law that did not look at them itself."""
    if _validates(law):
        return
    bad = [k for k, t in held(law) if not k.startswith("_") and bool(t.isnan().any())]
    if bad:
        raise InvalidInput(
            f"{what} is a {type(law).__name__} whose {' and '.join(bad)} holds NaN; expected numbers."
        )


def _place_of(law: Distribution) -> torch.device:
    """Where the first tensor lies that a distribution was made of, at any depth."""
    for value in vars(law).values():
        if isinstance(value, Tensor):
            return value.device
    return next((t.device for _, t in held(law)), CPU)


def held(law: object, seen: set[int] | None = None) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors that a distribution was made of, by name, at any depth."""
    seen = set() if seen is None else seen
    seen.add(id(law))  # a transform and its inverse know each other
    for name, value in vars(law).items():
        for item in value if isinstance(value, list | tuple) else (value,):
            if isinstance(item, Tensor):
                yield name, item
            elif isinstance(item, Distribution | Transform) and id(item) not in seen:
                yield from held(item, seen)
