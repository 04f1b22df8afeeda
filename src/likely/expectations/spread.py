"""How much a gradient estimate varies: measured over repetitions, all at once where that can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from likely.expectations.arguments import arguments_of, with_arguments
from likely.expectations.gradient import Gradient
from likely.expectations.law import Law
from likely.expectations.leaves import leaves_of
from likely.expectations.problem import Problem
from likely.expectations.sampling import Antithetic, Independent
from likely.expectations.torch_law import TorchLaw
from likely.seeds import derived


@final
@dataclass(frozen=True, eq=False)
class Spread:
    """Gradients of repeated estimates, each from n draws: `(repeats, *parameter)` by parameter."""

    gradients: dict[str, Float[Tensor, "repeats *parameter"]]
    n: int

    def variance(self, name: str) -> Float[Tensor, "*parameter"]:
        """Return n times the variance of the estimates: for plain sums, the variance of one draw."""
        return self.n * self.gradients[name].double().var(0)

    def of(self, name: str) -> float:
        """Return the variance of a parameter, summed over its entries."""
        return float(self.variance(name).sum())

    def total(self) -> float:
        """Return the variance summed over all parameters."""
        return sum(self.of(name) for name in self.gradients)


def argument_spread(how: Gradient, problem: Problem, n: int, repeats: int, seed: int) -> Spread:
    """Measure gradients in the arguments of the law, in one batch of independent copies of it."""
    arguments = {k: t.detach() for k, t in arguments_of(problem.law).items()}
    wanted = [k for k, t in arguments_of(problem.law).items() if t.requires_grad]
    with torch.enable_grad():
        copies = {k: t.expand(repeats, *t.shape) for k, t in arguments.items()}
        leaves = [copies[k].clone().requires_grad_() for k in wanted]
        mean = _mean(how, problem, copies | dict(zip(wanted, leaves, strict=True)), repeats, n, seed)
        grads = torch.autograd.grad(mean.sum(), leaves, allow_unused=True)
    return Spread(_named(wanted, leaves, grads), n)


def leaf_spread(
    how: Gradient,
    problem: Problem,
    n: int,
    repeats: int,
    seed: int,
    parameters: dict[str, Tensor] | None = None,
) -> Spread:
    """Measure gradients in leaf tensors, one repetition after the other."""
    found: list[list[Tensor]] = []
    names: list[str] = list(parameters or {})
    leaves = list((parameters or {}).values())
    with torch.enable_grad():
        block = how.prepare(problem, n, seed)
        for k in range(repeats):
            mean = problem.estimate(block(n, derived(seed, k)), n).mean.sum()
            if not leaves:
                leaves = leaves_of(mean)
                names = [str(i) for i in range(len(leaves))]
            grads = torch.autograd.grad(mean, leaves, retain_graph=True, allow_unused=True)
            found.append(
                [torch.zeros_like(t) if g is None else g for t, g in zip(leaves, grads, strict=True)]
            )
    return Spread({k: torch.stack(g) for k, g in zip(names, zip(*found, strict=True), strict=True)}, n)


def parameter_spread(
    how: Gradient, problem: Problem, n: int, repeats: int, seed: int, parameters: dict[str, Tensor]
) -> Spread:
    """Measure gradients in the given leaves: in one batch where p has known arguments, else in turn.

    For the batch, each copy of the law has arguments `a + J d` with J the Jacobian of the arguments a
    in the parameters and d = 0 a row of parameters of its own: first derivatives are the same.
    """
    arguments = arguments_of(problem.law)
    wanted = [k for k, t in arguments.items() if t.requires_grad]
    if not wanted or problem.via is not None or _own_gradients(problem, seed):
        return leaf_spread(how, problem, n, repeats, seed, parameters)
    leaves = list(parameters.values())
    with torch.enable_grad():
        shifts = [t.detach().new_zeros(repeats, *t.shape).requires_grad_() for t in leaves]
        copies = {k: t.detach().expand(repeats, *t.shape) for k, t in arguments.items()}
        for k in wanted:
            argument = arguments[k]
            eye = torch.eye(argument.numel(), dtype=argument.dtype, device=argument.device)
            rows = torch.autograd.grad(
                argument,
                leaves,
                eye.reshape(-1, *argument.shape),
                retain_graph=True,
                is_grads_batched=True,
                allow_unused=True,
            )
            for shift, jacobian in zip(shifts, rows, strict=True):
                if jacobian is not None:
                    move = shift.reshape(repeats, -1) @ jacobian.reshape(argument.numel(), -1).T.to(
                        shift.dtype
                    )
                    copies[k] = copies[k] + move.reshape(repeats, *argument.shape)
        mean = _mean(how, problem, copies, repeats, n, seed, shifts)
        grads = torch.autograd.grad(mean.sum(), shifts, allow_unused=True)
    return Spread(_named(list(parameters), shifts, grads), n)


def arguments_from(problem: Problem, leaf: Tensor) -> list[str]:
    """Return the names of the arguments of the law that were computed from a leaf tensor."""
    return [
        name
        for name, argument in arguments_of(problem.law).items()
        if any(leaf is found for found in leaves_of(argument))
    ]


def copied(
    law: Law, arguments: dict[str, Tensor], repeats: int, rows: Sequence[Tensor] = ()
) -> TorchLaw:
    """Return `repeats` copies of a law, each with arguments of its own, as one batched law."""
    many = with_arguments(law, arguments).distribution
    inner = len(many.batch_shape) - 1 - len(law.batch_shape)
    if inner:
        many = torch.distributions.Independent(many, inner, validate_args=False)
    return TorchLaw(many, batched=True, rows=tuple(rows))


def _mean(
    how: Gradient,
    problem: Problem,
    arguments: dict[str, Tensor],
    repeats: int,
    n: int,
    seed: int,
    rows: Sequence[Tensor] = (),
) -> Tensor:
    """Return the estimates from `repeats` copies of the law, `(repeats, ...)`."""
    many = copied(problem.law, arguments, repeats, rows)

    def f(x: Tensor) -> Tensor:
        y = problem.values(x.flatten(0, 1))
        return y.reshape(x.shape[0], repeats, *y.shape[1:])

    copies = replace(problem, f=f, law=many)
    return copies.estimate(how.prepare(copies, n, seed)(n, derived(seed, 1)), n).mean


def _own_gradients(problem: Problem, seed: int) -> bool:
    """Whether f itself depends on tensors that require gradients, or draws cannot be copied."""
    if not isinstance(problem.sampling, Independent | Antithetic):
        return True
    with torch.enable_grad():
        unit = problem.sampling.unit(2)
        return problem.values(problem.draw(2 * unit, seed)).requires_grad


def _named(
    names: Sequence[str], leaves: Sequence[Tensor], grads: Sequence[Tensor | None]
) -> dict[str, Tensor]:
    return {
        name: torch.zeros_like(leaf) if grad is None else grad
        for name, leaf, grad in zip(names, leaves, grads, strict=True)
    }
