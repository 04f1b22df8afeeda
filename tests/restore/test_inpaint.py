"""Inpainting: what holds at every iterate and at the output, for every method and shape."""

from collections.abc import Callable
from math import nan

import pytest
import torch
from torch import Tensor

from likely import flows, inpaint
from likely.restore import Restoration
from likely.solvers import Annealed, Iterate, Method, ProjectedAdam, ProjectedGradient, Status
from restore.images import IMAGE, MASK, Bowl, rand, with_value

METHODS = [
    ProjectedGradient(lr=0.05, steps=25),
    ProjectedGradient(lr=0.05, steps=25, keep="best"),
    Annealed(steps=25),
    Annealed(batch=1.0, steps=25, keep="best"),
    ProjectedAdam(steps=25),
    ProjectedAdam(lr=1.0, steps=25, keep="last"),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: f"{type(m).__name__}-{m.keep}")
@pytest.mark.parametrize("start", ["given", "uniform", "tensor"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_measured_pixels_and_bounds_hold_everywhere(
    method: Method, start: str, dtype: torch.dtype, randomize: Callable, same_bits: Callable
) -> None:
    flow = randomize(flows.nice((1, 6, 6), width=16)).to(dtype)
    image = rand(3, 1, 6, 6, seed=1, dtype=dtype)
    observed = rand(3, 1, 6, 6, seed=2) < 0.5
    image[0, 0, 0, :2], observed[0, 0, 0, :2] = torch.tensor([0.0, -0.0]), True
    # Junk where nothing was measured, and bounds that depend on the pixel.
    image = torch.where(observed, image, 37.0)
    low = -rand(1, 6, 6, seed=3, dtype=dtype)
    high = 1 + rand(3, 1, 6, 6, seed=4, dtype=dtype)
    low[0, 5, 5] = high[:, 0, 5, 5] = 0.25
    observed[:, 0, 5, 5] = False
    begin = 5 * rand(3, 1, 6, 6, seed=5, dtype=dtype) - 2 if start == "tensor" else start
    seen: list[Iterate] = []
    copies = [t.clone() for t in (image, observed, low, high)]
    result = inpaint(
        flow, image, observed, (low, high), method, start=begin, seed=0, on_step=seen.append
    )
    assert len(seen) == method.steps + 1
    for x in (result.image, *(i.x for i in seen)):
        assert same_bits(x[observed], image[observed])
        assert ((low <= x) & (x <= high))[~observed].all()
        assert x.dtype == dtype
    assert not torch.equal(seen[0].x, seen[-1].x)
    for given, copy in zip((image, observed, low, high), copies, strict=True):
        assert torch.equal(given, copy)


def test_where_the_search_starts(randomize: Callable) -> None:
    flow = randomize(flows.nice((1, 4, 4), width=8))
    image, observed = rand(2, 1, 4, 4) * 1.5, rand(2, 1, 4, 4, seed=2) < 0.5
    image = torch.where(observed, image.clamp(max=1), image)
    tensor = rand(2, 1, 4, 4, seed=3) - 0.2
    method = ProjectedGradient(steps=0)

    def first(start: str | Tensor, seed: int | None = None, **bounds: tuple) -> Tensor:
        return inpaint(flow, image, observed, method=method, start=start, seed=seed, **bounds).image

    assert torch.equal(first("given"), image.clamp(0, 1))
    assert torch.equal(first(tensor), torch.where(observed, image, tensor.clamp(0, 1)))
    assert torch.equal(first(tensor.double()), first(tensor))
    a, b, other = first("uniform", 1), first("uniform", 1), first("uniform", 2)
    assert torch.equal(a, b)
    assert (a != other)[~observed].all() and (a != image)[~observed].all()


def test_a_uniform_start_is_uniform_between_the_bounds() -> None:
    # Mean and mean square of n draws of U(-1, 3); |z| > 5 is a false alarm once in 1.7 million each.
    n = 100_000
    image, observed = torch.zeros(1, n, dtype=torch.float64), torch.arange(n) == 0
    x = inpaint(
        lambda x: -x.square().sum(1),
        image,
        observed,
        (-1.0, 3.0),
        ProjectedGradient(steps=0),
        "uniform",
        seed=0,
    ).image[0, 1:]
    u = (x + 1) / 4
    assert abs(u.mean().item() - 1 / 2) < 5 * (1 / 12 / n) ** 0.5
    assert abs(u.square().mean().item() - 1 / 3) < 5 * (4 / 45 / n) ** 0.5


@pytest.mark.parametrize("method", [Annealed(steps=5), ProjectedAdam(steps=5)], ids=repr)
def test_seed_decides_and_the_global_state_stays(
    method: Method, randomize: Callable, same_global_state: None
) -> None:
    flow = randomize(flows.nice((1, 4, 4), width=8))
    image, observed = rand(2, 1, 4, 4), rand(4, 4, seed=2) < 0.5

    def fill(**seed: object) -> Tensor:
        return inpaint(flow, image, observed, method=method, start="uniform", **seed).image

    assert torch.equal(fill(seed=3), fill(seed=3))
    assert not torch.equal(fill(seed=3), fill(seed=4))
    assert torch.equal(fill(seed=3), fill(generator=torch.Generator().manual_seed(3)))
    fill()


def test_it_reports_what_it_returns(randomize: Callable) -> None:
    flow = randomize(flows.nice((1, 4, 4), width=8)).double()
    image, observed = rand(3, 1, 4, 4, dtype=torch.float64), rand(3, 1, 4, 4, seed=2) < 0.5
    image = torch.where(observed, image, 3 * image - 1)
    result = inpaint(flow, image, observed, method=ProjectedAdam(steps=30))
    x = result.image.clone().requires_grad_()
    (grad,) = torch.autograd.grad(flow.log_prob(x).sum(), x)
    gap = ((x + grad).clamp(0, 1) - x).masked_fill(observed, 0).abs().flatten(1).amax(1)
    torch.testing.assert_close(result.log_prob, flow.log_prob(x).detach())
    torch.testing.assert_close(result.stationarity, gap.detach())
    torch.testing.assert_close(result.log_prob_before, flow.log_prob(image.clamp(0, 1)).detach())
    assert (result.log_prob > result.log_prob_before).all()


def test_parameters_and_image_get_no_gradient(randomize: Callable) -> None:
    flow = randomize(flows.nice((1, 4, 4), width=8))
    image = rand(2, 1, 4, 4).requires_grad_()
    result = inpaint(flow, image, rand(4, 4, seed=2) < 0.5, method=ProjectedAdam(steps=3))
    assert image.grad is None and all(p.grad is None for p in flow.parameters())
    for t in (result.image, result.log_prob, result.log_prob_before, result.stationarity):
        assert not t.requires_grad
    assert all(p.requires_grad for p in flow.parameters())


def test_nothing_missing_returns_the_image(same_bits: Callable) -> None:
    image = with_value(IMAGE, -0.0, 0, 0, 0, 0)
    result = inpaint(Bowl(), image, torch.tensor(True), method=ProjectedGradient(lr=0.5))
    assert isinstance(result, Restoration)
    assert same_bits(result.image, image) and result.image is not image
    assert result.status == (Status.UNCHANGED,) * 2 and result.steps.tolist() == [0, 0]
    assert result.stationarity.tolist() == [0.0, 0.0]
    assert torch.equal(result.log_prob, Bowl().log_prob(image))
    assert torch.equal(result.log_prob_before, result.log_prob)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: f"{type(m).__name__}-{m.keep}")
def test_a_row_with_nothing_missing_is_unchanged(method: Method, same_bits: Callable) -> None:
    observed = with_value(MASK, True, 1)
    result = inpaint(Bowl(), IMAGE, observed, method=method, seed=0)
    assert same_bits(result.image[1], IMAGE[1])
    assert result.status == (Status.COMPLETED, Status.UNCHANGED)
    assert result.steps.tolist() == [method.steps, 0] and result.stationarity[1] == 0
    assert torch.equal(result.log_prob[1], result.log_prob_before[1])


def test_a_density_that_breaks_is_reported_by_row(same_bits: Callable) -> None:
    def breaks(x: Tensor) -> Tensor:
        broken = (x == IMAGE[1])[:, MASK[1]].all(1)
        return Bowl().log_prob(x) * torch.where(broken, nan, 1.0)

    result = inpaint(breaks, IMAGE, MASK, method=ProjectedGradient(lr=0.4, steps=50))
    assert result.status == (Status.COMPLETED, Status.NONFINITE)
    assert result.steps.tolist() == [50, 0]
    assert same_bits(result.image[1], IMAGE[1])
    alone = inpaint(Bowl(), IMAGE[:1], MASK[:1], method=ProjectedGradient(lr=0.4, steps=50))
    torch.testing.assert_close(result.image[:1], alone.image, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 6), (1, 6, 6), (1, 1, 6, 6), (3, 1, 6, 6), (6, 1), (6,)])
