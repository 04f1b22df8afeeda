"""Rare events: variance x time against the exercise as one writes it, vectorised NumPy, and OpenTURNS.

    python benchmarks/rare_events.py --json rare.json
    python benchmarks/rare_events.py --parts walk speed --long

Variance x time is the variance of the mean, relative to the exact probability squared, times seconds of
processor time: what a method costs to reach a given error. It does not depend on how long it runs.

walk     The gambler of walks.json. Variances of a path are exact (verified apart; `relative_variance`
         gives the same), times are measured, contestants in turn; ratios are medians over the rounds.
regions  Failure regions with exact probabilities, against OpenTURNS where it is installed
         (pip install openturns). Each method runs again and again; its error is against the exact
         answer, not what it says of itself. A method that gives nothing, or errors of more than 100%,
         is shown as it is. Fixed costs, such as ours of fitting a proposal, are included.
speed    Walk steps a second under a constant tilt; linear in paths; two processes against one;
         with --long a billion steps and the memory they took.
"""

from __future__ import annotations

import argparse
import math
import random
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from report import Cell, Report
from scipy import integrate, stats
from torch import Tensor
from torch.distributions import Normal

from likely import Walk, expect
from likely.walks import propose, split, subset

P, START, TARGET, GAMES, PATHS, Q = 18 / 37, 100, 200, 600, 3000, 0.55
WIDE = 42
ANEW = "likely, bridge, made anew each time"
P_HIT = 2.388383450606957036695686e-6


# The exercise as a newcomer writes it: one path at a time, weights over all 600 games.


def ruin_loop(seed: int, uniform: Callable[[], float], paths: int) -> float:
    total = 0.0
    for _ in range(paths):
        money, weight, done, won = START, 1.0, False, False
        for _ in range(GAMES):
            if uniform() < Q:
                weight *= P / Q
                step = 1
            else:
                weight *= (1 - P) / (1 - Q)
                step = -1
            if not done:
                money += step
                if money == 0 or money == TARGET:
                    done, won = True, money == TARGET
        if won:
            total += weight
    return total / paths


def loop_random(seed: int, paths: int = PATHS) -> float:
    random.seed(seed)
    return ruin_loop(seed, random.random, paths)


def loop_numpy(seed: int, paths: int = PATHS) -> float:
    np.random.seed(seed)
    return ruin_loop(seed, np.random.rand, paths)


def vectorised(seed: int, paths: int = PATHS) -> float:
    rng = np.random.default_rng(seed)
    up = rng.random((paths, GAMES)) < Q
    money = START + np.cumsum(2 * up.astype(np.int32) - 1, axis=1)
    hit, ruined = money >= TARGET, money <= 0
    first = np.where(hit.any(1), hit.argmax(1), GAMES)
    lost = np.where(ruined.any(1), ruined.argmax(1), GAMES)
    ups = up.sum(1)
    log_w = ups * math.log(P / Q) + (GAMES - ups) * math.log((1 - P) / (1 - Q))
    return float((np.exp(log_w) * (first < lost)).mean())


