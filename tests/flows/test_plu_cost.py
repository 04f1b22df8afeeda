"""The costs in docs/theory_glow.md: log-determinants of PLU maps ask nothing of linear algebra."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from likely.flows import Bijection, PLUConv, PLUCoupling

DENSE = ("det", "slogdet", "lu", "inverse", "inv", "solve", "qr", "svd", "cholesky", "eig")


class Recorded(TorchDispatchMode):
    """Notes the name of every operation of torch that runs inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))

    def dense(self) -> list[str]:
        return [n for n in self.names if any(word in n.strip("_").split("_") for word in DENSE)]


@pytest.mark.parametrize("bijection", [PLUConv(6), PLUCoupling(6)], ids=lambda b: type(b).__name__)
def test_the_log_determinant_needs_no_factorisation(bijection: Bijection) -> None:
    x = torch.randn(2, 6, 3, 3, generator=torch.Generator().manual_seed(0))
    bijection.train()
    with Recorded() as seen:
        log_det = bijection.forward_and_log_det(x)[1]
        log_det.sum().backward()
    assert len(seen.names) > 10 and not seen.dense()
    # The recorder would notice: a dense determinant is seen.
    with Recorded() as seen:
        torch.linalg.slogdet(torch.eye(3))
    assert seen.dense()


def test_its_gradient_is_that_of_the_diagonal_alone() -> None:
    conv = PLUConv(5).double()
    log_det = conv.forward_and_log_det(torch.zeros(1, 5, 2, 3, dtype=torch.float64))[1]
    (slope,) = torch.autograd.grad(log_det.sum(), conv.packed)
    assert torch.equal(slope, slope.diagonal().diag()) and (slope.diagonal() > 0).all()
    A = conv.matrix()
    (dense,) = torch.autograd.grad(6 * torch.linalg.slogdet(A)[1], conv.packed)
    torch.testing.assert_close(slope, dense, rtol=0, atol=1e-12)
