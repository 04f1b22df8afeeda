"""Gradient estimators: values that say how `E_p[f]` is differentiated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from torch import Tensor

from likely.errors import InvalidInput
from likely.expectations.baselines import NOTHING, Baseline, baseline_of
from likely.expectations.coverage import covers
from likely.expectations.law import Law
from likely.expectations.problem import (
    Problem,
    Terms,
    plain_terms,
    weighted_terms,
)
from likely.expectations.support import moving_ends
from likely.expectations.torch_law import innermost, log_prob_inside
from likely.seeds import derived

Block: TypeAlias = Callable[[int, int], Terms]


class Gradient(ABC):
    """How `E_p[f]` is differentiated: one method, which checks that it applies and says how to draw."""

    @abstractmethod
    def prepare(self, problem: Problem, n: int, seed: int) -> Block:
        """Return the function `(n, seed) -> Terms` that makes one block of draws.

        Raises:
            InvalidInput: the estimator does not apply to this law.
        """


@final
@dataclass(frozen=True)
class Values(Gradient):
    """No gradient: values only, without a graph."""

    def prepare(self, problem: Problem, n: int, seed: int) -> Block:
        """Always applies."""

        def block(n: int, seed: int) -> Terms:
            with torch.no_grad():
                x = problem.draw(n, seed)
                values = problem.values(x)
                if problem.via is None:
                    return plain_terms(values)
                return weighted_terms(values, problem.log_w(x))

        return block


@final
@dataclass(frozen=True)
class Score(Gradient):
    """The score function: `grad E_p[f] = E_p[(f(x) - b) grad log p(x)] + E_p[grad f(x)]`.

    It asks nothing of f, nor of the law but `log_prob` and a support that stays where it is. In code
    it is importance sampling with `q = detach(p)`: the mean of `w f` with `w = exp(log p - log q)`,
    which equals 1 and carries the gradient. All higher derivatives of that are right as well. With a
    proposal q, w is the weight itself, and a baseline is used only where q is known to be positive
    wherever p is: elsewhere it would bias the gradient (`docs/theory_expectations.md`, E5). Draws that
    rounding puts on an end of the support bias it too, as of Beta(0.05, 0.03), or of Gamma(0.01, 1) and
    tanh of a wide normal in float32: there use the path, or float64.

    Args:
        baseline: b, what is taken off f, from other draws than the one it is taken off: "none", "mean"
            (of a pilot), "loo" (of the other draws, the default), "optimal" (the best one for each
            parameter, from the other draws), or a number.

    Reference: Glynn 1990; Williams 1992; the surrogate, Foerster et al. 2018 (DiCE); leave-one-out,
    Kool, van Hoof, Welling 2019; optimal, Weaver, Tao 2001.

    Example:
        >>> from likely import expect
        >>> mu = torch.tensor(1.0, requires_grad=True)
        >>> p = torch.distributions.Normal(mu, 1.0)
        >>> expect(lambda x: x.square(), p, n=10_000, grad=Score("loo"), seed=0).mean.backward()
        >>> bool((mu.grad - 2).abs() < 0.1)
        True
    """

    baseline: str | float | Tensor | Baseline = "loo"

    def prepare(self, problem: Problem, n: int, seed: int) -> Block:
        """Ready the baseline; refuse laws without parameters, or whose support moves with one."""
        fixed_support(problem.law)
        baseline = baseline_of(self.baseline).ready(problem, n, seed)
        covered = problem.via is None or covers(problem.via, problem.law)

        def block(n: int, seed: int) -> Terms:
            x = problem.draw(n, seed)
            values = problem.values(x)
            if problem.via is not None:
                log_w = problem.log_w(x)
                connected(log_w.requires_grad or values.requires_grad, problem)
                # Dividing by the mean weight takes the mean off f already; and only where weights have
                # the mean 1 for all parameters does a baseline change nothing on average.
                bare = problem.normalise or not log_w.requires_grad or not covered
                off = NOTHING if bare else baseline.off(problem, x, values, log_w)
                return weighted_terms(values, log_w, off.b)
            log_p = log_prob_inside(problem.law, x)
            connected(log_p.requires_grad or values.requires_grad, problem)
            if not log_p.requires_grad:
                return plain_terms(values)
            if problem.normalise:  # the mean weight is one, and its gradient counts
                return weighted_terms(values, log_p - log_p.detach())
            off = baseline.off(problem, x, values, None)
            return plain_terms(values, log_p - log_p.detach(), off.b, off.correction)

        return block


@final
@dataclass(frozen=True)
class Path(Gradient):
    """Reparameterisation: `grad E_p[f] = E[f'(x) dx/dtheta]` for draws `x = g(theta, noise)`.

    Needs a law with `rsample` and a differentiable f: where f jumps the answer is wrong, and nothing
    in f's values can tell.

    Reference: Kingma, Welling 2014; Rezende, Mohamed, Wierstra 2014.

    Example:
        >>> from likely import expect
        >>> mu = torch.tensor(1.0, requires_grad=True)
        >>> p = torch.distributions.Normal(mu, 1.0)
        >>> expect(lambda x: x.square(), p, n=10_000, grad=Path(), seed=0).mean.backward()
        >>> bool((mu.grad - 2).abs() < 0.1)
        True
    """

    def prepare(self, problem: Problem, n: int, seed: int) -> Block:
        """Refuse proposals and laws whose draws are not differentiable."""
        if problem.via is not None:
            raise InvalidInput("grad='path' draws from p itself; with via, use grad='score'.")

        def block(n: int, seed: int) -> Terms:
            x = problem.draw(n, seed, attached=True)
            values = problem.values(x)
            connected(x.requires_grad or values.requires_grad, problem)
            if torch.is_grad_enabled() and x.requires_grad and not values.requires_grad:
                raise InvalidInput(
                    "f(x) is not differentiable in x (it returns a constant, an integer or a boolean), "
                    "so 'path' would give zero gradients; use grad='score' or 'weak'."
                )
            return plain_terms(values)

        return block


def fixed_support(law: Law) -> None:
    """Refuse a support whose ends are parameters: the score does not see what enters or leaves."""
    base = innermost(law)
    moving = moving_ends(base) if base is not None and torch.is_grad_enabled() else []
    if moving:
        raise InvalidInput(
            f"the support of {law.name} moves with a parameter ({', '.join(moving)}), which the score "
            "function does not see unless the density vanishes there; use grad='path', or detach the "
            "ends."
        )


def connected(whether: bool, problem: Problem) -> None:
    """Refuse a gradient that nothing would receive, unless gradients are switched off."""
    if torch.is_grad_enabled() and not whether:
        raise InvalidInput(
            f"neither {problem.law.name} nor f depends on a tensor that requires gradients; build p "
            "from its parameters, with requires_grad=True, where the gradient is wanted, or leave "
            "out grad."
        )


def pilot_seed(seed: int) -> int:
    """Return the seed of draws that are used for choices only, never for the estimate."""
    return derived(seed, 1_000_003)
