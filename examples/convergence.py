"""How fast the methods get there
==============================

Two pictures in one, drawn from runs: ``LIKELY_DATA=... python examples/convergence.py convergence.png``

Left, a smooth convex problem: least squares over the simplex, 64 rows of their own data; the largest
stationarity of the rows still open. Right, restoration: mean log p of 64 MNIST test images whose rows
5..11, columns 5..19 are missing. Both against evaluations of the function and its gradient.
"""

from __future__ import annotations

import sys

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import likely
from likely import data, sets, solvers

STEPS = 300


def convex() -> dict[str, list[float]]:
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(64, 40, 30, generator=generator, dtype=torch.float64)
    A = A * torch.logspace(0, -1.5, 30, dtype=torch.float64)
    b = torch.randn(64, 40, generator=generator, dtype=torch.float64)
    lipschitz = torch.linalg.matrix_norm(A, ord=2).square().max().item()

    def distance(x: Tensor) -> Tensor:
        return 0.5 * ((A @ x[:, :, None])[..., 0] - b).square().sum(1)

    methods = {
        "gradient, 1/L": solvers.ProjectedGradient(lr=1 / lipschitz, steps=STEPS),
        "gradient, backtracking": solvers.ProjectedGradient(lr=1.0, backtracking=True, steps=STEPS),
        "accelerated": solvers.Accelerated(steps=STEPS),
        "spectral": solvers.SpectralProjectedGradient(steps=STEPS),
        "Adam, lr 0.1": solvers.ProjectedAdam(lr=0.1, steps=STEPS),
    }
    start = torch.full((64, 30), 1 / 30, dtype=torch.float64)
    paths = {}
    for name, method in methods.items():
        gaps: list[Tensor] = []
        likely.minimize(
            distance,
            start,
            sets.Simplex(1.0),
            method,
            on_step=lambda i, g=gaps: g.append(i.stationarity),
        )
        paths[name] = torch.stack(gaps).cummin(0).values.amax(1).clamp(min=1e-16).tolist()
    return paths


def restoration() -> dict[str, list[float]]:
    flow = likely.load("mnist-nice")
    truth = data.mnist().test[:64] / 255
    observed = torch.ones(28, 28, dtype=torch.bool)
    observed[5:12, 5:20] = False
    damaged = torch.where(observed, truth, 1.0)
    methods = {
        "plain recipe, 1e-3": solvers.ProjectedGradient(),
        "gradient, backtracking": solvers.ProjectedGradient(backtracking=True),
        "accelerated": solvers.Accelerated(lr=1e-3),
        "spectral": solvers.SpectralProjectedGradient(),
        "Adam, lr 0.1": solvers.ProjectedAdam(lr=0.1),
        "Adam, lr 1 (default)": solvers.ProjectedAdam(),
        "Adam, lr 1, 50 steps": solvers.ProjectedAdam(steps=50),
        "Adam, lr 1, 16 steps, betas 0.5, 0.9": solvers.ProjectedAdam(steps=16, betas=(0.5, 0.9)),
    }
    paths = {}
    for name, method in methods.items():
        values: list[Tensor] = []
        likely.inpaint(
            flow, damaged, observed, method=method, on_step=lambda i, v=values: v.append(-i.value)
        )
        paths[name] = torch.stack(values).cummax(0).values.mean(1).tolist()
    return paths


def main(path: str) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for name, gaps in convex().items():
        left.semilogy(gaps, label=name)
    left.set(title="Least squares over the simplex, 64 rows", ylabel="largest stationarity so far")
    for name, values in restoration().items():
        right.plot(values, label=name)
        print(f"{name:40} {values[-1]:8.1f} nats after {len(values)} evaluations")
    right.set(title="64 digits, 105 pixels missing", ylabel="mean of the best log p so far [nats]")
    right.set_ylim(1000, 2200)
    for axes in (left, right):
        axes.set_xlabel("evaluations")
        axes.legend(fontsize=7, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main(sys.argv[1])
