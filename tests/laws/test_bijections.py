"""One registry of bijections, and the laws that each of them obeys."""

import inspect
import math
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from likely import flows
from likely.errors import InvalidType, LikelyError
from likely.flows import (
    ActNorm,
    AdditiveCoupling,
    Bijection,
    Centred,
    Chain,
    Coupling,
    DiagonalScaling,
    FactorOut,
    Inverse,
    Logit,
    Permutation,
    PLUConv,
    PLUCoupling,
    Reshape,
    Squeeze,
)


def coupling(split: flows.Split, dim: int) -> AdditiveCoupling:
    moved, kept = split.sizes(dim)
    return AdditiveCoupling(split, flows.MLP(kept, moved, width=12, depth=2))


def chain() -> Chain:
    return Chain(
        [
            Reshape((1, 2, 3), (6,)),
            coupling(flows.interleaved(1), 6),
            DiagonalScaling((6,)),
            Inverse(coupling(flows.halves(6, 0), 6)),
            Reshape((6,), (3, 2)),
            DiagonalScaling((3, 2)),
        ]
    )


def of_images(split: flows.Partition, transform: flows.Elementwise, moved: int, kept: int) -> Coupling:
    network = flows.ResidualConvNet(kept, moved * transform.parameters, width=8, depth=1, size=(3, 4))
    return Coupling(split, transform, network)


