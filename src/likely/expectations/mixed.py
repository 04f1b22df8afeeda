"""Estimators combined argument by argument, in one sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from likely.checks import kind
from likely.errors import InvalidInput, InvalidType
from likely.expectations.arguments import arguments_of, with_arguments
from likely.expectations.baselines import Baseline, baseline_of
from likely.expectations.gradient import Block, Gradient, Path, Score, fixed_support
from likely.expectations.law import Law
from likely.expectations.problem import Problem, Terms, plain_terms
from likely.expectations.torch_law import TorchLaw
from likely.expectations.weak import Weak, weak_names, weakly


@final
@dataclass(frozen=True, eq=False)
class Mixed(Gradient):
    """An estimator of its own for each argument of the law, such as `{"loc": Weak(), "scale": Path()}`.

    One sample serves all of them. With the arguments of the score held back, q is p again, draws
    x are differentiable in the arguments of the path, and `w = exp(log p(x) - log q(x))` carries the
    score: importance sampling with a q that is only partly detached. Its derivatives of every order
    are right; those of weak arguments of the first order only.

    Args:
        parts: for each argument that requires gradients `Score(...)`, `Path()` or `Weak()`. All scores
            have the baseline of the first, and all weak ones are stratified if one is.

    Raises:
        InvalidType: parts is no mapping to such estimators.
        InvalidInput: the arguments of the law are not known, one that requires gradients is missing, or
            the law has no such argument.

    Example:
        >>> from likely import expect
        >>> mu, sigma = (torch.tensor(1.0, requires_grad=True) for _ in range(2))
        >>> p = torch.distributions.Normal(mu, sigma)
        >>> how = Mixed({"loc": Weak(), "scale": Path()})
        >>> expect(lambda x: x.square(), p, n=10_000, grad=how, seed=0).mean.backward()
        >>> bool((mu.grad - 2).abs() < 0.1), bool((sigma.grad - 2).abs() < 0.2)
        (True, True)
    """

    parts: Mapping[str, Gradient]

    def __post_init__(self) -> None:
        if not isinstance(self.parts, Mapping):
            raise InvalidType(f"parts is {kind(self.parts)}; expected a mapping from arguments.")
        for name, part in self.parts.items():
            if not isinstance(part, Score | Path | Weak):
                raise InvalidType(
                    f"the estimator of {name!r} is {kind(part)}; expected Score(), Path() or Weak()."
                )

    def __str__(self) -> str:
        names = {name: type(part).__name__.lower() for name, part in self.parts.items()}
        return ", ".join(f"{name} by {how}" for name, how in names.items())

    def prepare(self, problem: Problem, n: int, seed: int) -> Block:
        """Check that each argument has an estimator that applies to it."""
        if problem.via is not None:
            raise InvalidInput("estimators by argument draw from p itself; with via, use grad='score'.")
        law, parts = problem.law, self.parts
        arguments = arguments_of(law)
        given = {name for name, tensor in arguments.items() if tensor.requires_grad}
        if not given or given - set(parts) or set(parts) - set(arguments):
            raise InvalidInput(
                f"estimators are given for {sorted(parts)}; {law.name} has the arguments "
                f"{sorted(arguments)}, of which {sorted(given)} require gradients. Expected Score(), "
                "Path() or Weak() for each of these."
            )
        by = {
            kind: [name for name in given if isinstance(parts[name], kind)]
            for kind in (Score, Path, Weak)
        }
        names = weak_names(_holding(law, {*by[Score], *by[Path]})) if by[Weak] else []
        if by[Score]:
            fixed_support(_holding(law, {*by[Path], *by[Weak]}))
        stratified = any(parts[name] == Weak(stratified=True) for name in by[Weak])
        baseline: Baseline | None = None
        for name in by[Score]:
            part = parts[name]
            if baseline is None and isinstance(part, Score):
                baseline = baseline_of(part.baseline).ready(problem, n, seed)

        def block(n: int, seed: int) -> Terms:
            proposal = _holding(law, {*by[Score], *by[Weak]})
            x = problem.sampling.draw(proposal, n, seed, attached=bool(by[Path]))
            values = problem.values(x)
            log_ratio: Tensor | None = None
            b: Tensor | None = None
            correction: Tensor | None = None
            if by[Score]:
                target = _holding(law, set(by[Weak]))
                log_ratio = target.log_prob(x) - proposal.log_prob(x)
                if baseline is not None and torch.is_grad_enabled():
                    held = replace(problem, law=_holding(law, {*by[Weak], *by[Path]}))
                    b, correction = baseline.off(held, x.detach(), values.detach(), None)
            terms = plain_terms(values, log_ratio, b, correction)
            return weakly(problem, names, x.detach(), values, terms, seed, stratified)

        return block


def _holding(law: Law, held: set[str]) -> TorchLaw:
    """Return the same law with some of its arguments detached."""
    arguments = arguments_of(law)
    return with_arguments(law, {k: t.detach() if k in held else t for k, t in arguments.items()})
