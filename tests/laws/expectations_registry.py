"""The registry of expectations: laws, functions, and the gradient estimators that apply to them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributions as d

from likely.expectations import Auto, Enumerate, Gradient, Mixed, Path, Score, Weak

SCORES = [Score("none"), Score("mean"), Score("loo"), Score("optimal"), Score(0.7)]
WEIGHTS = torch.tensor([0.6, 0.51, 0.48], dtype=torch.float64)


@dataclass(frozen=True)
class Case:
    """A law made from leaf tensors, a function, the exact value and gradient, and what applies."""

    make: Callable[..., d.Distribution]
    start: tuple[float, ...]
    f: Callable[[Tensor], Tensor]
    #: the exact expectation, from the parameters
    truth: Callable[..., Tensor]
    estimators: tuple[Gradient, ...]

    def leaves(self) -> list[Tensor]:
        return [torch.tensor(t, dtype=torch.float64, requires_grad=True) for t in self.start]

    def exact(self, order: int = 1) -> list[Tensor]:
        """The value and the gradient, or for order 2 the Hessian."""
        leaves = self.leaves()
        value = self.truth(*leaves)
        grads = torch.autograd.grad(value, leaves, create_graph=order > 1)
        if order == 1:
            return [value.detach(), torch.stack(grads)]
        rows = [torch.autograd.grad(g, leaves, retain_graph=True, allow_unused=True) for g in grads]
        return [torch.stack([torch.zeros(()).double() if x is None else x for x in r]) for r in rows]


def wave(x: Tensor) -> Tensor:
    return x * x.sin()


def wave_mean(mu: Tensor, tau: Tensor) -> Tensor:
    v = (2 * tau).exp()
    return (-v / 2).exp() * (mu * mu.sin() + v * mu.cos())


def three_coins(eta: Tensor) -> d.Distribution:
    return d.Bernoulli(logits=eta.expand(3))


CASES = {
    "normal": Case(
        lambda mu, tau: d.Normal(mu, tau.exp()),
        (0.8, 0.1),
        wave,
        wave_mean,
        (
            *(*SCORES, Path(), Weak(), Auto(), Mixed({"loc": Score("loo"), "scale": Path()})),
            *(Weak(stratified=True), Mixed({"loc": Path(), "scale": Weak(stratified=True)})),
        ),
    ),
    "normal, a jump": Case(
        lambda mu, tau: d.Normal(mu, tau.exp()),
        (0.3, -0.2),
        lambda x: x > 0,
        lambda mu, tau: 0.5 * torch.erfc(-mu * (-tau).exp() / 2**0.5),
        (*SCORES, Weak(), Auto()),
    ),
    "normal in three dimensions": Case(
        lambda mu, tau: d.Independent(d.Normal(mu * WEIGHTS, tau.exp()), 1),
        (0.8, -0.3),
        lambda x: x.prod(1) + x.square().sum(1),
        lambda mu, tau: mu**3 * WEIGHTS.prod() + mu**2 * WEIGHTS.square().sum() + 3 * (2 * tau).exp(),
        (
            *(Score("loo"), Score("optimal"), Path(), Weak(), Mixed({"loc": Weak(), "scale": Path()})),
            Weak(stratified=True),
        ),
    ),
    "bernoulli": Case(
        three_coins,
        (-0.6,),
        lambda b: (b - WEIGHTS).square().sum(1),
        lambda eta: (eta.sigmoid() * (1 - 2 * WEIGHTS) + WEIGHTS.square()).sum(),
        (*SCORES, Weak(), Enumerate(), Auto(), Auto(draws=4, repeats=32)),
    ),
    "categorical": Case(
        lambda a, b: d.Categorical(logits=torch.stack([a, b, a + b])),
        (0.2, -0.4),
        lambda k: (k.double() - 0.5).square(),
        lambda a, b: (torch.stack([a, b, a + b]).softmax(0) * torch.tensor([0.25, 0.25, 2.25])).sum(),
        (Score("loo"), Score("none"), Enumerate(), Auto()),
    ),
    "poisson": Case(
        lambda rate: d.Poisson(rate),
        (1.7,),
        lambda k: (k - 1).square(),
        lambda rate: rate + (rate - 1).square(),
        (*SCORES, Weak(), Auto()),
    ),
    "exponential": Case(
        lambda rate: d.Exponential(rate),
        (1.4,),
        lambda x: x.square(),
        lambda rate: 2 / rate.square(),
        (Score("loo"), Path(), Weak(), Auto(), Weak(stratified=True)),
    ),
    "gamma": Case(
        lambda rate: d.Gamma(torch.tensor(2.5).double(), rate),
        (1.4,),
        lambda x: (-x).exp(),
        lambda rate: (rate / (rate + 1)) ** 2.5,
        (Score("loo"), Path(), Weak(), Auto()),
    ),
    "gamma, both": Case(
        d.Gamma,
        (0.8, 1.4),
        lambda x: (-x).exp(),
        lambda a, rate: (rate / (rate + 1)) ** a,
        (Score("loo"), Path(), Weak(), Mixed({"concentration": Weak(), "rate": Path()})),
    ),
    "mixture of normals": Case(
        lambda a, mu: d.MixtureSameFamily(
            d.Categorical(logits=torch.stack([a, -a])),
            d.Normal(torch.stack([mu, -mu]), torch.ones(2).double()),
        ),
        (0.3, 1.2),
        lambda x: x.square() + x,
        lambda a, mu: 1 + mu.square() + mu * (2 * (2 * a).sigmoid() - 1),
        (Score("none"), Score("loo"), Score("optimal"), Auto(draws=4, repeats=8)),
    ),
}

PAIRS = [(name, k) for name, case in CASES.items() for k in range(len(case.estimators))]
