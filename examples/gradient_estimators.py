"""Which gradient estimator has the least variance?
================================================

It depends on where: measure. The stochastic programme E[X sin X] + (mu - 1)^2 / 2 + sigma - log
sigma has two minima. At the global one the reparameterised gradient has more variance than the
score function, and a mean baseline hurts; at the local one it is the other way round. :doc:`The
theory </theory_programme>` has the exact variances.
"""

import matplotlib.pyplot as plt
import torch
from torch.distributions import Normal

import likely
from likely.expectations import Score, choose

MINIMA = {
    "global minimum": (1.36669929517146813, 0.674065389751229),
    "local minimum": (0.442297488320822, -0.500058753547454),
}
ESTIMATORS = {
    "score, no baseline": Score("none"),
    "score, mean": Score("mean"),
    "score, leave-one-out": Score("loo"),
    "score, optimal": Score("optimal"),
    "path": "path",
    "weak": "weak",
}


def wave(x: torch.Tensor) -> torch.Tensor:
    return x * x.sin()


tables = {}
for name, (m, t) in MINIMA.items():
    mu, tau = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (m, t))
    law = Normal(mu, tau.exp())
    tables[name] = likely.compare(wave, law, ESTIMATORS, {"mu": mu, "tau": tau}, repeats=10_000, seed=0)
    print(f"\n{name}: auto takes {choose(wave, law, seed=0)}\n{tables[name]}")

# %%
# What a given precision costs: variance times evaluations of f.

figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", sharey=True)
for axis, (name, table) in zip(axes, tables.items(), strict=True):
    for k, parameter in enumerate(("mu", "tau")):
        products = [float(table.row(e, parameter).product) for e in ESTIMATORS]
        where = [i + 0.2 - 0.4 * k for i in range(len(ESTIMATORS))]
        axis.barh(where, products, height=0.4, label=parameter)
    axis.set_yticks(range(len(ESTIMATORS)), list(ESTIMATORS))
    axis.set(title=name, xscale="log", xlabel="variance times evaluations")
axes[1].legend(frameon=False, loc="upper right")
plt.show()
