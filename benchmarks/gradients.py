"""Gradient estimators: variance x time against hand-written PyTorch, overhead, and batches of problems.

    python benchmarks/gradients.py --repeats 400

Times are medians of alternating runs of one process, so that ratios hold on a busy machine; variances
are of one gradient from n draws. Pyro and storchastic are compared where they are installed: they are
not (their gradients are the hand-written ones below).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal

from likely import expect
from likely.expectations import choose

TOY = torch.tensor([0.6, 0.51, 0.48], dtype=torch.float64)
MINIMA = {
    "global minimum": (1.36669929517146813, 0.674065389751229),
    "local minimum": (0.442297488320822, -0.500058753547454),
}


def wave(x: Tensor) -> Tensor:
    return x * x.sin()


def toy(b: Tensor) -> Tensor:
    return (b - TOY).square().sum(1)


def by_hand(kind: str, law: object, f: Callable, n: int) -> None:
    """One gradient as one would write it."""
    if kind == "path":
        f(law.rsample((n,))).mean().backward()
        return
    x = law.sample((n,))
    value = f(x)
    baseline = (value.sum() - value) / (n - 1) if kind == "score, loo" else 0.0
    log_p = law.log_prob(x)
    log_p = log_p if log_p.ndim == 1 else log_p.sum(1)
    ((value - baseline) * log_p).mean().backward()


def measure(steps: dict[str, Callable[[], None]], leaves: list[Tensor], repeats: int) -> dict:
    """Return, for each step, its median time in microseconds and its gradients."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    grads: dict[str, list[Tensor]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            for leaf in leaves:
                leaf.grad = None
            begin = time.perf_counter()
            step()
            times[name].append(1e6 * (time.perf_counter() - begin))
            grads[name].append(torch.stack([leaf.grad.detach().clone() for leaf in leaves]))
    return {name: (statistics.median(times[name]), torch.stack(grads[name])) for name in steps}


def table(title: str, found: dict) -> None:
    print(f"\n{title}")
    print(f"{'':28} {'microseconds':>12} {'variance':>24} {'variance x time':>16}")
    for name, (micros, grads) in found.items():
        variance = grads.var(0)
        text = ", ".join(f"{v:.3g}" for v in variance.tolist())
        print(f"{name:28} {micros:12.0f} {text:>24} {micros * variance.sum().item():16.4g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=400)
    parser.add_argument("--n", type=int, default=16)
    options = parser.parse_args()
    n, repeats = options.n, options.repeats
    torch.manual_seed(0)

    for name, (m, t) in MINIMA.items():
        mu, tau = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (m, t))
        auto = choose(wave, Normal(mu, tau.exp()), n, seed=0)
        steps = {
            f"by hand: {kind}": lambda kind=kind: by_hand(kind, Normal(mu, tau.exp()), wave, n)
            for kind in ("score", "score, loo", "path")
        } | {
            f"likely: {how}": lambda how=how: expect(
                wave, Normal(mu, tau.exp()), n, grad=auto if how == "auto" else how
            ).mean.backward()
            for how in ("score", "path", "weak", "auto")
        }
        found = measure(steps, [mu, tau], repeats)
        table(f"{name}, n = {n}, auto: {auto}", found)
        for one, two in (("score", "score, loo"), ("path", "path")):
            ratio = found[f"likely: {one}"][0] / found[f"by hand: {two}"][0]
            print(f"overhead of expect, {one}: {ratio:.2f}x")

    for start in (0.0, -4.0):
        eta = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        auto = choose(toy, Bernoulli(logits=eta.expand(3)), n, seed=0)
        steps = {
            f"by hand: {kind}": lambda kind=kind: by_hand(kind, Bernoulli(logits=eta.expand(3)), toy, n)
            for kind in ("score", "score, loo")
        } | {
            f"likely: {how}": lambda how=how: expect(
                toy, Bernoulli(logits=eta.expand(3)), n, grad=auto if how == "auto" else how
            ).mean.backward()
            for how in ("score", "weak", "auto")
        }
        table(f"coins, eta = {start:g}, n = {n}, auto: {auto}", measure(steps, [eta], repeats))

    many = torch.linspace(-1, 2, 1000, dtype=torch.float64).requires_grad_()
    one = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def step(leaf: Tensor, batched: bool) -> None:
        e = expect(wave, Normal(leaf, 1.0), n, grad="score", batched=batched)
        e.mean.sum().backward()

    alone = measure({"": lambda: step(one, False)}, [one], 50)[""][0]
    together = measure({"": lambda: step(many, True)}, [many], 20)[""][0]
    print(f"\n1,000 starts at once: {1000 * alone / together:.0f}x faster than one after another")


if __name__ == "__main__":
    main()
