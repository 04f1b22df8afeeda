"""The laws of gradient estimators: unbiased, in value and gradient, to the order they claim.

Every z-test below raises a false alarm once in 1e6; there are about 200 of them, all with fixed seeds.
"""

import inspect
import math

import pytest
import torch
from scipy import special
from torch import Tensor
from torch import distributions as d

from laws.expectations_registry import CASES, PAIRS, Case
from likely import expect, expectations
from likely.errors import InvalidInput
from likely.expectations import Auto, Enumerate, Gradient, Path, Score, Weak
from likely.expectations.adapter import law_of
from likely.expectations.coverage import covers

Z_BOUND = 4.8916
"""A standard normal exceeds it in absolute value with probability 1e-6."""


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[0]}-{pair[1]}".replace(", ", "_"))
def pair(request: pytest.FixtureRequest) -> tuple[Case, Gradient]:
    name, k = request.param
    return CASES[name], CASES[name].estimators[k]


def assert_z(found: Tensor, truth: Tensor) -> None:
    """The mean over rows is the truth, entry by entry."""
    error = found.std(0) / math.sqrt(len(found))
    gap = (found.mean(0) - truth).abs()
    assert (gap <= Z_BOUND * error + 1e-12).all(), (found.mean(0), truth, gap / error)


def test_every_exported_estimator_is_registered() -> None:
    exported = {
        g for g in vars(expectations).values() if inspect.isclass(g) and issubclass(g, Gradient)
    }
    concrete = {g for g in exported if not inspect.isabstract(g)}
    assert {type(g) for case in CASES.values() for g in case.estimators} == concrete


def test_value_and_gradient_are_unbiased(pair: tuple[Case, Gradient]) -> None:
    case, how = pair
    # Small n on purpose: a baseline that sees its own draw is biased by 1/n.
    n, repeats = (4, 400) if not isinstance(how, Auto) else (4, 120)
    rows = []
    value, gradient = case.exact()
    for seed in range(repeats):
        leaves = case.leaves()
        e = expect(case.f, case.make(*leaves), n=n, grad=how, seed=seed)
        grads = torch.autograd.grad(e.mean, leaves)
        rows.append(torch.stack([e.mean.detach().double(), *grads]))
    found = torch.stack(rows)
    assert_z(found, torch.cat([value[None], gradient]))


SECOND = [
    (name, k)
    for name, k in PAIRS
    if isinstance(CASES[name].estimators[k], Score | Enumerate)
    or (name == "normal" and k in (5, 8))  # the path, and the score mixed with it
]


@pytest.mark.parametrize("name, k", SECOND, ids=str)
def test_second_derivatives_are_unbiased(name: str, k: int) -> None:
    case = CASES[name]
    how = case.estimators[k]
    truth = torch.stack(case.exact(order=2)).flatten()
    rows = []
    for seed in range(30):
        leaves = case.leaves()
        e = expect(case.f, case.make(*leaves), n=500, grad=how, seed=seed)
        grads = torch.autograd.grad(e.mean, leaves, create_graph=True)
        hessian = [
            torch.zeros(()) if h is None else h
            for g in grads
            for h in torch.autograd.grad(g, leaves, retain_graph=True, allow_unused=True)
        ]
        rows.append(torch.stack(hessian).double())
    assert_z(torch.stack(rows), truth)


@pytest.mark.parametrize("name", ["normal", "bernoulli", "poisson", "exponential", "gamma"])
def test_weak_refuses_a_second_derivative(name: str) -> None:
    case = CASES[name]
    leaves = [t.detach().exp().requires_grad_() for t in case.leaves()]
    # Leaves that reach the law through exp: a forgotten term would give a number, and a wrong one.
    law = case.make(*[t.log() if name in ("normal", "bernoulli") else t.exp() for t in leaves])
    mean = expect(case.f, law, n=8, grad=Weak(), seed=0).mean
    grads = torch.autograd.grad(mean, leaves, create_graph=True)
    with pytest.raises(InvalidInput, match="first derivatives only"):
        torch.autograd.grad(grads[-1], leaves)


SAMPLED = [p for p in PAIRS if not isinstance(CASES[p[0]].estimators[p[1]], Enumerate | Auto)]


