"""Projections in closed form compile as one graph, which gives what they give."""

from collections.abc import Callable

import pytest
import torch

from likely.sets import Affine, Ball, Box, ConvexSet, Halfspace, Observed, SecondOrderCone

MASK = torch.tensor([True, False, False, True])
A = torch.tensor([1.0, -2.0, 0.5, 1.0])

CLOSED: dict[str, ConvexSet] = {
    "box & observed": Box(-1.0, 1.0) & Observed(MASK, A),
    "ball around a point": Ball(A, torch.tensor([0.5, 1.0, 2.0])),
    "halfspace": Halfspace(A, 0.5),
    "hyperplane": Affine(A, torch.tensor([0.0, 1.0, 2.0])),
    "cone": SecondOrderCone(),
}


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    torch._dynamo.reset()


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_compile_as_one_graph(name: str, same_bits: Callable) -> None:
    within = CLOSED[name]
    compiled = torch.compile(within.project, backend="aot_eager", fullgraph=True)
    y = 3 * torch.randn(3, 4, generator=torch.Generator().manual_seed(41))
    assert same_bits(compiled(y), within.project(y))
    v, w = y.clone().requires_grad_(), y.clone().requires_grad_()
    compiled(v).square().sum().backward()
    within.project(w).square().sum().backward()
    assert same_bits(v.grad, w.grad)
