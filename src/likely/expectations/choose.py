"""The choice among gradient estimators, by measured variance and measured time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, final

import torch

from likely.checks import kind, whole
from likely.errors import InvalidInput, InvalidType
from likely.expectations.adapter import law_of
from likely.expectations.arguments import arguments_of
from likely.expectations.cost import evaluations, seconds
from likely.expectations.enumeration import Enumerate, support_size
from likely.expectations.gradient import (
    Block,
    Gradient,
    Path,
    Score,
    Values,
    connected,
    pilot_seed,
)
from likely.expectations.law import AnyLaw
from likely.expectations.mixed import Mixed
from likely.expectations.problem import Function, Problem
from likely.expectations.sampling import Independent
from likely.expectations.spread import Spread, argument_spread, leaf_spread
from likely.expectations.torch_law import TorchLaw, entries
from likely.expectations.weak import Weak
from likely.seeds import root_of

#: entries, at most, of the points at which a pilot evaluates f at once for a weak derivative
ROOM: Final = 2**26
#: repetitions that tell a variance well enough, to a quarter of it
LEAST: Final = 32


@final
@dataclass(eq=False)
class _Choice:
    """An estimator, and how many more estimates it serves."""

    how: Gradient
    left: int


@final
@dataclass(frozen=True, eq=False)
class Auto(Gradient):
    """Measure the variance and the time of every estimator that applies, and use the best.

    A pilot of draws of its own estimates, for each argument of the law, the variance of the gradient by
    the score with each of two baselines, the path and the (stratified) weak derivative. Each of them is
    a candidate, and so is the mixture that gives each argument the least variance. The least
    `time x sum_k variance_k / least variance_k` wins, k counting arguments, time being that of one
    estimate of n draws and its gradient. Finite supports of at most n points are summed exactly. Of
    laws whose arguments are not known, such as flows, the parameters are judged together.

    Weak derivatives take part while 32 repetitions of theirs fit into memory: with a pilot of 16 draws,
    up to 256 entries where one argument is differentiated, 181 where two are.

    The pilot evaluates f `draws x repeats` times and more for each candidate. In a loop, make one value
    `Auto(every=1000)` before it and use that at each step: it remembers its choice, for each kind of
    law and f, and measures anew after so many estimates. A choice rests on draws of its own and on the
    past, never on the draws it is applied to; so each estimate is unbiased, and an old choice costs
    variance at the most. (f must be differentiable wherever Path() is among the candidates: say
    `among=[Score(), Weak()]` for an f that is differentiable almost everywhere but jumps.)

    Args:
        draws: of the pilot for each repetition, n if that is less.
        repeats: repetitions, from which variances are measured.
        among: the candidates; None for all.
        cost: "time", measured, so that a clock settles what is nearly equal; or "evaluations" of f,
            counted, so that the seed alone decides.
        every: how many estimates a choice serves; with 1 nothing is remembered.

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
    every: int = 1
    _kept: dict[object, _Choice] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        whole("every", self.every)
        whole("draws", self.draws, 2)
        whole("repeats", self.repeats, 2)
        if self.cost not in ("time", "evaluations"):
            raise InvalidInput(f"cost is {self.cost!r}; expected 'time' or 'evaluations'.")
        if self.among is not None and not isinstance(self.among, Sequence):
            raise InvalidType(f"among is {kind(self.among)}; expected a list of estimators.")
        for how in self.among or ():
            if not isinstance(how, Gradient):
                raise InvalidType(f"among holds {kind(how)}; expected values, such as Score().")

    def prepare(self, problem: Problem, n: int, seed: int) -> Block:
        """Choose, or remember, then do as the choice does."""
        if not torch.is_grad_enabled():
            return Values().prepare(problem, n, seed)
        how = self._remembered(problem, n, seed) if self.every > 1 else self.choose(problem, n, seed)
        return how.prepare(problem, n, seed)

    def _remembered(self, problem: Problem, n: int, seed: int) -> Gradient:
        law = problem.law
        wanted = tuple(k for k, t in arguments_of(law).items() if t.requires_grad)
        # A function that is made anew at each step, such as a lambda, has the same code.
        code = getattr(problem.f, "__code__", type(problem.f))
        kind = (law.name, law.space, law.batch_shape, wanted, problem.via is None, code)
        kept = self._kept.get(kind)
        if kept is None or kept.left == 0:
            kept = self._kept[kind] = _Choice(self.choose(problem, n, seed), self.every)
        kept.left -= 1
        return kept.how

    def choose(self, problem: Problem, n: int, seed: int) -> Gradient:
        """Return the estimator to use for n draws."""
        if problem.via is not None:
            return Score("loo" if n > 1 else "mean")
        if self.among is None and support_size(problem.law) <= n:
            return Enumerate()
        given = self.among or (Score("none"), Score("loo"), Path(), Weak(stratified=True))
        draws = max(2, min(n, self.draws))
        pilot = pilot_seed(seed)  # all that is drawn here is drawn from it
        fits = {c: _repeats_that_fit(c, problem, draws) for c in given}
        candidates = [
            c
            for c in given
            if fits[c] >= min(LEAST, self.repeats) and _applies(c, problem, min(n, draws), pilot)
        ]
        if not candidates:
            x = problem.draw(draws, pilot)
            depends = problem.law.log_prob(x).requires_grad or problem.values(x).requires_grad
            connected(depends, problem)
            raise InvalidInput(
                f"no gradient estimator applies to {problem.law.name} and this f, or its pilot does "
                "not fit into memory; name one, such as grad='score' or 'weak'."
            )
        names = [name for name, t in arguments_of(problem.law).items() if t.requires_grad]
        if not names:
            repeats = max(2, self.repeats // 4)
            candidates, alone = _measured(
                candidates, lambda c: leaf_spread(c, problem, draws, repeats, pilot)
            )
            totals = [
                spread.total() * self._cost(c, problem, n, pilot)
                for c, spread in zip(candidates, alone, strict=True)
            ]
            return candidates[totals.index(min(totals))]
        repeats = min(self.repeats, *(fits[c] for c in candidates))
        candidates, spreads = _measured(
            candidates, lambda c: argument_spread(c, problem, draws, repeats, pilot)
        )
        variances = [[spread.of(k) for k in names] for spread in spreads]
        least = [min(column) for column in zip(*variances, strict=True)]
        best = [candidates[column.index(min(column))] for column in zip(*variances, strict=True)]
        if any(part is not best[0] for part in best):
            candidates.append(Mixed(dict(zip(names, best, strict=True))))
            variances.append(least)
        products = [
            sum(_ratio(v, low) for v, low in zip(row, least, strict=True))
            * self._cost(c, problem, n, pilot)
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
    """Return the estimator that `grad="auto"` would use for n draws, to look at or to use again.

    Example:
        >>> eta = torch.zeros(2, requires_grad=True)
        >>> choose(lambda b: b.sum(1), torch.distributions.Bernoulli(logits=eta), n=16, seed=0)
        Enumerate()
    """
    whole("n", n)
    if auto is not None and not isinstance(auto, Auto):
        raise InvalidType(f"auto is {kind(auto)}; expected a value, such as Auto(draws=32).")
    return (auto or Auto()).choose(Problem(f, law_of(p), None, Independent()), n, root_of(seed))


def _measured(
    candidates: list[Gradient], measure: Callable[[Gradient], Spread]
) -> tuple[list[Gradient], list[Spread]]:
    """Return the candidates that can be measured, and what came out; if none can, why not."""
    found, why = [], None
    for candidate in candidates:
        try:
            found.append((candidate, measure(candidate)))
        except InvalidInput as error:  # log p may be NaN at draws that rounding put on an end
            why = error
    if not found and why is not None:
        raise why
    return [c for c, _ in found], [spread for _, spread in found]


def _repeats_that_fit(candidate: Gradient, problem: Problem, draws: int) -> int:
    """Return how many repetitions of weak derivatives fit into memory at once; others always do."""
    if not isinstance(candidate, Weak) or not isinstance(problem.law, TorchLaw):
        return ROOM
    try:
        number = entries(problem.law)[1]
    except InvalidInput:  # it does not apply
        return 0
    return ROOM // max(1, evaluations(candidate, problem) * draws * number)


def _ratio(variance: float, least: float) -> float:
    return 1.0 if variance == least else math.inf if least == 0 else variance / least


def _applies(candidate: Gradient, problem: Problem, n: int, seed: int) -> bool:
    try:
        candidate.prepare(problem, n, seed)(n, seed)
    except InvalidInput:
        return False
    return True
