"""How fast the projections are: against the least that torch could do, and against other libraries.

    pip install pyproximal jaxopt optax cooper-optim
    OMP_NUM_THREADS=1 python benchmarks/projections.py --quick --json out.json

The floor is what no projection in torch can do without: one clamp for a box, one select for measured
values, both for both, one norm and one multiplication for a ball, one sort for simplex and l1 ball.
`calls` is the number of torch operations that ours takes, and `eager` what as many of the cheapest,
`torch.neg` of one row of one entry, take: no eager projection of so many operations can be faster.
Points are float32 and normal, times 2. Ours, the floor and the peers run in turn, round by round, one
thread each; a figure is the median over the rounds of the ratio within a round. Time is that of the
processor (`time.process_time`), so that what else the machine does counts less; memory that is freed
stays with the process (glibc's MALLOC variables), for all alike. Every peer's answer is compared with
ours first, and `!` marks those that differ by more than 1e-4. Peers without a batch axis work row by
row; where all rows would take too long, some are timed and scaled up (`~`). JAX is compiled and mapped
over the rows beforehand, on arrays of its own.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import numpy as np
import torch
from report import Cell, Report
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from likely import sets

#: else glibc gives large blocks back at once, and whoever asks for the next one pays for its pages
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "8589934592"}
#: where each peer keeps its projections
PEERS = {"pyproximal": "pyproximal", "optax": "optax.projections", "jaxopt": "jaxopt.projection"}
PEERS["cooper-optim"] = "cooper"


def slope(n: int) -> np.ndarray:
    return np.linspace(-1, 1, n, dtype=np.float32) + np.float32(0.01)


def measured(y: Tensor) -> sets.Observed:
    draws = torch.rand(y.shape, generator=torch.Generator().manual_seed(1))
    return sets.Observed(draws < 0.5, draws)


OURS: dict[str, Callable[[Tensor], sets.ConvexSet]] = {
    "box": lambda y: sets.Box(0.0, 1.0),
    "observed": measured,
    "box & observed": lambda y: sets.Box(0.0, 1.0) & measured(y),
    "ball": lambda y: sets.Ball(0.0, 1.0),
    "simplex": lambda y: sets.Simplex(1.0),
    "l1 ball": lambda y: sets.L1Ball(1.0),
    "halfspace": lambda y: sets.Halfspace(torch.from_numpy(slope(y.shape[1])), 0.5),
    "hyperplane": lambda y: sets.Affine(torch.from_numpy(slope(y.shape[1])), 0.5),
}
FLOORS: dict[str, Callable[[Tensor, sets.Observed], object]] = {
    "box": lambda y, o: torch.clamp(y, 0.0, 1.0),
    "observed": lambda y, o: torch.where(o.mask, o.values, y),
    "box & observed": lambda y, o: torch.where(o.mask, o.values, torch.clamp(y, 0.0, 1.0)),
    "ball": lambda y, o: y * torch.linalg.vector_norm(y, dim=1, keepdim=True),
    "simplex": lambda y, o: torch.sort(y, dim=1, descending=True),
    "l1 ball": lambda y, o: torch.sort(y, dim=1, descending=True),
}
#: the parameters in optax, which jaxopt takes as one; then pyproximal's operator for (b, n) entries
JAX: dict[str, Callable[[int], tuple]] = {
    "box": lambda n: (0.0, 1.0),
    "ball": lambda n: (1.0,),
    "simplex": lambda n: (1.0,),
    "l1 ball": lambda n: (1.0,),
    "halfspace": lambda n: (slope(n), 0.5),
    "hyperplane": lambda n: (slope(n), 0.5),
}
JAX_NAMES = {"ball": "l2_ball", "l1 ball": "l1_ball"}
PYPROXIMAL: dict[str, Callable[[Any, int, int], Any]] = {
    "box": lambda p, b, n: p.Box(0.0, 1.0),
    "ball": lambda p, b, n: p.EuclideanBall(0.0, 1.0),
    "simplex": lambda p, b, n: p.Simplex(b * n, 1.0, dims=(b, n), axis=1),
    "l1 ball": lambda p, b, n: p.L1Ball(n, 1.0),
    "halfspace": lambda p, b, n: p.HalfSpace(slope(n), 0.5),
}


def call_of(peer: str, module: Any, kind: str, y: Tensor) -> tuple[Callable | None, float]:
    """Return a call that projects, None if there is no such set; and the share of the rows it does."""
    data, (b, n) = y.numpy(), y.shape
    if peer in ("jaxopt", "optax") and kind in JAX:
        jax, given = importlib.import_module("jax"), JAX[kind](n)
        project = getattr(module, f"projection_{JAX_NAMES.get(kind, kind)}")
        if peer == "jaxopt":
            given = (given if len(given) > 1 else given[0],)
        mapped, there = jax.jit(jax.vmap(lambda row: project(row, *given))), jax.numpy.asarray(data)
        return lambda: mapped(there).block_until_ready(), 1.0
    if peer != "pyproximal" or kind not in PYPROXIMAL:
        return None, 1.0
    one = PYPROXIMAL[kind](module, 1, n)
    one.prox(data[0].copy(), 1.0)
    taken = seconds(lambda: one.prox(data[0].copy(), 1.0), 1)
    some = data[: max(1, int(0.3 / taken))]
    if kind in ("box", "simplex"):  # these take all rows at once
        whole = PYPROXIMAL[kind](module, len(some), n)
        return lambda: whole.prox(some.ravel(), 1.0).reshape(some.shape), len(some) / b
    return lambda: np.stack([one.prox(row, 1.0) for row in some]), len(some) / b


def seconds(call: Callable, times: int) -> float:
    start = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - start) / times


class Calls(TorchDispatchMode):
    """Count the torch operations that are run."""

    number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += 1
        return func(*args, **(kwargs or {}))


def measure(kind: str, y: Tensor, modules: dict, rounds: int, at_least: float) -> dict:
    within = OURS[kind](y)
    want = within.project(y)
    calls: dict[str, Callable] = {"ours": partial(within.project, y)}
    shares, marks = {}, {}
    if kind in FLOORS:
        calls["floor"] = partial(FLOORS[kind], y, measured(y))
    for peer, module in modules.items():
        call, share = call_of(peer, module, kind, y)
        if call is not None:
            got = torch.as_tensor(np.array(call()))
            right = (got - want[: len(got)]).abs().max().item() <= 1e-4
            calls[peer], shares[peer] = call, share
            marks[peer] = "~" * (share < 1) + "!" * (not right)
    with Calls() as counted:
        within.project(y)
    one = torch.zeros(1, 1)
    calls["eager"] = lambda: [torch.neg(one) for _ in range(counted.number)]
    times = {
        k: max(1, min(10**4, int(at_least / max(seconds(call, 1), 1e-7)))) for k, call in calls.items()
    }
    taken, order = [], list(calls)
    for _ in range(rounds):  # each in turn goes first: memory is dear to whoever asks for it first
        order = [*order[1:], order[0]]
        taken.append({k: seconds(calls[k], times[k]) / shares.get(k, 1.0) for k in order})
    ratios = {peer: round(median(t[peer] / t["ours"] for t in taken), 2) for peer in shares}
    for least in {"floor", "eager"} & set(calls):
        ratios[least] = round(median(t["ours"] / t[least] for t in taken), 2)
    ns = 1e9 * median(t["ours"] for t in taken) / y.numel()
    return {"ns": ns, "calls": counted.number, "ratios": ratios, "marks": marks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer sizes, rounds and entries")
    parser.add_argument("--only", nargs="*", default=list(OURS), choices=list(OURS), help="these sets")
    options, report = Report.begin(parser)
    if not MALLOC.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | MALLOC)
    torch.set_num_threads(1)
    modules = {}
    for peer, where in PEERS.items():
        try:
            modules[peer] = importlib.import_module(where)
        except Exception as error:
            print(f"missing: {peer} ({type(error).__name__}: {error})")
    if modules.pop("cooper-optim", None):
        print("cooper-optim has multipliers, but no projections onto these sets: nothing to time")
    most, rounds, at_least = (10**6, 5, 0.002) if options.quick else (10**7, 9, 0.005)
    sizes = [10, 1000, 10**6] if options.quick else [10**k for k in range(1, 7)]
    batches = [1, 100, 10**4] if options.quick else [10**k for k in range(5)]
    names = ["floor", "eager", *modules]
    rows: list[list[Cell]] = []
    found: list[tuple[str, str, float]] = []
    for kind, b, n in [
        (k, b, n) for k in options.only for b in batches for n in sizes if b * n <= most
    ]:
        y = 2 * torch.randn(b, n, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            row = measure(kind, y, modules, rounds, at_least)
        ratios, marks = row["ratios"], row["marks"]
        cells = [f"{ratios[m]:.2f}{marks[m]}" if marks.get(m) else ratios.get(m) for m in names]
        rows.append([kind, b, n, row["ns"], row["calls"], *cells])
        found += [(f"{kind} {b} x {n}", *ratio) for ratio in ratios.items()]
        print(rows[-1], file=sys.stderr, flush=True)
    left_out = [f"{b} x {n}" for b in batches for n in sizes if b * n > most]
    report.table(
        "all",
        "Projections",
        ["set", "batch", "n", "ns", "calls", *names],
        rows,
        "ns: ours, per entry, of processor time; floor, eager: ours / that, 1 is best; peers: peer / "
        f"ours, above 1 we win; medians of {rounds} rounds. ~ some rows timed and scaled up; ! another "
        f"answer. Left out, as they have more than {most:,} entries: {', '.join(left_out)}.",
    )
    floors, races = [r for r in found if r[1] == "floor"], [r for r in found if r[1] in modules]
    over = [[place, "floor", ratio] for place, _, ratio in floors if ratio > 2]
    lost = [[place, peer, ratio] for place, peer, ratio in races if ratio < 1]
    if over:
        note = f"{len(over)} of {len(floors)}; figures are ours / floor."
        report.table("over", "More than twice the floor", ["where", "against", "ratio"], over, note)
    if lost:
        note = f"{len(lost)} of {len(races)}; figures are peer / ours."
        report.table("lost", "Lost to a peer", ["where", "against", "ratio"], lost, note)


if __name__ == "__main__":
    main()
