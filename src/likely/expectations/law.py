"""A law as expectations use it: rows of draws from a seed, and the log-density of each row."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from typing import Any, Final, Protocol, TypeAlias, final, runtime_checkable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.distributions import Distribution, Independent

from likely.density import Density, Samplable
from likely.errors import InvalidInput, InvalidType
from likely.seeds import borrowed_global_state, generator_for, seed_borrowed

_MASK: Final = 2**64 - 1

AnyLaw: TypeAlias = "Distribution | Samplable | Law"


@runtime_checkable
class Reparameterised(Density, Protocol):
    """A law whose draws are differentiable in its parameters, such as a flow."""

    def rsample_and_log_prob(
        self, n: int, seed: int | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return n differentiable draws and their log-densities."""
        ...


class Law(ABC):
    """A law of rows: n draws of shape `(n, *batch, *event)`, log-densities of shape `(n, *batch)`.

    `batch` counts separate problems that are worked on at once; it is empty unless asked for.
    """

    name: str
    batch_shape: torch.Size
    device: torch.device
    #: draws that fit into memory at once; blocks are no larger
    block: int = 100_000
    #: False for a proposal that is 0 where p is not, so that its weights do not have the mean 1
    covers: bool = True
    #: what the draws are, where that is known: laws of different draws do not meet
    space: object = None

    @abstractmethod
    def draw(self, n: int, seed: int, attached: bool) -> Shaped[Tensor, "n *rest"]:
        """Return n draws; attached ones are differentiable in the parameters of the law."""

    @abstractmethod
    def log_prob(self, x: Shaped[Tensor, "n *rest"]) -> Float[Tensor, "n *batch"]:
        """Return log p(x) in nats; minus infinity outside of the support."""


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
        self.batch_shape = distribution.batch_shape if batched else torch.Size()
        self.event_shape = (distribution.batch_shape + distribution.event_shape)[
            len(self.batch_shape) :
        ]
        self.space = f"events of shape {tuple(self.event_shape)}"
        self.device = _place_of(distribution) or torch.device("cpu")

    def draw(self, n: int, seed: int, attached: bool) -> Tensor:
        """Return draws made in a borrowed global random state, which is put back."""
        if attached and not self.distribution.has_rsample:
            raise InvalidInput(
                f"{self.name} has no rsample: its draws are not differentiable, so 'path' does not "
                "apply; use grad='score', 'weak' or 'enumerate'."
            )
        with borrowed_global_state(self.device):
            seed_borrowed(seed, self.device)
            if attached:
                return self.distribution.rsample((n,))
            with torch.no_grad():  # the same draws, and cheaper than `sample` of some laws
                if self.distribution.has_rsample:
                    return self.distribution.rsample((n,))
                return self.distribution.sample((n,))

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density, with minus infinity outside of the support."""
        value = self._log_prob(x)
        return value if self.batched or value.ndim == 1 else value.sum(tuple(range(1, value.ndim)))

    def _log_prob(self, x: Tensor) -> Tensor:
        law = self.distribution
        if _validates(law):
            try:
                return law.log_prob(x)
            except ValueError:  # some of x lies outside of the support, or has another shape
                pass
        inside = _inside(law, x)
        if inside is None:
            return law.log_prob(x)
        within = inside.reshape(inside.shape + (1,) * len(law.event_shape))
        anywhere = self.draw(1, 0, attached=False).to(x.dtype)
        return torch.where(inside, law.log_prob(torch.where(within, x, anywhere)), -torch.inf)


@final
class ReparameterisedLaw(Law):
    """A law with `rsample_and_log_prob`, such as a flow."""

    def __init__(self, law: Reparameterised) -> None:
        self.law = law
        self.name = type(law).__name__
        self.batch_shape = torch.Size()
        self.device = _device_of(law)

    def draw(self, n: int, seed: int, attached: bool) -> Tensor:
        """Return draws by the law's own reparameterisation."""
        generator = generator_for(seed, None, self.device)
        with torch.set_grad_enabled(attached and torch.is_grad_enabled()):
            return self.law.rsample_and_log_prob(n, generator=generator)[0]

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the law's own log-density, checked."""
        return _one_a_row(self.name, self.law.log_prob(x), x)


@final
class PlainLaw(Law):
    """Anything with `log_prob(x)` and `sample(n)`, whose draws are not differentiable.

    `sample` is given `generator` or `seed` where it takes them; if it takes neither, it draws from a
    borrowed and seeded global state.
    """

    def __init__(self, law: Samplable) -> None:
        self.law = law
        self.name = type(law).__name__
        self.batch_shape = torch.Size()
        self.device = _device_of(law)
        try:
            self._takes = set(inspect.signature(law.sample).parameters)
        except ValueError:  # some built-in callables have no signature
            self._takes = set()

    def draw(self, n: int, seed: int, attached: bool) -> Tensor:
        """Return draws from the law's own `sample`."""
        if attached:
            raise InvalidInput(
                f"{self.name} has no rsample_and_log_prob: its draws are not differentiable, so 'path' "
                "does not apply; use grad='score'."
            )
        how: dict[str, Any] = {}
        if "generator" in self._takes:
            how["generator"] = generator_for(seed, None, self.device)
        elif "seed" in self._takes:
            how["seed"] = seed
        with borrowed_global_state(self.device), torch.no_grad():
            seed_borrowed(seed, self.device)
            x = self.law.sample(n, **how)
        if not isinstance(x, Tensor) or x.shape[:1] != (n,):
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise InvalidInput(
                f"{self.name}.sample({n}) returned {got}; expected a tensor of {n} rows."
            )
        return x

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the law's own log-density, checked."""
        return _one_a_row(self.name, self.law.log_prob(x), x)


