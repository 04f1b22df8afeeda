"""likely inpaint: restore one picture."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from rich.progress import Progress
from torch import Tensor

import likely
from likely.cli.common import (
    Device,
    Json,
    Messages,
    Quiet,
    Seed,
    check_picture,
    device_of,
    print_json,
)
from likely.cli.completions import check_model, complete_picture
from likely.cli.pictures import read_for, write_history
from likely.data import read_image, write_image
from likely.data.images import check_image_name
from likely.errors import InvalidInput, NotConverged
from likely.files import check_writable
from likely.solvers import Annealed, Iterate, Method, ProjectedAdam, ProjectedGradient, Status

METHODS: dict[str, Method] = {
    "adam": ProjectedAdam(),
    "plain": ProjectedGradient(),
    "paper": Annealed(),
}


def inpaint(
    ctx: typer.Context,
    image: Annotated[Path, typer.Argument(help="The damaged picture.")],
    missing: Annotated[
        Path,
        typer.Option(
            "--missing",
            help="A mask of the same size, WHITE where pixels are missing (half white counts).",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="The restored picture to write; with --samples, the sheet."),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="A model that ships with likely, or a file; if left out, mnist-nice, or "
            "mnist-complete with --samples.",
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            help="Draw so many plausible completions instead of the most likely one, and write a "
            "sheet: what was measured, their mean, how sure it is, and all of them."
        ),
    ] = None,
    mean: Annotated[
        Path | None, typer.Option(help="With --samples: also write their mean, as a plain picture.")
    ] = None,
    method: Annotated[
        Literal["adam", "plain", "paper"],
        typer.Option(
            help="adam: projected Adam, the default. plain: gradient steps of 1e-3. "
            "paper: the NICE paper's noisy steps."
        ),
    ] = "adam",
    steps: Annotated[
        int | None, typer.Option(help="Steps, instead of 300 (adam, plain) or 2000 (paper).")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Step size of adam (1) and plain (1e-3).")] = None,
    tol: Annotated[
        float | None, typer.Option(help="Stop at this stationarity; exit code 3 if it is not reached.")
    ] = None,
    start: Annotated[
        Literal["given", "uniform"],
        typer.Option(help="Where missing pixels start: as in the picture, or at random."),
    ] = "given",
    bounds: Annotated[
        tuple[float, float],
        typer.Option(
            metavar="LOW HIGH", help="Limits of every pixel, measured ones included, within 0 and 1."
        ),
    ] = (
        0.0,
        1.0,
    ),
    fast: Annotated[
        bool,
        typer.Option(
            "--fast",
            help="Search with a bfloat16 copy of the model; log p is still reported in full. "
            "With --samples and a conditional model, draw from the copy.",
        ),
    ] = False,
    history: Annotated[
        Path | None, typer.Option(help="Also write the iterates: a .gif, or a strip as .png.")
    ] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fill in missing pixels by maximum likelihood; measured pixels are kept exactly."""
    messages = Messages(quiet)
    if samples is None:
        check_image_name(out)
        check_writable(out)
    else:
        _check_samples(ctx, samples)
        check_picture(out)
    if mean is not None:
        if samples is None:
            raise InvalidInput("--mean is the mean of completions; say how many with --samples.")
        check_image_name(mean)
        check_writable(mean)
    if history is not None:
        check_image_name(history, ".gif")
        check_writable(history)
    _check_names(image, missing, out, history, mean)
    if not 0 <= bounds[0] <= 1 or not 0 <= bounds[1] <= 1:
        raise InvalidInput(
            f"--bounds is {bounds[0]:g} {bounds[1]:g}; pictures hold values from 0 to 1."
        )
    if tol is not None and tol >= (width := max(bounds[1] - bounds[0], 0.0)) > 0:
        raise InvalidInput(f"--tol is {tol:g}; expected less than {width:g}, the width of the bounds.")
    chosen = _method(method, steps, lr, tol)
    where = device_of(device)
    model = model or ("mnist-nice" if samples is None else "mnist-complete")
    flow = likely.load(model).to(where)
    check_model(model, flow, samples, bounds)
    x = read_for(flow, image, messages).to(where)
    observed = _observed(missing, x, messages, samples is not None).to(where)
    if samples is not None:
        return complete_picture(
            flow,
            x,
            observed,
            n=samples,
            bounds=bounds,
            fast=fast,
            out=out,
            mean=mean,
            seed=seed,
            messages=messages,
            about={"model": model} if as_json else None,
        )

    iterates: list[Tensor] = []
    begin = time.perf_counter()
    shown = messages.console.is_terminal and not quiet
    with Progress(console=messages.console, disable=not shown, transient=True) as progress:
        task = progress.add_task("restoring", total=chosen.steps)

        def note(now: Iterate) -> None:
            progress.update(task, completed=now.k)
            if history is not None:
                iterates.append(now.x.cpu())

        result = likely.inpaint(
            flow,
            x,
            observed,
            bounds,
            chosen,
            start,
            precision=torch.bfloat16 if fast else None,
            seed=seed,
            on_step=note,
        )
    seconds = time.perf_counter() - begin
    status = result.status[0]
    if status is Status.NONFINITE:
        raise NotConverged(f"{status.value}. Nothing was written.")
    write_image(out, result.image)
    if history is not None:
        write_history(history, [*iterates, result.image.cpu()])

    count = int((~observed).sum())
    before, after = result.log_prob_before.item(), result.log_prob.item()
    if status is Status.UNCHANGED:
        messages.say(
            f"nothing is missing (the mask has no white pixel): wrote {image} as it is to {out}"
        )
    else:
        messages.say(
            f"filled {count} of {observed.numel()} values by {method}, {int(result.steps)} steps, "
            f"{seconds:.1f} s: log p {before:.1f} -> {after:.1f} nats; wrote {out}"
        )
        if after < before:
            messages.say(
                f"log p fell: try another --method{'' if method == 'paper' else ' or a smaller --lr'}"
            )
    if as_json:
        print_json(
            out=str(out),
            model=model,
            method=method,
            missing=count,
            log_prob_before=before,
            log_prob=after,
            stationarity=result.stationarity.item(),
            steps=int(result.steps),
            status=status.name.lower(),
            seconds=seconds,
            seed=seed,
        )
    if not status.ok:
        messages.say(f"not converged: {status.value} (stationarity {result.stationarity.item():.3g})")
        raise typer.Exit(NotConverged.exit_code)


