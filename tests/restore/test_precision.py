"""Searching with a frozen copy: what is measured and reported is the density's own."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, distributions

from likely import flows, inpaint
from likely.errors import InvalidType
from likely.flows import Flow
from likely.solvers import (
    Accelerated,
    Annealed,
    Iterate,
    Method,
    ProjectedAdam,
    ProjectedGradient,
    SpectralProjectedGradient,
    Status,
)
from restore.images import IMAGE, MASK, Bowl, rand

METHODS = [
    ProjectedAdam(steps=12),
    Annealed(batch=1.0, steps=12),
    Accelerated(lr=0.1, steps=12),
    ProjectedGradient(lr=1.0, backtracking=True, steps=12),
    SpectralProjectedGradient(steps=12),
]
PRECISIONS = [torch.float32, torch.bfloat16]


@pytest.fixture
def flow(randomize: Callable) -> Flow:
    return randomize(flows.nice((1, 4, 4), width=24, depth=2)).double()


def name(value: object) -> str:
    return type(value).__name__ if isinstance(value, Method) else str(value)


@pytest.mark.parametrize("method", METHODS, ids=name)
@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_measured_pixels_and_bounds_hold_and_the_report_is_the_densitys_own(
    method: Method, precision: torch.dtype, dtype: torch.dtype, flow: Flow, same_bits: Callable
) -> None:
    flow = flow.to(dtype)
    image, observed = rand(3, 1, 4, 4, seed=1, dtype=dtype), rand(3, 1, 4, 4, seed=2) < 0.5
    low, high = -rand(3, 1, 1, 1, seed=3, dtype=dtype) / 3, 1 + rand(4, 4, seed=4, dtype=dtype) / 3
    # Numbers that bfloat16 cannot hold.
    image[0, 0, 0, :2], observed[0, 0, 0, :2] = torch.tensor([1 / 3, -0.0], dtype=dtype), True
    seen: list[Iterate] = []
    # Rows of one: the way of a single row; then two together.
    for chunk in (1, 2):
        result = inpaint(
            flow,
            image,
            observed,
            (low, high),
            method,
            precision=precision,
            chunk=chunk,
            seed=0,
            on_step=seen.append,
        )
        for i in (*seen, Iterate(-1, torch.arange(3), result.image, result.log_prob, result.log_prob)):
            assert i.x.dtype == dtype
            assert same_bits(i.x[observed[i.rows]], image[i.rows][observed[i.rows]])
            inside = (low[i.rows] <= i.x) & (i.x <= high)
            assert inside[~observed[i.rows]].all()
        x = result.image.clone().requires_grad_()
        value = flow.log_prob(x)
        (grad,) = torch.autograd.grad(value.sum(), x)
        moved = torch.where(observed, image, (x + grad).clamp(low, high))
        rtol = 20 * torch.finfo(dtype).eps
        torch.testing.assert_close(result.log_prob, value.detach(), rtol=rtol, atol=0)
        torch.testing.assert_close(
            result.log_prob_before,
            flow.log_prob(torch.where(observed, image, image.clamp(low, high))).detach(),
            rtol=rtol,
            atol=0,
        )
        gap = (moved - x).abs().flatten(1).amax(1).detach()
        torch.testing.assert_close(result.stationarity, gap, rtol=100 * rtol, atol=100 * rtol)
        for t in (result.log_prob, result.log_prob_before, result.stationarity):
            assert t.dtype == dtype and not t.requires_grad
        # What the search saw was the copy: its numbers differ from the report's.
        last = [i for i in seen if i.k == method.steps or i.rows.tolist() == [2]][-1]
        exact = -flow.log_prob(last.x).detach()
        assert precision == dtype or not torch.equal(last.value, exact)


def test_the_search_ends_near_that_of_the_density(flow: Flow) -> None:
    image, observed = rand(4, 1, 4, 4, dtype=torch.float64), rand(4, 4, seed=2) < 0.5
    # Far below the size of a kink's pull; a search to the end would depend on which side it falls.
    method = ProjectedGradient(lr=0.01, steps=30)
    plain = inpaint(flow, image, observed, method=method)
    for precision, apart in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        result = inpaint(flow, image, observed, method=method, precision=precision)
        assert result.status == plain.status == (Status.COMPLETED,) * 4
        torch.testing.assert_close(result.image, plain.image, rtol=0, atol=apart)
        torch.testing.assert_close(result.log_prob, plain.log_prob, rtol=1e-6, atol=0)
    rough = inpaint(flow, image, observed, method=METHODS[0], precision=torch.bfloat16)
    assert (rough.log_prob > rough.log_prob_before).all()


class Parts:
    """A density of the user's own that can be frozen, and says who was asked."""

    def __init__(self, asked: list[str], name: str = "itself") -> None:
        self.asked, self.name = asked, name

    def log_prob(self, x: Tensor) -> Tensor:
        self.asked.append(self.name)
        return Bowl().log_prob(x) + (1.0 if self.name == "itself" else 0.0)

    def frozen(self, dtype: torch.dtype) -> "Parts":
        return Parts(self.asked, str(dtype))


