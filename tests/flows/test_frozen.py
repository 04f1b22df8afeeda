"""The laws of frozen flows: the flow's own values and input gradients, and nothing else of it."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import likely
from likely import flows
from likely.errors import CheckpointError, InvalidInput, InvalidType
from likely.flows import Flow
from likely.flows.base import StandardLogistic
from likely.flows.bijection import Chain
from likely.flows.coupling import AdditiveCoupling
from likely.flows.frozen import FrozenMLP
from likely.flows.networks import MLP
from likely.flows.splits import halves

SIZES = [
    {"event_shape": (1, 3, 3), "width": 13, "depth": 1, "couplings": 2},
    {"event_shape": (7,), "width": 5, "depth": 2, "couplings": 3, "split": "halves"},
    {"event_shape": (2, 5), "width": 33, "depth": 3, "couplings": 4, "first": 1},
    {"event_shape": (2,), "width": 1, "depth": 1, "couplings": 2, "split": "halves", "first": 1},
]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)


def both(density: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    value = density(x)
    (grad,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), grad


@pytest.fixture(params=SIZES, ids=lambda s: f"depth {s['depth']}, {s.get('split', 'interleaved')}")
def flow(request: pytest.FixtureRequest, randomize: Callable) -> Flow:
    return randomize(flows.nice(**request.param)).double()


@pytest.mark.parametrize("rows", [0, 1, 2, 7])
def test_values_and_gradients_are_the_flows(flow: Flow, rows: int) -> None:
    for dtype, rtol in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        x = 4 * rand(rows, *flow.event_shape) - 2
        value, grad = both(flow.log_prob, x)
        frozen_value, frozen_grad = both(flow.frozen(dtype).log_prob, x)
        assert frozen_value.dtype == frozen_grad.dtype == torch.float64
        assert frozen_value.shape == (rows,) and frozen_grad.shape == x.shape
        torch.testing.assert_close(frozen_value, value, rtol=rtol, atol=0)
        # Relative to the largest slope: single slopes may cancel.
        size = grad.abs().amax().item() if rows else 0.0
        torch.testing.assert_close(frozen_grad, grad, rtol=0, atol=rtol * size)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_float32_flow_frozen_in_float32(flow: Flow, rows: int) -> None:
    flow = flow.float()
    x = rand(rows, *flow.event_shape, dtype=torch.float32)
    value, grad = both(flow.log_prob, x)
    frozen_value, frozen_grad = both(flow.frozen().log_prob, x)
    assert frozen_value.dtype == frozen_grad.dtype == torch.float32
    torch.testing.assert_close(frozen_value, value, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(frozen_grad, grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_networks_within_their_rounding(dtype: torch.dtype, depth: int, rows: int) -> None:
    # Each layer rounds weights, input, sum and output to nearest, eps / 2 each, and its 40 products are
    # summed in float32 at least, or, for a single row, in the dtype itself. Bounded with |W| |h| + |b|
    # in place of W h + b this is the worst case: the result differs by at most `grown` times the
    # network of absolute values.
    network = MLP(9, 7, 40, depth).double()
    generator = torch.Generator().manual_seed(depth)
    for p in network.parameters():
        p.data = torch.randn(p.shape, generator=generator, dtype=torch.float64) / p.shape[-1] ** 0.5
    x = 2 * rand(rows, 9, seed=1) - 1
    eps = torch.finfo(dtype).eps
    sums = 40 * (eps if rows == 1 else min(eps, torch.finfo(torch.float32).eps)) / 2
    grown = (1 + eps / 2) ** (4 * (depth + 1)) * (1 + sums) ** (depth + 1) - 1
    with torch.no_grad():
        h = x.abs()
        for layer in (*network.hidden, network.out):
            h = h @ layer.weight.abs().T + layer.bias.abs()
        out, expected = FrozenMLP(network, dtype)(x), network(x)
    assert out.dtype == torch.float64 and out.shape == (rows, 7)
    assert ((out - expected).abs() <= grown * h).all()
    # And typically far less: roundings are as often up as down.
    assert (out - expected).abs().max() <= 4 * eps * (depth + 1) ** 0.5 * expected.abs().max()


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_slopes_within_their_rounding(dtype: torch.dtype, depth: int, rows: int) -> None:
    # With positive weights all units are on, and nothing cancels: the slope is the product of the
    # weights, with two roundings a layer, and one of each sum; 12 numbers are added.
    network = MLP(5, 3, 12, depth).double()
    for i, p in enumerate(network.parameters()):
        p.data = rand(*p.shape, seed=i) / p.shape[-1]
    x = rand(rows, 5)
    (_, grad), (_, near) = both(network, x), both(FrozenMLP(network, dtype), x)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(near, grad, rtol=(4 + 6 * (rows == 1)) * (depth + 1) * eps, atol=0)


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_flows_steer_right(dtype: torch.dtype, rows: int, randomize: Callable) -> None:
    flow = randomize(flows.nice((1, 6, 6), width=60, depth=2)).double()
    frozen, x = flow.frozen(dtype), rand(rows, 1, 6, 6)
    (value, grad), (near, steer) = both(flow.log_prob, x), both(frozen.log_prob, x)
    # Shifts are wrong by about eps / 2 of their size a layer, three layers and four couplings: 6 eps;
    # slopes of log p are at most 1 an entry and latent unit, and the latent sizes are near 1.
    eps = torch.finfo(dtype).eps
    assert ((near - value).abs() / value.abs()).max() <= 6 * eps
    apart = (steer - grad).flatten(1).norm(dim=1) / grad.flatten(1).norm(dim=1)
    # Units nearer to zero than their error, a share of about 4 eps, are on in one and off in the other.
    # Each brings a slope of its own, of random sign: the square of the whole error is that share.
    assert (apart <= (4 * eps) ** 0.5).all()
    assert not torch.equal(near, value), "half precision cannot be exact: was it used?"


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("dead", [(0,), (1,), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layers_without_active_entries(dtype: torch.dtype, dead: tuple, rows: int) -> None:
    network = MLP(4, 3, 6, 3).double()
    generator = torch.Generator().manual_seed(0)
    for p in network.parameters():
        p.data = torch.randn(p.shape, generator=generator, dtype=torch.float64)
    for i in dead:
        network.hidden[i].bias.data = torch.full((6,), -1000.0, dtype=torch.float64)
    x = rand(rows, 4).requires_grad_()
    out = FrozenMLP(network, dtype)(x)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(out, network(x), rtol=8 * eps, atol=8 * eps)
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(grad, torch.zeros_like(x))


@pytest.mark.parametrize("rows", [1, 2])
def test_an_entry_at_zero_passes_nothing(rows: int) -> None:
    # relu'(0) = 0, as in torch.
    network = MLP(2, 2, 3, 2).double()
    for p in network.parameters():
        p.data.fill_(1.0)
    network.hidden[0].bias.data.fill_(-1.0)
    x = torch.tensor([[0.5, 0.5], [0.5, 1.0]], dtype=torch.float64)[:rows]
    for a, b in zip(both(network, x), both(FrozenMLP(network, torch.float64), x), strict=True):
        assert torch.equal(a, b)
    assert not both(network, x[:1])[1].any()


@pytest.mark.parametrize("rows", [1, 3])
def test_gradcheck(flow: Flow, rows: int) -> None:
    x = (3 * rand(rows, *flow.event_shape, seed=4)).requires_grad_()
    assert torch.autograd.gradcheck(flow.frozen(torch.float64).log_prob, (x,))


@pytest.mark.parametrize("rows", [1, 2])
def test_second_derivatives_are_refused(flow: Flow, rows: int) -> None:
    # At once: where other paths of the graph have second derivatives, theirs would be taken for all.
    x = rand(rows, *flow.event_shape).requires_grad_()
    with pytest.raises(InvalidInput, match="first derivatives only"):
        torch.autograd.grad(flow.frozen().log_prob(x).sum(), x, create_graph=True)


def test_nothing_is_trained(flow: Flow) -> None:
    frozen = flow.frozen()
    assert not any(p.requires_grad for p in frozen.parameters())
    assert not frozen.log_prob(rand(2, *flow.event_shape)).requires_grad
    assert not any(isinstance(m, MLP) for m in frozen.modules())
    with pytest.raises(CheckpointError, match="cannot be rebuilt"):
        likely.save(frozen, "frozen.safetensors")


@pytest.mark.parametrize("training", [True, False])
def test_the_original_is_untouched_and_independent(flow: Flow, training: bool) -> None:
    x = rand(3, *flow.event_shape)
    flow.train(training)
    next(flow.parameters()).requires_grad_(False)
    grads = [p.requires_grad for p in flow.parameters()]
    state, config = copy.deepcopy(flow.state_dict()), copy.deepcopy(flow.config)
    before = flow.log_prob(x).detach()
    frozen, late = flow.frozen(torch.float64), flow.frozen(torch.float64)
    value = frozen.log_prob(x)
    torch.testing.assert_close(value, before, rtol=1e-12, atol=0)
    assert not any(m.training for m in frozen.modules())
    assert all(m.training == training for m in flow.modules())
    assert [p.requires_grad for p in flow.parameters()] == grads and flow.config == config
    assert all(torch.equal(a, state[n]) for n, a in flow.state_dict().items())
    # Weights changed after freezing, whether or not the copy was used before, do not show.
    for p in flow.parameters():
        p.data.mul_(2)
    assert torch.equal(frozen.log_prob(x), value) and torch.equal(late.log_prob(x), value)
    assert torch.equal(late.log_prob(x[:1]), frozen.log_prob(x[:1]))
    # And the other way round.
    changed = flow.log_prob(x).detach()
    for p in frozen.parameters():
        p.data.add_(1)
    for m in frozen.modules():
        if isinstance(m, FrozenMLP):
            for w in (*m._weights, *m._biases):
                w.zero_()
    assert torch.equal(flow.log_prob(x).detach(), changed)


def test_a_flow_of_the_same_dtype_shares_no_memory(flow: Flow) -> None:
    mine = {p.untyped_storage().data_ptr() for p in flow.parameters()}
    frozen = flow.frozen(torch.float64)
    held = [t for m in frozen.modules() if isinstance(m, FrozenMLP) for t in (*m._weights, *m._biases)]
    assert held and not mine & {t.untyped_storage().data_ptr() for t in (*held, *frozen.parameters())}


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_without_gradients_and_after(flow: Flow, rows: int, mode: Callable) -> None:
    x = rand(rows, *flow.event_shape)
    value, grad = both(flow.log_prob, x)
    outside = flow.frozen(torch.float64)
    with mode():
        inside = flow.frozen(torch.float64)
        for frozen in (inside, outside):
            torch.testing.assert_close(frozen.log_prob(x), value, rtol=1e-12, atol=0)
    # What was prepared in there serves out here.
    for frozen in (inside, outside):
        for a, b in zip(both(frozen.log_prob, x), (value, grad), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)


def test_dropout_is_off(randomize: Callable, same_global_state: Callable) -> None:
    flow = randomize(flows.nice((8,), width=16, depth=3, dropout=0.5)).double()
    x = rand(4, 8)
    expected = flow.eval().log_prob(x)
    frozen = flow.train().frozen(torch.float64)
    with same_global_state():
        for _ in range(2):
            torch.testing.assert_close(frozen.log_prob(x), expected, rtol=1e-12, atol=0)
            frozen.train()


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("how", [copy.deepcopy, lambda f: pickle.loads(pickle.dumps(f))])
def test_copies_and_pickles(flow: Flow, how: Callable, dtype: torch.dtype, used: bool) -> None:
    frozen, x = flow.frozen(dtype), rand(3, *flow.event_shape)
    rows = x, x[:1], x[:0]
    if used:
        for some in rows:
            frozen.log_prob(some)
    again = how(frozen)
    for some in rows:
        for a, b in zip(both(again.log_prob, some), both(frozen.log_prob, some), strict=True):
            assert torch.equal(a, b)
    assert not any(m.training for m in again.modules())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_draws_are_the_flows(flow: Flow, dtype: torch.dtype, same_global_state: Callable) -> None:
    with same_global_state():
        mine, theirs = flow.sample(50, seed=3), flow.frozen(dtype).sample(50, seed=3)
    assert theirs.dtype == torch.float64 and not theirs.requires_grad
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(theirs, mine, rtol=0, atol=20 * eps * mine.abs().max().item())


@pytest.mark.parametrize("couplings", [1, 2])
def test_a_flow_without_other_parameters_keeps_its_precision(couplings: int) -> None:
    sides = [halves(5, i) for i in range(couplings)]
    parts = [AdditiveCoupling(s, MLP(*reversed(s.sizes(5)), 6, 2)) for s in sides]
    flow = Flow(Chain(parts), StandardLogistic((5,)), (5,)).double()
    generator = torch.Generator().manual_seed(0)
    for p in flow.parameters():
        p.data = torch.randn(p.shape, generator=generator, dtype=torch.float64)
    x, frozen = rand(3, 5), flow.frozen(torch.float64)
    torch.testing.assert_close(frozen.log_prob(x), flow.log_prob(x).detach(), rtol=1e-13, atol=0)
    assert frozen.sample(2, seed=0).dtype == torch.float64
    assert flow.float().frozen(torch.float32).sample(2, seed=0).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool, torch.complex64], ids=str)
def test_other_dtypes_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(InvalidType, match=rf"{dtype}.*floating-point"):
        flows.nice((4,), width=4, depth=1).frozen(dtype)


def test_it_checks_its_input_as_the_flow_does(flow: Flow) -> None:
    for density in (flow, flow.frozen()):
        with pytest.raises(InvalidType, match="floating point"):
            density.log_prob(torch.zeros(1, *flow.event_shape, dtype=torch.long))
        with pytest.raises(likely.errors.InvalidInput, match="expected a batch of rows"):
            density.log_prob(torch.zeros(flow.event_shape))
