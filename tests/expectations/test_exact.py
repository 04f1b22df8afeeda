"""Exact expectations: closed forms, gradients, and refusals."""

import math

import pytest
import torch
from scipy import special
from torch import Tensor
from torch import distributions as d

from likely import exact, expect, flows
from likely.errors import InvalidInput, InvalidType, NotConverged
from likely.expectations import law_of
from likely.expectations.arguments import arguments_of


def t(*values: float) -> Tensor:
    return torch.tensor(values if len(values) > 1 else values[0], dtype=torch.float64)


@pytest.mark.parametrize(
    "law, f, truth",
    [
        (d.Normal(t(1000.0), t(0.1)), lambda x: x, 1000.0),
        (d.Normal(t(0.0), t(1.0)), lambda x: x > 1, 0.15865525393145707),
        (d.Normal(t(0.0), t(1.0)), Tensor.exp, math.exp(0.5)),
        (d.Gamma(t(0.5), t(2.0)), lambda x: x, 0.25),
        (d.Beta(t(0.7), t(0.9)), lambda x: x, 0.4375),
        (d.Exponential(t(3.0)), Tensor.square, 2 / 9),
        (d.Cauchy(t(3.0), t(1.0)), lambda x: x < 0, 0.5 + math.atan(-3) / math.pi),
        (d.StudentT(t(3.0)), Tensor.square, 3.0),
        (d.Uniform(t(1.0), t(3.0)), Tensor.square, 13 / 3),
        (d.LogNormal(t(1.0), t(3.0)), Tensor.log, 1.0),
        (d.Independent(d.Normal(t(0.0, 1.0), 1.0), 1), lambda x: x.sum(1).cos(), math.cos(1) / math.e),
        (d.MultivariateNormal(t(0.0, 0.0), torch.tensor([[1, 0.5], [0.5, 2]]).double()),
         lambda x: x.prod(1), 0.5),
        (d.StudentT(t(1.5)), lambda x: x > 1, 0.22556768363835517),
        (d.InverseGamma(t(3.0), t(1.0)), lambda x: x, 0.5),
        (d.InverseGamma(t(0.5), t(1.0)), lambda x: x > 1, math.erf(1.0)),
        (d.Weibull(t(1.0), t(2.0)), Tensor.square, 1.0),
        (d.Gamma(t(2.0), t(1e-8)), lambda x: x, 2e8),
        (d.TransformedDistribution(d.Normal(t(1.0), t(3.0)), [d.ExpTransform()]), Tensor.log, 1.0),
        (d.Bernoulli(t(0.25)), lambda b: b, 0.25),
        (d.Categorical(t(0.2, 0.3, 0.5)), lambda k: k == 2, 0.5),
        (d.Binomial(3, t(0.5)), Tensor.square, 3.0),
        (d.Bernoulli(t(0.25, 0.5)), lambda b: b.prod(1), 0.125),
    ],
)  # fmt: skip
def test_closed_forms(law: d.Distribution, f: object, truth: float) -> None:
    value = exact(f, law)
    assert value.dtype == torch.float64
    tolerance = 1e-7 if isinstance(law, d.StudentT) else 1e-9
    assert value.item() == pytest.approx(truth, rel=tolerance)


def test_vector_values_and_their_gradients() -> None:
    mu, sigma = t(0.3).requires_grad_(), t(1.2).requires_grad_()
    scale = t(2.0).requires_grad_()
    value = exact(
        lambda x: scale * torch.stack([x, x.square()], 1).reshape(-1, 2, 1), d.Normal(mu, sigma)
    )
    assert value.shape == (2, 1)
    for k, truth in enumerate([(2.0, 0.0, 0.3), (1.2, 4.8, 0.09 + 1.44)]):
        found = torch.autograd.grad(value[k, 0], [mu, sigma, scale], retain_graph=True)
        assert torch.stack(found).tolist() == pytest.approx(truth, abs=1e-10)


def test_the_gradient_of_a_jump() -> None:
    mu = t(0.3).requires_grad_()
    (slope,) = torch.autograd.grad(exact(lambda x: x > 0, d.Normal(mu, 1.0)), mu)
    assert slope.item() == pytest.approx(math.exp(-0.045) / math.sqrt(2 * math.pi), rel=1e-9)


