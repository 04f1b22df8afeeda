"""The one verb: seeds, blocks, proposals, sampling, stopping and bad input."""

import math
import warnings

import joblib
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch import distributions as d
from torch.distributions import Bernoulli, Normal, Poisson, Uniform

from likely import compare, exact, expect, flows
from likely.errors import InvalidInput, InvalidType, LikelyError
from likely.expectations import (
    Antithetic,
    Auto,
    Mixed,
    Mixture,
    Path,
    Score,
    Sobol,
    choose,
    law_of,
    rel,
)
from likely.expectations.torch_law import GENERATED

P = Normal(torch.tensor(0.0).double(), torch.tensor(1.0).double())
SIX = Normal(torch.tensor(5.0).double(), torch.tensor(1.0).double())
Z_BOUND = 4.8916
"""A standard normal exceeds it in absolute value with probability 1e-6."""


def assert_mean(e: object, truth: float) -> None:
    assert abs(e.mean.item() - truth) < Z_BOUND * e.stderr.item(), (e, truth)


def test_a_seed_decides_and_the_global_state_stays(same_global_state) -> None:
    with same_global_state():
        for how in ({}, {"grad": "score"}, {"via": SIX}, {"sampling": Sobol()}, {"grad": "auto"}):
            leaf = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
            p = Normal(leaf, 1.0)
            one, two, other = (
                expect(lambda x: x.sin(), p, n=64, seed=s, **how).mean for s in (1, 1, 2)
            )
            assert torch.equal(one, two) and not torch.equal(one, other)
        generator = torch.Generator().manual_seed(3)
        again = torch.Generator().manual_seed(3)
        first, second = (expect(torch.sin, P, n=10, generator=generator).mean for _ in range(2))
        assert not torch.equal(first, second)
        assert torch.equal(first, expect(torch.sin, P, n=10, generator=again).mean)
        free = [expect(torch.sin, P, n=10).mean for _ in range(2)]
        assert not torch.equal(*free)


def test_rare_events_by_a_shifted_proposal() -> None:
    e = expect(lambda x: x > 5, P, n=4000, via=SIX, seed=0)
    assert_mean(e, stats.norm.sf(5))
    assert e.stderr / e.mean < 0.05 and not e.warnings


def test_a_list_is_the_balance_heuristic_and_with_p_in_it_bounded() -> None:
    e = expect(lambda x: x > 5, P, n=4000, via=[SIX, P], seed=0)
    assert_mean(e, stats.norm.sf(5))
    assert e.bound == 2.0
    # By hand: the draws of an equal mixture, weighted by p over it.
    seen: list[Tensor] = []
    expect(lambda x: (seen.append(x), x)[1], P, n=4000, via=[SIX, P], seed=0)
    x = seen[0]
    mixture = 0.5 * SIX.log_prob(x).exp() + 0.5 * P.log_prob(x).exp()
    by_hand = ((x > 5) * P.log_prob(x).exp() / mixture).mean()
    torch.testing.assert_close(e.mean, by_hand, rtol=1e-12, atol=0)
    assert abs((x > 2.5).double().mean().item() - 0.5) < Z_BOUND * 0.5 / math.sqrt(4000)
    bounded = expect(lambda x: torch.ones_like(x), P, n=2000, via=Mixture([SIX, P], [0.9, 0.1]))
    assert bounded.moments.tail.max() * bounded.moments.scale.exp() <= 10 + 1e-9


def test_an_unnormalised_law_needs_normalising() -> None:
    class Unnormalised:
        def log_prob(self, x: Tensor) -> Tensor:
            return P.log_prob(x) + 3.0

        def sample(self, n: int) -> Tensor:
            raise RuntimeError("never drawn")

    q = Normal(torch.tensor(0.3).double(), 1.5)
    e = expect(Tensor.square, Unnormalised(), n=20_000, via=q, normalise=True, seed=0)
    assert_mean(e, 1.0)
    raw = expect(Tensor.square, Unnormalised(), n=20_000, via=q, seed=0)
    assert_mean(raw, math.exp(3))


