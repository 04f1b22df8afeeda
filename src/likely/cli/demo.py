"""likely demo: damaged digits restored in three ways and completed, as one picture and one table."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

import likely
from likely.cli.common import Device, Json, Messages, Quiet, Seed, check_picture, device_of, print_json
from likely.data import digits
from likely.errors import InvalidInput
from likely.files import write_whole
from likely.restore import psnr
from likely.sets import Box, Observed
from likely.solvers import Annealed, Method, ProjectedAdam, ProjectedGradient

WAYS: dict[str, tuple[Method, str]] = {
    "plain recipe": (ProjectedGradient(), "given"),
    "paper's recipe": (Annealed(), "uniform"),
    "default": (ProjectedAdam(), "given"),
}

#: completions of each digit
DRAWS = 64


def demo(
    what: Annotated[str, typer.Argument(help="digits, or ruin: the gambler.")] = "digits",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The picture to write: demo.png or ruin.png.")
    ] = None,
    number: Annotated[int, typer.Option("--number", "-n", help="How many digits, up to 200.")] = 64,
    seed: Seed = 0,
    device: Device = "cpu",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Restore digits that no model saw, and complete them; write a picture, print a table."""
    messages = Messages(quiet)
    if what == "ruin":
        from likely.cli.ruin_story import tell

        return tell(out or Path("ruin.png"), seed, messages, as_json)
    if what != "digits":
        raise InvalidInput(f"there is no demo of {what!r}; expected digits or ruin.")
    out = out or Path("demo.png")
    if not 1 <= number <= 200:
        raise InvalidInput(f"--number is {number}; expected 1 to 200 digits.")
    check_picture(out)
    where = device_of(device)
    flow = likely.load("digits").to(where)
    data = digits()
    truth = data.test[:number].to(where) / (data.levels - 1)
    observed = torch.ones(8, 8, dtype=torch.bool, device=where)
    observed[2:5, 2:6] = False
    missing = (~observed).expand(truth.shape)
    damaged = truth.masked_fill(missing, 1.0)
    allowed = Box(0.0, 1.0) & Observed(observed, truth)

    pictures = {"original": truth, "damaged": damaged}
    rows = []

    def note(way: str, image: Tensor, log_prob: Tensor, seconds: float) -> None:
        pictures[way] = image
        rows.append(
            {
                "way": way,
                "log_prob": log_prob.mean().item(),
                "psnr": psnr(image, truth, missing).mean().item(),
                "violation": allowed.violation(image).max().item(),
                "seconds": seconds,
            }
        )

    for way, (method, start) in WAYS.items():
        messages.say(f"{way}: {method.steps:,} steps")
        begin = time.perf_counter()
        result = likely.inpaint(flow, damaged, observed, method=method, start=start, seed=seed)  # type: ignore[arg-type]
        note(way, result.image, result.log_prob, time.perf_counter() - begin)
    messages.say(f"completions: {DRAWS} draws by digits-complete")
    begin = time.perf_counter()
    c = likely.complete(likely.load("digits-complete").to(where), damaged, observed, DRAWS, seed=seed)
    seconds = time.perf_counter() - begin
    with torch.no_grad():
        note(f"mean of {DRAWS}", c.mean, flow.log_prob(c.mean), seconds)
        for i in range(2):
            note(f"completion {i + 1}", c.samples[i], flow.log_prob(c.samples[i]), seconds / DRAWS)
    with torch.no_grad():
        originals = flow.log_prob(truth).mean().item()
    _draw(out, pictures, missing, min(number, 10))

    if as_json:
        print_json(out=str(out), digits=number, seed=seed, log_prob_originals=originals, ways=rows)
        return
    holes = int(missing[0].sum())
    table = Table(title=f"{number} held-out digits, {holes} of 64 pixels missing")
    for heading in ("", "log p, nats", "hole-only PSNR, dB", "violation", "seconds"):
        table.add_column(heading, justify="right" if heading else "left")
    for row in rows:
        table.add_row(
            str(row["way"]),
            f"{row['log_prob']:.1f}",
            f"{row['psnr']:.2f}",
            f"{row['violation']:g}",
            f"{row['seconds']:.1f}",
        )
    Console(highlight=False).print(table)
    messages.say(f"mean log p of the originals: {originals:.1f} nats; wrote {out}")


def _draw(out: Path, pictures: dict[str, Tensor], missing: Tensor, columns: int) -> None:
    """One row a kind of picture, one column a digit; the hole is outlined in the restorations."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(0.9 * columns + 1.4, 0.92 * len(pictures)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(pictures), columns, squeeze=False)
    where = missing[0, 0].nonzero()
    (top, left), (bottom, right) = where.amin(0).tolist(), where.amax(0).tolist()
    for row, (name, images) in zip(axes, pictures.items(), strict=True):
        for axis, image in zip(row, images, strict=False):
            axis.imshow(image[0].cpu().numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            if name != "original":
                size = (right - left + 1, bottom - top + 1)
                axis.add_patch(
                    Rectangle((left - 0.5, top - 0.5), *size, fill=False, edgecolor="#d95f02", lw=1.2)
                )
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
    content = io.BytesIO()
    figure.savefig(content, format=out.suffix[1:].lower(), dpi=110)
    write_whole(out, content.getvalue())
