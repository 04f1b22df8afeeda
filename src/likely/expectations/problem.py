"""The problem `E_p[f]`: the function, the law, the proposal, and how one block of draws is weighed."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, cast, final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from likely.checks import described, function
from likely.errors import InvalidInput, InvalidType
from likely.expectations.estimate import Estimate
from likely.expectations.law import Law
from likely.expectations.moments import Block, average
from likely.expectations.sampling import Sampling

Function: TypeAlias = Callable[[Tensor], Tensor]


class Particular(ABC):
    """A function of the draws of some laws only, such as an event of one walk."""

    @abstractmethod
    def check_law(self, law: Law) -> None:
        """Raise InvalidInput for the draws of another law."""


class Weighing(Law):
    """A proposal that may know a shorter way to the weights of its draws than two log-probabilities."""

    @abstractmethod
    def log_weights(self, x: Tensor, p: Law) -> Float[Tensor, " n"] | None:
        """Return `log p - log q`, without a gradient; None where there is none."""


@final
class Terms(NamedTuple):
    """One block of draws, `a = w f` over `exp(scale)`, and what they come out as.

    The mean is that of a, in float64, and carries the gradient; it is their sum if `exact`.
    """

    a: Float[Tensor, "n *shape"]
    mean: Float[Tensor, "*shape"]
    dtype: torch.dtype
    w: Float[Tensor, "n *shape"] | None = None
    scale: Float[Tensor, "*shape"] | None = None
    exact: bool = False


def plain_terms(
    values: Shaped[Tensor, "n *shape"],
    log_ratio: Float[Tensor, "n *batch"] | None = None,
    b: Float[Tensor, "*any"] | None = None,
    correction: Float[Tensor, "*shape"] | None = None,
) -> Terms:
    """Return the terms of draws of p itself: `f + (w - 1)(f - b)`, where w = exp(log_ratio) is one.

    Args:
        values: f(x).
        log_ratio: `log p - log q` of value zero, which carries the score; None for none.
        b: what is taken off f where it meets the score.
        correction: a term of value zero that carries gradients, such as those of baselines.
    """
    f = floating(values)
    moving = f
    if log_ratio is not None:
        swing = over(torch.expm1(log_ratio), f)
        moving = torch.addcmul(f, swing, f if b is None else f - b)
    mean = average(moving)
    return Terms(f, mean if correction is None else mean + correction, values.dtype)


def weighted_terms(
    values: Shaped[Tensor, "n *shape"],
    log_w: Float[Tensor, "n *batch"],
    b: Float[Tensor, "*any"] | None = None,
) -> Terms:
    """Return the terms of draws of another law: `w f`, with `w - detach(w)` meeting `f - b`.

    Weights are divided by the largest one, whose logarithm is the scale.
    """
    f = values.double()
    top = log_w.detach().amax(0)
    top = torch.where(top.isfinite(), top, 0.0)
    w = over((log_w - top).exp(), f).expand(f.shape)
    f = torch.where(w == 0, 0.0, f)
    a = w * f if b is None else w.detach() * f + (w - w.detach()) * (f - b)
    scale = over(top, f[0]).expand(f.shape[1:])
    return Terms(a, average(a), values.dtype, w, scale)


@final
@dataclass(frozen=True, eq=False)
class Problem:
    """The expectation of f under `law`, from draws of `via` where that is given.

    Raises:
        InvalidType: f is no function, or sampling no way of sampling.
        InvalidInput: f is about the draws of another law.

    Args:
        f: from rows `(n, *batch, *event)` to `(n, *batch, *out)`.
        law: p.
        via: q; None to draw from p itself.
        sampling: how points are drawn.
        normalise: divide by the mean weight, for a p known up to a factor.
        bound: the largest possible weight p / q.
    """

    f: Function
    law: Law
    via: Law | None
    sampling: Sampling
    normalise: bool = False
    bound: float = 1.0

    def __post_init__(self) -> None:
        function("f", self.f, "of the draws")
        if not isinstance(self.sampling, Sampling):
            raise InvalidType(
                f"sampling is {described(self.sampling)}; expected a value, such as Sobol()."
            )
        if isinstance(self.f, Particular):
            self.f.check_law(self.law)

    def draw(self, n: int, seed: int, attached: bool = False) -> Shaped[Tensor, "n *rest"]:
        """Return n draws of the proposal, or of p."""
        return self.sampling.draw(self.via or self.law, n, seed, attached)

    def values(self, x: Shaped[Tensor, "n *rest"]) -> Shaped[Tensor, "n *shape"]:
        """Return f(x), checked: a tensor with one row a draw."""
        before = _version(x)
        y = self.f(x)
        if _version(x) != before:
            raise InvalidInput(
                "f changes its argument in place; expected a function of the draws that leaves them as "
                "they are: write x * 2, not x.mul_(2)."
            )
        if not isinstance(y, Tensor):
            raise InvalidType(f"f returned a {type(y).__name__}; expected a tensor (n, ...).")
        if y.is_complex():
            raise InvalidType("f returned complex values; expected real ones: take their parts apart.")
        wanted = (x.shape[0], *self.law.batch_shape)
        if tuple(y.shape[: len(wanted)]) != wanted:
            raise InvalidInput(
                f"f returned shape {tuple(y.shape)} for draws of shape {tuple(x.shape)}; "
                f"expected {wanted}, or more dimensions behind these: one value for each draw."
            )
        return y

    def log_w(self, x: Tensor) -> Float[Tensor, "n *batch"]:
        """Return `log p(x) - log q(x)` for draws of the proposal, checked."""
        via = cast(Law, self.via)  # whoever asks has looked
        log_w = None
        if isinstance(via, Weighing) and not torch.is_grad_enabled():
            log_w = via.log_weights(x, self.law)
        if log_w is None:
            log_w = weigh(self.law.log_prob(x), via.log_prob(x).detach())
        return self.checked(log_w)

    def estimate(self, terms: Terms, n: int) -> Estimate:
        """Return what a block came out as.

        Raises:
            InvalidInput: a value of f is not finite where the weight is positive.
        """
        unit = 1 if terms.exact else self.sampling.unit(n)
        mean = terms.mean
        if not (math.isfinite(mean.item()) if mean.ndim == 0 else mean.isfinite().all()):
            rows = int((~terms.a.isfinite()).reshape(len(terms.a), -1).any(1).sum())
            if not rows:
                raise InvalidInput(
                    f"log p(x) of {self.law.name} is NaN or infinite at some of its own draws; "
                    "expected finite log-densities: look at its parameters."
                )
            raise InvalidInput(
                f"f returned NaN or infinite values for {rows} of {len(terms.a)} draws; "
                "expected finite values wherever the weight is positive."
            )
        return Estimate(
            Block(terms.a, terms.w, terms.scale, unit, self.normalise, mean, _version(terms.a)),
            terms.dtype if terms.dtype.is_floating_point else torch.float64,
            event=terms.dtype == torch.bool,
            bound=self.bound,
            exact=terms.exact,
        )

    def checked(self, log_w: Float[Tensor, "n *batch"]) -> Float[Tensor, "n *batch"]:
        """Return log weights as they are.

        Raises:
            InvalidInput: one is NaN or plus infinity, or p vanishes on every draw of the proposal.
        """
        with torch.no_grad():
            top = log_w.amax(0)
            if (top == -torch.inf).any():
                raise InvalidInput(
                    f"{self.law.name} has density zero at all {len(log_w)} draws of "
                    f"{self.via.name if self.via else self.law.name}: their supports do not meet; "
                    "choose a via that covers p, or add p to a list of them: via=[q, p]."
                )
            if top.isnan().any() or (top == torch.inf).any():
                raise InvalidInput(
                    "log p(x) - log q(x) is NaN or infinite at some draws; expected densities that are "
                    "finite wherever via draws."
                )
        return log_w


def _version(values: Tensor) -> int | None:
    """Return how often a tensor has been changed in place, where torch counts it."""
    return None if values.is_inference() else values._version


def weigh(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return `log p - log q`, minus infinity where p vanishes, whatever q is there."""
    log_p, log_q = log_p.double(), log_q.double()
    gone = log_p == -math.inf
    return torch.where(gone, -math.inf, log_p - torch.where(gone, 0.0, log_q))


def over(w: Tensor, values: Tensor) -> Tensor:
    """Return w with as many dimensions as values, ones at the end."""
    return w if w.ndim == values.ndim else w.reshape(w.shape + (1,) * (values.ndim - w.ndim))


def floating(values: Tensor) -> Tensor:
    """Return values as they are, or in float64 if they are integers or booleans."""
    return values if values.is_floating_point() else values.double()
