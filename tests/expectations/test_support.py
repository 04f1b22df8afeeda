"""Supports: what moves with a parameter, what covers what, and points outside of transformed laws."""

import math

import pytest
import torch
from torch.distributions import (
    AffineTransform,
    Beta,
    Binomial,
    Categorical,
    CatTransform,
    ComposeTransform,
    Exponential,
    ExpTransform,
    Gumbel,
    Independent,
    IndependentTransform,
    Kumaraswamy,
    LogNormal,
    MixtureSameFamily,
    Multinomial,
    MultivariateNormal,
    Normal,
    Pareto,
    PowerTransform,
    ReshapeTransform,
    SigmoidTransform,
    TanhTransform,
    TransformedDistribution,
    Uniform,
    Weibull,
)

from likely import exact, expect
from likely.errors import InvalidInput
from likely.expectations import Mixed, Score, choose
from likely.expectations.adapter import law_of
from likely.expectations.coverage import covers
from likely.expectations.support import ends, moving_ends

ZERO, ONE = torch.tensor([0.0, 1.0], dtype=torch.float64)
UNIT = Uniform(ZERO, ONE)


def leaf(value):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def shifted(law, loc, scale):
    return TransformedDistribution(law, AffineTransform(loc, scale))


MOVING = {
    "scaled uniform": lambda t: shifted(UNIT, 0.0, t),
    "turned uniform": lambda t: shifted(UNIT, 0.0, -t),
    "shifted exponential": lambda t: shifted(Exponential(ONE), t, 1.0),
    "uniform within": lambda t: shifted(Uniform(ZERO, t), 1.0, 2.0),
    "bounded normal": lambda t: TransformedDistribution(
        Normal(ZERO, ONE), [TanhTransform(), AffineTransform(0.0, t)]
    ),
    "composed maps": lambda t: TransformedDistribution(
        Normal(ZERO.expand(2), ONE),
        IndependentTransform(
            ComposeTransform([ComposeTransform([TanhTransform(), AffineTransform(0.0, t)])]), 1
        ),
    ),
    "at the end of a map": lambda t: TransformedDistribution(Uniform(ZERO, t / 2), SigmoidTransform()),
    "opposite ends": lambda t: shifted(UNIT, torch.stack([t, -t]), 1.0),
    "pareto": lambda t: Pareto(t, ONE),
    "scaled vector": lambda t: TransformedDistribution(
        Independent(Uniform(ZERO.expand(2), ONE), 1), AffineTransform(0.0, t, event_dim=1)
    ),
    "independent maps": lambda t: TransformedDistribution(
        Uniform(ZERO.expand(2), ONE), IndependentTransform(AffineTransform(0.0, t), 1)
    ),
    "reshaped": lambda t: TransformedDistribution(
        Uniform(ZERO.expand(4), t), ReshapeTransform((4,), (2, 2))
    ),
    "two ends that nearly cancel": lambda t: shifted(UNIT, 0.0, t * torch.stack([2 * ONE, -ONE])),
}
FIXED = {
    "scaled exponential": lambda t: shifted(Exponential(ONE), 0.0, t),
    "shifted normal": lambda t: shifted(Normal(ZERO, ONE), t, t),
    "lognormal": lambda t: LogNormal(t, t),
    "weibull": lambda t: Weibull(t, t),
    "gumbel": lambda t: Gumbel(t, t),
    "kumaraswamy": lambda t: Kumaraswamy(t, t),
    "logistic": lambda t: TransformedDistribution(
        UNIT, [SigmoidTransform().inv, AffineTransform(t, t)]
    ),
    "frechet": lambda t: TransformedDistribution(Exponential(ONE), PowerTransform(-t)),
    "turned one by one": lambda t: shifted(
        Exponential(ONE.expand(2)), 0.0, t * torch.stack([ONE, -ONE])
    ),
    "joined": lambda t: TransformedDistribution(
        Normal(t.expand(2), ONE), CatTransform([ExpTransform(), TanhTransform()], -1)
    ),
    "normal before tanh": lambda t: TransformedDistribution(
        Normal(t, ONE), [TanhTransform(), AffineTransform(1.0, 2.0)]
    ),
}


@pytest.mark.parametrize("name", MOVING)
def test_supports_that_move_are_refused_by_the_score(name):
    law = MOVING[name](leaf(2.0))
    assert moving_ends(law)
    with pytest.raises(InvalidInput, match=r"support of .* moves with a parameter"):
        expect(lambda x: x, law, n=16, grad="score", seed=0)