def test_the_bias_of_self_normalised_weights_is_of_order_one_over_n() -> None:
    # E over copies; the leading term is -Cov(w, w (f - mean)) / n = -E_p[w (f - mean)] / n.
    copies = torch.zeros(200_000, dtype=torch.float64)
    p, q = Normal(copies, 1.0), Normal(copies + 1, 1.0)
    bias = {}
    for n in (8, 32):
        mean = expect(lambda x: x, p, n=n, via=q, normalise=True, batched=True, seed=0).mean
        bias[n] = (mean.mean().item(), mean.std().item() / math.sqrt(len(copies)))
    # w = exp(1/2 - x): E_p[w x] = -e.
    assert bias[32][0] == pytest.approx(math.e / 32, rel=0.5)
    assert bias[8][0] > 2 * bias[32][0] > 0


@pytest.mark.parametrize("law", [P, Uniform(-1.0, 3.0), d.Exponential(2.0), d.Laplace(0.3, 2.0)])
def test_every_way_of_sampling_has_the_same_mean(law: d.Distribution) -> None:
    plain = expect(torch.sin, law, n=20_000, seed=0)
    for sampling in (Antithetic(), Sobol(16)):
        e = expect(torch.sin, law, n=16 * 512, seed=0, sampling=sampling)
        gap = (e.mean - plain.mean).abs()
        assert gap < Z_BOUND * (e.stderr.square() + plain.stderr.square()).sqrt()
        assert e.n == 16 * 512


def test_sampling_pays_where_it_should() -> None:
    def error(sampling: object) -> float:
        return expect(Tensor.exp, P, n=4096, seed=0, sampling=sampling).stderr.item()

    assert error(Sobol(16)) < error(Antithetic()) < error(None)
    coins = Bernoulli(torch.tensor([0.3, 0.6]).double())
    e = expect(lambda b: b.sum(1), coins, n=4096, seed=0, sampling=Sobol())
    assert_mean(e, 0.9)
    pair = d.MultivariateNormal(torch.zeros(2).double(), torch.tensor([[1.0, 0.5], [0.5, 2]]).double())
    e = expect(lambda x: x.prod(1), pair, n=4096, seed=0, sampling=Sobol())
    assert_mean(e, 0.5)


def test_flows_and_plain_objects_are_laws(same_global_state) -> None:
    torch.manual_seed(0)
    flow = flows.nice((2,), width=8, depth=1, couplings=2)

    class Plain:
        """Draws from the global state, as most code does."""

        def sample(self, n: int) -> Tensor:
            return torch.randn(n, 2)

        def log_prob(self, x: Tensor) -> Tensor:
            return Normal(0.0, 1.0).log_prob(x).sum(1)

    with same_global_state():
        e = expect(lambda x: x.square().sum(1), flow, n=500, via=[Plain(), flow], seed=0)
        again = expect(lambda x: x.square().sum(1), flow, n=500, via=[Plain(), flow], seed=0)
        assert torch.equal(e.mean, again.mean) and e.mean.isfinite()
    for grad in ("score", "path", "auto"):
        flow.zero_grad()
        expect(lambda x: x.square().sum(1), flow, n=20, grad=grad, seed=0).mean.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in flow.parameters())
    with pytest.raises(InvalidInput, match="no rsample_and_log_prob"):
        expect(lambda x: x.sum(1), Plain(), n=20, grad="path", seed=0)


def test_a_zuko_flow_is_a_law() -> None:
    zuko = pytest.importorskip("zuko")
    torch.manual_seed(0)
    flow = zuko.flows.MAF(features=2, hidden_features=(4,))
    for grad in ("score", "path"):
        flow.zero_grad()
        e = expect(lambda x: x.square().sum(1), flow(), n=50, grad=grad, seed=0)
        e.mean.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in flow.parameters())
    one, two = (expect(lambda x: x[:, 0], flow(), n=50, via=[flow(), flow()], seed=3) for _ in "ab")
    assert torch.equal(one.mean, two.mean)


