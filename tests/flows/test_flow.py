"""The flow: its likelihood against bare PyTorch and quadrature, its draws, its errors."""

import math

import pytest
import scipy.stats
import torch
from torch import nn

from likely import flows
from likely.errors import InvalidInput, InvalidType
from likely.seeds import borrowed_global_state, generator_for, seed_borrowed


def points(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator_for(seed), dtype=torch.float64).to(dtype)


@pytest.fixture
def flow(randomize):
    return randomize(flows.nice((1, 2, 3), width=16, depth=2, couplings=3)).double()


def bare(flow: flows.Flow, x: torch.Tensor, moved: list[slice], kept: list[slice]) -> torch.Tensor:
    """NICE once more, from the tensors in the flow's order and nothing of its code."""
    weights = [p.detach() for p in flow.parameters()]
    *networks, scale = weights
    each = len(networks) // len(moved)
    x = x.flatten(1).clone()
    for i, (m, k) in enumerate(zip(moved, kept, strict=True)):
        h, layers = x[:, k], networks[i * each : (i + 1) * each]
        for weight, bias in zip(layers[:-2:2], layers[1:-2:2], strict=True):
            h = (h @ weight.T + bias).clamp(min=0)
        x[:, m] += h @ layers[-2].T + layers[-1]
    z = x * scale.exp()
    return torch.from_numpy(scipy.stats.logistic.logpdf(z.numpy()).sum(1)) + scale.sum()


