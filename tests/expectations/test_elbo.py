"""The evidence lower bound: its value, its gradients, and what each estimator promises."""

import math

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor
from torch.distributions import Bernoulli, Independent, Normal

from likely import elbo, exact
from likely.errors import InvalidInput, InvalidType

Z_BOUND = 4.8916
"""A standard normal exceeds it in absolute value with probability 1e-6."""


def leaf(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


# The model z ~ N(0, 1), x | z ~ N(a z, 1), with x = 1.3 observed: everything is known.
X = 1.3


def joint(a: Tensor):
    def log_joint(z: Tensor) -> Tensor:
        return Normal(torch.zeros(()).double(), 1.0).log_prob(z) + Normal(a * z, 1.0).log_prob(
            torch.tensor(X, dtype=torch.float64)
        )

    return log_joint


def closed_form(a: Tensor, m: Tensor, t: Tensor) -> Tensor:
    """The bound: E_q[log h] and the entropy of q = N(m, e^2t)."""
    v = (2 * t).exp()
    prior = -0.5 * (m.square() + v) - 0.5 * math.log(2 * math.pi)
    model = -0.5 * ((X - a * m).square() + a.square() * v) - 0.5 * math.log(2 * math.pi)
    return prior + model + 0.5 + 0.5 * math.log(2 * math.pi) + t


def gradients(grad: str, repeats: int, n: int, start=(0.8, 0.2, -0.4), **how: object) -> Tensor:
    rows = []
    for seed in range(repeats):
        a, m, t = (leaf(v) for v in start)
        e = elbo(joint(a), Normal(m, t.exp()), n, grad, seed=seed, **how)
        rows.append(torch.stack([e.mean.detach(), *torch.autograd.grad(e.mean, [a, m, t])]))
    return torch.stack(rows)


def assert_z(found: Tensor, truth: Tensor) -> None:
    error = found.std(0) / math.sqrt(len(found))
    gap = (found.mean(0) - truth).abs()
    assert (gap <= Z_BOUND * error + 1e-12).all(), (found.mean(0), truth, gap / error)


@pytest.mark.parametrize("grad", ["score", "path", "stl", "weak"])
def test_unbiased(grad: str) -> None:
    a, m, t = leaf(0.8), leaf(0.2), leaf(-0.4)
    value = closed_form(a, m, t)
    truth = torch.stack([value.detach(), *torch.autograd.grad(value, [a, m, t])])
    assert_z(gradients(grad, 300, 4), truth)


def test_the_score_of_q_in_the_integrand_vanishes() -> None:
    # E_q[grad log q] = 0: with log q attached or not, the gradient is the same.
    m = leaf(0.2)
    q = Normal(m, 0.7)
    (slope,) = torch.autograd.grad(exact(lambda z: q.log_prob(z) * 1.0, Normal(0.2, 0.7)), m)
    assert abs(slope) < 1e-6


# The posterior is N(a x / (1 + a^2), 1 / (1 + a^2)).
A = 0.8
POSTERIOR = (A, A * X / (1 + A * A), -0.5 * math.log(1 + A * A))


def test_a_baseline_leaves_no_variance_at_the_posterior() -> None:
    assert gradients("score", 20, 4, POSTERIOR)[:, 2:].abs().max() < 1e-12
    # Without one, each draw gives s log Z; and s = z / sigma in the mean of q is a normal variable.
    repeats, n = 400, 4
    evidence = Normal(0.0, math.sqrt(1 + A * A)).log_prob(torch.tensor(X)).item()
    variance = evidence**2 * (1 + A * A) / n
    found = gradients("score", repeats, n, POSTERIOR, baseline="none")[:, 2].var().item()
    low, high = chi2(repeats - 1).ppf([5e-7, 1 - 5e-7]) / (repeats - 1)  # false alarms: 1e-6
    assert low * variance < found < high * variance


def test_sticking_the_landing_has_no_variance_at_the_posterior() -> None:
    a, start = A, POSTERIOR
    landed = gradients("stl", 20, 4, start)
    assert landed[:, 2:].std(0).max() < 1e-12 and landed[:, 0].std() < 1e-12
    evidence = Normal(0.0, math.sqrt(1 + a * a)).log_prob(torch.tensor(X)).item()
    assert landed[0, 0].item() == pytest.approx(evidence, abs=1e-6)
    assert gradients("path", 20, 4, start)[:, 3].std() > 0.1


def test_importance_weighting_tightens_the_bound() -> None:
    a = torch.tensor(0.8).double()
    q = Normal(torch.tensor(0.2).double(), 1.0)
    evidence = Normal(0.0, math.sqrt(1.64)).log_prob(torch.tensor(X)).item()
    bounds = [elbo(joint(a), q, 20_000, None, k=k, seed=0) for k in (1, 4, 32)]
    means = [e.mean.item() for e in bounds]
    assert means[0] < means[1] < means[2] < evidence + 4 * bounds[2].stderr.item()
    assert evidence - means[2] < 0.02


@pytest.mark.parametrize("k", [2, 8])
def test_doubly_reparameterised_gradients_are_those_of_the_bound(k: int) -> None:
    # Against the plain gradient of the same bound, which is unbiased by construction.
    plain, doubly = (gradients(grad, 600, 4, k=k) for grad in ("path", "dreg"))
    error = ((plain.var(0) + doubly.var(0)) / 600).sqrt()
    assert ((plain.mean(0) - doubly.mean(0)).abs() < Z_BOUND * error + 1e-12).all()
    assert torch.equal(plain[:, 0], doubly[:, 0])  # the value is the same
    torch.testing.assert_close(plain[:, 1], doubly[:, 1])  # that of the model too
    assert (doubly[:, 2:].var(0) < 0.5 * plain[:, 2:].var(0)).all()


def test_discrete_latents_and_batches() -> None:
    # Two latent bits for each of three data points; exact by enumeration.
    weight = torch.tensor([1.0, -2.0], dtype=torch.float64)
    x = torch.tensor([0.3, -0.5, 1.1], dtype=torch.float64)
    eta = torch.tensor([[0.1, 0.4], [-0.3, 0.2], [0.5, -0.6]], dtype=torch.float64, requires_grad=True)

    def log_joint(b: Tensor) -> Tensor:
        return Normal((b * weight).sum(-1), 1.0).log_prob(x) + 2 * math.log(0.5)

    q = Independent(Bernoulli(logits=eta), 1)
    truth = elbo(log_joint, q, grad="enumerate", batched=True)
    (slope,) = torch.autograd.grad(truth.mean.sum(), eta, retain_graph=True)
    assert truth.exact and truth.mean.shape == (3,)
    for grad in ("score", "weak"):
        rows = []
        for seed in range(300):
            e = elbo(log_joint, q, 8, grad, seed=seed, batched=True)
            rows.append(torch.autograd.grad(e.mean.sum(), eta, retain_graph=True)[0].flatten())
        assert_z(torch.stack(rows), slope.flatten())


def test_bad_input() -> None:
    q = Normal(leaf(0.0), 1.0)
    for how in (
        {"grad": "best"},
        {"grad": "path", "baseline": "loo"},
        {"grad": "score", "k": 3},
        {"k": 0},
    ):
        with pytest.raises(InvalidInput, match="expected"):
            elbo(joint(leaf(1.0)), q, 4, **how)
    with pytest.raises(InvalidInput, match="no rsample"):
        elbo(lambda b: b, Bernoulli(logits=leaf(0.0)), 4, "path")


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize(
    "log_joint",
    [
        lambda z: -z.square(),  # a column for each draw, as of a network
        lambda z: -z.square().sum(),
        lambda z: -z.square().sum(1).unsqueeze(0),
    ],
)
@pytest.mark.parametrize("n", [1, 4])
def test_values_of_another_shape_are_refused_not_broadcast(k, log_joint, n) -> None:
    q = Normal(torch.zeros(1, requires_grad=True), 1.0)
    with pytest.raises(InvalidInput, match="log_joint returned shape"):
        elbo(log_joint, q, n=n, k=k, grad="path", seed=0)


def test_a_number_is_no_log_joint() -> None:
    with pytest.raises(InvalidType, match="log_joint returned a float"):
        elbo(lambda z: 1.0, Normal(torch.zeros(1), 1.0), n=4, seed=0)


@pytest.mark.parametrize(("grad", "k"), [("stl", 1), ("dreg", 1), ("dreg", 3)])
def test_gradients_of_the_first_order_only(grad: str, k: int) -> None:
    m = leaf(0.7)
    q = torch.distributions.Normal(m, torch.ones_like(m))
    bound = elbo(lambda z: -z.square() / 2, q, n=50, grad=grad, k=k, seed=0).mean
    (plain,) = torch.autograd.grad(bound, m, retain_graph=True)
    (slope,) = torch.autograd.grad(bound, m, create_graph=True)
    assert torch.equal(plain, slope.detach())
    with pytest.raises(InvalidInput, match="first derivatives only"):
        torch.autograd.grad(slope, m)

    def of(m: Tensor) -> Tensor:
        q = torch.distributions.Normal(m, torch.ones_like(m))
        return elbo(lambda z: -z.square() / 2, q, n=50, grad=grad, k=k, seed=0).mean

    assert torch.allclose(torch.func.grad(of)(m.detach()), plain, rtol=1e-12)