@pytest.mark.parametrize("name", FIXED)
def test_supports_that_stay_are_not(name):
    law = FIXED[name](leaf(2.0))
    assert moving_ends(law) == []
    expect(lambda x: x, law, n=16, grad="score", seed=0).mean.sum().backward()


def test_the_choice_leaves_the_score_out_where_ends_move():
    theta = leaf(2.0)
    law = shifted(UNIT, 0.0, theta)
    assert str(choose(lambda x: x, law, seed=0)) == "Path()"
    (slope,) = torch.autograd.grad(expect(lambda x: x, law, n=40_000, grad="auto", seed=0).mean, theta)
    assert slope.item() == pytest.approx(0.5, abs=5 * math.sqrt(1 / 12 / 40_000))


def test_mixed_estimators_refuse_a_score_of_an_end():
    law = Uniform(ZERO, leaf(2.0))
    with pytest.raises(InvalidInput, match="moves with a parameter"):
        expect(lambda x: x, law, n=16, grad=Mixed({"high": Score()}), seed=0)


@pytest.mark.parametrize(
    ("q", "p"),
    [
        (shifted(UNIT, 0.0, 1.0), Normal(ZERO, ONE)),
        (shifted(Exponential(ONE), 1.0, 1.0), Exponential(ONE)),
        (Multinomial(2, torch.tensor([0.5, 0.5, 0.0])), Multinomial(2, torch.ones(3) / 3)),
        (Binomial(3, ONE), Binomial(3, ONE / 3)),
    ],
    ids=str,
)
def test_what_does_not_cover(q, p):
    assert not covers(law_of(q), law_of(p)) and covers(law_of(p), law_of(q))


@pytest.mark.parametrize(
    ("q", "p"),
    [
        (TransformedDistribution(Normal(ZERO, ONE), SigmoidTransform()), Beta(ONE, ONE)),
        (
            TransformedDistribution(
                MultivariateNormal(torch.zeros(2), torch.eye(2)), AffineTransform(1.0, 2.0, event_dim=1)
            ),
            MultivariateNormal(torch.zeros(2), torch.eye(2)),
        ),
    ],
    ids=str,
)
def test_what_covers(q, p):
    assert covers(law_of(q), law_of(p))


def test_ends_are_images():
    assert [float(end) for end in ends(shifted(UNIT, 1.0, -2.0))] == [-1.0, 1.0]
    assert [float(end) for end in ends(shifted(Exponential(ONE), 1.0, -2.0))] == [-math.inf, 1.0]


def test_points_outside_of_a_transformed_law_have_no_density():
    for law in (shifted(UNIT, 1.0, 2.0), shifted(Exponential(ONE), 1.0, 2.0)):
        x = torch.tensor([0.5, 1.5], dtype=torch.float64)
        log_p = law_of(law).log_prob(x)
        assert log_p[0] == -math.inf and log_p[1] == law.log_prob(x[1])
        e = expect(lambda x: x > 1.5, law, n=20_000, via=Normal(ONE, 2 * ONE), seed=0)
        truth = 0.75 if law.base_dist is UNIT else math.exp(-0.25)
        assert abs(e.mean.item() - truth) < 5 * e.stderr.item()  # two-sided, 6e-7


@pytest.mark.parametrize("base", [UNIT, Exponential(ONE)], ids=str)
def test_exact_of_transformed_laws(base):
    law = shifted(base, ONE, 2 * ONE)
    assert exact(lambda x: x, law).item() == pytest.approx(1 + 2 * base.mean.item(), rel=1e-11)


def test_a_law_whose_log_prob_refuses_its_own_draws_is_named():
    # torch takes the support of a mixture for what all of its parts have in common.
    apart = Uniform(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 3.0]), validate_args=True)
    law = MixtureSameFamily(Categorical(torch.ones(2, requires_grad=True)), apart, validate_args=True)
    with pytest.raises(InvalidInput, match="log_prob of MixtureSameFamily refuses"):
        expect(lambda x: x, law, n=16, grad="score", seed=0)


def test_a_mixture_lies_where_one_of_its_parts_does():
    apart = Uniform(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 3.0]), validate_args=False)
    law = MixtureSameFamily(Categorical(torch.ones(2)), apart, validate_args=False)
    log_p = law_of(law).log_prob(torch.tensor([0.5, 1.5, 2.5]))
    assert log_p.tolist() == [pytest.approx(math.log(0.5)), -math.inf, pytest.approx(math.log(0.5))]
