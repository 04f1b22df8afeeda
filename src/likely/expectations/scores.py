"""Scores: the derivatives of `log p(x)` with respect to parameters, draw by draw."""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Shaped
from torch import Tensor

from likely.errors import InvalidInput
from likely.expectations.arguments import arguments_of, with_arguments
from likely.expectations.law import Law
from likely.expectations.leaves import leaves_of
from likely.expectations.torch_law import TorchLaw

#: draws whose scores are worked out by a pass for each of them
PASSES: Final = 4096


def scores_of(law: Law, x: Shaped[Tensor, "n *rest"]) -> list[tuple[Tensor, Tensor]]:
    """Return each parameter of the law with its scores, `(n, *batch, *own)`.

    The parameters are the leaf tensors that p was computed from, each with a score of shape
    `(n, *parameter)`. A batched law has a row of parameters for each problem, its `rows` or else its
    arguments, of shape `(*batch, *own)`.

    Example:
        >>> from likely.expectations.adapter import law_of
        >>> mu = torch.tensor(1.0, requires_grad=True)
        >>> law = law_of(torch.distributions.Normal(mu, 1.0))
        >>> ((parameter, s),) = scores_of(law, torch.tensor([1.0, 3.0]))
        >>> parameter is mu, s.tolist()
        (True, [0.0, 2.0])
    """
    arguments = {name: tensor for name, tensor in arguments_of(law).items() if tensor.requires_grad}
    if isinstance(law, TorchLaw) and arguments:
        of_arguments = _of_arguments(law, x, arguments)
        if law.batch_shape and not law.rows:
            return [(arguments[name], s) for name, s in of_arguments.items()]
        return _of_leaves(arguments, of_arguments, law.rows)
    log_p = law.log_prob(x)
    leaves = leaves_of(log_p)
    if not leaves:
        return []
    if len(log_p) > PASSES:
        raise InvalidInput(
            f"the scores of {len(log_p)} draws of {law.name} take as many passes; expected at most "
            f"{PASSES} draws in a block: give a block, or another baseline, such as 'loo'."
        )
    rows = torch.eye(len(log_p), dtype=log_p.dtype, device=log_p.device)
    found = torch.autograd.grad(
        log_p, leaves, rows, retain_graph=True, is_grads_batched=True, allow_unused=True
    )
    return [(leaf, s) for leaf, s in zip(leaves, found, strict=True) if s is not None]


def _of_arguments(law: TorchLaw, x: Tensor, arguments: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the scores of the arguments: those of a law with arguments of its own for each draw."""
    with torch.enable_grad():
        own = {
            name: tensor.detach().expand(x.shape[0], *tensor.shape)
            for name, tensor in arguments_of(law).items()
        }
        for name in arguments:
            own[name] = own[name].clone().requires_grad_()
        each = with_arguments(law, own)
        log_p = each.distribution.log_prob(x)
        found = torch.autograd.grad(log_p.sum(), [own[name] for name in arguments])
    return dict(zip(arguments, found, strict=True))


def _of_leaves(
    arguments: dict[str, Tensor], s: dict[str, Tensor], rows: tuple[Tensor, ...]
) -> list[tuple[Tensor, Tensor]]:
    """Carry scores of arguments over to the leaves they were computed from, by the chain rule."""
    total: dict[int, tuple[Tensor, Tensor]] = {}
    for name, tensor in arguments.items():
        leaves = [leaf for leaf in leaves_of(tensor) if not rows or any(leaf is r for r in rows)]
        if tensor.is_leaf:
            parts: tuple[Tensor | None, ...] = (s[name],)
        else:
            parts = torch.autograd.grad(
                tensor, leaves, s[name], retain_graph=True, is_grads_batched=True, allow_unused=True
            )
        for leaf, part in zip(leaves, parts, strict=True):
            if part is not None:
                old = total.get(id(leaf))
                total[id(leaf)] = (leaf, part if old is None else old[1] + part)
    return list(total.values())