@pytest.mark.parametrize("name, k", SAMPLED, ids=str)
def test_the_value_is_that_of_the_plain_mean(name: str, k: int) -> None:
    case, how = CASES[name], CASES[name].estimators[k]
    law = case.make(*case.leaves())
    seen: list[Tensor] = []

    def f(x: Tensor) -> Tensor:
        y = case.f(x)
        if len(y) == 50:
            seen.append(y.detach().double())
        return y

    e = expect(f, law, n=50, grad=how, seed=3)
    plain = seen[-1 if isinstance(how, Score) else 0]  # weak derivatives call f after the draws
    torch.testing.assert_close(e.mean.detach().double(), plain.mean(), rtol=1e-12, atol=0)
    torch.testing.assert_close(e.stderr.double(), plain.std() / math.sqrt(50), rtol=1e-9, atol=1e-12)


def test_gradients_that_flow_through_f_are_added(pair: tuple[Case, Gradient]) -> None:
    case, how = pair
    leaves = case.leaves()
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    e = expect(lambda x: scale * case.f(x).double(), case.make(*leaves), n=200, grad=how, seed=1)
    (slope,) = torch.autograd.grad(e.mean, scale)
    torch.testing.assert_close(slope, e.mean.detach().double() / 2)


@pytest.mark.parametrize("baseline", ["none", "mean", "loo", 0.3])
def test_importance_weights_carry_the_gradient(baseline: str | float) -> None:
    case = CASES["normal"]
    q = d.Normal(torch.tensor(1.1).double(), 1.6)
    rows = []
    for seed in range(400):
        leaves = case.leaves()
        e = expect(case.f, case.make(*leaves), n=8, via=q, grad="score", baseline=baseline, seed=seed)
        rows.append(torch.stack([e.mean.detach(), *torch.autograd.grad(e.mean, leaves)]))
    value, gradient = case.exact()
    assert_z(torch.stack(rows), torch.cat([value[None], gradient]))


class Half:
    """The right half of a normal law, as an object of which nothing is known."""

    def sample(self, n: int) -> Tensor:
        return torch.randn(n, dtype=torch.float64).abs()

    def log_prob(self, x: Tensor) -> Tensor:
        return d.HalfNormal(torch.ones(()).double()).log_prob(x.abs()).where(x >= 0, -torch.inf)


NARROW = {
    "interval": d.Uniform(torch.zeros(()).double(), 1.5),
    "half line": d.Exponential(torch.ones(()).double()),
    "object": Half(),
    "list": [d.Uniform(torch.zeros(()).double(), 1.5), d.Exponential(torch.ones(()).double())],
}


@pytest.mark.parametrize("baseline", ["mean", "loo", 5.0])
@pytest.mark.parametrize("name", NARROW)
def test_a_proposal_that_leaves_out_part_of_p_has_no_baseline(name: str, baseline: str | float) -> None:
    # f vanishes where q does, so that w f has the right mean; but the mean of w moves with mu, and a
    # baseline of 5 would move the gradient by 5 p(0) = 2.
    rows = []
    for seed in range(300):
        mu = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
        e = expect(
            lambda x: 5.0 * ((x > 0) & (x < 1)).double(),
            d.Normal(mu, 1.0),
            n=8,
            via=NARROW[name],
            grad="score",
            baseline=baseline,
            seed=seed,
        )
        rows.append(torch.stack([e.mean.detach(), *torch.autograd.grad(e.mean, mu)]))
    normal = d.Normal(torch.tensor(0.1).double(), 1.0)
    low, high = torch.tensor(0.0).double(), torch.tensor(1.0).double()
    value = 5 * (normal.cdf(high) - normal.cdf(low))
    slope = 5 * (normal.log_prob(low).exp() - normal.log_prob(high).exp())
    assert_z(torch.stack(rows), torch.stack([value, slope]))