def test_masks_and_bounds_broadcast(shape: tuple[int, ...], randomize: Callable) -> None:
    flow = randomize(flows.nice((1, 6, 6), width=8)).double()
    image = rand(3, 1, 6, 6, seed=1, dtype=torch.float64)
    observed = rand(*shape, seed=2) < 0.5
    low = -0.1 - rand(*shape, seed=3, dtype=torch.float64)
    high = 1.1 + rand(*shape, seed=4, dtype=torch.float64)
    method = ProjectedAdam(lr=0.5, steps=20)
    result = inpaint(flow, image, observed, (low, high), method)
    full = inpaint(
        flow,
        image,
        observed.expand(image.shape).clone(),
        (low.expand(image.shape).clone(), high.expand(image.shape).clone()),
        method,
    )
    assert torch.equal(result.image, full.image)
    assert ((result.image == low) | (result.image == high)).any(), "no bound was met"


def test_rows_are_independent(randomize: Callable) -> None:
    flow = randomize(flows.nice((1, 6, 6), width=8)).double()
    image = rand(3, 1, 6, 6, seed=1, dtype=torch.float64)
    observed = rand(3, 1, 6, 6, seed=2) < 0.5
    low = -rand(3, 1, 1, 1, seed=3, dtype=torch.float64)
    method = ProjectedAdam(steps=20)
    whole = inpaint(flow, image, observed, (low, 1.0), method)
    for i in range(3):
        one = slice(i, i + 1)
        alone = inpaint(flow, image[one], observed[one], (low[one], 1.0), method)
        torch.testing.assert_close(whole.image[one], alone.image, rtol=0, atol=1e-9)
        torch.testing.assert_close(whole.log_prob[one], alone.log_prob, rtol=1e-9, atol=0)