def walk_part(rounds: int) -> dict:
    walk = Walk(p=P, start=START, low=0, high=TARGET, horizon=GAMES)
    event = walk.hits(TARGET)
    tilt = walk.tilt(Q)
    full = float(walk.unstopped().relative_variance(walk.unstopped().hits(TARGET), tilt.unstopped()))

    def ours(proposal: Callable[[], Walk]) -> Callable[[int], float]:
        return lambda seed: expect(event, walk, n=PATHS, via=proposal(), seed=seed).mean.item()

    bridge, brownian, doob = walk.bridge(TARGET), walk.bridge(TARGET, last=0), walk.doob(TARGET)
    of_bridge = float(walk.relative_variance(event, bridge))

    contestants = {
        "loop, random.random()": (loop_random, full),
        "loop, numpy.random.rand()": (loop_numpy, full),
        "vectorised NumPy": (vectorised, full),
        "likely, tilt 0.55": (ours(lambda: walk.tilt(Q)), float(walk.relative_variance(event, tilt))),
        "likely, bridge": (ours(lambda: bridge), of_bridge),
        ANEW: (ours(lambda: walk.bridge(TARGET)), of_bridge),
        "likely, bridge, last=0": (
            ours(lambda: brownian),
            float(walk.relative_variance(event, brownian)),
        ),
        "likely, doob": (ours(lambda: doob), 0.0),
        "likely, doob, made anew each time": (ours(lambda: walk.doob(TARGET)), 0.0),
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    means: dict[str, list[float]] = {name: [] for name in contestants}
    for name, (run, _) in contestants.items():  # warm up
        if "loop" not in name:
            run(0)
    for k in range(rounds):
        for name, (run, _) in contestants.items():
            again = 1 if "loop" in name else 5
            begin = time.process_time()
            found = [run(1000 * k + j) for j in range(again)]
            times[name].append((time.process_time() - begin) / again)
            means[name] += found
    rows = {}
    for name, (_, variance) in contestants.items():
        seconds = statistics.median(times[name])
        rows[name] = {
            "seconds": seconds,
            "relative variance of a path": variance,
            "relative error of the mean": abs(statistics.fmean(means[name]) / P_HIT - 1),
            "relative error, expected": math.sqrt(variance / PATHS / len(means[name])),
            "variance x time": variance / PATHS * seconds,
        }
    for name in list(contestants)[:3]:
        for best in ("likely, bridge", ANEW):
            ratio = [a / b for a, b in zip(times[name], times[best], strict=True)]
            gain = statistics.median(ratio) * contestants[name][1] / of_bridge
            rows[name][f"times worse than {best}"] = gain
    print(f"\nThe gambler, {PATHS:,} paths, {rounds} rounds")
    heads = f"{'seconds':>10}{'var/path':>10}{'rel. error (expected)':>24}{'var x time':>12}"
    print(f"{'':{WIDE}}{heads}{'bridge':>12}{'made anew':>12}")
    for name, row in rows.items():
        gains = "".join(f"{v:11,.0f}x" for key, v in row.items() if key.startswith("times worse"))
        error = f"{row['relative error of the mean']:.2%} ({row['relative error, expected']:.2%})"
        print(
            f"{name:{WIDE}}{row['seconds']:10.4f}{row['relative variance of a path']:10.4g}{error:>24}"
            f"{row['variance x time']:12.3g}{gains}"
        )
    splitting = splitting_row(walk)
    seconds, cost = splitting["seconds"], splitting["variance x time"]
    print(f"{'likely, splitting (n=100)':{WIDE}}{seconds:10.4f}{'':34}{cost:12.3g}")
    return rows | {"likely, splitting (n=100)": splitting}


def splitting_row(walk: Walk) -> dict:
    begin = time.process_time()
    e = split(walk, TARGET, n=100, repeats=64, seed=0)
    seconds = time.process_time() - begin
    relative = (e.stderr / P_HIT).item() ** 2
    return {"seconds": seconds, "mean": e.mean.item(), "variance x time": relative * seconds}


# Failure regions.


class Region:
    """A region f <= 0 under independent normal entries, for tensors and, by formula, for OpenTURNS."""

    def __init__(
        self,
        truth: float,
        dim: int,
        formula: str,
        f: Callable[[Tensor], Tensor],
        loc: tuple[float, ...] | None = None,
        scale: tuple[float, ...] | None = None,
    ) -> None:
        self.truth, self.dim, self.formula, self.given = truth, dim, formula, f
        self.loc, self.scale = loc or (0.0,) * dim, scale or (1.0,) * dim
        self.law = Normal(torch.tensor(self.loc).double(), torch.tensor(self.scale).double())
        self.calls = 0

    def f(self, x: Tensor) -> Tensor:
        """The limit state function, which counts its evaluations."""
        self.calls += len(x)
        return self.given(x)

    def event(self, x: Tensor) -> Tensor:
        """Whether it fails."""
        return self.f(x) <= 0


def four_branches(k: float, truth: float) -> Region:
    def f(x: Tensor) -> Tensor:
        s, d = (x[:, 0] + x[:, 1]) / math.sqrt(2), x[:, 0] - x[:, 1]
        bowl, edge = 3 + 0.1 * d.square(), k / math.sqrt(2)
        return torch.minimum(bowl - s.abs(), edge - d.abs())

    bowl, s = "3+0.1*(x0-x1)^2", "(x0+x1)/sqrt(2)"
    branches = f"{bowl}-{s}", f"{bowl}+{s}", f"x0-x1+{k}/sqrt(2)", f"x1-x0+{k}/sqrt(2)"
    return Region(
        truth, 2, f"min(min({branches[0]},{branches[1]}),min({branches[2]},{branches[3]}))", f
    )


def linear(beta: float, dim: int) -> Region:
    total = "+".join(f"x{i}" for i in range(dim))
    formula = f"{beta}-({total})/sqrt({dim})"
    return Region(stats.norm.sf(beta), dim, formula, lambda x: beta - x.sum(1) / math.sqrt(dim))


def parabola() -> Region:
    truth = integrate.quad(
        lambda u: stats.norm.pdf(u) * stats.norm.sf(5 - 0.5 * (u - 0.1) ** 2),
        -12, 12, epsabs=0, epsrel=1e-12, points=[-3, 0, 3],
    )[0]  # fmt: skip
    return Region(
        truth, 2, "5-x1-0.5*(x0-0.1)^2", lambda x: 5 - x[:, 1] - 0.5 * (x[:, 0] - 0.1).square()
    )


def sphere(radius: float, dim: int) -> Region:
    squares = "+".join(f"x{i}^2" for i in range(dim))
    return Region(
        stats.chi2.sf(radius**2, dim),
        dim,
        f"{radius}-sqrt({squares})",
        lambda x: radius - x.norm(dim=1),
    )


REGIONS: dict[str, Callable[[], Region]] = {
    "four branches, k=7 (2.2e-3)": lambda: four_branches(7.0, 2.2227950661944398872e-3),
    "four branches, k=6 (4.5e-3)": lambda: four_branches(6.0, 4.45733149062649e-3),
    "R - S (4.7e-5)": lambda: Region(
        stats.norm.sf(5 / math.hypot(1, 0.8)),
        2,
        "x0-x1",
        lambda x: x[:, 0] - x[:, 1],
        (7.0, 2.0),
        (1.0, 0.8),
    ),
    "parabola, two sides (3.0e-3)": parabola,
    "linear, d=20 (2.9e-7)": lambda: linear(5.0, 20),
    "sphere, d=5 (9.5e-7)": lambda: sphere(6.0, 5),
}


def our_methods(region: Region, work: int) -> dict[str, Callable[[int], float]]:
    """Estimates from about `work` evaluations of f."""

    def proposal(seed: int) -> float:
        region.calls = 0
        q = propose(region.f, region.law, seed=seed)
        left = max(1000, work - region.calls)
        return expect(region.event, region.law, n=left, via=q, seed=seed + 1).mean.item()

    def levels(seed: int) -> float:
        thresholds = max(1, round(-math.log10(region.truth)))
        runs = max(2, work // (1000 * (thresholds + 1)) - 1)
        return subset(region.f, region.law, n=1000, repeats=runs, seed=seed).mean.item()

    return {"likely, propose": proposal, "likely, subset": levels}


def openturns_methods(region: Region, work: int) -> dict[str, Callable[[int], float]]:
    """What OpenTURNS offers, with formulas that it compiles, from about as many evaluations."""
    try:
        import openturns as ot
    except ImportError:
        print("OpenTURNS is not installed: its rows are missing")
        return {}
    ot.Log.Show(ot.Log.NONE)
    names = [f"x{i}" for i in range(region.dim)]
    law = ot.JointDistribution([ot.Normal(m, s) for m, s in zip(region.loc, region.scale, strict=True)])

    def values(x: object) -> np.ndarray:
        return region.f(torch.from_numpy(np.array(x)))[:, None].numpy()

    compiled = ot.SymbolicFunction(names, [region.formula])
    counting = ot.PythonFunction(region.dim, 1, func=lambda x: values([list(x)])[0], func_sample=values)

    def event(function: object) -> object:
        vector = ot.CompositeRandomVector(function, ot.RandomVector(law))
        return ot.ThresholdEvent(vector, ot.LessOrEqual(), 0.0)

    def run(algorithm: object, block: int, outer: int) -> float:
        algorithm.setBlockSize(block)
        algorithm.setMaximumOuterSampling(max(1, outer))
        algorithm.setMaximumCoefficientOfVariation(0.0)
        algorithm.run()
        return algorithm.getResult().getProbabilityEstimate()

    def sampling(design: Callable[[], object]) -> Callable[[object, int], float]:
        return lambda e, size: run(ot.ProbabilitySimulationAlgorithm(e, design()), 1000, size // 1000)

    def nearest() -> object:
        search = ot.AbdoRackwitz()
        search.setStartingPoint([m + 0.1 * s for m, s in zip(region.loc, region.scale, strict=True)])
        return search

    def form(e: object, size: int) -> float:
        algorithm = ot.FORM(nearest(), e)
        algorithm.run()
        return run(ot.PostAnalyticalImportanceSampling(algorithm.getResult()), 1000, size // 1000)

    def multiform(e: object, size: int) -> float:
        algorithm = ot.MultiFORM(nearest(), e)
        algorithm.run()
        found = algorithm.getResult().getFORMResultCollection()
        unit = ot.CovarianceMatrix(region.dim)
        q = ot.Mixture([ot.Normal(r.getStandardSpaceDesignPoint(), unit) for r in found])
        design = ot.ImportanceSamplingExperiment(q)
        algorithm = ot.ProbabilitySimulationAlgorithm(ot.StandardEvent(e), design)
        return run(algorithm, 1000, size // 1000)

    methods = {
        "Monte Carlo": sampling(ot.MonteCarloExperiment),
        "Latin hypercubes": sampling(ot.LHSExperiment),
        "subset sampling": lambda e, size: run(ot.SubsetSampling(e), 1000, size // 1000),
        "directional sampling": lambda e, size: run(ot.DirectionalSampling(e), 10, size // 10),
        "NAIS": lambda e, size: run(ot.NAIS(e, 0.1), 1000, size // 1000),
        "cross-entropy": lambda e, size: run(
            ot.StandardSpaceCrossEntropyImportanceSampling(e, 0.1), 1000, size // 1000
        ),
        "FORM, importance sampling": form,
        "MultiFORM, importance sampling": multiform,
    }

    def fitted(method: Callable[[object, int], float]) -> Callable[[int], float]:
        """The method at the size whose evaluations, counted in two dry runs, come to `work`."""
        counts = []
        for size in (1000, 3000):
            region.calls = 0
            method(event(counting), size)
            counts.append(region.calls)
        each = max(0.01, (counts[1] - counts[0]) / 2000)
        size = max(1000, int((work - counts[0]) / each) + 1000)
        region.calls = 0
        method(event(counting), size)
        calls = region.calls

        def once(seed: int) -> float:
            ot.RandomGenerator.SetSeed(seed)
            found = method(event(compiled), size)
            region.calls = calls
            return found

        return once

    made = {}
    for name, method in methods.items():
        try:
            made[f"OpenTURNS, {name}"] = fitted(method)
        except Exception as error:
            print(f"OpenTURNS, {name}: fails: {str(error)[:90]}")
    return made


def region_part(work: int, repeats: int, budget: float) -> dict:
    found: dict[str, dict] = {}
    for name, make in REGIONS.items():
        region = make()
        contestants = our_methods(region, work) | openturns_methods(region, work)
        record: dict[str, list] = {method: [] for method in contestants}
        begin = time.process_time()
        for k in range(repeats):
            if k >= 3 and time.process_time() - begin > budget:
                break
            for method, run in contestants.items():
                region.calls, start = 0, time.process_time()
                try:
                    p = run(1000 * k)
                except Exception as error:
                    print(f"{method}: fails: {str(error)[:90]}")
                    p = math.nan
                record[method].append((p, time.process_time() - start, region.calls))
        found[name] = region_table(name, region.truth, record)
    return found


def region_table(name: str, truth: float, record: dict[str, list]) -> dict:
    rows = {}
    for method, runs in record.items():
        p, seconds, calls = np.array(runs).T
        square = float(np.mean((p / truth - 1) ** 2))
        rows[method] = {
            "runs": len(runs),
            "mean / exact": float(p.mean() / truth),
            "relative rms error": math.sqrt(square),
            "evaluations": float(np.median(calls)),
            "seconds": float(np.median(seconds)),
            "error^2 x evaluations": square * float(np.median(calls)),
            "error^2 x seconds": square * float(np.median(seconds)),
        }
    print(f"\n{name}: exact {truth:.8g}; {len(next(iter(record.values())))} runs each")
    heads = f"{'mean/exact':>11}{'rms error':>11}{'evals':>9}{'seconds':>9}"
    print(f"{'':{WIDE}}{heads}{'err2*evals':>12}{'err2*s':>11}")
    for method, row in rows.items():
        print(
            f"{method:{WIDE}}{row['mean / exact']:11.4f}{row['relative rms error']:11.2%}"
            f"{row['evaluations']:9,.0f}{row['seconds']:9.3f}{row['error^2 x evaluations']:12.4g}"
            f"{row['error^2 x seconds']:11.3g}"
        )
    ours = [row for method, row in rows.items() if method.startswith("likely")]
    peers = [row for method, row in rows.items() if not method.startswith("likely")]
    for key in ("error^2 x evaluations", "error^2 x seconds"):
        best = [
            min((r[key] for r in group if r[key] == r[key]), default=math.nan)
            for group in (peers, ours)
        ]
        print(f"best peer / best of likely, {key}: {best[0] / best[1]:.3g}x")
        rows[f"best peer / best of likely, {key}"] = best[0] / best[1]
    return rows


# Speed.


def numpy_steps(seed: int, paths: int) -> float:
    """Paths under a constant tilt and their first passages, as vectorised NumPy: no weights."""
    rng = np.random.default_rng(seed)
    up = rng.random((paths, GAMES)) < Q
    money = START + np.cumsum(2 * up.astype(np.int32) - 1, axis=1)
    out = (money <= 0) | (money >= TARGET)
    return float(np.where(out.any(1), out.argmax(1), GAMES).mean())


def speed_part(rounds: int, long: bool) -> dict:
    walk = Walk(p=P, start=START, low=0, high=TARGET, horizon=GAMES)
    tilt, event = walk.tilt(Q), walk.hits(TARGET)

    def clock(run: Callable[[], object]) -> float:
        begin = time.process_time()
        run()
        return time.process_time() - begin

    contestants: dict[str, tuple[int, Callable[[int], object]]] = {
        "vectorised NumPy": (4000, lambda seed: numpy_steps(seed, 4000)),
        "likely, paths": (16_000, lambda seed: tilt.sample(16_000, seed=seed)),
        "likely, the whole estimate": (
            16_000,
            lambda seed: expect(event, walk, n=16_000, via=tilt, seed=seed).mean,
        ),
    }
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for k in range(rounds + 1):
        for name, (paths, run) in contestants.items():
            seconds = clock(lambda run=run, k=k: run(k))
            if k:
                rates[name].append(paths * GAMES / seconds)
    found: dict = {name: statistics.median(r) for name, r in rates.items()}
    print("\nWalk steps a second under tilt 0.55 (paths x 600 games)")
    for name, rate in found.items():
        print(f"{name:28}{rate / 1e6:9.1f} million{rate / found['vectorised NumPy']:8.2f}x")
    times = {
        n: statistics.median(
            clock(lambda n=n, k=k: expect(event, walk, n=n, via=tilt, seed=k)) for k in range(3)
        )
        for n in (50_000, 100_000, 200_000)
    }
    found["seconds by paths"] = times
    print("seconds by paths:", ", ".join(f"{n:,}: {t:.3f}" for n, t in times.items()))
    found["two processes"] = two_processes(walk, rounds)
    print(f"two processes against one: {found['two processes']:.2f}x")
    if long:
        found["long"] = billion(walk)
    return found


def two_processes(walk: Walk, rounds: int) -> float:
    tilt, event, n = walk.tilt(Q), walk.hits(TARGET), 2_000_000

    def run(workers: int, seed: int) -> float:
        begin = time.perf_counter()
        expect(event, walk, n=n, via=tilt, seed=seed, workers=workers)
        return time.perf_counter() - begin

    run(2, 0)  # the processes start once
    return statistics.median(run(1, k) / run(2, k) for k in range(min(rounds, 3)))


def billion(walk: Walk) -> dict:
    """A billion walk steps in one estimate, and how much the process grew by them."""
    tilt, event = walk.tilt(Q), walk.hits(TARGET)
    expect(event, walk, n=200_000, via=tilt, seed=0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.process_time()
    e = expect(event, walk, n=10**9 // GAMES, via=tilt, seed=1)
    seconds = time.process_time() - begin
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"10^9 steps: {seconds:.1f} s, {grown:.0f} MiB more than for 1.2 x 10^8 steps; {e}")
    return {"seconds": seconds, "MiB more": grown, "mean": e.mean.item(), "stderr": e.stderr.item()}


def walk_table(report: Report, found: dict[str, dict]) -> None:
    keys = ["seconds", "relative variance of a path", "variance x time"]
    keys += ["times worse than likely, bridge", f"times worse than {ANEW}"]
    rows: list[list[Cell]] = [[name, *(row.get(key) for key in keys)] for name, row in found.items()]
    note = f"{PATHS:,} walks each (splitting: 100, 64 times); processor time."
    report.table("walk", "The gambler", ["how", *keys[:4], "made anew each time"], rows, note)


def region_tables(report: Report, found: dict[str, dict]) -> None:
    ratios = [f"best peer / best of likely, error^2 x {what}" for what in ("evaluations", "seconds")]
    rows: list[list[Cell]] = [[name, *(row[key] for key in ratios)] for name, row in found.items()]
    title = "Failure regions: squared error of the best of OpenTURNS over that of the best of likely"
    report.table("regions", title, ["region", "equal evaluations", "equal seconds"], rows)


def speed_table(report: Report, found: dict) -> None:
    rates = {name: rate for name, rate in found.items() if name.startswith(("vectorised", "likely"))}
    rows: list[list[Cell]] = [[n, r / 1e6, r / rates["vectorised NumPy"]] for n, r in rates.items()]
    note = "Paths x 600 games. Seconds by paths: "
    note += ", ".join(f"{n:,}: {t:.3f}" for n, t in found["seconds by paths"].items())
    note += f". Two processes against one: {found['two processes']:.2f}x."
    title = "Walk steps a second under a tilt"
    report.table("speed", title, ["who", "millions", "x NumPy"], rows, note)


TABLES: dict[str, Callable[[Report, dict], None]] = {
    "walk": walk_table,
    "regions": region_tables,
    "speed": speed_table,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=["walk", "regions", "speed"])
    parser.add_argument("--rounds", type=int, default=5, help="of walk and speed")
    parser.add_argument("--repeats", type=int, default=20, help="runs of each method on each region")
    parser.add_argument("--work", type=int, default=100_000, help="evaluations of f in a run")
    parser.add_argument("--budget", type=float, default=40, help="seconds for a region, after 3 runs")
    parser.add_argument("--long", action="store_true", help="also a billion steps")
    options, report = Report.begin(parser)
    parts: dict[str, Callable[[], dict]] = {
        "walk": lambda: walk_part(options.rounds),
        "regions": lambda: region_part(options.work, options.repeats, options.budget),
        "speed": lambda: speed_part(options.rounds, options.long),
    }
    for name in options.parts:
        TABLES[name](report, parts[name]())


if __name__ == "__main__":
    main()
