"""Sets of any size, for the tests of single sets."""

from collections.abc import Callable

import pytest
import torch

from likely.sets import Affine, Ball, ConvexSet, Halfspace, L1Ball, Monotone, Simplex


@pytest.fixture
def large() -> Callable[[int], dict[str, ConvexSet]]:
    """`large(n)`: sets over n entries by name, an affine one of nearly dependent rows among them."""

    def build(n: int) -> dict[str, ConvexSet]:
        generator = torch.Generator().manual_seed(17)
        a = torch.rand(n, generator=generator) + torch.randn(3, n, generator=generator)
        a[2] = a[1] + 1e-2 * a[2]
        return {
            "halfspace": Halfspace(a[0], 1.0),
            "affine": Affine(a, torch.tensor([1.0, 2.0, 3.0])),
            "simplex": Simplex(1.0),
            "ball": Ball(0.5, 2.0),
            "l1 ball": L1Ball(1.0),
            "monotone": Monotone(),
        }

    return build
