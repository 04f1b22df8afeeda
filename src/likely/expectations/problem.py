"""The problem `E_p[f]`: the function, the law, the proposal, and how one block of draws is weighed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from likely.errors import InvalidInput, InvalidType
from likely.expectations.estimate import Estimate
from likely.expectations.law import Law
from likely.expectations.moments import moments_of
from likely.expectations.sampling import Sampling

Function: TypeAlias = Callable[[Tensor], Tensor]


@final
@dataclass(frozen=True, eq=False)
class Terms:
    """One block of draws: `sum_i exp(log_w_i) values_i / n + correction` is the estimate.

    The correction has the value zero and carries gradients, such as those of baselines.
    """

    values: Shaped[Tensor, "n *shape"]
    log_w: Float[Tensor, "n *batch"] | None = None
    correction: Float[Tensor, "*shape"] | None = None
    exact: bool = False


@final
@dataclass(frozen=True, eq=False)
class Problem:
    """The expectation of f under `law`, from draws of `via` where that is given.

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

    def draw(self, n: int, seed: int, attached: bool = False) -> Shaped[Tensor, "n *rest"]:
        """Return n draws of the proposal, or of p."""
        return self.sampling.draw(self.via or self.law, n, seed, attached)

    def values(self, x: Shaped[Tensor, "n *rest"]) -> Shaped[Tensor, "n *shape"]:
        """Return f(x), checked: a tensor with one row a draw."""
        y = self.f(x)
        if not isinstance(y, Tensor):
            raise InvalidType(f"f returned a {type(y).__name__}; expected a tensor (n, ...).")
        wanted = (x.shape[0], *self.law.batch_shape)
        if tuple(y.shape[: len(wanted)]) != wanted:
            raise InvalidInput(
                f"f returned shape {tuple(y.shape)} for draws of shape {tuple(x.shape)}; "
                f"expected {wanted}, or {(*wanted, '...')} for vector values: one value for each draw."
            )
        return y

    def log_w(self, x: Tensor) -> Float[Tensor, "n *batch"] | None:
        """Return `log p(x) - log q(x)`, or None without a proposal."""
        if self.via is None:
            return None
        return weigh(self.law.log_prob(x), self.via.log_prob(x))

    def estimate(self, terms: Terms, n: int) -> Estimate:
        """Return what a block came out as.

        Raises:
            InvalidInput: a value of f is not finite where the weight is positive, or p vanishes on
                every draw of the proposal.
        """
        values = terms.values.detach()
        log_w = None if terms.log_w is None else terms.log_w.detach()
        finite = values.isfinite()
        if log_w is not None:
            dead = (log_w == -torch.inf).reshape(log_w.shape + (1,) * (values.ndim - log_w.ndim))
            if dead.any() and dead.all(0).any():
                raise InvalidInput(
                    f"{self.law.name} has density zero at all {len(values)} draws of "
                    f"{self.via.name if self.via else self.law.name}: their supports do not meet; "
                    "choose a via that covers p, or add p to a list of them: via=[q, p]."
                )
            finite = finite | dead
            if log_w.isnan().any() or (log_w == torch.inf).any():
                raise InvalidInput(
                    "log p(x) - log q(x) is NaN or infinite at some draws; expected densities that are "
                    "finite wherever via draws."
                )
        if not finite.all():
            rows = int((~finite).reshape(len(values), -1).any(1).sum())
            raise InvalidInput(
                f"f returned NaN or infinite values for {rows} of "
                f"{len(values)} draws; expected finite values."
            )
        unit = self.sampling.unit(n) if not terms.exact else 1
        moments = moments_of(terms.values, terms.log_w, terms.correction, unit, self.normalise)
        floating = values.dtype.is_floating_point
        return Estimate(
            moments,
            values.dtype if floating else torch.float64,
            event=values.dtype == torch.bool,
            bound=self.bound,
            exact=terms.exact,
        )


def weigh(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return `log p - log q`, minus infinity where p vanishes, whatever q is there."""
    log_p, log_q = log_p.double(), log_q.double()
    gone = log_p == -math.inf
    return torch.where(gone, -math.inf, log_p - torch.where(gone, 0.0, log_q))