def law_of(p: AnyLaw, batched: bool = False) -> Law:
    """Return the adapter for whatever `p` is.

    Args:
        p: a `torch.distributions` law, a flow, anything with `sample` and `log_prob`, or a `Law`.
        batched: read the batch shape of a `torch.distributions` law as separate problems, not as part
            of the event.

    Raises:
        InvalidType: p is none of these.
        InvalidInput: `batched` is asked of something without a batch shape.

    Example:
        >>> law_of(torch.distributions.Normal(torch.zeros(3), 1.0)).log_prob(torch.zeros(5, 3)).shape
        torch.Size([5])
    """
    if isinstance(p, Law):
        return p
    if isinstance(p, Distribution):
        return TorchLaw(p, batched)
    if batched:
        raise InvalidInput(f"batched=True is for torch.distributions laws; p is a {type(p).__name__}.")
    if isinstance(p, type):
        raise InvalidType(f"p is the class {p.__name__}; expected a law, such as {p.__name__}(...).")
    if isinstance(p, Reparameterised):
        return ReparameterisedLaw(p)
    if isinstance(p, Samplable):
        return PlainLaw(p)
    raise InvalidType(
        f"p is a {type(p).__name__}; expected a torch.distributions law, a flow, or an object with "
        "sample(n) and log_prob(x)."
    )


def derived(seed: int, *path: int) -> int:
    """Return a seed of its own for each path below a seed, such as (block, purpose).

    Each step is a round of SplitMix64 (Steele, Lea, Flood 2014), a bijection of 64 bits for each step.
    """
    z = seed
    for step in path:
        z = (z ^ step * 0xD1342543DE82EF95) + 0x9E3779B97F4A7C15 & _MASK
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK
        z ^= z >> 31
    return z >> 1


def leaves_of(tensor: Tensor) -> list[Tensor]:
    """Return the leaf tensors that require gradients and that `tensor` was computed from."""
    if tensor.grad_fn is None:
        return [tensor] if tensor.requires_grad else []
    found: dict[int, Tensor] = {}
    seen: set[Any] = set()
    todo: list[Any] = [tensor.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(leaf := getattr(node, "variable", None), Tensor):  # an accumulator of gradients
            found[id(leaf)] = leaf
        todo.extend(parent for parent, _ in node.next_functions)
    return list(found.values())[::-1]


def _inside(law: Distribution, x: Tensor) -> Tensor | None:
    """Return which entries lie in the support, or None if all do or nobody can tell."""
    try:
        support = law.support
    except NotImplementedError:
        return None
    if support is None or not isinstance(support, torch.distributions.constraints.Constraint):
        return None
    inside = support.check(x)  # type: ignore[no-untyped-call]
    return None if inside.all() else inside


def moving_ends(law: Distribution) -> list[str]:
    """Return the ends of a support that are parameters to differentiate by, by name."""
    try:
        ends = vars(law.support)
    except NotImplementedError:
        return []
    return [name for name, end in ends.items() if isinstance(end, Tensor) and end.requires_grad]


def _validates(law: Distribution) -> bool:
    """Whether the law itself refuses points outside of its support."""
    while isinstance(law, Independent):
        law = law.base_dist
    return bool(law._validate_args)


def _place_of(law: object) -> torch.device | None:
    """Where the first tensor lies that a distribution was made of, at any depth."""
    for value in vars(law).values():
        if isinstance(value, Tensor):
            return value.device
        for item in value if isinstance(value, list | tuple) else (value,):
            if isinstance(item, Distribution | torch.distributions.Transform | Tensor):
                place = item.device if isinstance(item, Tensor) else _place_of(item)
                if place is not None:
                    return place
    return None


def _device_of(law: object) -> torch.device:
    if isinstance(law, torch.nn.Module):
        return next((t.device for t in (*law.parameters(), *law.buffers())), torch.device("cpu"))
    return torch.device("cpu")


def _one_a_row(name: str, value: object, x: Tensor) -> Tensor:
    if not isinstance(value, Tensor) or value.shape != x.shape[:1]:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InvalidInput(
            f"{name}.log_prob returned {got} for input {tuple(x.shape)}; "
            f"expected ({x.shape[0]},), one value in nats for each row."
        )
    return value


def entries(law: TorchLaw) -> tuple[Distribution, int]:
    """Return the law of one entry with its batch of entries, and how many entries one draw has.

    Raises:
        InvalidInput: the entries of a draw are not independent scalars.
    """
    base = law.distribution
    while isinstance(base, Independent):
        base = base.base_dist
    if base.event_shape:
        raise InvalidInput(
            f"{law.name} has dependent entries (event shape {tuple(base.event_shape)}); "
            "expected independent scalar entries."
        )
    return base, math.prod(base.batch_shape[len(law.batch_shape) :])
