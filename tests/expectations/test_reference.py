"""Every number of the verified reference (gradients.json): exact ones to 1e-9, variances by z-tests.

The z-tests below (34 variances) raise a false alarm once in 1e6 each. The variance of m repeated
gradients has the standard error `sqrt((fourth moment - variance^2) / m)`, to which the rounding of the
reference, half a unit of its last digit, is added.
"""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal
from torch.distributions import Independent as Independent_

from likely import compare, exact, expect
from likely.expectations import Antithetic, Gradient, Independent, Path, Score, Weak
from likely.expectations.adapter import law_of
from likely.expectations.problem import Problem
from likely.expectations.spread import parameter_spread

Z_BOUND = 4.8916
"""A standard normal exceeds it in absolute value with probability 1e-6."""

POINTS = {
    "global minimum": (
        1.36669929517146813,
        1.96219822814219785,
        0.674065389751229,
        1.66440075640966439,
    ),
    "local minimum": (0.442297488320822, 0.606495024931581, -0.500058753547454, 1.69616823584817502),
    "saddle": (0.862957672498357, 1.17433201791134851, 0.160699490546749, 1.80198757864020164),
}
VARIANCES = {
    "global minimum": {
        "score": (1.631, 19.63),
        "score, baseline E f": (1.761, 20.07),
        "score, optimal baseline": (1.520, 19.55),
        "path": (3.231, 26.62),
        "path, antithetic": (5.018, 5.091),
        "weak": (0.498, 7.24),
    },
    "local minimum": {
        "score": (2.550, 2.820),
        "score, baseline E f": (1.109, 1.379),
        "score, optimal baseline": (0.688, 0.628),
        "path": (0.589, 0.243),
        "path, antithetic": (0.224, 0.314),
        "weak": (0.035, 0.163),
    },
}
TOY = torch.tensor([0.6, 0.51, 0.48], dtype=torch.float64)
COINS = {
    0.0: (-0.045, 0.43842, 0.00465, {2: 7.275e-3, 4: 1.9875e-3, 8: 7.580e-4}),
    -4.0: (-0.00317929, 0.0335568, 5.3535e-4, {2: 3.810e-4, 4: 1.823e-4, 8: 8.996e-5}),
}


def wave(x: Tensor) -> Tensor:
    return x * x.sin()


def toy(b: Tensor) -> Tensor:
    return (b - TOY).square().sum(1)