def test_under_no_grad_there_are_values_only() -> None:
    leaf = torch.tensor(0.2, requires_grad=True)
    with torch.no_grad():
        for grad in (None, "score", "path", "weak", "auto", Score("optimal")):
            e = expect(torch.sin, Normal(leaf, 1.0), n=16, grad=grad, seed=0)
            assert not e.mean.requires_grad
    assert not expect(torch.sin, Normal(leaf, 1.0), n=16, seed=0).mean.requires_grad


def same(a: object, b: object) -> bool:
    return all(
        torch.equal(getattr(a.moments, k), getattr(b.moments, k)) for k in ("a", "aa", "hits", "tail")
    )


def test_workers_change_nothing() -> None:
    def f(x: Tensor) -> Tensor:
        return x > 1

    how = {"n": 5000, "block": 600, "seed": 4}
    alone = expect(f, P, **how)
    assert same(alone, expect(f, P, workers=2, **how))
    stop = rel(0.05, block=500)
    alone = expect(f, P, until=stop, seed=4)
    assert same(alone, expect(f, P, until=stop, seed=4, workers=3)) and alone.n < 10_000


def test_dask_draws_the_same() -> None:
    from dask.distributed import Client, LocalCluster

    alone = expect(Tensor.square, P, n=4000, block=1000, seed=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of dask's own start and end
        cluster = LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
        )
        with cluster, Client(cluster), joblib.parallel_config(backend="dask"):
            assert same(alone, expect(Tensor.square, P, n=4000, block=1000, seed=4, workers=2))


def test_workers_carry_no_graph() -> None:
    leaf = torch.tensor(0.2, requires_grad=True)
    with pytest.raises(InvalidInput, match="workers"):
        expect(torch.sin, Normal(leaf, 1.0), n=10, grad="score", workers=2)


