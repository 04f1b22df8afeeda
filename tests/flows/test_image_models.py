"""RealNVP and Glow: any size, saved and loaded, trained with less memory, compiled, in float32."""

import math
import warnings

import pytest
import torch

import likely
from likely import flows
from likely.errors import InvalidInput

SIZES = [(1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 27, 31), (3, 5, 7), (1, 5, 7), (1, 1, 2)]
MODELS = {
    "glow": lambda shape: flows.glow(shape, steps=1, width=8),
    "glow-spline": lambda shape: flows.glow(shape, steps=1, width=8, depth=1, coupling="spline"),
    "glow-plu": lambda shape: flows.glow(shape, steps=1, width=8, coupling="plu"),
    "realnvp": lambda shape: flows.realnvp(shape, width=8, depth=0),
}


def images(shape, n=4, seed=0):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def trained(randomize):
    """Away from initialisation, but not so far that random networks make the data explode."""

    def make(flow, seed=0):
        x = images(flow.event_shape)
        flow(x)
        fresh = [p.detach().clone() for p in flow.parameters()]
        randomize(flow, seed)
        with torch.no_grad():
            for p, was in zip(flow.parameters(), fresh, strict=True):
                p.copy_(was + 0.1 * p)
        return flow.eval()

    return make


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_any_size_inverts_in_float32(trained, name, shape):
    flow = trained(MODELS[name](shape))
    x = images(shape, n=2)
    with torch.no_grad():
        z, log_det = flow.bijection.forward_and_log_det(x)
        back, negative = flow.bijection.inverse_and_log_det(z)
    assert z.shape == (2, x[0].numel())
    torch.testing.assert_close(back, x, rtol=0, atol=1e-4)
    torch.testing.assert_close(negative, -log_det, rtol=1e-5, atol=1e-3)
    assert flow.sample(3, seed=0).shape == (3, *shape)


def test_levels_and_squeezes_are_those_documented():
    kinds = [type(m).__name__ for m in flows.glow((1, 28, 28), steps=1, width=4).modules()]
    assert kinds.count("Squeeze") == 2 and kinds.count("FactorOut") == 1
    kinds = [type(m).__name__ for m in flows.glow((3, 64, 64), levels=3, steps=1, width=4).modules()]
    assert kinds.count("Squeeze") == 3 and kinds.count("FactorOut") == 2
    kinds = [type(m).__name__ for m in flows.glow((3, 5, 7), steps=1, width=4).modules()]
    assert kinds.count("Squeeze") == 0 and kinds.count("FactorOut") == 0


