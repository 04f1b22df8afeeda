"""What the score function takes off f: baselines, each independent of the draw it is taken off."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final, NamedTuple, final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from likely.checks import kind
from likely.errors import InvalidInput, InvalidType
from likely.expectations.problem import Problem, floating, over
from likely.expectations.scores import scores_of
from likely.seeds import derived


class Off(NamedTuple):
    """What is taken off f: b, where it meets the score, and a term of value zero to add."""

    b: Tensor | None
    correction: Tensor | None


NOTHING: Final = Off(None, None)


class Baseline(ABC):
    """A control variate for the score, which changes no value and no mean gradient."""

    @abstractmethod
    def ready(self, problem: Problem, n: int, seed: int) -> Baseline:
        """Return the baseline to use for blocks of n draws, after a pilot if it needs one."""

    @abstractmethod
    def off(
        self,
        problem: Problem,
        x: Shaped[Tensor, "n *rest"],
        values: Shaped[Tensor, "n *shape"],
        log_w: Float[Tensor, "n *batch"] | None,
    ) -> Off:
        """Return what is taken off the values of a block; log_w is None for draws of p itself."""


@final
@dataclass(frozen=True)
class NoBaseline(Baseline):
    """Nothing is taken off."""

    def ready(self, problem: Problem, n: int, seed: int) -> Baseline:
        """Nothing to do."""
        return self

    def off(self, problem: Problem, x: Tensor, values: Tensor, log_w: Tensor | None) -> Off:
        """Nothing."""
        return NOTHING


@final
@dataclass(frozen=True, eq=False)
class Constant(Baseline):
    """A number, or a tensor of the shape of f's values, that no draw decided."""

    value: float | Tensor

    def ready(self, problem: Problem, n: int, seed: int) -> Baseline:
        """Nothing to do."""
        return self

    def off(self, problem: Problem, x: Tensor, values: Tensor, log_w: Tensor | None) -> Off:
        """Return the number."""
        b = torch.as_tensor(self.value, device=values.device).detach()
        if not _broadcasts(b.shape, values.shape[1:]) or not b.isfinite().all():
            raise InvalidInput(
                f"baseline is {self.value!r:.60}; expected a finite number, or a tensor of the "
                f"shape of one value of f, {tuple(values.shape[1:])}."
            )
        return Off(b.to(values.dtype) if values.is_floating_point() else b.double(), None)


@final
@dataclass(frozen=True)
class MeanBaseline(Baseline):
    """The mean of f over a pilot: as many draws as a block, at least 16, used for nothing else."""

    def ready(self, problem: Problem, n: int, seed: int) -> Baseline:
        """Draw the pilot."""
        with torch.no_grad():
            number = max(n, 16 * problem.sampling.unit(n))
            x = problem.draw(number, derived(seed, 1_000_003))
            log_w = None if problem.via is None else problem.log_w(x)
            return Constant(_weighted(problem.values(x), log_w).mean(0))

    def off(self, problem: Problem, x: Tensor, values: Tensor, log_w: Tensor | None) -> Off:
        """Made ready, this is a `Constant`."""
        raise InvalidInput("a mean baseline was used before it was made ready.")


@final
@dataclass(frozen=True)
class LeaveOneOut(Baseline):
    """The mean of `w f` over the other units, `b_i = sum_{k not in i's unit} w_k f_k / (n - unit)`."""

    def ready(self, problem: Problem, n: int, seed: int) -> Baseline:
        """Refuse a single unit, which leaves nothing when it is left out."""
        _several(problem, n)
        return self

    def off(self, problem: Problem, x: Tensor, values: Tensor, log_w: Tensor | None) -> Off:
        """Return the mean of the others."""
        v = _weighted(values, log_w)
        unit = problem.sampling.unit(len(v))
        return Off((v.sum(0) - _unit_sums(v, unit)) / (len(v) - unit), None)