class TestBadInput:
    """Errors at the door say what was given and what to do."""

    leaf = torch.tensor(0.3, requires_grad=True)

    @pytest.mark.parametrize(
        "f, words",
        [
            (lambda x: x.sum(), r"shape \(\).*expected \(10,\)"),
            (lambda x: x[:5], r"shape \(5,\)"),
            (lambda x: x / 0, "NaN or infinite values for 10 of 10"),
            (lambda x: torch.where(x > x.mean(), x, torch.nan), "NaN or infinite"),
        ],
    )
    def test_results_of_f(self, f: object, words: str) -> None:
        with pytest.raises(InvalidInput, match=words):
            expect(f, P, n=10, seed=0)
        with pytest.raises(InvalidType, match="f returned a float"):
            expect(lambda x: 1.0, P, n=10)
        with pytest.raises(InvalidType, match="f is a int"):
            expect(3, P, n=10)

    def test_laws(self) -> None:
        for p in (3, None, lambda x: x):
            with pytest.raises(InvalidType, match=r"expected a torch\.distributions law"):
                expect(torch.sin, p, n=10)
        with pytest.raises(InvalidInput, match="batched=True"):
            expect(torch.sin, flows.nice((2,), width=4), n=10, batched=True)
        with pytest.raises(InvalidInput, match="batch shape"):
            expect(torch.sin, Normal(torch.zeros(3), 1.0), n=10, via=P, batched=True)

    @pytest.mark.parametrize(
        "grad, law, words",
        [
            ("path", Poisson(leaf.exp()), "no rsample"),
            ("weak", d.Beta(leaf.exp(), 1.0), "no weak derivative of Beta"),
            ("weak", d.Laplace(leaf, 1.0), "no weak derivative of Laplace loc"),
            ("enumerate", Poisson(leaf.exp()), "no finite support"),
            ("enumerate", Bernoulli(logits=leaf.expand(30)), r"2\^30 points"),
            ("score", P, "depends on a tensor that requires gradients"),
            ("path", P, "depends on a tensor that requires gradients"),
            ("weak", P, "depends on a tensor that requires gradients"),
            (Mixed({"loc": Path()}), Normal(leaf, leaf.exp()), "scale"),
            ("best", P, "expected None or one of"),
        ],
    )
    def test_estimators_that_do_not_apply(self, grad: object, law: object, words: str) -> None:
        with pytest.raises(InvalidInput, match=words):
            expect(lambda x: x.reshape(len(x), -1).sum(1), law, n=10, grad=grad, seed=0)

    def test_path_through_a_jump(self) -> None:
        for f in (lambda x: x > 0, lambda x: (x > 0).float()):
            with pytest.raises(InvalidInput, match="zero gradients"):
                expect(f, Normal(self.leaf, 1.0), n=10, grad="path", seed=0)

    def test_baselines(self) -> None:
        p = Normal(self.leaf, 1.0)
        with pytest.raises(InvalidInput, match="n=1 makes 1 independent"):
            expect(torch.sin, p, n=1, grad="score", seed=0)
        with pytest.raises(InvalidInput, match="baseline is for"):
            expect(torch.sin, p, n=10, grad="path", baseline="loo")
        with pytest.raises(InvalidInput, match="baseline is 'best'"):
            expect(torch.sin, p, n=10, grad="score", baseline="best")

    def test_proposals(self) -> None:
        with pytest.raises(InvalidInput, match="supports do not meet"):
            expect(lambda x: x, Uniform(0.0, 1.0), n=50, via=Uniform(2.0, 3.0), seed=0)
        for grad in ("path", "weak", "enumerate"):
            with pytest.raises(InvalidInput, match="via"):
                expect(lambda x: x, Normal(self.leaf, 1.0), n=50, via=P, grad=grad, seed=0)
        with pytest.raises(InvalidInput, match="one positive share"):
            Mixture([P], [0.0])
        with pytest.raises(InvalidInput, match="one positive share"):
            expect(lambda x: x, P, via=[])

    @pytest.mark.parametrize("how", [{"n": 0}, {"n": 2.5}, {"seed": -1}, {"workers": 0}, {"block": -1}])
    def test_numbers(self, how: dict) -> None:
        error = InvalidType if how == {"n": 2.5} else InvalidInput
        with pytest.raises(error, match=f"{next(iter(how))} is"):
            expect(torch.sin, P, **how)

    def test_sampling(self) -> None:
        with pytest.raises(InvalidInput, match="even"):
            expect(torch.sin, P, n=3, sampling=Antithetic())
        with pytest.raises(InvalidInput, match="multiple of the 16"):
            expect(torch.sin, P, n=20, sampling=Sobol())
        with pytest.raises(InvalidInput, match="icdf"):
            expect(torch.sin, d.Gamma(1.0, 1.0), n=20, sampling=Antithetic())
        with pytest.raises(InvalidInput, match="integer of 2 or more"):
            Sobol(1)
        with pytest.raises(InvalidInput, match="tolerance"):
            rel(0.0)


def test_a_proposal_may_leave_the_support() -> None:
    law = d.Exponential(torch.tensor(1.0).double())
    wide = Normal(torch.tensor(1.0).double(), 2.0)
    e = expect(lambda x: x.log(), law, n=20_000, via=wide, seed=0)  # NaN where p vanishes
    assert_mean(e, -0.5772156649)


