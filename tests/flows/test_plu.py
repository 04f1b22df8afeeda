"""The factorisation, the convolution and the coupling: known answers, caches, bad input."""

import copy
import io

import pytest
import torch

from likely import flows
from likely.errors import InvalidInput, InvalidType
from likely.flows import ActNorm, PLUConv, PLUCoupling, plu_compose, plu_factor
from likely.flows.triangular import factors


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (2, 3, 4, 4), (0, 3, 3)])
def test_factors_are_of_their_kinds_and_compose_to_the_matrix(shape):
    A = draw(*shape)
    P, L, U, s = plu_factor(A)
    torch.testing.assert_close(plu_compose(P, L, U, s), A, rtol=0, atol=1e-13)
    one = torch.eye(shape[-1], dtype=A.dtype)
    assert torch.equal(P @ P.mT, one.expand_as(P)) and ((P == 0) | (P == 1)).all()
    assert torch.equal(L.tril(-1) + one, L) and (L.abs() <= 1).all()
    assert torch.equal(U.triu(1), U)
    torch.testing.assert_close(s.abs().log().sum(-1), torch.linalg.slogdet(A)[1], rtol=0, atol=1e-12)


def test_a_matrix_that_needs_the_permutation():
    P, L, U, s = plu_factor(torch.tensor([[0.0, 2.0], [3.0, 1.0]]))
    assert P.tolist() == [[0, 1], [1, 0]] and L.tolist() == [[1, 0], [0, 1]]
    assert U.tolist() == [[0, 1], [0, 0]] and s.tolist() == [3, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_singular_matrices_are_refused(dtype):
    for rank in range(5):
        A = (draw(5, rank) @ draw(rank, 5)).to(dtype)
        with pytest.raises(InvalidInput, match="A is singular"):
            plu_factor(A)
    with pytest.raises(InvalidInput, match="A is singular"):
        plu_factor(torch.eye(3, dtype=dtype) * torch.finfo(dtype).smallest_normal / 1e4)
    with pytest.raises(InvalidInput, match="matrix 1 of A"):
        plu_factor(torch.stack([torch.eye(2), torch.ones(2, 2)]))


def test_badly_scaled_matrices_are_not_singular():
    A = torch.diag(torch.tensor([1.0, 1e-20, 1e20], dtype=torch.float64))
    assert torch.equal(plu_compose(*plu_factor(A)), A)


def test_bad_matrices():
    with pytest.raises(InvalidInput, match=r"\(2, 3\).*square"):
        plu_factor(torch.ones(2, 3))
    with pytest.raises(InvalidInput, match="NaN"):
        plu_factor(torch.full((2, 2), torch.nan))
    with pytest.raises(InvalidType, match="int64"):
        plu_factor(torch.eye(2, dtype=torch.int64))
    one = torch.eye(3)
    with pytest.raises(InvalidInput, match=r"L has shape \(2, 2\)"):
        plu_compose(one, torch.eye(2), one, torch.ones(3))


# One product an image, one product in all, and the factors apart.
@pytest.mark.parametrize("channels", [3, 130, 132])
def test_conv_is_the_dense_one_with_its_gradients(randomize, channels):
    conv = randomize(PLUConv(channels)).double()
    x, weight = draw(2, channels, 2, 3).requires_grad_(), draw(2, channels, 2, 3, seed=1)
    A = conv.matrix()
    z = torch.einsum("ij,bjhw->bihw", A, x)
    expected = torch.autograd.grad(
        (z * weight).sum() + 2 * 6 * torch.linalg.slogdet(A)[1], (x, conv.packed), retain_graph=True
    )
    for trained in (True, False):
        got, log_det = conv.train(trained).forward_and_log_det(x)
        torch.testing.assert_close(got, z, rtol=0, atol=1e-12)
        assert log_det.tolist() == pytest.approx([6 * torch.linalg.slogdet(A)[1].item()] * 2)
        found = torch.autograd.grad((got * weight).sum() + log_det.sum(), (x, conv.packed))
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
        back = conv.inverse(got)
        torch.testing.assert_close(back, x, rtol=0, atol=1e-10)


@pytest.mark.parametrize("channels", [3, 132])
def test_each_output_of_conv_has_its_gradients_alone(randomize, channels):
    conv = randomize(PLUConv(channels)).double()
    x = draw(2, channels, 2, 3).requires_grad_()
    (slope,) = torch.autograd.grad(conv.forward_and_log_det(x)[1].sum(), conv.packed)
    (dense,) = torch.autograd.grad(2 * 6 * torch.linalg.slogdet(conv.matrix())[1], conv.packed)
    torch.testing.assert_close(slope, dense, rtol=1e-9, atol=1e-9)
    got = torch.autograd.grad(conv(x).square().sum(), (x, conv.packed))
    z = torch.einsum("ij,bjhw->bihw", conv.matrix(), x)
    for a, b in zip(got, torch.autograd.grad(z.square().sum(), (x, conv.packed)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("channels", [3, 130, 132])
def test_second_derivatives_of_conv_are_those_of_the_dense_one(randomize, channels):
    conv = randomize(PLUConv(channels)).double()
    x = draw(2, channels, 2, 2).requires_grad_()

    def dense(x):
        A = conv.matrix()
        return torch.einsum("ij,bjhw->bihw", A, x), 4 * torch.linalg.slogdet(A)[1].expand(2)

    def twice(apply):
        z, log_det = apply(x)
        inputs = (x, conv.packed)
        first = torch.autograd.grad(z.pow(3).sum() + log_det.square().sum(), inputs, create_graph=True)
        return torch.autograd.grad(z.sum() + sum(g.square().sum() for g in first), inputs)

    for a, b in zip(twice(conv.forward_and_log_det), twice(dense), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("channels", [3, 132])
def test_conv_gives_gradients_for_each_row_by_vmap(randomize, channels):
    conv = randomize(PLUConv(channels)).double()
    x, packed = draw(3, channels, 2, 2), conv.packed.detach()

    def loss(packed, row):
        return torch.func.functional_call(conv, {"packed": packed}, (row[None],)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(packed, x)
    loop = torch.stack([torch.func.grad(loss)(packed, row) for row in x])
    torch.testing.assert_close(each, loop, rtol=1e-9, atol=1e-9)
    found = torch.func.vmap(lambda row: conv.forward_and_log_det(row[None]))(x)
    for rows, whole in zip(found, conv.forward_and_log_det(x), strict=True):
        torch.testing.assert_close(rows[:, 0], whole, rtol=0, atol=1e-9)


# torch's own rules for forward mode are scripts.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.parametrize("channels", [3, 132])
def test_conv_has_forward_mode_derivatives(randomize, channels):
    conv = randomize(PLUConv(channels)).double()
    x, packed = draw(2, channels, 1, 2), conv.packed.detach()
    along = draw(2, channels, 1, 2, seed=1), draw(channels, channels, seed=2)

    def apply(x, packed):
        return torch.func.functional_call(conv, {"packed": packed}, (x,))

    def dense(x, packed):
        lower, upper, _ = factors(packed, conv.sign, conv.bound)
        return torch.einsum("ij,bjhw->bihw", (lower @ upper)[conv.permutation], x)

    def products(f):
        def slope(x, packed):
            return torch.func.grad(lambda *at: f(*at).pow(3).sum(), argnums=(0, 1))(x, packed)

        first = torch.func.jvp(f, (x, packed), along)[1]
        second = torch.func.jvp(slope, (x, packed), along)[1]
        rows = torch.func.vmap(lambda v: torch.func.jvp(f, (x, packed), (v, along[1]))[1])
        return first, *second, rows(torch.stack([along[0], x]))

    for a, b in zip(products(apply), products(dense), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("channels", [3, 130, 132])
def test_conv_takes_images_in_any_layout_and_none(randomize, channels):
    conv = randomize(PLUConv(channels)).double()
    x = draw(2, channels, 2, 3)
    turned = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(conv(turned), conv(x), rtol=0, atol=1e-12)
    assert conv(x[:0]).shape == (0, channels, 2, 3)


# The compiler makes an instance of an autograd function, which torch itself warns of.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("channels", [3, 130, 132])
def test_conv_and_its_gradients_compile_as_one_graph(randomize, channels):
    conv = randomize(PLUConv(channels)).double()
    x = draw(2, channels, 2, 3).requires_grad_()

    def loss(x):
        z, log_det = conv.forward_and_log_det(x)
        return z.square().sum() + log_det.sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    found = torch.autograd.grad(compiled(x), (x, conv.packed))
    for a, b in zip(found, torch.autograd.grad(loss(x), (x, conv.packed)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_conv_starts_as_a_rotation_or_as_the_given_matrix():
    A = PLUConv(20).matrix()
    torch.testing.assert_close(A @ A.T, torch.eye(20), rtol=0, atol=1e-5)
    given = draw(4, 4).float()
    torch.testing.assert_close(PLUConv(4, given).matrix(), given, rtol=1e-5, atol=1e-5)


def test_a_weight_beyond_the_bound_is_refused_not_changed():
    given = torch.diag(torch.tensor([1.0, 100.0]))
    with pytest.raises(InvalidInput, match=r"up to 4\.61.*bound=4"):
        PLUConv(2, given, bound=4.0)
    torch.testing.assert_close(PLUConv(2, given, bound=5.0).matrix(), given, rtol=1e-5, atol=1e-5)


def test_log_s_is_bounded_whatever_the_weights():
    conv = PLUConv(3, bound=2.0)
    with torch.no_grad():
        conv.packed.fill_(1e6)
    _, log_det = conv.forward_and_log_det(torch.ones(1, 3, 1, 1))
    assert log_det.abs().item() <= 6.0 and conv.matrix().isfinite().all()


WAYS = {
    "a step of an optimizer": lambda c, other: step(c),
    "load_state_dict": lambda c, other: c.load_state_dict(other.state_dict()),
    "load_state_dict by assignment": lambda c, other: c.load_state_dict(
        other.state_dict(), assign=True
    ),
    "a write": lambda c, other: c.packed.detach().copy_(other.packed),
    "a write that is not counted": lambda c, other: c.packed.data.copy_(other.packed),
    "new data": lambda c, other: setattr(c.packed, "data", other.packed.data),
    "foreach": lambda c, other: torch._foreach_copy_([c.packed.detach()], [other.packed.detach()]),
    "another dtype": lambda c, other: c.float(),
}


def step(conv):
    optimizer = torch.optim.AdamW(conv.parameters(), lr=0.1, fused=True)
    conv.packed.grad = torch.ones_like(conv.packed)
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("way", WAYS)
def test_frozen_matrix_follows_its_weights(randomize, way):
    conv, other = (randomize(PLUConv(4), seed).double().eval() for seed in (0, 1))
    x = draw(2, 4, 1, 3)
    with torch.no_grad():
        before = conv(x), conv.inverse(x)
        assert conv._kept._value is not None, "nothing was kept"
        WAYS[way](conv, other)
        x = x.to(conv.packed.dtype)
        z = torch.einsum("ij,bjhw->bihw", conv.matrix(), x)
        torch.testing.assert_close(conv(x), z, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(conv.inverse(z), x, rtol=1e-4, atol=1e-5)
        if way != "another dtype":
            assert not torch.allclose(conv(x), before[0]) and not torch.allclose(
                conv.inverse(x), before[1]
            )


def test_frozen_matrix_is_formed_once_and_has_no_graph(randomize, monkeypatch):
    conv = randomize(PLUConv(4)).eval()
    x = draw(1, 4, 2, 2).float()
    with torch.no_grad():
        conv(x)
    kept = conv._kept._value
    conv.requires_grad_(False)
    x.requires_grad_()
    z, log_det = conv.forward_and_log_det(x)
    assert conv._kept._value is kept and z.requires_grad and not log_det.requires_grad
    assert not any(t.requires_grad for t in kept)
    # Training forgets it, copies and pickles start without it.
    assert copy.deepcopy(conv)._kept._value is None
    content = io.BytesIO()
    torch.save(conv, content)
    content.seek(0)
    assert torch.load(content, weights_only=False)._kept._value is None
    conv.train()(x)
    assert conv._kept._value is None


def test_what_inference_mode_keeps_can_be_differentiated_through(randomize):
    conv = randomize(PLUConv(3)).eval().requires_grad_(False)
    x = draw(1, 3, 2, 2).float()
    with torch.inference_mode():
        conv(x)
    x.requires_grad_()
    conv(x).sum().backward()
    assert x.grad is not None


def test_evaluation_still_gives_gradients_to_weights(randomize):
    conv = randomize(PLUConv(3)).eval()
    x = draw(1, 3, 2, 2).float()
    with torch.no_grad():
        conv(x)
    conv(x).square().sum().backward()
    assert conv.packed.grad is not None and conv.packed.grad.any()


def test_the_permutation_is_part_of_the_state():
    a, b = PLUConv(8), PLUConv(8)
    b.load_state_dict(a.state_dict())
    torch.testing.assert_close(a.matrix(), b.matrix(), rtol=0, atol=0)
    assert a.permutation.dtype == torch.int64


def test_coupling_is_its_formula(randomize):
    """Written out with `plu_compose`, row by row, from the network's packed output."""
    coupling = randomize(PLUCoupling(6, permutation=[2, 0, 1])).double()
    x = draw(4, 6, 2, 5)
    z, log_det = coupling.forward_and_log_det(x)
    assert torch.equal(z[:, :3], x[:, :3])
    P = torch.eye(3, dtype=x.dtype)[[2, 0, 1]]
    packed = coupling.network(x[:, :3]).reshape(4, 3, 3)
    for row in range(4):
        s = (2 * (packed[row].diagonal() / 2).tanh()).exp()
        A = plu_compose(P, packed[row].tril(-1) + torch.eye(3, dtype=x.dtype), packed[row].triu(1), s)
        torch.testing.assert_close(z[row, 3:], torch.einsum("ij,jhw->ihw", A, x[row, 3:]))
        assert log_det[row].item() == pytest.approx(10 * torch.linalg.slogdet(A)[1].item(), abs=1e-12)
    assert log_det.unique().numel() == 4, "the matrix depends on the row"


@pytest.mark.parametrize("size", [(1, 1), (3, 8), (7, 2)])
def test_coupling_starts_as_the_identity_at_any_size(size):
    x = torch.rand(2, 6, *size)
    z, log_det = PLUCoupling(6).forward_and_log_det(x)
    assert torch.equal(z, x) and torch.equal(log_det, torch.zeros(2))


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
@pytest.mark.parametrize("kind", ["conv", "coupling"])
def test_determinant_does_not_depend_on_how_images_are_laid_out(randomize, kind, order):
    """|det dh/dX| for rows read as (C, H, W), (H, W, C) or (W, C, H), in and out alike or not."""
    layer = randomize(PLUConv(4) if kind == "conv" else PLUCoupling(4)).double()
    x = draw(1, 4, 2, 3)
    inverse_order = [order.index(i) for i in range(3)]

    def on_rows(row, out_order):
        image = row.reshape([x.shape[1 + i] for i in order]).permute(inverse_order)
        return layer(image[None])[0].permute(out_order).flatten()

    row = x[0].permute(order).flatten()
    expected = layer.forward_and_log_det(x)[1].item()
    for out_order in (order, (0, 1, 2)):
        jacobian = torch.autograd.functional.jacobian(lambda r, o=out_order: on_rows(r, o), row)
        assert torch.linalg.slogdet(jacobian)[1].item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PLUConv(0), "channels is 0"),
        (lambda: PLUConv(2, bound=0.0), "bound is 0.0; expected a positive"),
        (lambda: PLUConv(2, bound=torch.inf), "bound is inf; expected a finite"),
        (lambda: flows.Squeeze(2, 0), "width is 0; expected an integer"),
        (lambda: flows.masked((2, 8)), r"event shape is \(2, 8\)"),
        (lambda: flows.UNet(1, 1, (8, 8), depth=(1, 2)), r"depth \(1, 2\); expected 2 sides and 3"),
        (lambda: PLUConv(2, torch.ones(2, 2)), "singular"),
        (lambda: PLUConv(2, torch.ones(3, 3)), r"weight has shape \(3, 3\)"),
        (lambda: PLUConv(3)(torch.ones(1, 4, 2, 2)), r"expected \(B, 3, H, W\)"),
        (lambda: PLUConv(3)(torch.ones(2, 3)), r"expected \(B, 3, H, W\)"),
        (lambda: flows.check(PLUConv(2), torch.ones(0, 2, 3, 3)), r"\(0, 2, 3, 3\).*one row or more"),
        (lambda: PLUCoupling(5), "even number of channels"),
        (lambda: PLUCoupling(4, permutation=[0, 0]), r"permutation is \[0, 0\]"),
        (lambda: PLUCoupling(4)(torch.ones(1, 6, 2, 2)), r"expected \(B, 4, H, W\)"),
        (
            lambda: PLUCoupling(4, flows.PooledConvNet(2, 3))(torch.ones(1, 4, 2, 2)),
            r"returned shape \(1, 3\).*expected \(1, 4\)",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(InvalidInput, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: PLUConv(2, [[1.0, 0.0], [0.0, 1.0]]),
            "weight is a list; expected a",
        ),
        (lambda: PLUConv(2.0), "channels is 2.0; expected an integer"),
        (lambda: PLUCoupling(4.0), "channels is 4.0; expected an integer"),
        (lambda: ActNorm(2.5), "channels is 2.5; expected an integer"),
        (lambda: flows.glow((3, 8, 8.0)), r"event_shape\[2\] is 8.0; expected an integer"),
        (lambda: flows.glow((3, 8, 8), levels=1.5), "levels is 1.5; expected an integer"),
        (lambda: flows.nice((1, 8, 8), width=10.5), "width is 10.5; expected an integer"),
        (lambda: PLUConv(2, torch.eye(2).long()), "weight has dtype torch.int64"),
        (lambda: PLUConv(2, bound="wide"), "bound is 'wide'; expected a number"),
        (lambda: plu_factor([[1.0]]), "A is a list; expected a floating-point tensor"),
        (lambda: plu_factor(torch.eye(2).half()), "A has dtype torch.float16; expected float32"),
        (lambda: plu_compose(*[torch.eye(2)] * 3, [1.0]), "s is a list; expected a floating-point"),
        (lambda: plu_compose(torch.eye(2).long(), *[torch.eye(2)] * 2, torch.ones(2)), "P has dtype"),
        (
            lambda: plu_compose(*[torch.eye(2)] * 3, torch.ones(2).double()),
            "P has dtype torch.float32 and s torch.float64; expected one dtype",
        ),
        (lambda: flows.glow(8), "event_shape is a int; expected a shape"),
        (lambda: flows.glow("abc"), "event_shape is a str; expected a shape"),
        (lambda: flows.check(3, torch.zeros(1, 2)), "a int was given; expected a flow or a bijection"),
        (lambda: flows.check(PLUConv(2), [1.0]), "x is a list; expected a floating-point tensor"),
        (lambda: flows.nice((4,), width=8).log_prob([1.0]), "x is a list; expected floating point"),
    ],
)
def test_arguments_of_another_kind(make, message):
    with pytest.raises(InvalidType, match=message):
        make()


@pytest.mark.parametrize("way", ["forward", "inverse"])
@pytest.mark.parametrize("channels", [2, 128])
@pytest.mark.parametrize("trains", [True, False])
def test_conv_refuses_images_of_another_precision(way, channels, trains):
    # Of triangular systems in two precisions torch solves another one, without a word.
    conv = PLUConv(channels).train(trains).requires_grad_(trains)
    with pytest.raises(InvalidType, match=r"x has dtype torch\.float64; expected torch\.float32"):
        getattr(conv, way)(torch.ones(1, channels, 2, 2).double())


@pytest.mark.parametrize("amd", [True, False])
@pytest.mark.parametrize("trains", [True, False])
@pytest.mark.parametrize("side", [4, 16])
def test_many_channels_whoever_made_the_processor(monkeypatch, amd, trains, side):
    monkeypatch.setattr("likely.flows.plu_conv.AMD", amd)
    conv = PLUConv(130).train(trains).requires_grad_(trains)
    x, g = draw(2, 3, 130, side, side).float()
    x.requires_grad_()
    z = conv(x)
    A = conv.matrix().detach().double()
    exact = torch.einsum("ij,bjhw->bihw", A, x.detach().double())
    torch.testing.assert_close(z.double(), exact, rtol=0, atol=1e-4)
    (g_x,) = torch.autograd.grad(z, x, g)
    exact = torch.einsum("ij,bihw->bjhw", A, g.double())
    torch.testing.assert_close(g_x.double(), exact, rtol=0, atol=1e-4)
    torch.testing.assert_close(conv.inverse(z), x, rtol=0, atol=1e-3)


@pytest.mark.parametrize("trains", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("make", [PLUConv, PLUCoupling])
def test_inverses_in_half_precision(randomize, make, dtype, trains):
    layer = randomize(make(4)).to(dtype).train(trains).requires_grad_(trains)
    x = draw(2, 4, 3, 3).to(dtype)
    back = layer.inverse(layer(x))
    assert back.dtype == dtype
    torch.testing.assert_close(back, x, rtol=0, atol=60 * torch.finfo(dtype).eps)