def leaf(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def rounding(value: float) -> float:
    """Half a unit of the last digit that the reference gives, of four significant ones."""
    return 0.5 * 10.0 ** (math.floor(math.log10(abs(value))) - 3)


def assert_variance(gradients: Tensor, n: int, truth: float, digits: float) -> None:
    g = gradients.double() - gradients.double().mean()
    variance = g.square().mean()
    error = ((g**4).mean() - variance.square()).clamp(min=0).sqrt() / math.sqrt(len(g))
    gap = abs(n * variance.item() - truth)
    assert gap < Z_BOUND * n * error.item() + digits, (n * variance.item(), truth, n * error.item())


@pytest.mark.parametrize("name", POINTS)
def test_exact_answers_at_the_stationary_points(name: str) -> None:
    m, s, t, objective = POINTS[name]
    mu, tau = leaf(m), leaf(t)
    assert math.exp(t) == pytest.approx(s, rel=1e-12)
    value = exact(wave, Normal(mu, tau.exp())) + (mu - 1).square() / 2 + tau.exp() - tau
    assert value.item() == pytest.approx(objective, abs=1e-12)
    # The gradient there is zero: that of the expectation cancels that of the penalties.
    assert all(g.abs() < 1e-9 for g in torch.autograd.grad(value, [mu, tau]))


@pytest.mark.parametrize(
    "start, end",
    [
        ((0.0, 1.0), "local minimum"),
        ((1.0, 1.0), "local minimum"),
        ((0.0, math.e), "global minimum"),
        ((2.0, 1.0), "global minimum"),
    ],
)
def test_gradient_descent_goes_to_the_basins_of_the_reference(
    start: tuple[float, float], end: str
) -> None:
    parameters = torch.tensor([start[0], math.log(start[1])], dtype=torch.float64)
    for _ in range(30):
        parameters.requires_grad_()
        mu, tau = parameters
        value = exact(wave, Normal(mu, tau.exp()), rtol=1e-4) + (mu - 1).square() / 2 + tau.exp() - tau
        (slope,) = torch.autograd.grad(value, parameters)
        parameters = (parameters - 0.3 * slope).detach()
    m, _, t, _ = POINTS[end]
    assert (parameters - torch.tensor([m, t])).abs().max() < 0.2


@pytest.mark.parametrize("point", VARIANCES)
@pytest.mark.parametrize("kind", VARIANCES["local minimum"])
def test_variances_of_one_draw(point: str, kind: str) -> None:
    m, s, t, _ = POINTS[point]
    mu, tau = leaf(m), leaf(t)
    law = law_of(Normal(mu, tau.exp()))
    mean = exact(wave, Normal(m, torch.tensor(s).double())).item()
    hows: list[tuple[Gradient, str]] = {
        "score": [(Score("none"), "both")],
        "score, baseline E f": [(Score(mean), "both")],
        "score, optimal baseline": [(Score(best(m, s, k)), k) for k in ("mu", "tau")],
        "path": [(Path(), "both")],
        "path, antithetic": [(Path(), "both")],
        "weak": [(Weak(), "both")],
    }[kind]
    sampling = Antithetic() if kind == "path, antithetic" else Independent()
    problem = Problem(wave, law, None, sampling)
    for how, which in hows:
        spread = parameter_spread(how, problem, 2, 200_000, 5, {"mu": mu, "tau": tau})
        for k, name in enumerate(("mu", "tau")):
            if which in ("both", name):
                truth = VARIANCES[point][kind][k]
                digits = 0.0005 if truth < 10 else 0.005
                assert_variance(spread.gradients[name], 2, truth, digits)


def best(m: float, s: float, parameter: str) -> float:
    """The optimal baseline `E[f score^2] / E[score^2]`, by quadrature."""
    law = Normal(torch.tensor(m).double(), torch.tensor(s).double())

    def score(x: Tensor) -> Tensor:
        z = (x - m) / s
        return z / s if parameter == "mu" else z.square() - 1

    top = exact(lambda x: wave(x) * score(x).square(), law)
    return (top / exact(lambda x: score(x).square(), law)).item()


@pytest.mark.parametrize("point", VARIANCES)
def test_the_optimal_baseline_is_found_from_the_draws(point: str) -> None:
    # From n draws the variance exceeds that of the true optimum by a term of order 1/n.
    m, _, t, _ = POINTS[point]
    mu, tau = leaf(m), leaf(t)
    problem = Problem(wave, law_of(Normal(mu, tau.exp())), None, Independent())
    spread = parameter_spread(Score("optimal"), problem, 500, 2000, 5, {"mu": mu, "tau": tau})
    for k, name in enumerate(("mu", "tau")):
        truth = VARIANCES[point]["score, optimal baseline"][k]
        assert_variance(spread.gradients[name], 500, truth, 0.05 * truth)


@pytest.mark.parametrize("eta", COINS)
def test_the_gradient_of_the_coins(eta: float) -> None:
    t = leaf(eta)
    law = Bernoulli(logits=t.expand(3))
    for value in (exact(toy, law), expect(toy, law, grad="enumerate").mean):
        (slope,) = torch.autograd.grad(value, t)
        # The reference gives six digits at eta = -4; the closed form is exact.
        p = t.detach().sigmoid()
        assert slope.item() == pytest.approx((p * (1 - p) * (1 - 2 * TOY).sum()).item(), abs=1e-15)
        assert slope.item() == pytest.approx(COINS[eta][0], abs=1e-9 if eta == 0 else 5e-9)


@pytest.mark.parametrize("eta", COINS)
def test_the_variances_of_the_coins(eta: float) -> None:
    t = leaf(eta)
    problem = Problem(toy, law_of(Bernoulli(logits=t.expand(3))), None, Independent())

    def gradients(how: Gradient, n: int, repeats: int) -> Tensor:
        return parameter_spread(how, problem, n, repeats, 3, {"eta": t}).gradients["eta"]

    _, score, optimal, loo = COINS[eta]
    assert_variance(gradients(Score("none"), 1, 200_000), 1, score, rounding(score))
    # The score is sum b_i - 3 p; its optimal baseline by enumeration.
    p = torch.sigmoid(torch.tensor(eta).double())
    law = Bernoulli(probs=p.expand(3))

    def square(b: Tensor) -> Tensor:
        return (b.sum(1) - 3 * p).square()

    b = (exact(lambda b: toy(b) * square(b), law) / exact(square, law)).item()
    assert_variance(gradients(Score(b), 1, 200_000), 1, optimal, rounding(optimal))
    for n, truth in loo.items():
        assert_variance(gradients(Score("loo"), n, 100_000), 1, truth, rounding(truth))


def test_compare_shows_that_a_choice_has_to_measure() -> None:
    found = {}
    for point, (m, _, t, _) in list(POINTS.items())[:2]:
        mu, tau = leaf(m), leaf(t)
        found[point] = compare(
            wave, Normal(mu, tau.exp()), ["score", "path", "weak"], {"mu": mu, "tau": tau}, seed=0
        )
    assert found["global minimum"].best("mu").estimator == "weak"
    assert found["global minimum"].best("tau").estimator in ("score", "weak")
    assert found["local minimum"].best("mu").estimator == "weak"
    assert found["local minimum"].best("tau").estimator == "path"


@pytest.mark.parametrize("k, truth", [(7, 2.2227950661944398872e-3), (6, 4.45733149062649e-3)])
def test_the_four_branch_series_system(k: int, truth: float) -> None:
    # One proposal at the nearest point of each branch, and the law itself (walks.json).
    def fails(x: Tensor) -> Tensor:
        a, b = x.T
        bowl = 3 + 0.1 * (a - b).square()
        branches = [bowl - (a + b) / 2**0.5, bowl + (a + b) / 2**0.5, a - b + k / 2**0.5]
        return torch.stack([*branches, b - a + k / 2**0.5]).amin(0) <= 0

    def around(a: float, b: float) -> Independent_:
        return Independent_(Normal(torch.tensor([a, b]).double(), 1.0), 1)

    p = around(0.0, 0.0)
    r, s = 3 / 2**0.5, k / 8**0.5
    via = [around(r, r), around(-r, -r), around(-s, s), around(s, -s), p]
    e = expect(fails, p, n=20_000, via=via, seed=0)
    assert abs(e.mean.item() - truth) < Z_BOUND * e.stderr.item() < 0.1 * truth and not e.warnings
    low, high = e.interval(1 - 1e-6)
    assert low <= truth <= high
