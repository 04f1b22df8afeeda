"""The choice among gradient estimators, by measured variance and measured time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch

from likely.errors import InvalidInput, InvalidType
from likely.expectations.adapter import law_of
from likely.expectations.arguments import arguments_of
from likely.expectations.checks import whole
from likely.expectations.cost import evaluations, seconds
from likely.expectations.gradient import (
    Block,
    Enumerate,
    Gradient,
    Path,
    Score,
    Values,
    pilot_seed,
    support_of,
)
from likely.expectations.law import AnyLaw
from likely.expectations.mixed import Mixed
from likely.expectations.problem import Function, Problem
from likely.expectations.sampling import Independent
from likely.expectations.spread import argument_spread, leaf_spread
from likely.expectations.weak import Weak
from likely.seeds import root_of


@final
@dataclass(frozen=True, eq=False)
class Auto(Gradient):
    """Measure the variance and the time of every estimator that applies, and use the best.

    A pilot of draws of its own estimates, for each argument of the law, the variance of the gradient by
    the score with each of two baselines, the path and the (stratified) weak derivative. Each of them is
    a candidate, and so is the mixture that gives each argument the least variance. The least
    `time x sum_k variance_k / least variance_k` wins, k counting arguments, time being that of one
    estimate of n draws and its gradient. Finite supports of at most n points are summed exactly. Of
    laws whose arguments are not known, such as flows, the parameters are judged together. The pilot
    evaluates f `draws x repeats` times and more for each candidate: in a loop, call `choose` once in a
    while and pass on what it returns. Every candidate is unbiased, provided that f is differentiable
    wherever Path() is among them: say `among=[Score(), Weak()]` for an f that is differentiable almost
    everywhere but jumps.

    Args:
        draws: of the pilot for each repetition, n if that is less.
        repeats: repetitions, from which variances are measured.
        among: the candidates; None for all.
        cost: "time", measured, so that a clock settles what is nearly equal; or "evaluations" of f,
            counted, so that the seed alone decides.

    Example:
        >>> mu, tau = (torch.tensor(t, requires_grad=True) for t in (0.4423, -0.5001))
        >>> p = torch.distributions.Normal(mu, tau.exp())
        >>> print(choose(lambda x: x * x.sin(), p, seed=0, auto=Auto(among=[Score(), Path()])))
        Path()
    """

    draws: int = 16
    repeats: int = 256
    among: Sequence[Gradient] | None = None
    cost: Literal["time", "evaluations"] = "time"

    def __post_init__(self) -> None:
        whole("draws", self.draws, 2)
        whole("repeats", self.repeats, 2)
        if self.cost not in ("time", "evaluations"):
            raise InvalidInput(f"cost is {self.cost!r}; expected 'time' or 'evaluations'.")
        odd = [how for how in self.among or () if not isinstance(how, Gradient)]
        if odd:
            raise InvalidType(f"among holds {odd}; expected estimators as values, such as Score().")

    def prepare(self, problem: Problem, n: int, seed: int) -> Block:
        """Choose, then do as the choice does."""
        if not torch.is_grad_enabled():
            return Values().prepare(problem, n, seed)
        return self.choose(problem, n, seed).prepare(problem, n, seed)

    def choose(self, problem: Problem, n: int, seed: int) -> Gradient:
        """Return the estimator to use for n draws."""
        if problem.via is not None:
            return Score("loo" if n > 1 else "mean")
        if self.among is None and _enumerable(problem, n):
            return Enumerate()
        given = self.among or (Score("none"), Score("loo"), Path(), Weak(stratified=True))
        draws = max(2, min(n, self.draws))
        candidates = [c for c in given if _applies(c, problem, draws, seed)]
        if not candidates:
            raise InvalidInput(f"no gradient estimator applies to {problem.law.name} and this f.")
        names = [name for name, t in arguments_of(problem.law).items() if t.requires_grad]
        pilot = pilot_seed(seed)
        if not names:
            repeats = max(2, self.repeats // 4)
            totals = [
                leaf_spread(c, problem, draws, repeats, pilot).total() * self._cost(c, problem, n, seed)
                for c in candidates
            ]
            return candidates[totals.index(min(totals))]
        spreads = [argument_spread(c, problem, draws, self.repeats, pilot) for c in candidates]
        variances = [[spread.of(k) for k in names] for spread in spreads]
        least = [min(column) for column in zip(*variances, strict=True)]
        best = [candidates[column.index(min(column))] for column in zip(*variances, strict=True)]
        if any(part is not best[0] for part in best):
            candidates.append(Mixed(dict(zip(names, best, strict=True))))
            variances.append(least)
        products = [
            sum(_ratio(v, low) for v, low in zip(row, least, strict=True))
            * self._cost(c, problem, n, seed)
            for c, row in zip(candidates, variances, strict=True)
        ]
        return candidates[products.index(min(products))]

    def _cost(self, how: Gradient, problem: Problem, n: int, seed: int) -> float:
        if self.cost == "time":
            return seconds(how, problem, n, seed)
        return evaluations(how, problem)


def choose(
    f: Function, p: AnyLaw, n: int = 16, auto: Auto | None = None, *, seed: int | None = None
) -> Gradient:
    """Return the estimator that `grad="auto"` would use for n draws, to be used again and again.

    Example:
        >>> eta = torch.zeros(2, requires_grad=True)
        >>> choose(lambda b: b.sum(1), torch.distributions.Bernoulli(logits=eta), n=16, seed=0)
        Enumerate()
    """
    whole("n", n)
    return (auto or Auto()).choose(Problem(f, law_of(p), None, Independent()), n, root_of(seed))


def _ratio(variance: float, least: float) -> float:
    return 1.0 if variance == least else math.inf if least == 0 else variance / least


def _enumerable(problem: Problem, n: int) -> bool:
    try:
        return len(support_of(problem)) <= n
    except InvalidInput:
        return False


def _applies(candidate: Gradient, problem: Problem, n: int, seed: int) -> bool:
    try:
        candidate.prepare(problem, n, seed)(n, seed)
    except InvalidInput:
        return False
    return True