@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize("family", GENERATED, ids=lambda family: family.__name__)
def test_families_with_a_generator_draw_what_torch_draws(family: type, attached: bool) -> None:
    start = torch.linspace(0.2, 0.8, 6, dtype=torch.float64).reshape(2, 3).requires_grad_()
    law = family(start, 2 * start) if family is Normal else family(start)
    if attached and not law.has_rsample:
        return
    with torch.random.fork_rng():
        torch.manual_seed(4)
        wanted = law.rsample((50,)) if law.has_rsample else law.sample((50,))
    found = law_of(law).draw(50, 4, attached)
    assert found.requires_grad is attached
    torch.testing.assert_close(found.detach(), wanted.detach(), rtol=1e-15, atol=1e-15)
    if attached:
        one, two = (
            torch.autograd.grad((x**2).sum(), start, retain_graph=True)[0] for x in (found, wanted)
        )
        torch.testing.assert_close(one, two, rtol=1e-13, atol=0)


@pytest.mark.parametrize("grad", [None, "score", "path", "weak", "enumerate"])
def test_a_function_that_writes_into_its_draws_is_refused(grad: str | None) -> None:
    p = Bernoulli(torch.tensor([0.3, 0.3], requires_grad=True))
    if grad == "path":
        p = Normal(torch.tensor([0.3, 0.3], requires_grad=True), 1.0)
    with pytest.raises(InvalidInput, match="f changes its argument in place"):
        expect(lambda x: x.mul_(2).sum(1), p, n=4, grad=grad)
    with torch.inference_mode():
        assert expect(lambda x: x.sum(1), p, n=4, seed=0).mean.isfinite()


def test_messages_name_what_is_wrong() -> None:
    with pytest.raises(InvalidType, match="via is a str"):
        expect(lambda x: x, Normal(0.0, 1.0), via="normal")
    p = Bernoulli(logits=torch.tensor(math.inf, requires_grad=True))
    with pytest.raises(InvalidInput, match=r"log p\(x\) of Bernoulli is NaN"):
        expect(lambda x: x, p, n=4, grad="score")


@pytest.mark.parametrize(
    "given, message",
    [
        ({"grad": Score}, "grad is the class Score; expected"),
        ({"grad": "score", "baseline": Score}, "baseline is the class Score"),
        ({"via": Normal}, "via is the class Normal"),
        ({"sampling": Sobol}, "sampling is the class Sobol; expected a value"),
        ({"until": rel}, "until is the class rel; expected a rule"),
        ({"grad": Mixed({"loc": Score(), "skale": Path()})}, "'skale'.*the arguments .*'scale'"),
        ({"via": Poisson(1.0)}, "one of Normal .p. and Poisson .via. is discrete"),
        ({"via": [P, Poisson(1.0)]}, "one of Normal .p. and Poisson .via. is discrete"),
        ({"n": 4096, "block": 1001, "sampling": Antithetic()}, "1001 draws at once .*block.*even"),
        ({"until": rel(0.1, block=1001), "sampling": Sobol()}, "1001 draws at once .*block.*16"),
        ({"n": 4096, "block": 1001, "sampling": Sobol()}, "1001 draws at once .*block.*16"),
    ],
)
def test_messages_speak_of_what_was_given(given: dict, message: str) -> None:
    with pytest.raises(LikelyError, match=message):
        expect(torch.square, Normal(torch.zeros((), requires_grad=True), 1.0), **given)


