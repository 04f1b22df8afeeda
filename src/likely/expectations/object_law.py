"""Laws that are objects with methods of their own: flows, and anything that draws."""

from __future__ import annotations

import inspect
from typing import Any, Protocol, final, runtime_checkable

import torch
from torch import Tensor

from likely.density import Density, Samplable
from likely.errors import InvalidInput
from likely.expectations.law import Law
from likely.seeds import borrowed_global_state, generator_for


@runtime_checkable
class Reparameterised(Density, Protocol):
    """A law whose draws are differentiable in its parameters, such as a flow."""

    def rsample_and_log_prob(
        self, n: int, seed: int | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return n differentiable draws and their log-densities."""
        ...


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
        with borrowed_global_state(self.device, seed), torch.no_grad():
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