class Given(Bijection):
    """A flow of missing entries as a map of whole rows: measured ones stay as they are."""

    def __init__(self, shape: tuple[int, ...], *observed: int) -> None:
        super().__init__()
        self.flow = flows.masked(shape, width=4, depth=1, bins=5, blocks=3)
        self.observed = torch.zeros(math.prod(shape), dtype=torch.bool)
        self.observed[list(observed)] = True
        self.observed = self.observed.view(shape)

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.flow.forward_and_log_det(x, self.observed)

    def inverse_and_log_det(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.flow.inverse_and_log_det(z, self.observed)


NETWORKS = (AdditiveCoupling, Coupling, PLUCoupling)

# Name -> how to build it, and the shape of one row. Weights are drawn by `build`.
REGISTRY: dict[str, tuple[Callable[[], Bijection], tuple[int, ...]]] = {
    "reshape": (lambda: Reshape((1, 2, 3), (3, 2)), (1, 2, 3)),
    "scaling": (lambda: DiagonalScaling((2, 3)), (2, 3)),
    **{
        f"coupling-{name}-{moved}-of-{dim}": (
            lambda make=make, dim=dim, moved=moved: coupling(make(dim, moved), dim),
            (dim,),
        )
        for name, make in (
            ("even-odd", lambda dim, moved: flows.interleaved(moved)),
            ("halves", flows.halves),
        )
        for moved in (0, 1)
        for dim in (6, 7)
    },
    "coupling-of-images": (lambda: coupling(flows.interleaved(0), 5), (2, 3, 5)),
    "chain": (chain, (1, 2, 3)),
    "inverse-of-scaling": (lambda: Inverse(DiagonalScaling((5,))), (5,)),
    "inverse-of-chain": (lambda: Inverse(chain()), (3, 2)),
    **{
        f"{kind}-{name}": (
            lambda t=transform, s=split, m=moved, k=kept: of_images(s, t, m, k),
            (3, 3, 4),
        )
        for kind, transform in (("affine", flows.Affine()), ("spline", flows.Spline(bins=5)))
        for name, split, moved, kept in (
            ("channels", flows.channel_halves(3, 1), 2, 1),
            ("checkerboard", flows.Checkerboard(1), 3, 3),
        )
    },
    "affine-of-rows": (
        lambda: Coupling(flows.interleaved(0), flows.Affine(), flows.MLP(3, 8, width=12, depth=2)),
        (7,),
    ),
    "plu-conv": (lambda: PLUConv(3), (3, 4, 5)),
    "plu-conv-of-blocks": (lambda: PLUConv(129), (129, 1, 1)),
    "plu-coupling": (lambda: PLUCoupling(6, permutation=[2, 0, 1]), (6, 3, 4)),
    "plu-coupling-a-matrix-a-pixel": (
        lambda: PLUCoupling(4, flows.ConvNet(2, 4, width=8), permutation=[1, 0]),
        (4, 3, 5),
    ),
    "actnorm": (lambda: ActNorm(3), (3, 2, 5)),
    "actnorm-of-rows": (lambda: ActNorm(4), (4,)),
    "squeeze": (Squeeze, (2, 4, 6)),
    "squeeze-of-odd-sides": (lambda: Squeeze(3, 1), (1, 9, 5)),
    "factor-out": (
        lambda: FactorOut((3, 2, 3), 1, Chain([PLUConv(2), Reshape((2, 2, 3), (12,))])),
        (3, 2, 3),
    ),
    "permutation": (lambda: Permutation([2, 0, 1]), (3, 2, 4)),
    "centred": (Centred, (2, 3, 4)),
    "logit": (Logit, (2, 3, 4)),
    "reversible-chain": (
        lambda: Chain([ActNorm(2), PLUConv(2), PLUCoupling(2)], reversible=True),
        (2, 3, 4),
    ),
    "glow": (lambda: flows.glow((1, 6, 4), levels=2, steps=2, width=8).bijection, (1, 6, 4)),
    "glow-spline": (
        lambda: (
            flows.glow((2, 2, 3), 1, steps=1, width=8, depth=1, coupling="spline", bins=4).bijection
        ),
        (2, 2, 3),
    ),
    "glow-plu": (
        lambda: flows.glow((3, 2, 4), steps=1, width=8, coupling="plu", reversible=True).bijection,
        (3, 2, 4),
    ),
    "glow-of-odd-size": (
        lambda: flows.glow((1, 5, 7), steps=2, width=8, preprocess="logit").bijection,
        (1, 5, 7),
    ),
    "realnvp": (lambda: flows.realnvp((1, 2, 6), 1, width=8, depth=1).bijection, (1, 2, 6)),
    "realnvp-of-odd-size": (
        lambda: flows.realnvp((2, 1, 5), width=8, depth=0, preprocess="none").bijection,
        (2, 1, 5),
    ),
    "nice": (lambda: flows.nice((1, 3, 3), width=12, depth=2, couplings=3).bijection, (1, 3, 3)),
    "masked": (lambda: Given((1, 3, 2)), (1, 3, 2)),
    "masked-given": (lambda: Given((2, 3, 2), 0, 1, 5, 7), (2, 3, 2)),
    "nsf": (lambda: flows.nsf((3,), width=8, depth=1, couplings=2, bins=4).bijection, (3,)),
    "nice-halves": (
        lambda: flows.nice((7,), width=12, depth=1, couplings=4, split="halves", first=1).bijection,
        (7,),
    ),
}

names = pytest.mark.parametrize("name", REGISTRY)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


@pytest.fixture
def build(randomize):
    def make(name: str, dtype: torch.dtype = torch.float64, seed: int = 0) -> Bijection:
        with torch.random.fork_rng():  # permutations and signs are drawn as well
            torch.manual_seed(seed)
            built = REGISTRY[name][0]()
            built(rows(name, torch.float32))  # in training mode, so that ActNorm sees data
        return randomize(built, seed).to(dtype).eval()

    return make


def rows(name: str, dtype: torch.dtype = torch.float64, batch: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, *REGISTRY[name][1], generator=generator, dtype=torch.float64)
    of_pixels = name in ("logit", "glow-of-odd-size") or name.startswith(("realnvp", "glow", "masked"))
    return (x.sigmoid() if of_pixels else x).to(dtype)


def log_det_by_autograd(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The definition: the Jacobian of each row on its own, entry by entry, and its determinant."""
    result = []
    for row in x:
        dims = row.numel()
        jacobian = torch.autograd.functional.jacobian(lambda r: function(r[None])[0], row)
        result.append(torch.linalg.slogdet(jacobian.reshape(dims, dims))[1])
    return torch.stack(result)


def test_every_bijection_and_model_is_in_the_registry():
    classes = {
        c
        for c in vars(flows).values()
        if inspect.isclass(c) and issubclass(c, Bijection) and not inspect.isabstract(c)
    }
    registered = {type(make()) for make, _ in REGISTRY.values()}
    assert classes <= registered, f"add to REGISTRY: {classes - registered}"
    assert set(flows.MODELS) <= set(REGISTRY), f"add to REGISTRY: {set(flows.MODELS) - set(REGISTRY)}"


@names
def test_weights_are_not_trivial(build, name):
    # A law that holds for the identity says little; only Reshape may be one.
    bijection, x = build(name), rows(name)
    moved = (bijection(x).reshape(x.shape) - x).abs().max()
    assert moved > 0.05 or not list(bijection.parameters())


@names
@dtypes
def test_round_trip_both_ways(build, name, dtype):
    bijection, x = build(name, dtype), rows(name, dtype)
    tolerance = {torch.float32: 1e-4, torch.float64: 1e-11}[dtype]
    z = bijection(x)
    torch.testing.assert_close(bijection.inverse(z), x, rtol=tolerance, atol=tolerance)
    there = rows(name, dtype).reshape(z.shape)
    torch.testing.assert_close(
        bijection(bijection.inverse(there)), there, rtol=tolerance, atol=tolerance
    )


@names
def test_log_det_is_that_of_the_jacobian(build, name):
    bijection, x = build(name), rows(name)
    z, log_det = bijection.forward_and_log_det(x)
    assert log_det.shape == (3,)
    truth = log_det_by_autograd(bijection, x)
    torch.testing.assert_close(log_det, truth, rtol=0, atol=1e-10)
    inverse_log_det = bijection.inverse_and_log_det(z)[1]
    assert inverse_log_det.shape == (3,)
    truth = log_det_by_autograd(bijection.inverse, z)
    torch.testing.assert_close(inverse_log_det, truth, rtol=0, atol=1e-10)


@names
@dtypes
def test_inverse_log_det_is_the_negative(build, name, dtype):
    bijection, x = build(name, dtype), rows(name, dtype)
    z, log_det = bijection.forward_and_log_det(x)
    # Of the sums themselves, which are rounded where they are large, as of their terms.
    eps = 100 * torch.finfo(dtype).eps
    torch.testing.assert_close(bijection.inverse_and_log_det(z)[1], -log_det, rtol=eps, atol=eps)


@names
def test_values_agree_with_the_pair(build, name):
    bijection, x = build(name), rows(name)
    assert torch.equal(bijection(x), bijection.forward_and_log_det(x)[0])
    z = bijection(x)
    assert torch.equal(bijection.inverse(z), bijection.inverse_and_log_det(z)[0])


@names
def test_batch_is_a_loop_over_rows(build, name):
    bijection, x = build(name), rows(name, batch=5)
    for function, given in (
        (bijection.forward_and_log_det, x),
        (bijection.inverse_and_log_det, bijection(x).detach()),
    ):
        value, log_det = function(given)
        loop = [function(row[None]) for row in given]
        torch.testing.assert_close(value, torch.cat([v for v, _ in loop]), rtol=0, atol=1e-13)
        torch.testing.assert_close(log_det, torch.cat([d for _, d in loop]), rtol=0, atol=1e-13)


@names
def test_empty_batch(build, name):
    bijection, x = build(name), rows(name, batch=0)
    z, log_det = bijection.forward_and_log_det(x)
    assert z.shape[0] == 0 and log_det.shape == (0,)
    back, log_det = bijection.inverse_and_log_det(z)
    assert back.shape == x.shape and log_det.shape == (0,)


CHANGES = {
    "a single row": lambda x: x[0],
    "twice the channels": lambda x: torch.cat([x, x], 1),
    "one channel": lambda x: x[:, :1],
    "one column": lambda x: x[..., :1],
    "one column more": lambda x: torch.cat([x, x[..., :1]], -1),
    "sides in another order": lambda x: x.transpose(1, -1),
    "integers": lambda x: (4 * x).long(),
    "another precision": lambda x: x.float(),
}


@names
@pytest.mark.parametrize("change", CHANGES)
def test_other_rows_are_refused_or_mapped_as_they_should(build, name, change):
    bijection, x = build(name), rows(name)
    for way, back, given in (
        ("forward", "inverse", x),
        ("inverse", "forward", bijection(x).detach()),
    ):
        other = CHANGES[change](given)
        if other.shape == given.shape and other.dtype == given.dtype:
            continue
        try:
            z, log_det = getattr(bijection, f"{way}_and_log_det")(other)
            again, negative = getattr(bijection, f"{back}_and_log_det")(z)
        except LikelyError:
            continue
        except (RuntimeError, IndexError):
            # Which shapes a network inside a coupling refuses is its own affair.
            assert other.dtype == given.dtype
            assert any(isinstance(m, NETWORKS) for m in bijection.modules())
            continue
        assert z.numel() == other.numel() and log_det.shape == other.shape[:1]
        torch.testing.assert_close(again, other.to(again.dtype), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(negative, -log_det, rtol=1e-4, atol=1e-4)


@names
def test_arguments_are_left_alone(build, name):
    bijection, x = build(name), rows(name)
    z = bijection(x).detach()
    x_before, z_before = x.clone(), z.clone()
    bijection.forward_and_log_det(x)
    bijection.inverse_and_log_det(z)
    assert torch.equal(x, x_before) and torch.equal(z, z_before)


@names
@dtypes
def test_dtype_is_kept(build, name, dtype):
    bijection, x = build(name, dtype), rows(name, dtype)
    z, log_det = bijection.forward_and_log_det(x)
    back, inverse_log_det = bijection.inverse_and_log_det(z)
    assert {t.dtype for t in (z, log_det, back, inverse_log_det)} == {dtype}


@names
@pytest.mark.parametrize(
    "device",
    [
        "meta",
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
        ),
    ],
)
def test_device_is_kept(build, name, device):
    # The meta device holds no values, and refuses to mix with tensors made on the CPU by mistake.
    if name.startswith("masked") and device == "meta":
        pytest.skip("which entries are missing decides shapes, so values are needed")
    bijection, x = build(name).to(device), rows(name).to(device)
    z, log_det = bijection.forward_and_log_det(x)
    back, inverse_log_det = bijection.inverse_and_log_det(z)
    assert {t.device.type for t in (z, log_det, back, inverse_log_det)} == {device}
    assert back.shape == x.shape and log_det.shape == inverse_log_det.shape == (3,)


@names
def test_state_dict_round_trip(build, name):
    bijection, fresh, x = build(name), build(name, seed=1), rows(name)
    if list(bijection.parameters()):
        assert not torch.equal(bijection(x), fresh(x))
    fresh.load_state_dict(bijection.state_dict())
    for a, b in zip(bijection.forward_and_log_det(x), fresh.forward_and_log_det(x), strict=True):
        assert torch.equal(a, b)


@names
def test_gradients_reach_every_parameter(build, name):
    bijection, x = build(name), rows(name)
    z, log_det = bijection.forward_and_log_det(x)
    if list(bijection.parameters()):
        (z.square().sum() + log_det.sum()).backward()
    assert all(p.grad is not None and p.grad.any() for p in bijection.parameters())


# The parts of the image models compile each by itself; glow is compiled whole in test_image_models.
# Which entries are missing decides the shapes of a masked flow: its network is compiled in test_masked.
@pytest.mark.parametrize(
    "name", [n for n in REGISTRY if not n.startswith(("glow", "realnvp", "masked"))]
)
def test_compiles_without_a_graph_break(build, name):
    bijection, x = build(name), rows(name)
    torch._dynamo.reset()
    # The backend "eager" traces as every backend does, and needs no C++ compiler.
    with warnings.catch_warnings():
        # What torch says about its own parts while it traces is not about this library.
        warnings.simplefilter("ignore")
        forward = torch.compile(bijection.forward_and_log_det, fullgraph=True, backend="eager")
        inverse = torch.compile(bijection.inverse_and_log_det, fullgraph=True, backend="eager")
        compiled = forward(x)
        back = inverse(compiled[0].detach())
    for got, plain in zip(compiled, bijection.forward_and_log_det(x), strict=True):
        torch.testing.assert_close(got, plain, rtol=0, atol=1e-14)
    plain = bijection.inverse_and_log_det(compiled[0].detach())
    for got, expected in zip(back, plain, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("moved", [0, 1])
@pytest.mark.parametrize("dim", [2, 6, 7])
def test_splits_place_entries_where_they_say(dim, moved):
    x = torch.arange(float(dim))
    first = {"interleaved": x[0::2], "halves": x[: dim // 2]}
    second = {"interleaved": x[1::2], "halves": x[dim // 2 :]}
    for name, split in (
        ("interleaved", flows.interleaved(moved)),
        ("halves", flows.halves(dim, moved)),
    ):
        parts = (first[name], second[name])
        got_moved, got_kept = split.split(x)
        assert torch.equal(got_moved, parts[moved]) and torch.equal(got_kept, parts[1 - moved])
        assert split.sizes(dim) == (len(got_moved), len(got_kept))
        assert torch.equal(split.merge(got_moved, got_kept), x)


def test_additive_coupling_adds_a_function_of_the_kept_entries():
    network = torch.nn.Linear(2, 2).double()
    x = rows("coupling-even-odd-0-of-6")[:, :4]
    even_moves = AdditiveCoupling(flows.interleaved(0), network)(x)
    torch.testing.assert_close(even_moves[:, 0::2], x[:, 0::2] + network(x[:, 1::2]), rtol=0, atol=0)
    assert torch.equal(even_moves[:, 1::2], x[:, 1::2])


@pytest.mark.parametrize("way", ["forward", "inverse"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        # Broadcast, the log-determinant of the second would be half of what it is.
        (lambda net: AdditiveCoupling(flows.interleaved(0), net(1)), r"\(3, 1\) .* expected \(3, 2\)"),
        (lambda net: Coupling(flows.interleaved(0), flows.Affine(), net(2)), r"expected \(3, 4\)"),
        (lambda net: Coupling(flows.interleaved(0), flows.Affine(), net(3)), r"expected \(3, 4\)"),
        (lambda net: Coupling(flows.interleaved(0), flows.Spline(3), net(8)), r"expected \(3, 16\)"),
    ],
)
def test_networks_of_another_width_are_refused(make, message, way):
    with pytest.raises(flows.bijection.InvalidInput, match=message):
        getattr(make(lambda width: torch.nn.Linear(2, width)), way)(torch.rand(3, 4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Chain([torch.nn.Linear(2, 2)]), r"parts\[0\] is a Linear; expected a bijection"),
        (lambda: Chain(Centred()), "parts is a Centred; expected a list"),
        (lambda: Inverse(Centred), "bijection is the class Centred; expected a bijection"),
        (lambda: FactorOut((2, 3, 5), 1, 3), "rest is a int; expected a bijection"),
        (lambda: flows.Flow(Centred, flows.StandardNormal((4,)), (4,)), "bijection is the class"),
        (lambda: flows.Flow(Centred(), flows.StandardNormal, (4,)), "base is the class StandardNormal"),
        (lambda: flows.nice(4), r"event_shape is a int; expected a shape, such as \(4,\)"),
        (lambda: flows.StandardNormal(4), "shape is a int; expected a shape"),
        (lambda: Logit("wide"), "margin is 'wide'"),
        (lambda: flows.nice((4,), dropout="some"), "dropout is 'some'"),
        (lambda: flows.Affine("wide"), "bound is 'wide'"),
        (lambda: Centred()(torch.zeros(1, 2, dtype=torch.uint8)), "x has dtype torch.uint8"),
        (lambda: flows.masked((1, 2, 2)).log_prob_given(torch.rand(1, 1, 2, 2), [True]), "is a list"),
    ],
)
def test_arguments_of_another_kind_are_refused(make, message):
    with pytest.raises(InvalidType, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: flows.nice((1, 2.0, 2)), r"event_shape\[1\] is 2.0"),
        (lambda: flows.nice((-2, -2)), r"event_shape\[0\] is -2"),
        (lambda: flows.masked((1, 2, 2), bins=4.5), "bins is 4.5"),
        (lambda: flows.nice((4,), couplings=2.5), "couplings is 2.5"),
        (lambda: Permutation([False, True]), "order is False"),
        (lambda: PLUCoupling(4, permutation=[0.5, 1.7]), "permutation is 0.5"),
        (lambda: PLUCoupling(4, bound=math.inf), "bound is inf; expected a finite"),
        (lambda: flows.Affine(math.inf), "bound is inf; expected a finite"),
        (lambda: flows.Spline(1001), "bins=1001.*2 to 999"),
        (lambda: flows.Spline(4, math.inf), "limit is inf; expected a finite"),
        (lambda: FactorOut((2, 3, 5), 1.5, Reshape((1,), (1,))), "channels is 1.5"),
        (lambda: odd_flow().log_prob(torch.rand(2, 4)), r"x has shape \(2, 4\); expected \(B, 3\)"),
        (lambda: odd_flow().sample(2), r"x has shape \(2, 3\); expected \(B, 4\)"),
        (lambda: flows.nice((2, 2)).distribution().log_prob(torch.rand(3, 4)), r"expected \(\.\.\., "),
        (lambda: flows.nice((2, 2)).bits_per_dim(torch.rand(3, 2, 2), 0), "levels is 0"),
    ],
)
def test_values_that_would_give_other_numbers_are_refused(make, message):
    with pytest.raises(LikelyError, match=message):
        make()


def odd_flow() -> flows.Flow:
    return flows.Flow(Centred(), flows.StandardNormal((3,)), (4,))


def test_bad_arguments_are_refused():
    with pytest.raises(flows.bijection.InvalidInput, match=r"\(1, 2, 3\) to \(5,\)"):
        Reshape((1, 2, 3), (5,))
    with pytest.raises(ValueError, match="at least one bijection"):
        Chain([])
    for split in (lambda: flows.interleaved(2), lambda: flows.halves(4, -1)):
        with pytest.raises(ValueError, match="expected 0"):
            split()


def test_reshape_is_row_major():
    x = torch.arange(6.0).reshape(1, 2, 3)
    assert Reshape((2, 3), (6,))(x).tolist() == [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]
    assert math.prod(Reshape((2, 3), (3, 2))(x).shape) == 6