ONE = Normal(torch.zeros((), requires_grad=True), 1.0)
PAIR = Mixture([P, Normal(torch.zeros(2), 1.0)])


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: compare(torch.square, ONE, Score(), [ONE.loc]),
            "estimators is a Score; expected a list",
        ),
        (lambda: compare(torch.square, ONE, ["score"], None), "parameters is a NoneType"),
        (lambda: compare(torch.square, ONE, ["score"], [ONE.loc], sampling=Sobol), "the class Sobol"),
        (lambda: choose(torch.square, ONE, auto=Auto), "auto is the class Auto"),
        (lambda: Auto(among=Score()), "among is a Score; expected a list"),
        (lambda: Auto(among=[Score]), "among holds the class Score"),
        (lambda: Mixed([Score()]), "parts is a list; expected a mapping"),
        (lambda: Mixed({"loc": Score}), "estimator of 'loc' is the class Score"),
        (lambda: Mixture([P, P], torch.tensor([0.5, 0.5])), "expected a list of numbers"),
        (lambda: Mixture([P, P], 0.5), "expected a list of numbers"),
        (lambda: expect(torch.square, PAIR), "draw events of shape .*expected the same"),
        (lambda: exact(torch.square, P, rtol="tight"), "rtol is 'tight'"),
        (lambda: exact(torch.square, P, rtol=-1), "rtol is -1"),
    ],
)
def test_values_of_another_kind_are_named(make: object, message: str) -> None:
    with pytest.raises(LikelyError, match=message):
        make()


def test_events_rarer_than_the_steps_of_a_float() -> None:
    # In float32 torch's uniform numbers are multiples of 2^-24; draws go by those of float64.
    single = torch.tensor([1e-3, 0.2, 0.7])
    one, two = (expect(lambda x: x, Bernoulli(p), n=5000, seed=0) for p in (single, single.double()))
    assert one.dtype == torch.float32 and torch.equal(one.mean.double(), two.mean.float().double())


def test_the_gradient_of_the_mean_weight_counts_without_a_proposal() -> None:
    class Shifted:  # log p is off by 3 mu, which a self-normalised estimate divides out
        def __init__(self, mu: Tensor) -> None:
            self.mu = mu

        def sample(self, n: int, generator: torch.Generator) -> Tensor:
            return self.mu.detach() + torch.randn(n, dtype=self.mu.dtype, generator=generator)

        def log_prob(self, x: Tensor) -> Tensor:
            return -((x - self.mu) ** 2) / 2 + 3 * self.mu

    mu = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    for baseline in ("none", "loo"):
        e = expect(
            lambda x: x, Shifted(mu), 40_000, grad="score", baseline=baseline, normalise=True, seed=0
        )
        (slope,) = torch.autograd.grad(e.mean, mu)
        assert slope.item() == pytest.approx(1, abs=5 * math.sqrt(2 / 40_000))


def test_the_choice_drops_what_cannot_be_measured() -> None:
    # Draws in float32 that rounding put on the end have log p NaN; the path does not ask for it.
    scale = torch.tensor(5.0, requires_grad=True)
    p = d.TransformedDistribution(Normal(torch.zeros(()), scale), d.TanhTransform())
    expect(lambda x: x.square(), p, n=20_000, grad="auto", seed=0).mean.backward()
    (path,) = torch.autograd.grad(
        expect(lambda x: x.square(), p, n=20_000, grad="path", seed=0).mean, scale
    )
    assert torch.equal(scale.grad, path)


def test_blocks_hold_fewer_of_large_draws() -> None:
    sizes: list[int] = []
    p = Normal(torch.zeros(2**17), 1.0)
    expect(lambda x: (sizes.append(len(x)), x[:, 0])[1], p, n=600, seed=0)
    assert sizes == [256, 256, 88]


def test_sobol_points_of_laws_without_a_mean() -> None:
    p = d.TransformedDistribution(Normal(torch.tensor(0.0).double(), 1.0), d.TanhTransform())
    e = expect(lambda x: x.square(), p, n=16 * 256, sampling=Sobol(), seed=0)
    assert e.mean.item() == pytest.approx(0.394294, abs=5e-3)


def test_an_optimal_baseline_of_an_unknown_family_is_for_few_draws() -> None:
    p = d.NegativeBinomial(3.0, torch.tensor(0.5, requires_grad=True))
    with pytest.raises(InvalidInput, match="expected at most 4096 draws in a block"):
        expect(lambda x: x, p, n=10_000, grad="score", baseline="optimal", seed=0)
    expect(lambda x: x, p, n=1000, grad="score", baseline="optimal", seed=0).mean.backward()
