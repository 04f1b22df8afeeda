"""The leaf tensors that a tensor was computed from."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def leaves_of(tensor: Tensor) -> list[Tensor]:
    """Return the leaf tensors that require gradients and that `tensor` was computed from."""
    if tensor.grad_fn is None:
        return [tensor] if tensor.requires_grad else []
    found: dict[int, Tensor] = {}
    seen: set[Any] = set()
    todo: list[Any] = [tensor.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(leaf := getattr(node, "variable", None), Tensor):  # an accumulator of gradients
            found[id(leaf)] = leaf
        todo.extend(parent for parent, _ in node.next_functions)
    return list(found.values())[::-1]
