"""Densities of MNIST: bits/dim on the test set for the same processor time, beside normflows and zuko.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python benchmarks/densities.py --minutes 10 --pilot 0.4

Every contestant sees the same rows, dequantised the same way, in batches of 64, and is trained by
`likely.training.fit`: AdamW, warm-up and cosine sized to the budget, clipped gradients, averaged
weights. So what differs is the model and its speed. Peers run in float32, as their examples do; each
gets the best of its candidates (model, preprocessing, learning rate) in short pilots. The figures count
every Jacobian, that of the preprocessing included.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from report import Cell, Report
from torch import Tensor, nn

from likely import data, flows, training
from likely.errors import Diverged
from likely.seeds import borrowed_global_state, seed_borrowed

SHAPE = (1, 28, 28)
EVALUATIONS = 12


class Prepared(nn.Module):
    """A peer's density of rows that were prepared by bijections, as an event of one image."""

    event_shape = torch.Size(SHAPE)
    config = None

    def __init__(
        self, prepare: list[flows.Bijection], density: nn.Module, call: Callable[..., Tensor]
    ) -> None:
        super().__init__()
        self.prepare = flows.Chain([*prepare, flows.Reshape(SHAPE, SHAPE)])
        self.density, self.call = density, call

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density in nats, every Jacobian counted."""
        z, log_det = self.prepare.forward_and_log_det(x)
        return self.call(self.density, z) + log_det

    forward = log_prob


def ours() -> nn.Module:
    return flows.glow(
        SHAPE, levels=2, steps=8, width=128, coupling="spline", preprocess="logit", margin=1e-4
    )


def normflows_glow(prepare: list[flows.Bijection]) -> nn.Module:
    """Its multiscale Glow of the same size: two levels of eight blocks, 128 channels."""
    import normflows as nf

    merges, parts, bases = [], [], []
    for i, shape in enumerate([(8, 7, 7), (2, 14, 14)]):
        channels = 2 ** (3 - i)
        blocks = [nf.flows.GlowBlock(channels, 128, split_mode="channel", scale=True) for _ in range(8)]
        parts.append([*blocks, nf.flows.Squeeze()])
        bases.append(nf.distributions.DiagGaussian(shape))
        merges += [nf.flows.Merge()] if i else []
    model = nf.MultiscaleFlow(bases, parts, merges, class_cond=False)
    return Prepared(prepare, model, lambda model, z: model.log_prob(z, None))


def zuko_flow(kind: str, **sizes: Any) -> nn.Module:
    """One of its flows of rows of 784 entries, after a logit and a scale and shift of each entry."""
    import zuko

    model = getattr(zuko.flows, kind)(784, **sizes)
    prepare = [flows.Logit(1e-4), flows.Reshape(SHAPE, (784,)), flows.ActNorm(784)]
    prepare.append(flows.Reshape((784,), SHAPE))
    return Prepared(prepare, model, lambda model, z: model().log_prob(z.flatten(1)))


@dataclass(frozen=True)
class Contestant:
    """A model and how it is trained."""

    name: str
    build: Callable[[], nn.Module]
    lr: float
    weight_decay: float = 0.0
    precision: str = "float32"


def contestants() -> dict[str, list[Contestant]]:
    """The candidates of each library; the first names what its own examples do."""
    glows = {
        "[0, 1]": list,
        "logit": lambda: [flows.Logit(1e-4)],
    }
    wide = {"hidden_features": (512, 512), "randperm": False}
    rows = {
        "NSF, 3 autoregressive": lambda: zuko_flow("NSF", transforms=3, **wide),
        "MAF, 5 autoregressive": lambda: zuko_flow("MAF", transforms=5, **wide),
    }
    return {
        "likely": [Contestant("glow, spline, logit", ours, 2e-3, 0.01, "auto")],
        "normflows": [
            Contestant(f"Glow, affine, {name}", lambda p=prepare: normflows_glow(p()), lr)
            for name, prepare in glows.items()
            for lr in (1e-3, 3e-3)[: 1 + (name == "logit")]
        ],
        "zuko": [Contestant(name, build, lr) for name, build in rows.items() for lr in (5e-4, 2e-3)],
    }


def train(
    contestant: Contestant,
    minutes: float,
    rows: data.Dataset,
    test: Tensor,
    evaluations: int = EVALUATIONS,
) -> dict[str, Any]:
    """Train for so many minutes of processor time, evaluations included; return figures and curve."""

    def fresh() -> nn.Module:
        with borrowed_global_state():
            seed_borrowed(0)
            return contestant.build()

    def recipe(steps: int) -> training.Recipe:
        return training.Recipe(
            steps=steps,
            batch=64,
            lr=contestant.lr,
            weight_decay=contestant.weight_decay,
            precision=contestant.precision,
            evaluations=min(evaluations, steps),
            patience=evaluations + 1,
        )

    valid = rows.valid[:1000]
    times: list[float] = []
    training.fit(
        fresh(), rows.train, valid[:1], recipe(12), report=lambda _: times.append(time.process_time())
    )
    seconds = median(b - a for a, b in pairwise(times))
    flow = fresh()
    training.fit(flow, rows.train[:64], valid[:1], recipe(1))
    training.evaluate(flow, valid)  # the first one is slower
    start = time.process_time()
    training.evaluate(flow, valid)
    evaluation = time.process_time() - start
    steps = max(int((60 * minutes - evaluations * evaluation) / seconds), 1)

    flow, curve = fresh(), []
    start = time.process_time()

    def note(now: training.Progress) -> None:
        if now.valid is not None and (not curve or curve[-1]["nats"] != now.valid):
            spent = (time.process_time() - start) / 60
            curve.append({"step": now.step, "minutes": spent, "nats": now.valid})

    found: dict[str, Any] = {"model": contestant.name, "lr": contestant.lr}
    found["parameters"] = sum(p.numel() for p in flow.parameters())
    try:
        result = training.fit(flow, rows.train, valid, recipe(steps), report=note)
    except Diverged:
        return found | {"test": math.inf, "steps": 0, "minutes": (time.process_time() - start) / 60}
    spent = (time.process_time() - start) / 60
    nats, stderr = training.evaluate(flow, test)
    per_bit = math.prod(SHAPE) * math.log(2)
    for point in curve:
        point["bits"] = 8 - point.pop("nats") / per_bit
    found |= {
        "steps": result.step,
        "minutes": spent,
        "test": 8 - nats / per_bit,
        "stderr": stderr / per_bit,
    }
    return found | {"curve": curve}


def as_row(library: str, found: dict[str, Any]) -> list[Cell]:
    """Return what was found as a row of a table, and show it."""
    sizes = [found["lr"], found["parameters"] / 1e6, found["steps"]]
    row = [library, found["model"], *sizes, found["minutes"], found["test"]]
    print(row, file=sys.stderr, flush=True)
    return row


def draw(curves: list[list[Any]], file: Path) -> None:
    """Bits/dim of held-out rows over processor time."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for library in dict.fromkeys(row[0] for row in curves):
        points = [row[1:] for row in curves if row[0] == library]
        axes.plot(*zip(*points, strict=True), marker=".", label=library)
    axes.set(xlabel="minutes of processor time", ylabel="held-out bits/dim")
    axes.legend()
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12, help="of processor time, for each library")
    parser.add_argument("--pilot", type=float, default=0.5, help="minutes for each candidate")
    parser.add_argument("--only", nargs="+", help="train these libraries")
    parser.add_argument("--figure", type=Path, help="where to draw the curves")
    parser.add_argument("--draw", type=Path, help="only draw the curves of this file of --json")
    options, report = Report.begin(parser)
    if options.draw:
        tables = {t["name"]: t for t in json.loads(options.draw.read_text())["tables"]}
        draw(tables["curves"]["rows"], options.figure)
        return
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = data.load_data("mnist")
    pilots, results, curves = [], [], []
    for library, candidates in contestants().items():
        if options.only and library not in options.only:
            continue
        tried = [
            train(c, options.pilot, rows, rows.test[:1000], 1) for c in candidates[1:] and candidates
        ]
        pilots += [as_row(library, found) for found in tried]
        best = min(range(len(tried)), key=lambda i: tried[i]["test"]) if tried else 0
        found = train(candidates[best], options.minutes, rows, rows.test)
        results.append(as_row(library, found))
        curves += [[library, point["minutes"], point["bits"]] for point in found.get("curve", [])]
    columns = [
        "library",
        "model",
        "learning rate",
        "million parameters",
        "steps",
        "minutes",
        "bits/dim",
    ]
    report.table(
        "results",
        "Bits/dim of MNIST for the same processor time",
        columns,
        results,
        "All test images, dequantised once; one thread, batches of 64; minutes include evaluations.",
    )
    if pilots:
        title = f"Candidates of the peers, after {options.pilot:g} minutes each"
        report.table("pilots", title, columns, pilots, "The first 1,000 test images.")
    report.table("curves", "Held-out bits/dim over time", ["library", "minutes", "bits/dim"], curves)
    if options.figure:
        draw(curves, options.figure)


if __name__ == "__main__":
    main()
