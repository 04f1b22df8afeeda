"""The networks inside couplings: the MLP against plain matrix products, dropout by z-tests."""

import pytest
import torch

from likely.errors import InvalidInput
from likely.flows import MLP
from likely.flows.networks import Dropout
from likely.seeds import borrowed_global_state, seed_borrowed


def test_mlp_is_its_formula(randomize):
    network = randomize(MLP(3, 2, width=5, depth=3)).double()
    x = torch.rand(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    h = x
    for layer in network.hidden:
        h = torch.relu(h @ layer.weight.T + layer.bias)
    assert len(network.hidden) == 3
    expected = h @ network.out.weight.T + network.out.bias
    torch.testing.assert_close(network(x), expected, rtol=1e-14, atol=1e-14)


def test_mlp_starts_at_zero_and_can_learn():
    with borrowed_global_state("cpu", 0):  # of other seeds, a few leave all five units dead
        network, x = MLP(3, 2, width=5, depth=2), torch.rand(4, 3)
    assert not network(x).any()
    network(x).sum().backward()
    assert network.out.weight.grad.any()


@pytest.mark.parametrize("sizes", [(0, 2, 5, 1), (3, 0, 5, 1), (3, 2, 0, 1), (3, 2, 5, 0)])
def test_mlp_refuses_sizes_below_one(sizes):
    with pytest.raises(InvalidInput, match="is 0; expected an integer of 1 or more"):
        MLP(*sizes)


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_dropout_refuses_what_is_no_probability(p):
    with pytest.raises(InvalidInput, match="dropout is"):
        Dropout(p)


def dropped(p: float, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    with borrowed_global_state():
        seed_borrowed(seed)
        return Dropout(p).train()(torch.ones(shape))


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9])
def test_dropout_rate_and_mean(p, assert_mean):
    # Three z-tests for each p, each with a false alarm once in 1e6.
    y = dropped(p, (1000, 301))
    rate = round(256 * p) / 256
    assert abs(rate - p) <= 1 / 512
    assert_mean((y == 0).double(), rate)
    assert_mean(y, 1.0)
    # Neighbours come from one random word; they are dropped independently all the same.
    zero = (y.flatten() == 0).double() - rate
    assert_mean(zero[1:] * zero[:-1], 0.0)
    kept = y[y != 0]
    assert torch.equal(kept, torch.full_like(kept, 1 / (1 - rate)))


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9])
def test_dropout_of_few_entries(count):
    assert dropped(0.5, (count,)).shape == (count,)


def test_dropout_differs_from_call_to_call_and_repeats_with_the_seed():
    assert torch.equal(dropped(0.5, (100,), seed=1), dropped(0.5, (100,), seed=1))
    assert not torch.equal(dropped(0.5, (100,), seed=1), dropped(0.5, (100,), seed=2))


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_dropout_is_the_identity_in_evaluation(p, same_global_state):
    x = torch.rand(10, 3, generator=torch.Generator().manual_seed(0))
    with same_global_state():
        assert torch.equal(Dropout(p).eval()(x), x)
        assert torch.equal(Dropout(0.0).train()(x), x)


def test_dropout_gradient_passes_where_entries_pass():
    x = torch.ones(100, requires_grad=True)
    with borrowed_global_state():
        seed_borrowed(0)
        y = Dropout(0.25).train()(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_dropout_keeps_the_dtype():
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        with borrowed_global_state():
            assert Dropout(0.25).train()(torch.ones(9, dtype=dtype)).dtype == dtype


def test_mlp_drops_after_every_hidden_layer_but_the_first(randomize):
    seen = []
    network = randomize(MLP(3, 2, width=64, depth=3, dropout=0.5)).train()
    for layer in [*network.hidden[1:], network.out]:
        layer.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    torch.nn.init.constant_(network.hidden[0].bias, 100.0)
    torch.nn.init.constant_(network.hidden[1].bias, 1e3)
    torch.nn.init.constant_(network.hidden[2].bias, 1e5)
    with borrowed_global_state():
        seed_borrowed(0)
        network(torch.ones(20, 3))
    # With such biases every unit is active, so that a zero is a dropped one.
    assert [bool((h == 0).any()) for h in seen] == [False, True, True]
