"""What counts as a density, and the one adapter that turns anything usable into one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeAlias, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.errors import InvalidInput, InvalidType

LogProb: TypeAlias = Callable[[Tensor], Tensor]


@runtime_checkable
class Density(Protocol):
    """Anything with `log_prob(x)`, from `(B, *event_shape)` to `(B,)`, in nats."""

    def log_prob(self, x: Tensor, /) -> Tensor:
        """Return log p(x), one value a row."""
        ...


@runtime_checkable
class Samplable(Density, Protocol):
    """A density that can also be sampled: `sample(n, seed=...)` gives `(n, *event_shape)`."""

    def sample(self, n: int, /) -> Tensor:
        """Return n draws."""
        ...


@runtime_checkable
class Freezable(Density, Protocol):
    """A density with a faster copy of itself, for evaluation alone."""

    def frozen(self, dtype: torch.dtype, /) -> Density:
        """Return the copy: the density in about that precision, differentiable in x."""
        ...


@runtime_checkable
class Conditional(Density, Protocol):
    """A density over [0, 1]^D that models any entries given any others, exactly."""

    def sample_given(
        self, image: Tensor, observed: Tensor, n: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return n draws for each row of image, `(n, B, *event)`, and `log p(missing | measured)`.

        Args:
            image: `(B, *event)`; what it holds at missing entries must not matter.
            observed: `(B, *event)`, True where the value was measured.
            n: how many independent draws.
            generator: to draw from.
        """
        ...

    def log_prob_given(self, x: Tensor, observed: Tensor) -> Tensor:
        """Return `log p(missing | measured)` of the entries of x, one value a row."""
        ...


def log_prob_of(density: Density | LogProb, event_shape: torch.Size) -> LogProb:
    """Return a checked function `x (B, *event_shape) -> log p(x) (B,)` for whatever `density` is.

    Accepted are objects with `log_prob` (a `likely` flow, a `torch.distributions` law, what a zuko
    flow returns when called) and plain functions. A law over flat vectors is given flattened rows, and
    a law whose *batch* shape is the event, such as `Normal(mean_image, 1.0)`, is read as independent
    entries. A density in another precision than `x` is evaluated in its own, and the result converted.

    Args:
        density: an object with `log_prob`, or a function.
        event_shape: the shape of one data point.

    Raises:
        InvalidType: `density` is neither, or returns something other than a tensor.
        InvalidInput: its event has another number of entries, or it does not return one value a row.

    Example:
        >>> law = torch.distributions.Normal(torch.zeros(1, 2, 2), 1.0)
        >>> log_prob = log_prob_of(law, torch.Size([1, 2, 2]))
        >>> log_prob(torch.zeros(3, 1, 2, 2)).shape
        torch.Size([3])
    """
    name = type(density).__name__
    if isinstance(density, torch.distributions.Distribution):
        law, shape = _with_event(density, event_shape)
        raw = cast(LogProb, law.log_prob)
    elif isinstance(density, Density):
        raw, shape = density.log_prob, event_shape
    elif callable(density):
        raw, shape = density, event_shape
    else:
        raise InvalidType(
            f"density is a {name}; expected an object with log_prob(x) or a function x -> log p(x)."
        )

    def log_prob(x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        result = raw(x.reshape(x.shape[0], *shape))
        if not isinstance(result, Tensor):
            raise InvalidType(
                f"{name} returned a {type(result).__name__}; expected a tensor of shape (B,). "
                "A zuko flow is called first: pass flow(), not flow."
            )
        if result.shape != x.shape[:1]:
            raise InvalidInput(
                f"{name}.log_prob returned shape {tuple(result.shape)} for input {tuple(x.shape)}; "
                f"expected ({x.shape[0]},), one value in nats for each row."
            )
        return result.to(x.dtype)

    return log_prob


def value_and_gradient(
    fun: LogProb, x: Float[Tensor, "batch *event"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch *event"]]:
    """Return f(x) and its gradient, or raise InvalidInput where fun does not fit."""
    with torch.inference_mode(False), torch.enable_grad():
        point = x.clone().requires_grad_()
        value = fun(point)
        grad = None
        if isinstance(value, Tensor) and value.shape == x.shape[:1] and value.requires_grad:
            (grad,) = torch.autograd.grad(value.sum(), point, allow_unused=True)
        if grad is None:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            flat = isinstance(value, Tensor) and value.shape == x.shape[:1]
            raise InvalidInput(
                f"the function, or log p, returned {got} for input {tuple(x.shape)}"
                + (", which does not depend on its input" if flat else "")
                + f"; expected a tensor of shape ({x.shape[0]},) that is differentiable in its input."
            )
    return value.detach(), grad


def log_prob_given_of(
    density: Density | LogProb, event_shape: torch.Size
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a checked function `x, observed -> (B,)`: `log p(missing | measured)` of a `Conditional`.

    Of any other density it is log p(x), which differs by what depends on the measured entries alone.
    """
    if not isinstance(density, Conditional):
        log_prob = log_prob_of(density, event_shape)
        return lambda x, observed: log_prob(x)
    given = density.log_prob_given
    return lambda x, observed: log_prob_of(lambda y: given(y, observed), event_shape)(x)


@contextmanager
def evaluating(*densities: object) -> Iterator[None]:
    """Put densities that are modules into evaluation mode, without dropout, and back as they were."""
    modules = [m for density in densities if isinstance(density, nn.Module) for m in density.modules()]
    training = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        yield
    finally:
        for module, was in zip(modules, training, strict=True):
            module.training = was


def _with_event(
    law: torch.distributions.Distribution, event_shape: torch.Size
) -> tuple[torch.distributions.Distribution, torch.Size]:
    """Read the whole shape of `law` as one event of as many entries as `event_shape`."""
    shape = law.batch_shape + law.event_shape
    if shape == torch.Size([]) or math.prod(shape) != math.prod(event_shape):
        raise InvalidInput(
            f"density {type(law).__name__} is over events of shape {tuple(shape)}; "
            f"expected {tuple(event_shape)}, or as many entries in a flat vector. "
            "Expand a scalar law over the event first."
        )
    if law.batch_shape:
        law = torch.distributions.Independent(law, len(law.batch_shape))
    return law, shape