def test_anything_that_can_be_frozen_is() -> None:
    asked: list[str] = []
    method = ProjectedGradient(lr=0.25, steps=4)
    result = inpaint(Parts(asked), IMAGE, MASK, method=method, precision=torch.float16)
    assert asked == ["itself", *["torch.float16"] * 5, "itself"]
    torch.testing.assert_close(result.log_prob, Bowl().log_prob(result.image) + 1)
    asked.clear()
    inpaint(Parts(asked), IMAGE, MASK, method=method)
    assert set(asked) == {"itself"}


@pytest.mark.parametrize(
    "density, word",
    [
        (Bowl(), "Bowl"),
        (lambda x: -x.square().flatten(1).sum(1), "function"),
        (distributions.Normal(torch.zeros(1, 4, 4), 1.0), "Normal"),
    ],
    ids=["object", "function", "law"],
)
def test_what_cannot_be_frozen_is_refused(density: object, word: str) -> None:
    with pytest.raises(InvalidType) as caught:
        inpaint(density, IMAGE, MASK, precision=torch.float32)
    for part in (word, "torch.float32", "cannot be frozen", "leave precision out"):
        assert part in str(caught.value)


def test_a_precision_is_a_floating_type(flow: Flow) -> None:
    with pytest.raises(InvalidType, match=r"torch\.int8.*floating-point"):
        inpaint(flow, IMAGE, MASK, precision=torch.int8)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(flow: Flow, mode: Callable) -> None:
    for method in METHODS:
        on = inpaint(flow, IMAGE.double(), MASK, method=method, precision=torch.float32, seed=0)
        with mode():
            off = inpaint(flow, IMAGE.double(), MASK, method=method, precision=torch.float32, seed=0)
        assert torch.equal(on.image, off.image) and torch.equal(on.stationarity, off.stationarity)


def test_the_density_stays_as_it_was(flow: Flow, same_global_state: Callable) -> None:
    flow.train()
    state = {n: t.clone() for n, t in flow.state_dict().items()}
    with same_global_state():
        inpaint(flow, IMAGE.double(), MASK, method=METHODS[0], precision=torch.float32)
    assert all(m.training for m in flow.modules())
    assert all(p.requires_grad and p.grad is None for p in flow.parameters())
    assert all(torch.equal(t, state[n]) for n, t in flow.state_dict().items())


def test_a_row_that_breaks_in_the_copy_reports_the_density(flow: Flow) -> None:
    # Half precision overflows where the density itself is finite.
    image, observed = IMAGE.double(), MASK
    for p in flow.bijection.parts[1].network.parameters():
        p.data.mul_(100)
    method = replace(METHODS[3], steps=5)
    result = inpaint(flow, image, observed, method=method, precision=torch.float16)
    own = flow.log_prob(result.image).detach()
    torch.testing.assert_close(result.log_prob, own, rtol=1e-12, atol=0)