EVEN, ODD = slice(0, None, 2), slice(1, None, 2)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("dim", [6, 7])
@pytest.mark.parametrize("split", ["interleaved", "halves"])
@pytest.mark.parametrize(("depth", "couplings"), [(1, 2), (2, 3), (4, 5)])
def test_log_prob_is_nice(randomize, split, first, dim, depth, couplings):
    flow = flows.nice((dim,), width=8, depth=depth, couplings=couplings, split=split, first=first)
    randomize(flow, seed=1).double()
    low, high = (EVEN, ODD) if split == "interleaved" else (slice(0, dim // 2), slice(dim // 2, None))
    sides = [low, high] if first == 0 else [high, low]
    moved = [sides[i % 2] for i in range(couplings)]
    kept = [sides[(i + 1) % 2] for i in range(couplings)]
    x = points(4, dim)
    torch.testing.assert_close(flow.log_prob(x), bare(flow, x, moved, kept), rtol=1e-12, atol=1e-12)


def test_log_prob_of_an_untrained_nice_is_the_base_law():
    x = points(4, 1, 3, 3)
    truth = torch.from_numpy(scipy.stats.logistic.logpdf(x.numpy())).flatten(1).sum(1)
    flow = flows.nice((1, 3, 3), width=8, depth=2).double()
    torch.testing.assert_close(flow.log_prob(x), truth, rtol=1e-13, atol=0)


@torch.no_grad()
def test_density_integrates_to_one(randomize):
    flow = randomize(flows.nice((2,), width=8, depth=2), seed=3).double()
    assert abs(flow.bijection.parts[-1].log_scale.sum()) > 0.1
    line = torch.linspace(-40, 40, 801, dtype=torch.float64)
    density = flow.log_prob(torch.cartesian_prod(line, line)).exp().reshape(801, 801)
    # The density is continuous with kinks: the rule's error is of order step^2.
    integral = torch.trapezoid(torch.trapezoid(density, line), line).item()
    assert integral == pytest.approx(1.0, abs=1e-3)


def test_normal_base_law_through_a_known_map():
    scaling = flows.DiagonalScaling((3,)).double()
    scaling.log_scale.data.copy_(torch.tensor([0.5, -1.0, 2.0]))
    flow = flows.Flow(scaling, flows.StandardNormal((3,)), (3,))
    x = points(5, 3)
    truth = scipy.stats.norm.logpdf(x.numpy(), scale=(-scaling.log_scale.detach()).exp().numpy())
    torch.testing.assert_close(flow.log_prob(x), torch.from_numpy(truth.sum(1)), rtol=1e-13, atol=0)


def test_forward_is_log_prob(flow):
    x = points(4, 1, 2, 3)
    assert torch.equal(flow(x), flow.log_prob(x))


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_bits_per_dim(flow, levels):
    # -log2 of the mass p(x) / levels^D of one cell, divided by D.
    x = points(4, 1, 2, 3)
    expected = -(flow.log_prob(x) - 6 * math.log(levels)) / math.log(2) / 6
    torch.testing.assert_close(flow.bits_per_dim(x, levels), expected, rtol=1e-13, atol=1e-13)
    if levels == 256:
        assert torch.equal(flow.bits_per_dim(x), flow.bits_per_dim(x, 256))


def test_bits_per_dim_of_the_published_figure():
    class Constant(flows.Base):
        scale = 1.0

        def log_prob(self, z):
            return torch.full((z.shape[0],), 1980.50, dtype=z.dtype)

        def sample(self, n, generator, dtype):
            raise NotImplementedError

    scaling = flows.DiagonalScaling((1, 28, 28)).double()
    flow = flows.Flow(scaling, Constant((1, 28, 28)), (1, 28, 28))
    x = torch.zeros(1, 1, 28, 28, dtype=torch.float64)
    assert round(flow.bits_per_dim(x).item(), 3) == 4.356


def test_samples_repeat_with_the_seed_and_leave_the_global_state(flow, same_global_state):
    with same_global_state():
        x = flow.sample(5, seed=3)
        assert x.shape == (5, 1, 2, 3) and not x.requires_grad
        assert torch.equal(x, flow.sample(5, seed=3))
        assert not torch.equal(x, flow.sample(5, seed=4))
        assert torch.equal(x, flow.sample(5, generator=generator_for(3)))
        assert not torch.equal(flow.sample(5), flow.sample(5))


def test_a_generator_moves_on(flow):
    generator = generator_for(3)
    assert not torch.equal(flow.sample(5, generator=generator), flow.sample(5, generator=generator))


def test_samples_follow_the_density(randomize, assert_mean):
    # E_p[q(x) / p(x)] = 1 for any density q, here a normal one: it tests draws and density at once.
    flow = randomize(flows.nice((3,), width=8, depth=2), seed=5).double()
    x = flow.sample(20_000, seed=0)
    q = torch.distributions.Normal(0.2, 0.7).log_prob(x).sum(1)
    with torch.no_grad():
        assert_mean((q - flow.log_prob(x)).exp(), 1.0)
        # The latents of draws follow the base law; one test each, a false alarm once in 1e6.
        z = flow.bijection(x)
    assert scipy.stats.kstest(z.flatten().numpy(), "logistic").pvalue > 1e-6


def test_no_draws(flow):
    assert flow.sample(0, seed=0).shape == (0, 1, 2, 3)
    with pytest.raises(InvalidInput, match="n is -1"):
        flow.sample(-1)


def test_rsample_comes_with_its_log_prob(flow, same_global_state):
    with same_global_state():
        x, log_prob = flow.rsample_and_log_prob(5, seed=0)
    assert torch.equal(x.detach(), flow.sample(5, seed=0))
    torch.testing.assert_close(log_prob, flow.log_prob(x), rtol=1e-12, atol=1e-12)


def test_rsample_gradient_is_that_of_finite_differences(flow):
    parameters = list(flow.parameters())
    direction = [points(*p.shape, seed=i) for i, p in enumerate(parameters)]

    def value() -> torch.Tensor:
        x, log_prob = flow.rsample_and_log_prob(4, seed=0)
        return x.square().mean() + 0.1 * log_prob.mean()

    gradient = torch.autograd.grad(value(), parameters)
    slope = sum((g * d).sum() for g, d in zip(gradient, direction, strict=True)).item()
    ends, step = [], 1e-6
    with torch.no_grad():
        for sign in (1, -1):
            torch._foreach_add_(parameters, direction, alpha=sign * step)
            ends.append(value().item())
            torch._foreach_add_(parameters, direction, alpha=-sign * step)
    # Rounding gives 1e-16 / 1e-6, truncation 1e-12.
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-7)
    assert abs(slope) > 0.1


def test_distribution_view(flow):
    law = flow.distribution()
    assert law.batch_shape == () and law.event_shape == (1, 2, 3) and law.has_rsample
    x = points(4, 5, 1, 2, 3)
    expected = flow.log_prob(x.reshape(20, 1, 2, 3)).reshape(4, 5)
    assert torch.equal(law.log_prob(x), expected)
    assert law.log_prob(x[0, 0]).shape == ()
    assert law.support.check(x).all()
    with borrowed_global_state():
        seed_borrowed(7)
        draws = law.rsample((4, 5))
        again = law.sample((4, 5))
        seed_borrowed(7)
        assert torch.equal(law.sample((4, 5)), draws)
    # It draws from the global generator, as every torch law does, and moves it on.
    assert draws.shape == (4, 5, 1, 2, 3) and draws.requires_grad and not again.requires_grad
    assert not torch.equal(draws, again)
    assert law.sample().shape == (1, 2, 3)


def test_other_precisions_are_converted(flow):
    flow.float()
    x = points(4, 1, 2, 3)
    got = flow.log_prob(x)
    assert got.dtype == torch.float64
    assert torch.equal(got, flow.log_prob(x.float()).double())
    assert flow.log_prob(x.bfloat16()).dtype == torch.bfloat16
    assert flow.sample(2, seed=0).dtype == torch.float32


def test_float32_agrees_with_float64(flow):
    x = points(50, 1, 2, 3)
    exact = flow.log_prob(x)
    torch.testing.assert_close(flow.float().log_prob(x.float()).double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_integer_images_are_refused(flow, dtype):
    with pytest.raises(InvalidType, match="expected floating point"):
        flow.log_prob(torch.zeros(2, 1, 2, 3, dtype=dtype))


@pytest.mark.parametrize("shape", [(1, 2, 3), (2, 6), (2, 1, 3, 2), (2, 1, 1, 2, 3), ()])
def test_other_shapes_are_refused(flow, shape):
    with pytest.raises(InvalidInput, match=r"x has shape .*expected .*1, 2, 3\)"):
        flow.log_prob(torch.zeros(shape))


class Column(flows.Bijection):
    """x -> x, with its log-determinants in a column, which sums broadcast to (B, B)."""

    def forward_and_log_det(self, x):
        return x, x.new_zeros(len(x), 1)

    def inverse_and_log_det(self, z):
        return z, z.new_zeros(len(z), 1)


class Total(flows.Bijection):
    """x -> x, with one log-determinant for all rows, which sums broadcast to each."""

    def forward_and_log_det(self, x):
        return x, x.new_zeros(())

    def inverse_and_log_det(self, z):
        return z, z.new_zeros(())


@pytest.mark.parametrize(
    "bijection",
    [Column(), flows.Chain([Column(), Column()]), flows.Chain([Total(), flows.DiagonalScaling((4,))])],
)
@pytest.mark.parametrize("n", [1, 3])
def test_log_determinants_are_one_number_a_row(bijection, n):
    flow = flows.Flow(bijection, flows.StandardNormal((4,)), (4,))
    for call in (
        lambda: flow.log_prob(points(n, 4)),
        lambda: flow.rsample_and_log_prob(n, seed=0),
        lambda: flows.check(flow, points(n, 4)),
        lambda: flows.check(bijection, points(n, 4)),
    ):
        with pytest.raises(InvalidInput, match=rf"log_det of shape .*expected \({n},\)"):
            call()


def test_nan_weights_give_minus_infinity(flow):
    next(flow.parameters()).data.fill_(math.nan)
    assert flow.log_prob(points(2, 1, 2, 3)).tolist() == [-math.inf] * 2


def test_a_flow_without_parameters():
    flow = flows.Flow(flows.Reshape((4,), (2, 2)), flows.StandardNormal((2, 2)), (4,))
    x = points(3, 4, dtype=torch.float32)
    truth = scipy.stats.norm.logpdf(x.double().numpy()).sum(1)
    torch.testing.assert_close(flow.log_prob(x).double(), torch.from_numpy(truth), rtol=1e-6, atol=0)
    assert flow.sample(2, seed=0).shape == (2, 4)
    assert flow.distribution().sample((2,)).shape == (2, 4)


def test_log_prob_compiles_without_a_graph_break(flow):
    x = points(3, 1, 2, 3)
    torch._dynamo.reset()
    compiled = torch.compile(flow.log_prob, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), flow.log_prob(x), rtol=0, atol=1e-13)


def test_bfloat16_passes_keep_the_data_in_full_precision(randomize):
    # Only the networks run in bfloat16: with networks that answer zero nothing is rounded.
    flow = flows.nice((6,), width=8, depth=2)
    flow.bijection.parts[-1].log_scale.data.copy_(points(6))
    x = points(4, 6, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        value = flow(x)
    assert value.dtype == torch.float32 and torch.equal(value, flow(x))
    assert isinstance(flow, nn.Module)
