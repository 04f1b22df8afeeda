"""The gradients of the two toy problems by hand-written PyTorch, by Pyro and by storchastic.

Each contestant leaves a gradient of E[f] from n draws in `.grad` of its leaves.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Normal

TOY = torch.tensor([0.6, 0.51, 0.48], dtype=torch.float64)


class Problem(NamedTuple):
    """A law made from leaves that start somewhere, and a function of its draws."""

    name: str
    start: tuple[float, ...]
    law: Callable[..., Distribution]
    f: Callable[[Tensor], Tensor]

    def leaves(self) -> list[Tensor]:
        """New leaves at the start."""
        return [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in self.start]


class Contestant(NamedTuple):
    """A step, and the leaves that it leaves gradients in."""

    step: Callable[[], None]
    leaves: list[Tensor]


def wave(x: Tensor) -> Tensor:
    return x * torch.sin(x)


def toy(b: Tensor) -> Tensor:
    return ((b - TOY) ** 2).sum(-1)


def normal(mu: Tensor, tau: Tensor) -> Normal:
    return Normal(mu, tau.exp())


def coins(eta: Tensor) -> Bernoulli:
    return Bernoulli(logits=eta.expand(3))


PROBLEMS = (
    Problem("global minimum", (1.36669929517146813, 0.674065389751229), normal, wave),
    Problem("local minimum", (0.442297488320822, -0.500058753547454), normal, wave),
    Problem("coins, eta = 0", (0.0,), coins, toy),
    Problem("coins, eta = -4", (-4.0,), coins, toy),
)


POINTS = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3)
EACH = torch.eye(3, dtype=torch.bool)


def by_hand(problem: Problem, n: int) -> dict[str, Contestant]:
    """The gradients as one would write them: the law, its draws, the value, and the gradient.

    The bare ones build no law and have no value.
    """

    def score(leaves: list[Tensor], leave_one_out: bool) -> Tensor:
        law = problem.law(*leaves)
        x = law.sample((n,))
        f = problem.f(x)
        b = (f.sum() - f) / (n - 1) if leave_one_out else 0.0
        log_p = law.log_prob(x)
        log_p = log_p if log_p.ndim == 1 else log_p.sum(1)
        ((f - b) * log_p).mean().backward()
        return f.mean()

    def path(leaves: list[Tensor]) -> Tensor:
        value = problem.f(problem.law(*leaves).rsample((n,))).mean()
        value.backward()
        return value

    def weak_normal(leaves: list[Tensor]) -> Tensor:
        law = problem.law(*leaves)
        with torch.no_grad():
            mu, sigma = law.loc, law.scale
            z = torch.randn(n, dtype=mu.dtype)
            f = problem.f(mu + sigma * z)
            r = sigma * (2 * torch.empty(n, dtype=mu.dtype).exponential_()).sqrt()
            slope = (problem.f(mu + r) - problem.f(mu - r)).mean() / (sigma * math.sqrt(2 * math.pi))
            m = (2 * torch.empty(n, dtype=mu.dtype).exponential_() + z * z).sqrt().copysign(z)
            spread = (problem.f(mu + sigma * m) - f).mean() / sigma
            value = f.mean()
        torch.autograd.backward([law.loc, law.scale], [slope, spread])
        return value

    def weak_normal_bare(leaves: list[Tensor]) -> None:
        mu, sigma = leaves[0], leaves[1].exp()
        with torch.no_grad():
            r = sigma * (2 * torch.empty(n, dtype=mu.dtype).exponential_()).sqrt()
            slope = (problem.f(mu + r) - problem.f(mu - r)).mean() / (sigma * math.sqrt(2 * math.pi))
            z = torch.randn(n, dtype=mu.dtype)
            m = (2 * torch.empty(n, dtype=mu.dtype).exponential_() + z * z).sqrt().copysign(z)
            spread = (problem.f(mu + sigma * m) - problem.f(mu + sigma * z)).mean() / sigma
        torch.autograd.backward([mu, sigma], [slope, spread])

    def weak_coins(leaves: list[Tensor]) -> Tensor:
        law = problem.law(*leaves)
        p = law.probs
        with torch.no_grad():
            b = law.sample((n,))
            f = problem.f(b)
            gap = problem.f(torch.where(EACH, 1 - b[:, None], b[:, None])) - f[:, None]
            slope = ((1 - 2 * b) * gap).mean(0)
            value = f.mean()
        p.backward(slope)
        return value

    def weak_coins_bare(leaves: list[Tensor]) -> None:
        p = leaves[0].sigmoid()
        with torch.no_grad():
            b = torch.bernoulli(p.expand(n, 3))
            gap = problem.f(torch.where(EACH, 1 - b[:, None], b[:, None])) - problem.f(b)[:, None]
            slope = ((1 - 2 * b) * gap).sum() / n
        p.backward(slope)

    def enumerated(leaves: list[Tensor]) -> Tensor:
        value = (problem.law(*leaves).log_prob(POINTS).sum(1).exp() * problem.f(POINTS)).sum()
        value.backward()
        return value

    hands: dict[str, Callable[[list[Tensor]], object]] = {
        "score": lambda leaves: score(leaves, False),
        "score, loo": lambda leaves: score(leaves, True),
    }
    hands |= (
        {"path": path, "weak": weak_normal, "weak, bare": weak_normal_bare}
        if problem.law is normal
        else {"weak": weak_coins, "weak, bare": weak_coins_bare, "enumerate": enumerated}
    )
    found = {}
    for name, hand in hands.items():
        leaves = problem.leaves()
        found[f"hand: {name}"] = Contestant(lambda hand=hand, leaves=leaves: hand(leaves), leaves)
    return found


def by_pyro(problem: Problem, n: int) -> dict[str, Contestant]:
    """Pyro's, as the gradients of an ELBO whose model and guide have the same law.

    With log p - log q = 0 what is left is E_q[f]. In the model of the score the law is detached: its
    own score would be noise.
    """
    import pyro
    import pyro.distributions as pd
    from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, config_enumerate

    Distribution.set_default_validate_args(True)  # the default of torch, which importing Pyro changes

    def law(leaves: list[Tensor]) -> Distribution:
        if problem.law is normal:
            return pd.Normal(leaves[0], leaves[1].exp())
        return pd.Bernoulli(logits=leaves[0].expand(3)).to_event(1)

    def contestant(kind: str) -> Contestant:
        # Pyro collects gradients for tensors of its own store.
        for k, start in enumerate(problem.start):
            pyro.param(f"{problem.name} {kind} {k}", torch.tensor(start, dtype=torch.float64))
        names = [f"{problem.name} {kind} {k}" for k in range(len(problem.start))]
        leaves = [pyro.get_param_store()._params[name] for name in names]
        baseline = {"use_decaying_avg_baseline": True}

        def guide() -> None:
            q = law([pyro.param(name) for name in names])
            if kind != "path":
                q = q.has_rsample_(False) if problem.law is normal else q
            pyro.sample("x", q, infer={"baseline": baseline} if kind == "score, average" else {})

        def model() -> None:
            given = [pyro.param(name) for name in names]
            x = pyro.sample("x", law(given if kind == "path" else [t.detach() for t in given]))
            pyro.factor("f", problem.f(x))

        bound = TraceGraph_ELBO if kind == "score, average" else Trace_ELBO
        elbo = bound(num_particles=n, vectorize_particles=True, max_plate_nesting=0)
        return Contestant(lambda: elbo.loss_and_grads(model, guide), leaves)

    def enumerated() -> Contestant:
        (leaf,) = leaves = problem.leaves()

        @config_enumerate
        def guide() -> None:
            with pyro.plate("k", 3, dim=-1):
                pyro.sample("x", pd.Bernoulli(logits=leaf.expand(3)))

        def model() -> None:
            with pyro.plate("k", 3, dim=-1):
                x = pyro.sample("x", pd.Bernoulli(logits=leaf.detach().expand(3)))
                pyro.factor("f", (x - TOY) ** 2)  # only with f cut into its terms

        elbo = TraceEnum_ELBO(max_plate_nesting=1)
        return Contestant(lambda: elbo.differentiable_loss(model, guide).backward(), leaves)

    kinds = ["score", "score, average"] + (["path"] if problem.law is normal else [])
    found = {f"pyro: {kind}": contestant(kind) for kind in kinds}
    return found if problem.law is normal else found | {"pyro: enumerate": enumerated()}


def by_storchastic(problem: Problem, n: int) -> dict[str, Contestant]:
    """Storchastic's."""
    import storch
    from storch.method import Expect, Reparameterization, ScoreFunction

    methods: dict[str, Callable[[], object]] = {
        "score": lambda: ScoreFunction("x", n_samples=n),
        "score, loo": lambda: ScoreFunction("x", n_samples=n, baseline_factory="batch_average"),
    }
    methods |= (
        {"path": lambda: Reparameterization("x", n_samples=n)}
        if problem.law is normal
        else {"enumerate": lambda: Expect("x")}
    )

    def step(method: Callable[[], object], leaves: list[Tensor]) -> None:
        law = problem.law(*leaves)
        law._validate_args = False  # its draws are no tensors, which torch would refuse
        storch.add_cost(problem.f(method()(law)), "f")
        storch.backward()

    found = {}
    for name, method in methods.items():
        leaves = problem.leaves()
        found[f"storchastic: {name}"] = Contestant(
            lambda method=method, leaves=leaves: step(method, leaves), leaves
        )
    return found


def peers(problem: Problem, n: int) -> dict[str, Contestant]:
    """All that are installed; the others are named on standard error."""
    found = by_hand(problem, n)
    for package, make in (("pyro", by_pyro), ("storch", by_storchastic)):
        if importlib.util.find_spec(package) is None:
            warnings.warn(f"{package} is not installed and takes no part", stacklevel=1)
            continue
        found |= make(problem, n)
    return found
