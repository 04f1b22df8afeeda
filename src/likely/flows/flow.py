"""The flow: a bijection and a base law make an exact likelihood."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, constraints

from likely.checks import kind, whole
from likely.errors import InvalidInput, InvalidType
from likely.flows.base import Base
from likely.flows.bijection import Bijection, bijection_of, rows
from likely.flows.exact import ExactDensity
from likely.flows.frozen import FrozenMLP
from likely.flows.networks import MLP
from likely.flows.reversible import one_a_row
from likely.seeds import generator_for


@final
class Flow(ExactDensity):
    """The density `log p(x) = log p_Z(f(x)) + log|det df/dx|`, exact and in nats.

    Args:
        bijection: f, from data of shape `(B, *event_shape)` to latent rows of shape `base.shape`.
        base: the law p_Z of the latent rows.
        event_shape: the shape of one data point.
        config: how to build this flow again, `{"model": name, ...}`; None for hand-made flows, which
            cannot be saved.

    Raises:
        InvalidType: the bijection is none, or the base no base law.

    Reference: Rezende, Mohamed 2015; Dinh, Krueger, Bengio 2015.

    Example:
        >>> from likely import flows
        >>> flow = flows.nice((1, 4, 4), width=8, depth=1, couplings=2)
        >>> flow.log_prob(torch.zeros(3, 1, 4, 4)).shape
        torch.Size([3])
    """

    def __init__(
        self,
        bijection: Bijection,
        base: Base,
        event_shape: Sequence[int],
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(event_shape, config)
        self.bijection = bijection_of("bijection", bijection)
        if not isinstance(base, Base):
            raise InvalidType(
                f"base is {kind(base)}; expected a base law, such as StandardNormal((4,))."
            )
        self.base = base

    def log_prob(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return `log p(x)` in nats, one value a row, in the dtype of x.

        It is -inf where an entry lies outside of the support, is infinite, or so large that a number
        overflows on its way; and NaN where an entry is NaN. Weights that are NaN give -inf: it is
        not looked into whether they or the way of x left NaN.

        Raises:
            InvalidType: x is not a floating-point tensor.
            InvalidInput: its rows are not of shape `event_shape`, f(x) not of the shape of the base, or
                its log-determinant not one number a row.
        """
        self.check_rows(x)
        largest = x.detach().abs().reshape(len(x), self.event_shape.numel()).amax(1)
        z, log_det = self.bijection.forward_and_log_det(x.to(self._dtype))
        log_p = self.base.log_prob(rows(z, self.base.shape)) + one_a_row(log_det, x)
        log_p = log_p.to(x.dtype)
        # Infinities that meet in a difference leave NaN, though nothing of x is.
        return log_p.masked_fill(log_p.isnan() & ~largest.isnan(), -math.inf)

    def objective(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, " batch"]:
        """Return `log_prob(x)`."""
        return self.log_prob(x)

    def rsample_and_log_prob(
        self, n: int, seed: int | None = None, generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "n *event"], Float[Tensor, " n"]]:
        """Return n draws `x = f^-1(z)` and `log p(x)`, differentiable in the parameters."""
        whole("n", n, least=0)
        like = self._like
        z = self.base.sample(n, generator_for(seed, generator, like.device), like.dtype)
        x, log_det = self.bijection.inverse_and_log_det(z)
        rows(x, self.event_shape)
        return x, self.base.log_prob(z) - one_a_row(log_det, z)

    @torch.no_grad()
    def sample(
        self, n: int, seed: int | None = None, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n *event"]:
        """Return n independent draws, `(n, *event_shape)`, without a graph."""
        return self.rsample_and_log_prob(n, seed, generator)[0]

    def frozen(self, dtype: torch.dtype = torch.float32) -> Flow:
        """Return a copy for evaluation alone, faster, and differentiable in x alone.

        The weights of its networks are prepared once, in `dtype`; x, the latent variables and the
        log-determinants stay in the precision of this flow. On processors with bfloat16 arithmetic
        that dtype is the fastest, and moves log p by a part in a thousand or so. Freeze a flow on the
        device where it is to be used: the prepared weights do not move.

        Raises:
            InvalidType: dtype is not a floating-point type.
            InvalidInput: of the copy, when a second derivative is prepared (`create_graph=True`).
        """
        if dtype not in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
            raise InvalidType(f"dtype is {dtype!r}; expected a floating-point type, as torch.bfloat16.")
        # What deepcopy finds in its memo it does not copy.
        memo = {id(m): FrozenMLP(m, dtype) for m in self.modules() if isinstance(m, MLP)}
        new = copy.deepcopy(self, memo).eval().requires_grad_(False)
        new.config = None  # its weights are no parameters: a file of it could not be read
        return new

    def distribution(self) -> Distribution:
        """Return this flow as a `torch.distributions` law; it draws from torch's global generator."""
        return FlowDistribution(self)


@final
class FlowDistribution(Distribution):
    """A flow seen as a `torch.distributions` law, with `rsample` by the reparameterisation `f^-1(z)`.

    Example:
        >>> from likely import flows
        >>> law = flows.nice((4,), width=8, depth=1, couplings=2).distribution()
        >>> law.log_prob(law.sample((5, 2))).shape
        torch.Size([5, 2])
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 (the base class's name)
    has_rsample = True

    def __init__(self, flow: Flow) -> None:
        super().__init__(event_shape=flow.event_shape, validate_args=False)
        self.flow = flow

    @property
    def support(self) -> constraints.Constraint:
        """All of real space."""
        return constraints.independent(constraints.real, len(self.event_shape))  # type: ignore[no-untyped-call]

    def log_prob(self, value: Tensor) -> Tensor:
        """Return `log p(value)` for values of shape `(*sample_shape, *event_shape)`."""
        shape = value.shape[: value.ndim - len(self.event_shape)]
        if value.shape != shape + self.event_shape:
            raise InvalidInput(
                f"value has shape {tuple(value.shape)}; expected (..., *{tuple(self.event_shape)})."
            )
        return self.flow.log_prob(value.reshape(-1, *self.event_shape)).reshape(shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return draws of shape `(*sample_shape, *event_shape)`, differentiable in the parameters."""
        x, _ = self.flow.rsample_and_log_prob(
            math.prod(sample_shape), generator=_global_generator(self.flow)
        )
        return x.reshape(*sample_shape, *self.event_shape)


def _global_generator(flow: Flow) -> torch.Generator:
    device = flow._like.device
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0]
    return torch.default_generator