def test_glow_of_depth_32_inverts_in_float32(trained):
    flow = trained(flows.glow((1, 28, 28), levels=2, steps=16, width=16))
    assert sum(isinstance(m, flows.PLUConv) for m in flow.modules()) == 32
    x = images((1, 28, 28))
    with torch.no_grad():
        back = flow.bijection.inverse(flow.bijection(x))
    torch.testing.assert_close(back, x, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_of_half_precision_networks_stays_exact(trained, name):
    # Autocast rounds what the networks answer, and never the data: the inverse still inverts.
    flow = trained(MODELS[name]((3, 4, 6)))
    x = images((3, 4, 6))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        z, log_det = flow.bijection.forward_and_log_det(x)
        back = flow.bijection.inverse(z)
    assert z.dtype == log_det.dtype == torch.float32
    # A network that sees its input rounded otherwise may answer otherwise in its last bfloat16 digit.
    assert (back - x).abs().median() < 1e-5 and (back - x).abs().max() < 0.1


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded(trained, tmp_path, name):
    flow = trained(MODELS[name]((2, 4, 6)))
    likely.save(flow, tmp_path / "it.safetensors")
    again = likely.load(tmp_path / "it.safetensors")
    x = images((2, 4, 6))
    assert again.config == flow.config and torch.equal(again.log_prob(x), flow.log_prob(x))


@pytest.mark.parametrize("name", [*MODELS, "nice", "nsf", "masked"])
@pytest.mark.parametrize("value", [math.inf, -math.inf, 3e38])
def test_infinite_entries_have_no_density_and_touch_nothing_else(trained, name, value):
    vectors = {"nice": flows.nice, "nsf": flows.nsf}
    make = MODELS | {k: lambda shape, of=of: of(shape, width=8) for k, of in vectors.items()}
    make["masked"] = lambda shape: flows.masked(shape, width=8, bins=5)
    shape = (4,) if name == "nsf" else (2, 4, 6)
    flow = trained(make[name](shape))
    x = images(shape, n=3)
    others = flow.log_prob(x)[[0, 2]]
    x[1].view(-1)[3] = value
    log_p = flow.log_prob(x)
    assert log_p[1] == -math.inf or (value == 3e38 and log_p[1] < -1e35)
    assert log_p[[0, 2]].isfinite().all()
    torch.testing.assert_close(log_p[[0, 2]], others, rtol=1e-5, atol=1e-4)
    x[1].view(-1)[3] = math.nan
    assert flow.log_prob(x).isnan().tolist() == [False, True, False]


def test_an_untrained_model_says_so_in_evaluation(tmp_path):
    flow = flows.glow((1, 4, 4), steps=1, width=4)
    for call in (lambda: flow.eval().log_prob(images((1, 4, 4))), lambda: flow.train().sample(1)):
        with pytest.raises(flows.NotInitialised, match="seen no data"):
            call()


@pytest.mark.parametrize("kind", ["affine", "spline", "plu", "realnvp"])
@pytest.mark.parametrize("frozen", [False, True])
def test_recomputed_gradients_are_the_ordinary_ones(trained, kind, frozen):
    pair = [
        flows.realnvp((1, 4, 6), width=8, depth=1, reversible=reversible)
        if kind == "realnvp"
        else flows.glow((1, 4, 6), 2, 2, width=8, coupling=kind, reversible=reversible)
        for reversible in (False, True)
    ]
    plain, reversible = (trained(flow).double() for flow in pair)
    reversible.load_state_dict(plain.state_dict())
    found = []
    for flow in (plain, reversible):
        if frozen:
            next(flow.parameters()).requires_grad_(False)
        x = images((1, 4, 6)).double().requires_grad_()
        value = flow.log_prob(x)
        weights = [p for p in flow.parameters() if p.requires_grad]
        first = torch.autograd.grad(value.square().sum(), [x, *weights], create_graph=True)
        second = torch.autograd.grad(
            first[0].square().sum() + first[-1].square().sum() + value.sum(), [x, *weights]
        )
        found.append([value, *torch.autograd.grad(flow.log_prob(x).square().sum(), x), *first, *second])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-9)


def test_a_reversible_chain_keeps_only_both_its_ends():
    kept = []
    parts = [flows.PLUConv(2) for _ in range(20)]
    x = images((2, 8, 8)).requires_grad_()
    for reversible in (False, True):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t) or t, lambda t: t):
            flows.Chain(parts, reversible=reversible)(x)
        kept.append(sum(t.numel() for t in sizes if t.numel() >= x.numel()))
    assert kept[0] >= 20 * x.numel() and kept[1] == 2 * x.numel()


@pytest.fixture
def chains(randomize):
    rest = randomize(flows.nice((2, 2, 2), width=8, depth=1, couplings=2)).bijection.parts
    parts = [randomize(flows.PLUConv(2)), *rest]
    return [flows.Chain(parts, reversible=reversible).double() for reversible in (False, True)]


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.parametrize(
    "derive",
    [
        lambda f, p, x: torch.func.grad(lambda *at: f(*at).square().sum(), argnums=(0, 1))(p, x),
        lambda f, p, x: torch.func.grad(lambda y: f(None, y).square().sum())(x),
        lambda f, p, x: torch.func.jacrev(f, argnums=(0, 1))(p, x),
        lambda f, p, x: torch.func.vmap(lambda row: torch.func.hessian(f, 1)(p, row[None]))(x),
        lambda f, p, x: torch.func.jvp(f, (p, x), (p, x)),
        lambda f, p, x: torch.autograd.grad(f(p, x).square().sum(), [x, *p.values()]),
    ],
)
def test_a_reversible_chain_is_an_ordinary_one_to_torch_func(chains, derive):
    x = images((2, 2, 2))[:2].double().requires_grad_()
    others = {k: (v + 0.1).detach().requires_grad_() for k, v in chains[0].named_parameters()}
    found = []
    for chain in chains:

        def f(p, y, chain=chain):
            return chain(y) if p is None else torch.func.functional_call(chain, p, (y,))

        found.append(derive(f, others, x))
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_a_reversible_chain_has_forward_mode_derivatives(chains):
    x = images((2, 2, 2)).double()
    with torch.autograd.forward_ad.dual_level():
        at = torch.autograd.forward_ad.make_dual(x, x)
        one, two = (torch.autograd.forward_ad.unpack_dual(chain(at)).tangent for chain in chains)
    assert torch.equal(one, two) and one.any()


