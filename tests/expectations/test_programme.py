"""What docs/theory_programme.md proves of E[X sin X], X normal, and of gradients through randomness."""

import cmath
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, Pareto, Uniform

from likely import exact, expect
from likely.errors import InvalidInput
from likely.expectations import choose

Z_BOUND = 4.8916
"""A standard normal exceeds it in absolute value with probability 1e-6."""

POINTS = {
    "global minimum": (1.36669929517146813, 1.96219822814219785, 1.66440075640966439),
    "local minimum": (0.442297488320822, 0.606495024931581, 1.69616823584817502),
    "saddle": (0.862957672498357, 1.17433201791134851, 1.80198757864020164),
}
# gradients.json: score mu, score tau, path mu, path tau, and half a unit of the last digit of each.
VARIANCES = {
    "global minimum": ((1.631, 5e-4), (19.63, 5e-3), (3.231, 5e-4), (26.62, 5e-3)),
    "local minimum": ((2.550, 5e-4), (2.820, 5e-4), (0.589, 5e-4), (0.243, 5e-4)),
}


def wave(x: Tensor) -> Tensor:
    return x * x.sin()


def slope(x: Tensor) -> Tensor:
    return x.sin() + x * x.cos()


def normal(mu: float, sigma: float) -> Normal:
    return Normal(*torch.tensor([mu, sigma], dtype=torch.float64))


def mean(mu: Tensor, tau: Tensor) -> Tensor:
    """S2."""
    v = (2 * tau).exp()
    return (-v / 2).exp() * (mu * mu.sin() + v * mu.cos())


def objective(at: Tensor) -> Tensor:
    mu, tau = at
    return mean(mu, tau) + (mu - 1).square() / 2 + tau.exp() - tau


def gradient(mu: Tensor, tau: Tensor) -> Tensor:
    """S3."""
    sigma, v = tau.exp(), (2 * tau).exp()
    decay = (-v / 2).exp()
    by_mu = decay * ((1 - v) * mu.sin() + mu * mu.cos()) + mu - 1
    by_tau = v * decay * ((2 - v) * mu.cos() - mu * mu.sin()) + sigma - 1
    return torch.stack([by_mu, by_tau])


def hessian(at: Tensor) -> Tensor:
    """The second derivatives at each row of (mu, tau), `(n, 2, 2)`."""
    at = at.detach().requires_grad_()
    rows = [torch.autograd.grad(g.sum(), at, retain_graph=True)[0] for g in gradient(*at.T)]
    return torch.stack(rows, 1)


def moments(mu: float, sigma: float, q: tuple[float, ...], a: float) -> complex:
    """`E[q(X) e^(iaX)]` for a polynomial in z, `q(X) = sum_k q_k z^k`, by S2."""
    shift, v = 1j * a * sigma, sigma * sigma  # z + i a sigma is where X + i a v is
    plain = (1.0, 0.0, 1.0, 0.0, 3.0, 0.0, 15.0)  # E[z^k]
    total = sum(
        c * sum(math.comb(k, j) * plain[j] * shift ** (k - j) for j in range(k + 1))
        for k, c in enumerate(q)
    )
    return cmath.exp(1j * a * mu - a * a * v / 2) * total


def times(p: tuple[float, ...], q: tuple[float, ...]) -> tuple[float, ...]:
    product = [0.0] * (len(p) + len(q) - 1)
    for i, a in enumerate(p):
        for j, b in enumerate(q):
            product[i + j] += a * b
    return tuple(product)


