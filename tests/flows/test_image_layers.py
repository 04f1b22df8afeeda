"""ActNorm, squeezing, leaving channels, preprocessing, splits, transforms: each does what it says."""

import math
import subprocess
import sys
import warnings

import pytest
import torch

from likely import flows
from likely.errors import InvalidInput
from likely.flows import ActNorm, FactorOut, Logit, NotInitialised, Permutation, Reshape, Squeeze


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_actnorm_normalises_its_first_batch_and_no_other():
    norm = ActNorm(3)
    x = 5 * draw(40, 3, 2, 4) + 7
    z = norm(x)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(z.std((0, 2, 3), correction=0), torch.ones(3), rtol=0, atol=1e-5)
    before = norm.state_dict()
    norm(100 * x)
    assert all(torch.equal(v, before[k]) for k, v in norm.state_dict().items())


def test_actnorm_takes_a_constant_channel():
    norm = ActNorm(1)
    assert norm(torch.full((4, 1, 2, 2), 3.0)).abs().max() == 0 and norm.log_scale.item() < 5


@pytest.mark.parametrize(
    "call",
    [
        lambda norm: norm.eval()(torch.ones(2, 3, 4, 4)),
        lambda norm: norm.inverse(torch.ones(2, 3, 4, 4)),
        lambda norm: norm.eval().inverse(torch.ones(2, 3, 4, 4)),
        lambda norm: norm(torch.ones(0, 3, 4, 4)),
    ],
)
def test_actnorm_without_data_is_refused(call):
    with pytest.raises(NotInitialised, match=r"seen no data.*training mode first"):
        call(ActNorm(3))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.parametrize(
    "call",
    [
        lambda norm, p, x: torch.func.functional_call(norm, p, (x,)),
        lambda norm, p, x: torch.func.vmap(lambda row: norm(row[None])[0])(x),
        lambda norm, p, x: torch.func.jacrev(norm)(x),
        lambda norm, p, x: torch.func.jvp(norm, (x,), (x,)),
        lambda norm, p, x: torch.func.grad(lambda y: norm(y).sum())(x),
    ],
)
def test_actnorm_takes_no_first_batch_under_torch_func(call):
    norm, x = ActNorm(2), draw(5, 2, 3, 1)
    swapped = {k: p.detach().clone() for k, p in norm.named_parameters()}
    with pytest.raises(NotInitialised, match=r"first .*outside of torch\.func"):
        call(norm, swapped, x)
    assert not norm.initialised and not any(p.any() for p in swapped.values())
    norm(x)
    call(norm, swapped, x)


def test_actnorm_takes_its_first_batch_compiled():
    norm, plain, x = ActNorm(2), ActNorm(2), draw(5, 2, 3, 1)
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        z = torch.compile(norm, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(z, plain(x), rtol=1e-6, atol=1e-6)
    assert norm.initialised and torch.equal(norm.bias, plain.bias)


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_actnorm_is_not_spoilt_by_a_first_batch_that_is_not_finite(odd):
    norm, x = ActNorm(2), draw(5, 2)
    with pytest.raises(InvalidInput, match=r"NaN or infinite.*first batch"):
        norm(torch.where(x == x[0, 0], odd, x))
    assert norm(x).isfinite().all()


def test_actnorm_keeps_in_its_state_that_it_saw_data():
    norm, fresh, other = ActNorm(2), ActNorm(2), ActNorm(2)
    x = draw(9, 2, 3, 1)
    norm(x)
    fresh.load_state_dict(norm.state_dict())
    assert torch.equal(fresh.eval()(x), norm.eval()(x))
    fresh.load_state_dict(other.state_dict())
    with pytest.raises(NotInitialised):
        fresh(x)


ONE_OF_TWO = """
import sys, torch
from likely.flows import ActNorm
rank, file, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", f"file://{file}", world_size=2, rank=rank)
x = torch.randn(7, 2, 3, 1, generator=torch.Generator().manual_seed(0))
norm = ActNorm(2)
norm(x[:3] if rank == 0 else x[3:])
torch.save(norm.state_dict(), out + str(rank))
torch.distributed.destroy_process_group()
"""


def test_actnorm_of_two_processes_is_that_of_all_their_data(tmp_path):
    arguments = [str(tmp_path / "meet"), str(tmp_path / "out")]
    runs = [
        subprocess.Popen([sys.executable, "-W", "ignore", "-c", ONE_OF_TWO, str(rank), *arguments])
        for rank in (0, 1)
    ]
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    first, second = (torch.load(f"{arguments[1]}{rank}", weights_only=True) for rank in (0, 1))
    alone = ActNorm(2)
    alone(draw(7, 2, 3, 1))
    for name, expected in alone.state_dict().items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], expected, rtol=0, atol=1e-6)


def test_squeeze_is_pixel_unshuffle():
    x = draw(2, 3, 4, 6)
    assert torch.equal(Squeeze()(x), torch.nn.functional.pixel_unshuffle(x, 2))
    z = Squeeze(3, 1)(draw(1, 1, 6, 5))
    assert z.shape == (1, 3, 2, 5) and torch.equal(z[0, 1], draw(1, 1, 6, 5)[0, 0, 1::3])