P = d.Normal(torch.zeros(()).double(), 1.0)
COVERS = [
    (d.StudentT(3.0), P, True),
    (d.MultivariateNormal(torch.zeros(2), torch.eye(2)), d.Normal(torch.zeros(2), 1.0), True),
    (d.Exponential(1.0), d.Gamma(2.0, 1.0), True),
    (d.Exponential(1.0), d.Uniform(-1.0, 1.0), False),
    (d.Uniform(-2.0, 2.0), d.Uniform(-1.0, 1.0), True),
    (d.Uniform(-2.0, 2.0), d.Beta(1.0, 1.0), True),
    (d.Uniform(-2.0, torch.tensor([2.0, 0.5])), d.Uniform(-1.0, torch.tensor([1.0, 1.0])), False),
    (d.Categorical(torch.ones(3)), d.Categorical(torch.ones(2)), True),
    (d.Categorical(torch.tensor([1.0, 0.0])), d.Categorical(torch.ones(2)), False),
    (d.Bernoulli(0.5), d.Bernoulli(0.3), True),
    (d.Bernoulli(1.0), d.Bernoulli(0.3), False),
    (d.Poisson(1.0), d.Poisson(2.0), True),
    (d.Dirichlet(torch.ones(2)), d.Dirichlet(torch.ones(2) * 2), False),  # nobody can tell
    (Half(), P, False),
    ([d.Exponential(1.0), P], P, True),
    (d.MixtureSameFamily(d.Categorical(torch.ones(2)), d.Normal(torch.zeros(2), 1.0)), P, True),
]


@pytest.mark.parametrize("q, p, whether", COVERS, ids=str)
def test_a_baseline_is_used_where_the_proposal_is_known_to_cover(
    q: object, p: d.Distribution, whether: bool
) -> None:
    known = covers(expectations.Mixture(q) if isinstance(q, list) else law_of(q), law_of(p))
    assert known is whether


def test_a_law_covers_itself_whatever_it_is() -> None:
    for p in (Half(), d.Dirichlet(torch.ones(2)), d.Bernoulli(1.0)):
        assert covers(law_of(p), law_of(p))
        assert covers(expectations.Mixture([d.Uniform(0.0, 0.1), p]), law_of(p))


def test_self_normalised_weights_carry_the_gradient_of_the_ratio() -> None:
    # p is known up to exp(900), which no float holds; the bias is of order 1/n.
    mu = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)

    class Unnormalised:
        def log_prob(self, x: Tensor) -> Tensor:
            return mu * x - x.square() / 2 + 900

        def sample(self, n: int) -> Tensor:
            raise RuntimeError("never drawn")

    q = d.Normal(torch.zeros(()).double(), 1.3)
    e = expect(
        lambda x: x.square(), Unnormalised(), n=200_000, via=q, normalise=True, grad="score", seed=0
    )
    e.mean.backward()
    assert abs(e.mean.item() - 1.16) < Z_BOUND * e.stderr.item()
    assert abs(mu.grad.item() - 0.8) < 0.05


@pytest.mark.parametrize("how", [Score("loo"), Score("optimal"), Path(), Weak()], ids=str)
@pytest.mark.parametrize("sampling", [expectations.Antithetic(), expectations.Sobol(4)], ids=str)
def test_dependent_draws_leave_gradients_unbiased(
    how: Gradient, sampling: expectations.Sampling
) -> None:
    # A baseline that leaves out the draw but not its partner would be biased here.
    case = CASES["normal"]
    rows = []
    for seed in range(300):
        leaves = case.leaves()
        e = expect(case.f, case.make(*leaves), n=8, grad=how, sampling=sampling, seed=seed)
        rows.append(torch.stack([e.mean.detach(), *torch.autograd.grad(e.mean, leaves)]))
    value, gradient = case.exact()
    assert_z(torch.stack(rows), torch.cat([value[None], gradient]))


@pytest.mark.parametrize("baseline", ["loo", "optimal", "mean"])
def test_a_baseline_leaves_out_the_antithetic_partner_too(baseline: str) -> None:
    mu = torch.full((20_000,), 0.8, dtype=torch.float64, requires_grad=True)
    how = Score(baseline)
    law = d.Normal(mu, 0.7)
    pairs = expectations.Antithetic()
    e = expect(lambda x: x.square() + x, law, n=12, grad=how, sampling=pairs, batched=True, seed=0)
    (found,) = torch.autograd.grad(e.mean.sum(), mu)
    assert_z(found, torch.tensor(2 * 0.8 + 1).double())


@pytest.mark.parametrize("how", ["score", "path", "weak", Score("optimal")], ids=str)
def test_a_batch_is_so_many_problems(how: str | Gradient) -> None:
    generator = torch.Generator().manual_seed(0)
    mu = torch.randn(5, 1, dtype=torch.float64, generator=generator)
    mu = mu.expand(5, 400).clone().requires_grad_()  # 400 copies of five problems
    law = d.Normal(mu, 0.7)
    e = expect(lambda x: x * x.sin(), law, n=6, grad=how, batched=True, seed=0)
    assert e.mean.shape == e.stderr.shape == e.hits.shape == (5, 400)
    (found,) = torch.autograd.grad(e.mean.sum(), mu)
    exact = torch.func.grad(lambda m: _wave_mean(m).sum())(mu.detach()[:, 0])
    assert_z(found.T, exact)