def variances(mu: float, sigma: float) -> tuple[float, float, float, float]:
    """S5, in closed form: score mu, score tau, path mu, path tau."""
    x, v = (mu, sigma), sigma * sigma
    xx = times(x, x)

    def of(q: tuple[float, ...], a: float) -> complex:
        return moments(mu, sigma, q, a)

    def square(q: tuple[float, ...]) -> float:
        """E[f^2 q(z)]."""
        return (of(times(xx, q), 0).real - of(times(xx, q), 2).real) / 2

    def slope_square(q: tuple[float, ...]) -> float:
        """E[f'^2 q(z)]."""
        still = of(q, 0).real + of(times(xx, q), 0).real + of(times(xx, q), 2).real - of(q, 2).real
        return still / 2 + of(times(x, q), 2).imag

    g = gradient(*torch.tensor([mu, math.log(sigma)], dtype=torch.float64))
    by_mu, by_tau = (g - torch.tensor([mu - 1, sigma - 1], dtype=torch.float64)).tolist()
    bent = (1.0, 0.0, -2.0, 0.0, 1.0)  # (z^2 - 1)^2
    return (
        square((0.0, 0.0, 1.0)) / v - by_mu**2,
        square(bent) - by_tau**2,
        slope_square((1.0,)) - by_mu**2,
        v * slope_square((0.0, 0.0, 1.0)) - by_tau**2,
    )


@pytest.mark.parametrize("mu", [-2.0, 0.0, 0.7, 3.0])
@pytest.mark.parametrize("sigma", [0.1, 1.0, 2.5])
def test_the_closed_form(mu: float, sigma: float) -> None:
    at = torch.tensor([mu, math.log(sigma)], dtype=torch.float64)
    assert exact(wave, normal(mu, sigma)).item() == pytest.approx(mean(*at).item(), abs=1e-10)
    value = moments(mu, sigma, (mu, sigma), 1.0).imag
    assert value == pytest.approx(mean(*at).item(), abs=1e-12)


@pytest.mark.parametrize("name", POINTS)
def test_the_stationary_points(name: str) -> None:
    mu, sigma, value = POINTS[name]
    at = torch.tensor([mu, math.log(sigma)], dtype=torch.float64)
    assert objective(at).item() == pytest.approx(value, abs=1e-14)
    assert gradient(*at).abs().max() < 1e-13
    by_autograd = torch.autograd.functional.jacobian(objective, at)
    torch.testing.assert_close(gradient(*at), by_autograd, rtol=0, atol=1e-14)
    lowest = torch.linalg.eigvalsh(hessian(at[None]))[0, 0]
    assert (lowest < -0.1) == (name == "saddle") and lowest.abs() > 0.1


def test_newton_finds_no_others() -> None:
    grid = torch.linspace(0, 1, 50, dtype=torch.float64)
    at = torch.cartesian_prod(10 * grid - 4, 4.5 * grid - 2.5)
    for _ in range(60):
        move = torch.linalg.lstsq(hessian(at), gradient(*at.T).T[..., None]).solution[..., 0]
        at = at - move.clamp(-0.2, 0.2)
    found = at[gradient(*at.T).abs().amax(0) < 1e-10]
    points = torch.tensor([(m, math.log(s)) for m, s, _ in POINTS.values()], dtype=torch.float64)
    distance = torch.cdist(found, points)
    assert len(found) > 500 and (distance.amin(1) < 1e-6).all()
    assert (distance.amin(0) < 1e-6).all()


@pytest.mark.parametrize("name", VARIANCES)
def test_variances_in_closed_form(name: str) -> None:
    mu, sigma, _ = POINTS[name]
    law = normal(mu, sigma)

    def z(x: Tensor) -> Tensor:
        return (x - mu) / sigma

    one_draw = [
        lambda x: wave(x) * z(x) / sigma,
        lambda x: wave(x) * (z(x).square() - 1),
        slope,
        lambda x: slope(x) * sigma * z(x),
    ]
    for found, g, (truth, digits) in zip(variances(mu, sigma), one_draw, VARIANCES[name], strict=True):
        quadrature = exact(lambda x, g=g: g(x).square(), law) - exact(g, law).square()
        assert found == pytest.approx(quadrature.item(), abs=1e-9)
        assert abs(found - truth) <= digits
    score_mu, _, path_mu, path_tau = variances(mu, sigma)
    assert (path_mu > score_mu) == (name == "global minimum")
    assert path_tau > 0


