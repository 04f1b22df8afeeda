"""likely train: fit a model to data and write it, with its learning curve, to one file."""

from __future__ import annotations

import dataclasses
import inspect
import math
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from likely import checkpoints, data, flows, training
from likely.cli.common import Device, Json, Messages, Quiet, Seed, device_of, print_json
from likely.cli.heap import keep_freed_memory
from likely.errors import InvalidInput
from likely.files import check_writable
from likely.seeds import borrowed_global_state, seed_borrowed
from likely.training import processes

#: with fewer rows to train on than this, the settings that did best on the digits (docs/training.md)
FEW = 10_000
MANY_ROWS = training.Recipe()
FEW_ROWS = training.Recipe(steps=1_400, batch=128, lr=2e-3, weight_decay=1.0)
MASKED_MANY = training.Recipe(steps=11_000, batch=64, lr=2e-3, weight_decay=0.01, evaluations=5)
MASKED_FEW = training.Recipe(steps=4_000, batch=64, lr=2e-3)
#: sizes of a model that are not its own defaults, with many and with few rows
SIZES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nice": ({"dropout": 0.2}, {"width": 200, "depth": 2, "couplings": 8, "dropout": 0.3}),
    "masked": ({}, {"width": 32}),
}


def train(
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, *.safetensors.")],
    data_name: Annotated[
        str, typer.Option("--data", "-d", help="digits, mnist, a folder of pictures, or an idx file.")
    ] = "digits",
    model: Annotated[
        str, typer.Option("--model", "-m", help="The kind of model: nice, realnvp, glow or masked.")
    ] = "nice",
    begin: Annotated[
        str | None,
        typer.Option(help="Begin with the weights of this model, by name or file, and its sizes."),
    ] = None,
    width: Annotated[int | None, typer.Option(help="Entries or channels of a hidden layer.")] = None,
    depth: Annotated[int | None, typer.Option(help="Hidden layers or blocks of a network.")] = None,
    couplings: Annotated[int | None, typer.Option(help="nice: number of couplings.")] = None,
    levels: Annotated[int | None, typer.Option(help="glow, realnvp: levels, at most.")] = None,
    blocks: Annotated[
        int | None,
        typer.Option(help="glow: steps of the flow in each level; masked: passes a sample takes."),
    ] = None,
    bins: Annotated[
        int | None, typer.Option(help="masked: bins of the histograms; glow: of splines.")
    ] = None,
    coupling: Annotated[str | None, typer.Option(help="glow: affine, spline or plu.")] = None,
    preprocess: Annotated[str | None, typer.Option(help="glow, realnvp: centred, logit, none.")] = None,
    margin: Annotated[float | None, typer.Option(help="glow, realnvp: margin of the logit.")] = None,
    dropout: Annotated[
        float | None, typer.Option(help="Probability of dropping a hidden entry.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.")] = None,
    batch: Annotated[int | None, typer.Option(help="Rows a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Decay of the matrices.")] = None,
    patience: Annotated[
        int, typer.Option(help="Stop after so many evaluations without a better one.")
    ] = MANY_ROWS.patience,
    evaluations: Annotated[
        int | None, typer.Option(help="How often the held-out likelihood is measured.")
    ] = None,
    precision: Annotated[
        Literal["auto", "bfloat16", "float32"], typer.Option(help="Of the network passes.")
    ] = "auto",
    store: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="Precision of the matrices in the file.")
    ] = "float32",
    threads: Annotated[
        int, typer.Option(help="Processor threads; 0 for torch's default.", min=0, max=1024)
    ] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from an interrupted run.")] = False,
    seed: Seed = 0,
    device: Device = "cpu",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fit a model by maximum likelihood; early stopping keeps the best weights on held-out data.

    What is not given depends on how many rows there are to train on. From 10,000 on: 14,000 steps of
    256 rows, lr 1e-3, weight decay 0.05, and a nice 1000 wide, 5 deep, of 4 couplings; with fewer:
    1,400 steps of 128 rows, lr 2e-3, weight decay 1, and a nice 200 wide, 2 deep, of 8 couplings.
    A masked model takes 11,000 steps of 64 rows, lr 2e-3, or 4,000 of one 32 wide.

    Several processes, as in `torchrun --nproc-per-node 2 -m likely train ...`, share each batch.
    """
    if out.suffix != ".safetensors":
        raise InvalidInput(f"--out is {out}; expected a name that ends in .safetensors.")
    if model not in flows.MODELS:
        raise InvalidInput(f"--model is {model!r}; expected one of {', '.join(flows.MODELS)}.")
    given = _sizes(
        model,
        width=width,
        depth=depth,
        couplings=couplings,
        levels=levels,
        **{"blocks" if model == "masked" else "steps": blocks},
        bins=bins,
        coupling=coupling,
        preprocess=preprocess,
        margin=margin,
        dropout=dropout,
    )
    first = None if begin is None else checkpoints.load(begin)
    if first is not None:
        model = _of_model(first, model, begin, given)
    check_writable(out)
    state_file = out.with_name(out.name + ".state")
    if state_file.exists() and not resume:
        raise InvalidInput(
            f"{state_file} holds an interrupted run; go on with --resume, or remove it to start anew."
        )
    if threads:
        torch.set_num_threads(threads)
    keep_freed_memory()
    with processes.launched(device_of(device)) as (group, where):
        messages = Messages(quiet or group.rank > 0)
        rows = data.load_data(data_name)
        few = len(rows.train) < FEW
        chosen: dict[str, Any] = {"steps": steps, "batch": batch, "lr": lr}
        chosen |= {"weight_decay": weight_decay, "evaluations": evaluations}
        recipes = (MASKED_MANY, MASKED_FEW) if model == "masked" else (MANY_ROWS, FEW_ROWS)
        recipe = dataclasses.replace(
            recipes[few],
            **{name: value for name, value in chosen.items() if value is not None},
            patience=patience,
            precision=precision,
            seed=seed,
        )
        sizes = SIZES.get(model, ({}, {}))[few] | given
        shape = tuple(rows.train.shape[1:])
        if model == "masked":
            sizes["cells"] = rows.levels
        if first is not None and first.event_shape != shape:
            raise InvalidInput(
                f"--begin {begin} is of pictures {tuple(first.event_shape)}; {data_name} has {shape}."
            )
        with borrowed_global_state():
            seed_borrowed(seed)
            flow = (first or flows.MODELS[model](shape, **sizes)).to(where)
        count = sum(p.numel() for p in flow.parameters())
        messages.say(
            f"{model} with {count:,} parameters on {rows.name}: {len(rows.train):,} rows to train, "
            f"{len(rows.valid):,} to validate, {len(rows.test):,} to test; "
            f"{recipe.steps:,} steps at most, {str(recipe.dtype(where)).removeprefix('torch.')} passes"
        )
        start = time.monotonic()
        with Bar(messages, math.prod(shape), rows.levels) as bar:
            result = training.fit(
                flow,
                rows.train,
                rows.valid,
                recipe,
                levels=rows.levels,
                state_file=state_file,
                resume=resume,
                report=bar.update,
            )
        if result.stopped == "interrupted":
            messages.say(
                f"interrupted at step {result.step:,}; go on with the same command and --resume"
            )
            raise typer.Exit(130)
        if group.rank > 0:
            return
    seconds = time.monotonic() - start
    stored = getattr(torch, store)
    for p in flow.parameters():
        # The figures are of the weights as stored.
        p.data = p.data.to(stored).float() if p.ndim > 1 else p.data
    test, stderr = training.evaluate(flow, rows.test, levels=rows.levels)
    train_nats, _ = training.evaluate(flow, rows.train[: len(rows.test)], levels=rows.levels)
    bits = math.log2(rows.levels) - test / (math.prod(shape) * math.log(2))
    card = {
        "data": rows.name,
        "levels": rows.levels,
        "command": shlex.join(["likely", *sys.argv[1:]]),
        "seed": seed,
        "processes": group.count,
        "parameters": count,
        "steps": result.step,
        "seconds": round(seconds),
        "test_nats": test,
        "test_nats_stderr": stderr,
        "test_bits_per_dim": bits,
        "train_nats": train_nats,
        "valid_nats": result.best,
        "learning_curve": result.history,
    }
    if begin is not None:
        before = checkpoints.read_card(begin)
        card["begun_with"] = {k: before.get(k) for k in ("command", "steps", "seconds", "test_nats")}
    checkpoints.save(flow.cpu(), out, dtype=stored, card=card)
    messages.say(
        f"test: {test:.1f} +- {stderr:.1f} nats, {bits:.3f} bits/dim "
        f"(train {train_nats:.1f}, valid {result.best:.1f}), {result.step:,} steps, {result.stopped}; "
        f"wrote {out}"
    )
    if as_json:
        print_json(out=str(out), stopped=result.stopped, **card)


def _of_model(first: flows.ExactDensity, model: str, begin: str | None, given: dict[str, Any]) -> str:
    """Return what kind of model `first` is, and refuse sizes that it has already."""
    kind = str((first.config or {}).get("model"))
    if given or (model != "nice" and model != kind):
        raise InvalidInput(
            f"--begin {begin} is a {kind} of sizes of its own; leave --model and sizes out."
        )
    return kind


def _sizes(model: str, **given: Any) -> dict[str, Any]:
    """Return the arguments of a model that were given, and refuse those it does not have."""
    chosen = {name: value for name, value in given.items() if value is not None}
    known = inspect.signature(flows.MODELS[model]).parameters
    for name in chosen:
        if name not in known:
            option = "blocks" if name == "steps" else name
            raise InvalidInput(f"--{option} was given, which --model {model} does not have.")
    return chosen


#: the time of all steps is estimated from these; the first ones are slower
TIMED = (5, 20)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


class Bar:
    """A progress bar on stderr: nats and bits/dim of the latest evaluation, steps, time left."""

    def __init__(self, messages: Messages, dims: int, levels: int) -> None:
        self.dims, self.levels, self.messages = dims, levels, messages
        self.shown: float | None = None
        self.updates, self.began = 0, 0.0
        self.progress = Progress(
            BarColumn(24),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=messages.console,
            disable=messages.console.quiet,
        )
        self.task = self.progress.add_task("", total=None)

    def __enter__(self) -> Bar:
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def update(self, now: training.Progress) -> None:
        """Show one step; once, how long all of them may take, if that is a minute or more."""
        self.updates += 1
        if self.updates == TIMED[0]:
            self.began = time.monotonic()
        if self.updates == TIMED[1]:
            each = (time.monotonic() - self.began) / (TIMED[1] - TIMED[0])
            seconds = each * (now.steps - now.step)
            if seconds >= 60:
                self.messages.say(
                    f"about {_minutes(seconds)} for {now.steps:,} steps, unless held-out data say stop "
                    "before; Ctrl-C keeps what is done, --steps shortens it"
                )
        text = f"train {now.train:.0f}"
        if now.valid is not None:
            bits = math.log2(self.levels) - now.valid / (self.dims * math.log(2))
            text += f" valid {now.valid:.1f} nats {bits:.3f} bits/dim"
            if now.valid != self.shown and not self.messages.console.is_terminal:
                self.messages.say(f"step {now.step:,}/{now.steps:,}: {text}")
            self.shown = now.valid
        self.progress.update(self.task, completed=now.step, total=now.steps, description=text)