@final
@dataclass(frozen=True)
class Optimal(Baseline):
    """The best baseline of each parameter j, `E[f s_j^2] / E[s_j^2]` over the other units.

    `s_j` is the score, the derivative of log p with respect to parameter j. The parameters are the
    leaf tensors that p was computed from; where p is batched, the arguments of the law. The term is
    linear in them, so second derivatives are those without a baseline. Of laws whose arguments are not
    known, such as flows, a block may have 4,096 draws at most: their scores are as many gradients.
    """

    def ready(self, problem: Problem, n: int, seed: int) -> Baseline:
        """Refuse a single unit, and proposals."""
        _several(problem, n)
        if problem.via is not None:
            raise InvalidInput("the 'optimal' baseline is for draws of p itself; with via, use 'loo'.")
        return self

    def off(self, problem: Problem, x: Tensor, values: Tensor, log_w: Tensor | None) -> Off:
        """Return `-sum_j mean_i(b_ij s_ij) (theta_j - detach(theta_j))`."""
        total: Tensor | None = None
        lead = 1 + len(problem.law.batch_shape)
        unit = problem.sampling.unit(len(values))
        v = values.detach().double()
        out = v.ndim - lead
        for parameter, s in scores_of(problem.law, x):
            # s: (n, *batch, *own), v: (n, *batch, *out); all below: (n, *batch, *out, *own)
            own = s.ndim - lead
            s = s.double().reshape(s.shape[:lead] + (1,) * out + s.shape[lead:])
            square = s.square()
            top = v.reshape(v.shape + (1,) * own) * square
            bottom = square.expand_as(top)
            top = top.sum(0) - _unit_sums(top, unit)
            bottom = bottom.sum(0) - _unit_sums(bottom, unit)
            b = torch.where(bottom > 0, top / bottom.clamp(min=torch.finfo(bottom.dtype).tiny), 0.0)
            slope = (b * s).mean(0)
            move = (parameter - parameter.detach()).double()
            batch = move.shape[: move.ndim - own]
            move = move.reshape(batch + (1,) * out + move.shape[move.ndim - own :])
            term = slope * move
            term = term.flatten(term.ndim - own).sum(-1) if own else term
            total = -term if total is None else total - term
        return Off(None, total)


def baseline_of(given: str | float | Tensor | Baseline) -> Baseline:
    """Return the baseline of a short name or a number.

    Raises:
        InvalidInput: no such name.
        InvalidType: it is neither, or complex.
    """
    if isinstance(given, Baseline):
        return given
    if isinstance(given, str):
        named: dict[str, Baseline] = {
            "none": NoBaseline(),
            "mean": MeanBaseline(),
            "loo": LeaveOneOut(),
            "optimal": Optimal(),
        }
        if given not in named:
            raise InvalidInput(f"baseline is {given!r}; expected one of {sorted(named)} or a number.")
        return named[given]
    if isinstance(given, Tensor) and given.is_complex():
        raise InvalidType(f"baseline has dtype {given.dtype}; expected real numbers.")
    if not isinstance(given, int | float | Tensor):
        raise InvalidType(f"baseline is {kind(given)}; expected a name or a number.")
    return Constant(given)


def _weighted(values: Tensor, log_w: Tensor | None) -> Tensor:
    """Return w f, detached, in the dtype it came in."""
    f = floating(values.detach())
    if log_w is None:
        return f
    w = over(log_w.detach().exp(), f)
    return torch.where(w == 0, 0.0, f) * w


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    """Return whether a tensor of one shape can be taken off one of another, which keeps its own."""
    within = zip(shape[::-1], to[::-1], strict=False)
    return len(shape) <= len(to) and all(size in (1, whole) for size, whole in within)


def _unit_sums(v: Tensor, unit: int) -> Tensor:
    """Return, for each row, the sum over the rows of its unit."""
    if unit == 1:
        return v
    return v.reshape(-1, unit, *v.shape[1:]).sum(1).repeat_interleave(unit, dim=0)


def _several(problem: Problem, n: int) -> None:
    units = n // problem.sampling.unit(n)
    if units < 2:
        raise InvalidInput(
            f"n={n} makes {units} independent unit; baselines from the other draws need 2 or more: "
            "draw more, or use baseline='none' or 'mean'."
        )