def test_the_limits_of_the_variances() -> None:
    mu = 0.7
    f, df = mu * math.sin(mu), math.sin(mu) + mu * math.cos(mu)
    ddf = 2 * math.cos(mu) - mu * math.sin(mu)
    v = 1e-6
    small = variances(mu, math.sqrt(v))
    for value, limit in zip(small, (f * f / v, 2 * f * f, ddf * ddf * v, df * df * v), strict=True):
        assert value == pytest.approx(limit, rel=1e-4)
    v = 64.0
    large = variances(mu, 8.0)
    limits = (
        1.5 + mu**2 / (2 * v),
        mu**2 + 5 * v,
        (1 + mu**2 + v) / 2,
        v * (1 + mu**2 + 3 * v) / 2,
    )
    assert large == pytest.approx(limits, rel=1e-12)


@pytest.mark.parametrize("name", VARIANCES)
def test_when_a_mean_baseline_hurts(name: str) -> None:
    mu, sigma, _ = POINTS[name]
    law = normal(mu, sigma)
    f = exact(wave, law)
    quoted = {"global minimum": (0.309, -0.653, -0.201), "local minimum": (0.434, 0.828, 1.047)}[name]
    assert abs(f - quoted[0]) <= 5e-4
    for k, score in enumerate((lambda z: z / sigma, lambda z: z.square() - 1)):

        def s(x: Tensor, score: object = score) -> Tensor:
            return score((x - mu) / sigma)  # type: ignore[operator]

        square = exact(lambda x, s=s: s(x).square(), law)
        best = exact(lambda x, s=s: wave(x) * s(x).square(), law) / square
        assert abs(best - quoted[k + 1]) <= 5e-4
        gap = exact(lambda x, s=s: ((wave(x) - f) * s(x)).square(), law) - exact(
            lambda x, s=s: (wave(x) * s(x)).square(), law
        )
        assert (gap > 0) == ((f - best).abs() > best.abs()) == (name == "global minimum")


def leaf(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def test_the_score_misses_what_a_moving_support_gains() -> None:
    # d/dt E[x^2] = 2 t / 3 under Uniform(0, t); the score, -1/t, gives -t/3, and the path is right.
    t = 2.0
    law = Uniform(torch.tensor(0.0).double(), torch.tensor(t).double())
    by_score = expect(lambda x: x.square() * (-1 / t), law, n=20_000, seed=0)
    assert abs(by_score.mean + t / 3) < Z_BOUND * by_score.stderr
    by_path = expect(lambda x: 2 * x * (x / t), law, n=20_000, seed=0)
    assert abs(by_path.mean - 2 * t / 3) < Z_BOUND * by_path.stderr


@pytest.mark.parametrize(
    "make",
    [
        lambda t: Uniform(0.0 * t.detach(), t),
        lambda t: Uniform(-t, 2 * t.detach()),
        lambda t: Pareto(t, 3.0),
        lambda t: Independent(Uniform(torch.zeros(2).double(), t.expand(2)), 1),
    ],
)
def test_the_score_refuses_a_support_that_moves(make: object) -> None:
    t = leaf(2.0)
    law = make(t)  # type: ignore[operator]

    def f(x: Tensor) -> Tensor:
        return x.flatten(1).sum(1) if x.ndim > 1 else x

    with pytest.raises(InvalidInput, match=r"support of \w+ moves"):
        expect(f, law, n=100, grad="score", seed=0)
    # What chooses does not choose it, and no values are refused.
    assert str(choose(f, law, seed=0)).count("Path") == 1
    assert expect(f, law, n=100, seed=0).n == 100
    fixed = Uniform(0.0 * t.detach(), 2 * t.detach())
    assert expect(lambda x: x * t, fixed, n=100, grad="score", seed=0).mean.requires_grad
