"""The flow of missing entries given measured ones, for any mask."""

import itertools
import math
import warnings

import pytest
import torch
from scipy import stats

import likely
from likely import data, flows, training
from likely.errors import InvalidInput, InvalidType
from likely.flows.masked import spread_order


@pytest.fixture
def make(randomize):
    def build(shape=(1, 3, 2), dtype=torch.float64, **sizes):
        sizes = {"width": 8, "depth": 1, "bins": 4, "cells": 4, "blocks": 3} | sizes
        return randomize(flows.masked(shape, **sizes)).to(dtype).eval().requires_grad_(False)

    return build


SOME = torch.tensor([1, 0, 1, 0, 0, 1]).bool().view(1, 3, 2)


def uniform(*shape, seed=1, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_one_block_integrates_to_one(make):
    # Given what was measured its entries are independent: values are constant on 4^3 cells.
    flow = make(blocks=1)
    x = torch.full((64, 1, 3, 2), 0.3, dtype=torch.float64)
    cells = torch.tensor(list(itertools.product(range(4), repeat=3)), dtype=torch.float64)
    x[:, ~SOME] = (cells + 0.5) / 4
    density = flow.log_prob_given(x, SOME).exp()
    assert density.mean().item() == pytest.approx(1, abs=1e-13) and density.std() > 0.1


def test_two_blocks_integrate_to_one(make):
    # The second entry sees the value of the first: the midpoint rule in one, cells in the other.
    flow = make(blocks=1000)
    observed = torch.tensor([1, 0, 1, 1, 0, 1]).bool().view(1, 3, 2)
    first, second = (i for i in spread_order((1, 3, 2)).tolist() if i in (1, 4))
    x = torch.full((4000 * 4, 6), 0.3, dtype=torch.float64)
    x[:, first] = ((torch.arange(4000, dtype=torch.float64) + 0.5) / 4000).repeat_interleave(4)
    x[:, second] = ((torch.arange(4, dtype=torch.float64) + 0.5) / 4).repeat(4000)
    density = flow.log_prob_given(x.view(-1, 1, 3, 2), observed).exp()
    assert density.mean().item() == pytest.approx(1, abs=1e-12)
    assert density.view(4000, 4)[:, 0].std() > 1e-3  # it does see it


def test_a_chain_of_conditionals_is_the_joint(make):
    # With one entry a block, log p is the sum of one-entry conditionals in the order of the entries.
    flow = make(blocks=1000)
    x = uniform(5, 1, 3, 2)
    known = torch.zeros(1, 3, 2, dtype=torch.bool)
    total = torch.zeros(5, dtype=torch.float64)
    for i in spread_order((1, 3, 2)).tolist():
        others = torch.ones(6, dtype=torch.bool)
        others[i] = False
        logits = flow._logits(x, known.expand(x.shape), ~others.view(1, 3, 2).expand(x.shape))
        total += flow.law.log_prob(x.flatten(1)[:, i], logits)
        known.view(-1)[i] = True
    torch.testing.assert_close(flow.log_prob(x), total, rtol=0, atol=1e-12)


def test_log_prob_is_that_of_nothing_measured_and_all_measured_has_none(make):
    flow, x = make(), uniform(5, 1, 3, 2)
    assert torch.equal(flow.log_prob(x), flow.log_prob_given(x, torch.zeros_like(x).bool()))
    assert torch.equal(flow.log_prob_given(x, torch.ones_like(x).bool()), torch.zeros(5).double())
    assert torch.equal(flow(x), flow.log_prob(x))


def test_rows_have_masks_of_their_own(make):
    flow, x = make(), uniform(5, 1, 3, 2)
    observed = uniform(5, 1, 3, 2, seed=2) < 0.5
    alone = [flow.log_prob_given(x[i : i + 1], observed[i]) for i in range(5)]
    torch.testing.assert_close(flow.log_prob_given(x, observed), torch.cat(alone), rtol=0, atol=1e-13)


def test_completions(make, dtype, same_bits, same_global_state):
    flow = make(dtype=torch.float32)
    image = uniform(700, 1, 3, 2, dtype=dtype)
    observed = uniform(700, 1, 3, 2, seed=2) < 0.5
    with same_global_state():
        x, log_p = flow.sample_given(image, observed, 2, seed=3)
    assert x.shape == (2, 700, 1, 3, 2) and x.dtype == dtype and log_p.shape == (2, 700)
    for row in x:
        assert same_bits(row[observed], image[observed])
    assert ((x >= 0) & (x < 1))[:, ~observed].all()
    assert not torch.equal(x[0], x[1])
    again = flow.log_prob_given(x.flatten(0, 1), observed.repeat(2, 1, 1, 1)).view(2, 700)
    torch.testing.assert_close(log_p.to(dtype), again, rtol=0, atol=1e-5)
    assert torch.equal(flow.sample_given(image, observed, 2, seed=3)[0], x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_completions_in_few_digits_stay_below_one(make, dtype):
    flow = make(dtype=torch.float32)
    image = torch.zeros(3000, 1, 3, 2, dtype=dtype)
    x, _ = flow.sample_given(image, SOME, 2, seed=0)
    assert x.dtype == dtype and ((x >= 0) & (x < 1)).all() and (x > 0.99).any()


def test_draws_follow_the_density(make):
    # Kolmogorov-Smirnov, a false alarm once in 1e6; x itself is far from uniform.
    flow = make(blocks=2)
    image = uniform(1, 1, 3, 2).expand(20_000, 1, 3, 2)
    x, _ = flow.sample_given(image, SOME, 1, seed=0)
    u, _ = flow.forward_and_log_det(x[0], SOME)
    for entries in u[:, ~SOME].T:
        assert stats.kstest(entries.numpy(), "uniform").pvalue > 1e-6
    assert min(stats.kstest(e.numpy(), "uniform").pvalue for e in x[0][:, ~SOME].T) < 1e-12
    # Means over the two blocks by brute force: 4^3 cells, weighted by their density at a draw inside.
    corners = torch.tensor(list(itertools.product(range(4), repeat=3)), dtype=torch.float64)
    grid = image[:1].repeat(64 * 512, 1, 1, 1)
    grid[:, ~SOME] = ((corners[:, None] + uniform(1, 512, 3, seed=5)) / 4).flatten(0, 1)
    density = flow.log_prob_given(grid, SOME).exp()
    for i in range(3):
        truth = (density * grid[:, ~SOME][:, i]).mean()
        error = (density * (grid[:, ~SOME][:, i] - truth)).std() / len(grid) ** 0.5
        draws = x[0][:, ~SOME][:, i]
        spread = (draws.var() / len(draws) + error**2).sqrt()
        assert abs(draws.mean() - truth) < 4.8916 * spread  # a false alarm once in 1e6


def test_samples_of_nothing_measured(make):
    flow = make(dtype=torch.float32)
    x = flow.sample(5, seed=0)
    assert x.shape == (5, 1, 3, 2) and torch.equal(x, flow.sample(5, seed=0))
    assert flow.sample(0).shape == (0, 1, 3, 2)


def test_more_blocks_change_the_density_and_keep_one_entry(make):
    flow, x = make(blocks=1), uniform(5, 1, 3, 2)
    one_missing = ~torch.eye(6)[3].bool().view(1, 3, 2)
    before, single = flow.log_prob(x), flow.log_prob_given(x, one_missing)
    flow.blocks = 50
    assert not torch.equal(flow.log_prob(x), before)
    assert torch.equal(flow.log_prob_given(x, one_missing), single)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 5, 7), (1, 1, 9)])
