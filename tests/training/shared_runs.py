"""Runs that one process makes alone and two make together; as a script, one of the two.

python shared_runs.py RANK MEETING_FILE FOLDER
"""

import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch

from likely import flows
from likely.data import dequantize
from likely.errors import LikelyError
from likely.flows.networks import Dropout
from likely.seeds import borrowed_global_state, generator_for, seed_borrowed
from likely.training import Recipe, fit
from training.runs import DIGITS, VALID, floats, interrupt_at, make, recipe_for, weights

STEPS = 20
RECIPE = recipe_for("float32", steps=STEPS, evaluations=4)


def glow():
    with borrowed_global_state():
        seed_borrowed(0)
        return flows.glow((1, 8, 8), levels=2, steps=2, width=16, reversible=True)


def run(flow, train=DIGITS.train, valid=VALID, recipe=RECIPE, **options):
    """The outcome of a run: its curve, the loss of each step and the weights, or its error."""
    losses = []

    def report(now):
        losses.append(now.train)
        if then := options.get("then"):
            then(now)

    files = {k: v for k, v in options.items() if k != "then"}
    try:
        result = asdict(fit(flow, train, valid, recipe, levels=17, report=report, **files))
    except LikelyError as error:
        result = {"error": f"{type(error).__name__}: {error}"}
    return result | {"losses": losses, "weights": weights(flow)}


def exact_rows():
    return (dequantize(r, 17, generator_for(0)).double() for r in (DIGITS.train, VALID))


def rank():
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def other_start(folder):
    # Weights of their own in every process; a run starts with those of the first.
    flow = make()
    for p in flow.parameters() if rank() else ():
        p.data.add_(0.1)
    return run(flow)


def other_dropout(folder):
    # Every row the same, without noise: what two halves of a batch differ in is their dropout alone.
    flow = make(dropout=0.5)
    seen = []
    dropout = next(m for m in flow.modules() if isinstance(m, Dropout))
    dropout.register_forward_hook(lambda module, x, out: seen.append(out.detach() == 0))
    rows = floats(1, 1, 8, 8).expand(32, 1, 8, 8)
    recipe = recipe_for("float32", steps=1)
    return run(flow, rows, rows, recipe) | {"dropped": seen[0]}


def stopped(folder):
    # One process is asked to stop; both do, and the first alone writes.
    file = folder / f"{rank()}.state" if folder.name == "private" else folder / "run.state"
    then = interrupt_at(7) if not torch.distributed.is_initialized() or rank() == 1 else None
    return run(make(), state_file=file, then=then) | {"written": file.exists()}


def resumed(folder):
    return run(make(), state_file=folder / "run.state", resume=True)


SHARED = {
    "nice": lambda folder: run(make()),
    "glow": lambda folder: run(glow(), recipe=replace(RECIPE, lr=1e-3)),
    "glow, float64": lambda folder: run(glow().double(), *exact_rows()),
    "other start": other_start,
    "other dropout": other_dropout,
    "small data": lambda folder: run(make(), train=DIGITS.train[:6]),
    "diverged": lambda folder: run(make(), recipe=Recipe(steps=50, batch=32, lr=1e30)),
    "early": lambda folder: run(
        make(event_shape=(4,)), 0.01 * floats(32, 4), 5 + floats(32, 4, seed=1),
        recipe_for("float32", steps=40, evaluations=40, patience=3),
    ),
    "indivisible": lambda folder: run(make(), recipe=recipe_for("float32", batch=31)),
    "resumed from one": lambda folder: resumed(folder / "from one"),
    "stopped": lambda folder: stopped(folder / "private"),
    "stopped together": lambda folder: stopped(folder / "from two"),
}  # fmt: skip


if __name__ == "__main__":
    folder = Path(sys.argv[3])
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", f"file://{sys.argv[2]}", world_size=2, rank=int(sys.argv[1])
    )
    torch.save({name: one(folder) for name, one in SHARED.items()}, folder / f"{rank()}.pt")
    torch.distributed.destroy_process_group()