def _wave_mean(mu: Tensor) -> Tensor:
    return math.exp(-0.49 / 2) * (mu * mu.sin() + 0.49 * mu.cos())


@pytest.mark.parametrize("entries", [(), (1,), (2, 2)], ids=str)
@pytest.mark.parametrize("vector", [False, True], ids=["numbers", "vectors"])
@pytest.mark.parametrize("how", [Weak(), Weak(stratified=True)], ids=str)
def test_weak_derivatives_of_every_shape(entries: tuple[int, ...], vector: bool, how: Gradient) -> None:
    # Each entry has a gradient of its own, whatever the shapes of draws and values.
    loc = torch.full((2000, *entries), 0.5, dtype=torch.float64, requires_grad=True)
    scale = torch.full((2000, *entries), 0.8, dtype=torch.float64, requires_grad=True)
    logits = torch.full((2000, *entries), 0.3, dtype=torch.float64, requires_grad=True)

    def f(x: Tensor) -> Tensor:
        y = x.square().reshape(*x.shape[:2], -1).sum(2)
        return torch.stack([y, 3 * y], 2) if vector else y

    def slopes(law: d.Distribution, *leaves: Tensor) -> list[Tensor]:
        law = d.Independent(law, len(entries))
        mean = expect(f, law, n=6, grad=how, batched=True, seed=1).mean
        mean = mean[:, 1] / 3 if vector else mean
        return [g.reshape(2000, -1) for g in torch.autograd.grad(mean.sum(), leaves)]

    by_loc, by_scale = slopes(d.Normal(loc, scale), loc, scale)
    assert_z(by_loc, torch.tensor(1.0).double())
    assert_z(by_scale, torch.tensor(1.6).double())
    (by_logits,) = slopes(d.Bernoulli(logits=logits), logits)
    p = logits.detach().sigmoid()
    torch.testing.assert_close(by_logits, (p * (1 - p)).reshape(2000, -1))


@pytest.mark.parametrize("shape", [0.4, 1.0, 3.5])
def test_the_weak_derivative_in_a_gamma_concentration_sees_jumps(shape: float) -> None:
    # The exact derivative of P(x > 1.2) by central differences, good to 1e-9.
    a = torch.full((40_000,), shape, dtype=torch.float64, requires_grad=True)
    law = d.Gamma(a, torch.tensor(1.5).double())
    e = expect(lambda x: x > 1.2, law, n=4, grad="weak", batched=True, seed=0)
    (found,) = torch.autograd.grad(e.mean.sum(), a)
    h = 1e-5
    exact = (special.gammaincc(shape + h, 1.8) - special.gammaincc(shape - h, 1.8)) / (2 * h)
    assert_z(found, torch.tensor(exact))
    # A linear f: the variance of one draw is (Gamma(3/4) Gamma(5/4) - 1) / rate^2, to 10 of its errors.
    e = expect(lambda x: x, law, n=4, grad="weak", batched=True, seed=1)
    (found,) = torch.autograd.grad(e.mean.sum(), a)
    assert_z(found, torch.tensor(1 / 1.5).double())
    variance = (math.gamma(0.75) * math.gamma(1.25) - 1) / 1.5**2
    assert 4 * found.var().item() == pytest.approx(variance, rel=0.1)


def test_vector_values_have_a_gradient_each() -> None:
    mu = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    for how in ("score", "path", "weak", Score("optimal")):
        e = expect(
            lambda x: torch.stack([x, x.square(), x**3], dim=1),
            d.Normal(mu, 1.0),
            n=200_000,
            grad=how,
            seed=0,
        )
        assert e.mean.shape == (3,)
        grads = torch.stack([torch.autograd.grad(m, mu, retain_graph=True)[0] for m in e.mean])
        exact = torch.tensor([1.0, 1.0, 3 * 0.25 + 3]).double()
        # Six standard errors of the noisiest of them, the score for x^3.
        assert ((grads - exact).abs() < torch.tensor([0.02, 0.05, 0.2])).all(), how
