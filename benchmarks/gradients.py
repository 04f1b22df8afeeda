"""Gradient estimators: variance x time against hand-written PyTorch, Pyro and storchastic.

    python benchmarks/gradients.py --repeats 400 --json gradients.json

Contestants take turns in one process, ten gradients in a row each, as a training loop would. Times are
medians of the processor time of a gradient from n draws, forward and backward, so that ratios hold on a
busy machine. Variances are those of the same gradients, summed over parameters. `auto` is one value
`Auto(every=1000)` for a problem, whose pilots are among the times.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from gradient_peers import PROBLEMS, Contestant, Problem, normal, peers, wave
from report import Cell, Report
from torch import Tensor
from torch.distributions import Normal

from likely import expect
from likely.expectations import Auto, choose

#: gradients in a row
TURN = 10
#: below it a product of variance and time is rounding
EXACT = 1e-20
#: what each name of `expect` is compared with: the same estimator, written by hand
SAME = {"score": "score, loo", "path": "path", "weak": "weak", "enumerate": "enumerate"}
BARE = {"weak": "weak, bare"}


def ours(problem: Problem, n: int, seed: int) -> tuple[dict[str, Contestant], str]:
    """Return the contestants of this library, and what `auto` has chosen."""
    chosen = choose(problem.f, problem.law(*problem.leaves()), n, seed=seed)
    found = {}
    auto = Auto(every=1000)
    for name in ("score", "path" if problem.law is normal else "enumerate", "weak", "auto"):
        leaves = problem.leaves()

        def step(leaves: list[Tensor] = leaves, how: object = auto if name == "auto" else name) -> None:
            expect(problem.f, problem.law(*leaves), n, grad=how).mean.backward()

        found[f"likely: {name}"] = Contestant(step, leaves)
    return found, str(chosen)


def measure(contestants: dict[str, Contestant], repeats: int) -> dict[str, tuple[list, Tensor]]:
    """Return, for each contestant, the microseconds of each turn's gradients and all gradients."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    grads: dict[str, list[Tensor]] = {name: [] for name in contestants}
    for _ in range(max(2, repeats // TURN)):
        for name, (step, leaves) in contestants.items():
            turn = []
            for _ in range(TURN):
                for leaf in leaves:
                    leaf.grad = None
                begin = time.process_time_ns()
                step()
                turn.append((time.process_time_ns() - begin) / 1000)
                grads[name].append(torch.stack([leaf.grad.detach().clone() for leaf in leaves]))
            times[name].append(statistics.median(turn))
    return {name: (times[name], torch.stack(grads[name])) for name in contestants}


def ratio(one: list[float], two: list[float]) -> float:
    """Return the median of the ratios of neighbours in time."""
    return statistics.median(a / b for a, b in zip(one, two, strict=True))


def run(problem: Problem, n: int, repeats: int, seed: int) -> dict:
    mine, chosen = ours(problem, n, seed)
    found = measure(peers(problem, n) | mine, repeats)
    rows = {}
    for name, (times, grads) in found.items():
        micros, variance = statistics.median(times), grads.double().var(0)
        rows[name] = {
            "microseconds": micros,
            "variance": variance.tolist(),
            "product": micros * variance.sum().item(),
        }
    overhead = {
        one if two == SAME[one] else two: ratio(found[f"likely: {one}"][0], found[f"hand: {two}"][0])
        for one, two in (*SAME.items(), *BARE.items())
        if f"likely: {one}" in found
    }

    def rank(k: str) -> tuple[float, float]:
        product = rows[k]["product"]
        return (0.0 if product < EXACT else product), rows[k]["microseconds"]

    best = min((k for k in rows if not k.startswith("likely")), key=rank)
    print(f"\n{problem.name}, n = {n}; auto: {chosen}")
    print(f"{'':28} {'microseconds':>12} {'variance':>20} {'variance x time':>16}")
    for name, row in rows.items():
        text = ", ".join(f"{v:.3g}" for v in row["variance"])
        print(f"{name:28} {row['microseconds']:12.0f} {text:>20} {row['product']:16.4g}")
    print("likely / by hand, time:", ", ".join(f"{k} {v:.2f}x" for k, v in overhead.items()))
    print(f"best of the others: {best}; likely: auto has {_times(rows, best)} of its variance x time")
    share, exact = _share(rows, best)
    return {
        "auto": chosen,
        "rows": rows,
        "overhead": overhead,
        "best of the others": best,
        "auto over best": share,
        "both exact": exact,
    }


def _share(rows: dict, best: str) -> tuple[float, bool]:
    """Return the product of auto over that of the best; of times alone where both are exact."""
    mine, other = rows["likely: auto"]["product"], rows[best]["product"]
    if max(mine, other) < EXACT:
        return rows["likely: auto"]["microseconds"] / rows[best]["microseconds"], True
    return mine / other, False


def _times(rows: dict, best: str) -> str:
    share, exact = _share(rows, best)
    return f"no variance either, and {share:.2f}x" if exact else f"{share:.2f}x"


def batches(n: int) -> float:
    """Return how much faster 1,000 starts are at once than one after another."""

    def step(leaf: Tensor, batched: bool) -> None:
        expect(wave, Normal(leaf, 1.0), n, grad="score", batched=batched).mean.sum().backward()

    many = torch.linspace(-1, 2, 1000, dtype=torch.float64).requires_grad_()
    one = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    found = measure(
        {
            "alone": Contestant(lambda: step(one, False), [one]),
            "together": Contestant(lambda: step(many, True), [many]),
        },
        100,
    )
    return 1000 * ratio(found["alone"][0], found["together"][0])


def tables(report: Report, found: dict[str, dict], how: str) -> None:
    """A table of all estimators for each problem, and one of what `expect` adds to steps by hand."""
    for k, (problem, one) in enumerate(found.items()):
        rows: list[list[Cell]] = [
            [name, row["microseconds"], sum(row["variance"]), row["product"]]
            for name, row in one["rows"].items()
        ]
        columns = ["estimator", "microseconds", "variance, summed", "variance x time"]
        report.table(f"problem-{k + 1}", problem, columns, rows, f"{how} auto: {one['auto']}.")
    names = [*SAME, *BARE.values()]
    rows = [[problem, *(one["overhead"].get(name) for name in names)] for problem, one in found.items()]
    report.table(
        "overhead", "Time of expect over the same step by hand", ["problem", *names], rows, how
    )
    shares: list[list[Cell]] = [
        [problem, one["best of the others"], one["auto"], one["auto over best"], str(one["both exact"])]
        for problem, one in found.items()
    ]
    columns = ["problem", "best of the others", "auto takes", "auto over best", "by time alone"]
    report.table("auto", "Variance x time of auto over the best of the others", columns, shares, how)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=400)
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0, help="of the pilot of auto")
    options, report = Report.begin(parser)
    torch.manual_seed(0)
    found = {p.name: run(p, options.n, options.repeats, options.seed) for p in PROBLEMS}
    tables(report, found, f"n = {options.n}, float64, processor time, {options.repeats} repeats.")
    faster = batches(options.n)
    rows: list[list[Cell]] = [["1,000 starts at once, against one after another", faster]]
    report.table("batches", "Many starts", ["what", "times as fast"], rows)


if __name__ == "__main__":
    main()