def _method(name: str, steps: int | None, lr: float | None, tol: float | None) -> Method:
    if lr is not None and name == "paper":
        raise InvalidInput("--lr is for adam and plain; paper has its own steps, 10 / (100 + k).")
    if steps is not None and steps < 0:
        raise InvalidInput(f"--steps is {steps}; expected 0 or more.")
    if lr is not None and not 0 < lr < math.inf:
        raise InvalidInput(f"--lr is {lr:g}; expected a positive, finite step size.")
    if tol is not None and not tol >= 0:
        raise InvalidInput(f"--tol is {tol:g}; expected 0 or more.")
    given = {k: v for k, v in (("steps", steps), ("lr", lr), ("tol", tol)) if v is not None}
    return dataclasses.replace(METHODS[name], **given)  # type: ignore[arg-type]


def _check_samples(ctx: typer.Context, samples: int) -> None:
    """Raise where completions are asked for together with what only the most likely one has."""
    if samples < 1:
        raise InvalidInput(f"--samples is {samples}; expected at least 1.")
    for name in ("method", "steps", "lr", "tol", "start", "history"):
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise InvalidInput(
                f"--{name} is of the search for the most likely picture; leave it out with --samples."
            )


def _check_names(
    image: Path, missing: Path, out: Path, history: Path | None, mean: Path | None
) -> None:
    """Raise before one file of the command replaces another."""
    taken: dict[Path, str] = {}
    for name, path in (
        ("IMAGE", image),
        ("--missing", missing),
        ("--out", out),
        ("--history", history),
        ("--mean", mean),
    ):
        if path is None:
            continue
        if path.resolve() in taken and name.startswith("--") and name != "--missing":
            raise InvalidInput(
                f"{name} and {taken[path.resolve()]} are both {path}; give each result its own name."
            )
        taken[path.resolve()] = name


def _observed(path: Path, x: Tensor, messages: Messages, allow_nothing: bool) -> Tensor:
    """Read a mask that is white where pixels are missing, as observed = True where it is not."""
    mask = read_image(path, 1)
    if mask.shape[2:] != x.shape[2:]:
        raise InvalidInput(
            f"mask {path} is {mask.shape[2]}x{mask.shape[3]} (rows x columns) and the picture "
            f"{x.shape[2]}x{x.shape[3]}; expected one size."
        )
    missing = mask >= 0.5
    if missing.all() and not allow_nothing:
        raise InvalidInput(f"mask {path} is white everywhere: nothing was measured, nothing to go by.")
    faint = int(((mask > 0) & ~missing).sum())
    if faint and not missing.any():
        raise InvalidInput(
            f"mask {path} has no white pixel, its brightest is {mask.max().item() * 255:.0f} of 255; "
            "paint missing pixels white (255)."
        )
    if faint:
        messages.say(f"{faint} pixel(s) of the mask are grey below half white; they count as measured")
    return (~missing).expand(x.shape)