def test_a_reversible_chain_refuses_weights_that_changed_before_its_gradient(chains):
    x = images((2, 2, 2)).double().requires_grad_()
    z = chains[1](x)
    with torch.no_grad():
        next(chains[1].parameters()).mul_(2)
    with pytest.raises(InvalidInput, match="weights of a reversible chain were changed"):
        z.sum().backward()
    other = {k: torch.nn.Parameter(v + 0.1) for k, v in chains[1].named_parameters()}
    z = torch.func.functional_call(chains[1], other, (x,))
    with pytest.raises(InvalidInput, match="or replaced"):
        z.sum().backward()


def replica(module):
    """As nn.DataParallel makes them on its devices: tensors for parameters, and none registered."""
    new = module._replicate_for_data_parallel()
    for name, p in module._parameters.items():
        setattr(new, name, p.clone())
    new._modules = {name: replica(child) for name, child in module._modules.items()}
    return new


def test_replicas_of_a_reversible_chain_pass_gradients_on(chains):
    x = images((2, 2, 2)).double()
    found = []
    for chain in chains:
        value = replica(chain)(x).square().sum()
        found.append(torch.autograd.grad(value, list(chain.parameters()), allow_unused=True))
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-12)


class Stretch(flows.Elementwise):
    """z = x exp(raw + weight)."""

    parameters = 1

    def __init__(self, weight):
        self.weight = weight

    def forward(self, x, raw):
        return x * (raw[0] + self.weight).exp(), (raw[0] + self.weight).expand(x.shape)

    def inverse(self, z, raw):
        return z * (-raw[0] - self.weight).exp(), (-raw[0] - self.weight).expand(z.shape)


def test_a_reversible_chain_differentiates_weights_of_a_transform():
    weight, network = torch.nn.Parameter(torch.tensor(0.3)), torch.nn.Linear(2, 2)
    coupling = flows.Coupling(flows.interleaved(0), Stretch(weight), network)
    coupling.register_parameter("weight", weight)
    found = []
    for reversible in (False, True):
        chain = flows.Chain([coupling], reversible=reversible).double()
        z, log_det = chain.forward_and_log_det(images((4,)).double())
        found.append(torch.autograd.grad(z.square().sum() + log_det.sum(), list(chain.parameters())))
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-12)


def test_a_reversible_chain_refuses_dropout():
    with pytest.raises(InvalidInput, match="cannot have dropout"):
        flows.glow((1, 4, 4), 1, 1, width=4, depth=1, dropout=0.1, reversible=True)


@pytest.mark.parametrize("name", MODELS)
def test_log_prob_of_each_row_by_vmap(trained, name):
    flow = trained(MODELS[name]((1, 5, 7)))
    x = images((1, 5, 7))
    each = torch.func.vmap(lambda row: flow.log_prob(row[None])[0])(x)
    torch.testing.assert_close(each, flow.log_prob(x), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", ["affine", "spline", "plu"])
def test_log_prob_and_its_gradient_compile_whole(trained, kind):
    flow = trained(flows.glow((1, 4, 4), 1, 1, width=4, coupling=kind))
    x = images((1, 4, 4))
    torch._dynamo.reset()
    results = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(flow.log_prob, fullgraph=True, backend="aot_eager")
        for function in (flow.log_prob, compiled):
            given = x.clone().requires_grad_()
            value = function(given)
            results.append([value, *torch.autograd.grad(value.sum(), [given, *flow.parameters()])])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: flows.glow((28, 28)), r"\(28, 28\); expected \(C, H, W\)"),
        (lambda: flows.glow((1, 1, 1)), "at least 2 entries"),
        (lambda: flows.glow((1, 4, 4), levels=0), "levels is 0"),
        (lambda: flows.glow((1, 4, 4), steps=0), "steps is 0"),
        (lambda: flows.glow((1, 4, 4), coupling="additive"), "coupling is 'additive'"),
        (lambda: flows.glow((1, 4, 4), preprocess="whiten"), "preprocess is 'whiten'"),
        (lambda: flows.glow((1, 4, 4), width=0), "width is 0"),
        (lambda: flows.realnvp((1, 4, 4), levels=0), "levels is 0"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(InvalidInput, match=message):
        make()
