"""Which gradient estimator has the least variance? It depends on where: measure.

    python examples/gradient_estimators.py

The stochastic programme E[X sin X] + (mu - 1)^2 / 2 + sigma - log sigma has two minima. At the global
one the reparameterised gradient has more variance than the score function, and a mean baseline hurts;
at the local one it is the other way round.
"""

from __future__ import annotations

import torch
from torch.distributions import Normal

import likely
from likely.expectations import Score, choose

MINIMA = {
    "global minimum": (1.36669929517146813, 0.674065389751229),
    "local minimum": (0.442297488320822, -0.500058753547454),
}


def main() -> None:
    for name, (m, t) in MINIMA.items():
        mu, tau = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (m, t))
        law = Normal(mu, tau.exp())
        estimators = {
            "score, no baseline": Score("none"),
            "score, mean": Score("mean"),
            "score, leave-one-out": Score("loo"),
            "score, optimal": Score("optimal"),
            "path": "path",
            "weak": "weak",
        }
        table = likely.compare(
            lambda x: x * x.sin(), law, estimators, {"mu": mu, "tau": tau}, repeats=10_000, seed=0
        )
        print(f"\n{name}: auto takes {choose(lambda x: x * x.sin(), law, seed=0)}\n{table}")
        table.plot().savefig(f"estimators, {name}.png", dpi=110)


if __name__ == "__main__":
    main()