def test_sums_are_differentiable_twice_and_integrals_refuse() -> None:
    eta = t(0.4).requires_grad_()
    (slope,) = torch.autograd.grad(exact(lambda b: b, d.Bernoulli(logits=eta)), eta, create_graph=True)
    (second,) = torch.autograd.grad(slope, eta)
    p = eta.sigmoid().item()
    assert second.item() == pytest.approx(p * (1 - p) * (1 - 2 * p))
    (slope,) = torch.autograd.grad(exact(lambda x: x, d.Normal(eta.exp(), 1.0)), eta, create_graph=True)
    with pytest.raises(InvalidInput, match="first derivatives only"):
        torch.autograd.grad(slope, eta)


def test_a_law_that_knows_answers_itself() -> None:
    class Known:
        def exact_expectation(self, f: object) -> Tensor:
            return t(42.0)

    assert exact(lambda x: x, Known()) == 42


@pytest.mark.parametrize(
    "law, words",
    [
        (d.Normal(torch.zeros(3), 1.0), "3 entries"),
        (d.Poisson(2.0), "neither a finite support"),
        (d.Bernoulli(torch.full((30,), 0.5)), r"2\^30"),
        (d.Dirichlet(torch.ones(2)), "dependent entries"),
        (d.Uniform(torch.tensor(0.0, requires_grad=True), 1.0), "moves with a parameter"),
    ],
)
def test_refusals(law: d.Distribution, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        exact(lambda x: x.reshape(len(x), -1).sum(1), law)
    with pytest.raises(InvalidType):
        exact(lambda x: x, 3)


def test_what_does_not_converge_says_so() -> None:
    with pytest.raises(NotConverged, match="the quadrature of Normal"):
        exact(lambda x: (1e7 * x).sin().sign(), d.Normal(t(0.0), t(1.0)))


def test_a_float32_law_gives_a_float32_answer() -> None:
    value = exact(lambda x: x.square(), d.Normal(1.0, 2.0))
    assert value.item() == pytest.approx(5.0, rel=1e-6)


@pytest.mark.parametrize(
    "make, truth, slopes",
    [
        (d.Gamma, 2 / 3, (1 / 3, -2 / 9)),
        (d.Beta, 2 / 5, (3 / 25, -2 / 25)),
        (d.Normal, 2.0, (1.0, 0.0)),
        (lambda a, b: d.TransformedDistribution(d.Normal(a, b), d.AffineTransform(b, 1.0).inv.inv),
         5.0, (1.0, 1.0)),
        (lambda a, b: d.MultivariateNormal(torch.stack([a, b]), torch.tensor([[1, 0.5], [0.5, 2]])),
         5.0, (1.0, 1.0)),
    ],
)  # fmt: skip
def test_laws_in_float32_are_integrated_in_float64(make, truth, slopes) -> None:
    a, b = (torch.tensor(v, requires_grad=True) for v in (2.0, 3.0))
    value = exact(lambda x: x.reshape(len(x), -1).sum(1), make(a, b), rtol=1e-9)
    assert value.item() == pytest.approx(truth, rel=1e-9)
    found = torch.stack(torch.autograd.grad(value, [a, b]))
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(slopes, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("dtype, rtol", [(torch.float32, 1e-6), (torch.float64, 1e-11)])
def test_slopes_in_parameters_of_an_f_that_overflows_where_p_vanishes(dtype, rtol) -> None:
    w = torch.tensor(2.0, dtype=dtype, requires_grad=True)
    (slope,) = torch.autograd.grad(exact(lambda x: (w * x).exp(), d.Normal(t(0.0), t(1.0))), w)
    assert slope.item() == pytest.approx(2 * math.exp(2), rel=rtol)


def test_an_infinite_f_is_refused() -> None:
    with pytest.raises(InvalidInput, match="NaN or infinite where the density of Normal"):
        exact(lambda x: x / 0, d.Normal(0.0, 1.0))


def test_von_mises_is_integrated_over_the_circle() -> None:
    k = t(4.0).requires_grad_()
    # The Bessel function of torch has nine digits: at the usual rtol its mass is not one.
    value = exact(torch.cos, d.VonMises(t(0.5), k), rtol=1e-8)
    ratio = special.ive(1, 4.0) / special.ive(0, 4.0)
    assert value.item() == pytest.approx(ratio * math.cos(0.5), rel=1e-7)
    (slope,) = torch.autograd.grad(value, k)
    assert slope.item() == pytest.approx((1 - ratio / 4 - ratio**2) * math.cos(0.5), rel=1e-5)
    with pytest.raises(NotConverged, match=r"VonMises came out with a total probability .* rtol"):
        exact(torch.cos, d.VonMises(t(0.5), k))


def test_a_law_whose_inverse_was_made_is_a_law() -> None:
    law = d.LogNormal(t(0.0), t(1.0))
    law.log_prob(t(1.0))  # torch keeps the inverse, and in it the transform
    assert exact(Tensor.log, law).item() == pytest.approx(0, abs=1e-12)


def test_a_refusal_names_the_law_that_was_given() -> None:
    with pytest.raises(InvalidInput, match="no exact answer for Flow; use expect"):
        exact(lambda x: x.sum(1), flows.nice((2,), width=4))


def test_a_table_of_entries_is_enumerated_in_its_shape_alone_and_in_a_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(4, 2, 3, generator=generator, dtype=torch.float64)
    w = torch.rand(2, 3, generator=generator, dtype=torch.float64)

    def f(x: Tensor) -> Tensor:
        return (x * w).sum((-2, -1)).square()

    # E[(sum w x)^2] = (sum w p)^2 + sum w^2 p (1 - p).
    truth = (w * p).sum((1, 2)).square() + (w.square() * p * (1 - p)).sum((1, 2))
    alone = torch.stack([expect(f, d.Bernoulli(row), 1, grad="enumerate").mean for row in p])
    torch.testing.assert_close(alone, truth, rtol=1e-13, atol=0)
    many = d.Independent(d.Bernoulli(p), 2)
    together = expect(f, many, 1, grad="enumerate", batched=True).mean
    torch.testing.assert_close(together, truth, rtol=1e-13, atol=0)


@pytest.mark.parametrize("tiny", [0.0, 1e-30, 1e-8, 0.25, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_masses_near_zero_and_one_are_not_clamped(tiny: float, dtype: torch.dtype) -> None:
    # torch clamps the log-probabilities that it makes of probabilities: at 1.2e-7 in float32.
    p = torch.tensor([tiny, 0.5], dtype=dtype, requires_grad=True)
    truth = torch.tensor([tiny], dtype=dtype).double().item()
    coins = d.Bernoulli(p)
    found = exact(lambda b: b.double().prod(1), coins)
    assert found.item() == pytest.approx(truth / 2, rel=1e-15, abs=0)
    slopes = torch.autograd.grad(found, p, create_graph=True)[0]
    assert slopes.tolist() == pytest.approx([0.5, truth], rel=1e-6, abs=0)
    assert torch.autograd.grad(slopes[0], p)[0].tolist() == [0, 1]
    coins.log_prob(torch.zeros(2, dtype=dtype))  # keeps the clamped logits in the law
    assert exact(lambda b: b.double().prod(1), coins).item() == found.item()
    faces = torch.tensor([tiny, 1 - tiny], dtype=dtype, requires_grad=True)
    one_hot = d.Independent(d.OneHotCategorical(faces.expand(2, 2)), 1)
    both = [lambda k: (k == 0).double(), lambda k: k[:, 0, 0].double()]
    for law, f in zip([d.Categorical(faces), one_hot], both, strict=True):
        made = expect(f, law, n=1, grad="enumerate")
        assert made.mean.item() == pytest.approx(truth, rel=1e-6, abs=0)
        slope = torch.autograd.grad(made.mean, faces)[0]
        assert (slope[0] - slope[1]).item() == pytest.approx(1, rel=1e-6)


def test_masses_of_logits_keep_their_smaller_side() -> None:
    logits = torch.tensor([20.0, -20.0], requires_grad=True)
    found = exact(lambda b: (1 - b[:, 0]) * b[:, 1], d.Bernoulli(logits=logits))
    truth = 1 / (1 + math.exp(20)) ** 2
    assert found.item() == pytest.approx(truth, rel=1e-6)
    slopes = torch.autograd.grad(found, logits)[0]
    assert slopes.tolist() == pytest.approx([-truth, truth], rel=1e-6)


TINY = torch.tensor(1e-9, requires_grad=True)


@pytest.mark.parametrize(
    "make",
    [
        d.Bernoulli,
        lambda p: d.Independent(d.Bernoulli(p.expand(1)), 1),
        lambda p: d.Binomial(3, p),
        lambda p: d.NegativeBinomial(2, p),
        lambda p: d.Categorical(torch.stack([1 - p, p])),
        lambda p: d.OneHotCategorical(torch.stack([1 - p, p])),
    ],
)
def test_weights_and_scores_of_tiny_probabilities_are_not_clamped(make) -> None:
    def f(x: Tensor) -> Tensor:
        return (x[:, -1] if x.ndim > 1 else x).double()

    p = make(TINY)
    e = expect(f, p, 4000, via=make(torch.tensor(0.3)), grad="score", seed=0)
    size = {d.Binomial: 3, d.NegativeBinomial: 2}.get(type(p), 1)
    assert e.mean.item() == pytest.approx(1e-9 * size, rel=0.1)
    assert torch.autograd.grad(e.mean, TINY)[0].item() == pytest.approx(size, rel=0.1)
    assert p.log_prob(p.sample()).isfinite()  # the law itself is left as it was
    if type(p) is d.Binomial:
        assert exact(f, p).item() == pytest.approx(3e-9, rel=1e-6)


@pytest.mark.parametrize("name", ["probs", "logits"])
@pytest.mark.parametrize("family", [d.Bernoulli, d.Categorical, d.Geometric, d.OneHotCategorical])
def test_what_a_law_is_made_of_does_not_change_when_it_is_looked_at(family: type, name: str) -> None:
    law = family(**{name: torch.tensor([0.3, 0.7])})
    law.probs, law.logits  # noqa: B018 (torch keeps both from now on)
    assert list(arguments_of(law_of(law))) == [name]


def test_a_point_without_mass_where_f_is_infinite_spoils_nothing_else() -> None:
    p = t(0.0, 0.0).requires_grad_()
    value = exact(lambda x: 5 * x[:, 0] + (1 - x[:, 1]).log(), d.Bernoulli(p))
    assert value.item() == 0 and torch.autograd.grad(value, p)[0][0] == 5
    both = exact(lambda x: torch.stack([(1 - x[:, 0]).log(), 5 * x[:, 1]], 1), d.Bernoulli(p))
    assert torch.autograd.grad(both[1], p)[0].tolist() == [0, 5]


@pytest.mark.parametrize("tiny", [1e-30, 1e-12, 1e-7])
def test_second_derivatives_at_tiny_probabilities(tiny: float) -> None:
    # E is linear in each probability: with f = (sum x)^2 mixed second derivatives are 2, others 0.
    p = torch.tensor([tiny, tiny, 1e-7], dtype=torch.float64, requires_grad=True)
    value = exact(lambda x: x.sum(1).square(), d.Bernoulli(p))
    slopes = torch.autograd.grad(value, p, create_graph=True)[0]
    found = torch.stack([torch.autograd.grad(s, p, retain_graph=True)[0] for s in slopes])
    torch.testing.assert_close(found, 2 - 2 * torch.eye(3).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("level", [5.0, 8.0, 20.0])
def test_tiny_answers_have_as_many_digits(level):
    p = d.Normal(torch.tensor(0.0).double(), torch.tensor(1.0).double())
    assert exact(lambda x: x > level, p).item() == pytest.approx(special.ndtr(-level), rel=1e-10, abs=0)
    both = exact(lambda x: torch.stack([x, 1e-30 * x**2], 1), p)
    assert abs(both[0]) < 1e-11 and both[1].item() == pytest.approx(1e-30, rel=1e-10, abs=0)


def test_laws_far_from_their_end():
    p = d.Gamma(torch.tensor(1e4).double(), torch.tensor(2.0).double())
    assert exact(lambda x: x, p).item() == pytest.approx(5000, rel=1e-10)