def test_factor_out_keeps_the_first_channels():
    x = draw(2, 3, 2, 5)
    z = FactorOut((3, 2, 5), 1, flows.Chain([Permutation([1, 0]), Reshape((2, 2, 5), (20,))]))(x)
    assert torch.equal(z, x[:, [0, 2, 1]].flatten(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logit_is_defined_on_the_closed_interval_and_minus_infinity_outside(dtype):
    layer = Logit()
    x = torch.tensor([[0.0, 1.0], [-0.2, 0.5], [0.5, 1.2], [math.nan, 0.5]], dtype=dtype)
    x.requires_grad_()
    z, log_det = layer.forward_and_log_det(x)
    assert z[:3].isfinite().all() and log_det[0].isfinite()
    assert log_det[1] == -math.inf and log_det[2] == -math.inf and log_det[3].isnan()
    (log_det[:3].sum() + z[:3].sum()).backward()
    assert x.grad[:3].isfinite().all()


@pytest.mark.parametrize("margin", [1e-6, 1e-4, 0.05])
def test_logit_keeps_its_digits_at_both_ends(margin):
    end = torch.rand(100, 20, generator=torch.Generator().manual_seed(0)) / 256
    for x in (end, 1 - end):
        z, log_det = Logit(margin).forward_and_log_det(x)
        z64, log_det64 = Logit(margin).forward_and_log_det(x.double())
        torch.testing.assert_close(z.double(), z64, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(log_det.double(), log_det64, rtol=1e-5, atol=1e-4)


def test_density_outside_the_support_is_minus_infinity(randomize):
    flow = flows.realnvp((1, 2, 4), 1, width=4, depth=0)
    x = torch.rand(3, 1, 2, 4, generator=torch.Generator().manual_seed(0))
    flow(x)
    x[1, 0, 0, 0] = 1.5
    log_p = flow.eval().log_prob(x)
    assert log_p[1] == -math.inf and log_p[[0, 2]].isfinite().all()


@pytest.mark.parametrize("moved", [0, 1])
def test_checkerboard_moves_its_cells_only(moved):
    board, x = flows.Checkerboard(moved), draw(2, 2, 3, 4)
    part, kept = board.split(x)
    cells = torch.tensor([[(i + j) % 2 == moved for j in range(4)] for i in range(3)])
    assert torch.equal(part, x) and torch.equal(kept, x * ~cells)
    assert torch.equal(board.merge(part, kept), x)
    assert torch.equal(board.merge(part + 1, kept), x + cells)
    assert torch.equal(board.only_moved(x), x * cells)


def test_spline_is_monotone_continuous_and_the_identity_outside():
    spline = flows.Spline(bins=6, limit=2.0)
    raw = draw(spline.parameters, 1).expand(-1, 4001).double()
    x = torch.linspace(-3, 3, 4001, dtype=torch.float64)
    z, log_slope = spline.forward(x, raw)
    assert (z.diff() > 0).all() and torch.equal(z[x.abs() > 2], x[x.abs() > 2])
    # The slopes are those of the values: they integrate to the length of the interval, and locally.
    middle = (log_slope[1:] + log_slope[:-1]).div(2).exp() * x.diff()
    assert middle.sum().item() == pytest.approx(6, rel=1e-3)
    assert (z.diff() / middle - 1).abs().median() < 1e-4
    back, negative = spline.inverse(z, raw)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-10)
    torch.testing.assert_close(negative, -log_slope, rtol=0, atol=1e-7)


def test_spline_far_outside_stays_finite_with_its_gradients():
    spline = flows.Spline(bins=3)
    x = torch.tensor([-1e30, -3.0, 3.0, 1e30], requires_grad=True)
    raw = (50 * draw(spline.parameters, 4)).requires_grad_()
    for function in (spline.forward, spline.inverse):
        value, log_slope = function(x, raw)
        assert value.isfinite().all() and log_slope.isfinite().all()
        gradients = torch.autograd.grad((value.sigmoid() + log_slope).sum(), (x, raw))
        assert all(g.isfinite().all() for g in gradients)


def test_scales_of_affine_couplings_are_bounded():
    _, log_scale = flows.Affine(bound=1.5).forward(torch.ones(2), torch.tensor([[1e9, -1e9], [0, 0]]))
    assert log_scale.tolist() == [1.5, -1.5]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ActNorm(0), "channels is 0"),
        (lambda: ActNorm(3)(torch.ones(2, 4, 1, 1)), r"expected \(B, 3, ...\)"),
        (lambda: Squeeze(0), "height is 0"),
        (lambda: Squeeze()(torch.ones(1, 1, 3, 4)), "H a multiple of 2"),
        (lambda: Squeeze().inverse(torch.ones(1, 3, 3, 4)), "C a multiple of 4"),
        (lambda: FactorOut((3, 2, 2), 3, Reshape((1,), (1,))), "1 to C - 1"),
        (lambda: Permutation([0, 2]), r"order is \[0, 2\]"),
        (lambda: Permutation([1, 0])(torch.ones(1, 3)), r"expected \(B, 2, ...\)"),
        (lambda: Logit(0.5), "margin is 0.5"),
        (lambda: flows.Checkerboard(2), "moved is 2"),
        (lambda: flows.Spline(bins=1), "bins=1"),
        (lambda: flows.Affine(bound=0.0), "bound is 0"),
        (lambda: flows.ConvNet(1, 0), "outputs is 0"),
        (lambda: flows.ResidualConvNet(1, 1, depth=0), "depth is 0"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(InvalidInput, match=message):
        make()