@pytest.mark.parametrize("event", [(7,), (2, 3), (3, 4, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_event_in_either_precision(event: tuple[int, ...], dtype: torch.dtype) -> None:
    image = rand(2, *event, dtype=dtype)
    observed = rand(2, *event, seed=2) < 0.5
    result = inpaint(Bowl(), image, observed, method=ProjectedGradient(lr=0.25, steps=60))
    best = torch.where(observed, image, 0.3)
    torch.testing.assert_close(result.image, best, rtol=0, atol=1e-6)
    for t in (result.image, result.log_prob, result.log_prob_before, result.stationarity):
        assert t.dtype == dtype
    assert result.image.shape == image.shape and result.steps.shape == (2,)


def test_a_float32_flow_restores_float64_images(randomize: Callable, same_bits: Callable) -> None:
    flow = randomize(flows.nice((1, 4, 4), width=8))
    result = inpaint(flow, IMAGE.double(), MASK, method=ProjectedAdam(steps=5))
    assert result.image.dtype == result.log_prob.dtype == torch.float64
    assert same_bits(result.image[MASK], IMAGE.double()[MASK])


def test_the_default_method_is_adam(same_bits: Callable) -> None:
    default = inpaint(Bowl(), IMAGE, MASK)
    assert torch.equal(default.image, inpaint(Bowl(), IMAGE, MASK, method=ProjectedAdam()).image)
    assert same_bits(default.image[MASK], IMAGE[MASK])
    torch.testing.assert_close(
        default.image[~MASK], torch.full_like(IMAGE, 0.3)[~MASK], rtol=0, atol=1e-3
    )


def test_a_module_is_evaluated_without_dropout(same_global_state, randomize):
    flow = randomize(flows.nice((1, 4, 4), width=16, depth=3, couplings=2, dropout=0.5))
    image = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    observed = torch.arange(16).reshape(4, 4) % 3 > 0
    expected = inpaint(flow.eval(), image, observed)
    with same_global_state():
        result = inpaint(flow.train(), image, observed)
    assert torch.equal(result.image, expected.image)
    assert all(module.training for module in flow.modules())


def test_columns_of_unequal_ranges_reach_the_conditional_mean():
    scale = torch.tensor([1.0, 1e2, 1e4], dtype=torch.float64)
    shape = torch.tensor([[1.0, 0.5, 0.3], [0.5, 1.0, 0.2], [0.3, 0.2, 1.0]], dtype=torch.float64)
    covariance = scale[:, None] * shape * scale
    law = torch.distributions.MultivariateNormal(torch.zeros_like(scale), covariance)
    image = torch.tensor([[1.5, 0.0, 0.0]], dtype=torch.float64)
    observed = torch.tensor([True, False, False])
    result = inpaint(law, image, observed, bounds=(-10 * scale, 10 * scale))
    expected = covariance[1:, 0] / covariance[0, 0] * 1.5
    assert torch.allclose(result.image[0, 1:] / scale[1:], expected / scale[1:], atol=1e-3)