def test_the_order_spreads(shape):
    order = spread_order(shape)
    assert torch.equal(order.sort().values, torch.arange(math.prod(shape)))
    if shape == (1, 28, 28):
        first = torch.stack([order[:25] // 28, order[:25] % 28], 1).double()
        # 25 random points of 784 have neighbours at distance 1 or 2; a perfect lattice's are 5.6 apart.
        assert torch.pdist(first).min() >= 4


def test_training_improves_all_conditionals(same_global_state):
    digits = data.digits()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = flows.masked((1, 8, 8), width=16, depth=2, bins=17, cells=17)
    test = (digits.test + 0.5) / 17
    masks = [torch.arange(64).view(1, 8, 8) % 2 == 0, torch.arange(64).view(1, 8, 8) < 32]
    assert flow.log_prob(test).abs().max() < 1e-3  # uniform at first
    recipe = training.Recipe(steps=300, batch=64, lr=5e-3, evaluations=3, precision="float32")
    with same_global_state():
        training.fit(flow, digits.train, digits.valid, recipe, levels=17)
    # The best that looks at no other entry: each entry's own histogram over the training set.
    counts = torch.stack([(digits.train == level).sum(0).flatten() for level in range(17)]) + 1.0
    own = (counts * 17 / counts.sum(0)).log()[digits.test.flatten(1).long(), torch.arange(64)]
    for observed in masks:
        ours = flow.log_prob_given(test, observed)
        theirs = own[:, ~observed.flatten()].sum(1)
        gain = ours - theirs
        assert gain.mean() > 4.8916 * gain.std() / len(gain) ** 0.5  # better, but for one chance in 1e6


def test_the_objective_of_a_uniform_law_is_zero_and_draws_only_when_training(same_global_state):
    flow, x = (
        flows.masked((2, 4, 6), width=8, depth=1, bins=4),
        uniform(7, 2, 4, 6, dtype=torch.float32),
    )
    with same_global_state():
        flow.eval()(x)
    with torch.random.fork_rng():
        assert flow.train()(x).abs().max() < 1e-4


def test_save_and_load(make, tmp_path):
    flow = make((1, 6, 5), torch.float32)
    likely.save(flow, tmp_path / "m.safetensors")
    again = likely.load(tmp_path / "m.safetensors")
    x = uniform(3, 1, 6, 5, dtype=torch.float32)
    assert isinstance(again, flows.MaskedFlow) and torch.equal(again.log_prob(x), flow.log_prob(x))
    assert again.config == flow.config and not again.training


def test_blocks_are_checked_and_saved_as_they_are(make, tmp_path):
    flow = make((1, 6, 5), torch.float32)
    flow.blocks = 5
    likely.save(flow, tmp_path / "m.safetensors")
    assert likely.load(tmp_path / "m.safetensors").blocks == 5 == flow.frozen().blocks
    for blocks, error in ((0, InvalidInput), (-1, InvalidInput), (2.5, InvalidType)):
        with pytest.raises(error, match=f"blocks is {blocks}"):
            flow.blocks = blocks
    assert flow.blocks == 5


def test_frozen(make):
    flow = make((1, 8, 8), torch.float32)
    x, observed = uniform(4, 1, 8, 8, dtype=torch.float32), torch.arange(64).view(1, 8, 8) < 20
    exact, fast = flow.log_prob_given(x, observed), flow.frozen(torch.bfloat16)
    assert torch.equal(flow.frozen(torch.float32).log_prob_given(x, observed), exact)
    assert not torch.equal(fast.log_prob_given(x, observed), exact)
    # What it draws follows the density that it states: the law of the frozen copy is exact too.
    drawn, log_p = fast.sample_given(x, observed, 3, seed=0)
    assert torch.equal(drawn[1][:, observed], x[:, observed])
    again = torch.stack([fast.log_prob_given(row, observed) for row in drawn])
    torch.testing.assert_close(log_p, again, rtol=0, atol=1e-4)
    assert flow.network.first.weight.dtype == torch.float32
    with pytest.raises(InvalidType, match="floating-point"):
        flow.frozen(torch.int64)


def test_the_network_compiles_without_a_graph_break(make):
    network, x = make((1, 6, 5)).network, uniform(3, 2, 6, 5)
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(network, fullgraph=True, backend="eager")(x)
    torch.testing.assert_close(compiled, network(x), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f, x, m: f.log_prob(x[0]), InvalidInput, "expected a batch of rows of shape"),
        (lambda f, x, m: f.log_prob((x * 255).byte()), InvalidType, "expected floating point"),
        (lambda f, x, m: f.log_prob_given(x, m.float()), InvalidType, "expected torch.bool"),
        (lambda f, x, m: f.log_prob_given(x, m[..., :1, :].expand(1, 5, 2)), InvalidInput, "broadcast"),
        (lambda f, x, m: f.sample_given(x, m, -1), InvalidInput, "n is -1"),
        (lambda f, x, m: f.sample_given(x / 0, m, 1), InvalidInput, "image is NaN or infinite where"),
        (lambda f, x, m: f.log_prob_given(x / 0, m), InvalidInput, "x is NaN or infinite where"),
        (lambda f, x, m: f.log_prob_given(x * math.nan, m | True), InvalidInput, "it was measured"),
        (lambda f, x, m: f.train().objective(x[:0]), InvalidInput, "x has no rows"),
        (lambda f, x, m: flows.masked((1, 3)), InvalidInput, r"expected \(C, H, W\)"),
        (lambda f, x, m: flows.masked((1, 3, 0)), InvalidInput, r"event_shape\[2\] is 0"),
        (lambda f, x, m: flows.masked((1, 3, 2), blocks=0), InvalidInput, "blocks is 0"),
        (lambda f, x, m: flows.masked((1, 3, 2), width=0), InvalidInput, "width is 0"),
        (lambda f, x, m: flows.masked((1, 3, 2), depth=0), InvalidInput, "depth"),
        (lambda f, x, m: flows.masked((1, 3, 2), bins=1), InvalidInput, "bins is 1"),
    ],
)
def test_bad_input(make, call, error, message):
    with pytest.raises(error, match=message):
        call(make(), uniform(2, 1, 3, 2), SOME)


def test_outside_and_nan(make):
    flow, x = make(), uniform(3, 1, 3, 2)
    x[0, 0, 0, 1], x[1, 0, 0, 1] = 1.5, math.nan
    log_p = flow.log_prob_given(x, SOME)
    assert log_p[0] == -math.inf and log_p[1].isnan() and log_p[2].isfinite()


@pytest.mark.parametrize("n", [1, 4])
def test_the_mean_of_n_draws_errs_by_one_and_one_nth(make, n):
    # Truth and draws from one law; a z-test with a false alarm once in 1e6.
    flow = make(blocks=2)
    image = uniform(1, 1, 3, 2).expand(6000, 1, 3, 2)
    truth = flow.sample_given(image, SOME, 1, seed=1)[0][0]
    mean = flow.sample_given(image, SOME, n, seed=2)[0].mean(0)
    centre = truth.mean(0)
    error = (mean - truth).square().flatten(1).sum(1)
    least = (truth - centre).square().flatten(1).sum(1)
    gap = error - (1 + 1 / n) * least
    assert abs(gap.mean()) < 4.8916 * gap.std() / len(gap) ** 0.5
