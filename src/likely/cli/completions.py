"""likely inpaint --samples: plausible completions, their mean, and how sure they are, on one sheet."""

from __future__ import annotations

import io
import math
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import typer
from rich.progress import Progress
from torch import Tensor

import likely
from likely.cli.common import Messages, print_json
from likely.data import write_image
from likely.density import Conditional, Freezable
from likely.errors import InvalidInput, NotConverged
from likely.files import write_whole
from likely.flows import ExactDensity
from likely.restore import Completions
from likely.samplers import Sweep

#: draws from which a 90% interval holds one more with probability 0.9
ENOUGH = 19


def check_model(
    model: str, flow: ExactDensity, samples: int | None, bounds: tuple[float, float]
) -> None:
    """Raise InvalidInput where a conditional model is asked for what it cannot do."""
    if not isinstance(flow, Conditional):
        return
    if samples is None:
        raise InvalidInput(
            f"{model} is a model to draw completions from: its density is constant in steps, so that "
            "no gradient leads up. Ask for --samples 20, or take another model, such as mnist-nice for "
            "28x28 pictures, digits for 8x8."
        )
    if bounds[0] > 0 or bounds[1] < 1:
        raise InvalidInput(
            f"--bounds is {bounds[0]:g} {bounds[1]:g}, and {model} draws from all of 0 to 1; leave "
            "--bounds out, or take a model whose chains keep within them, such as digits or mnist-nice."
        )


def complete_picture(
    flow: ExactDensity,
    x: Tensor,
    observed: Tensor,
    *,
    n: int,
    bounds: tuple[float, float],
    fast: bool,
    out: Path,
    mean: Path | None,
    seed: int,
    messages: Messages,
    about: dict[str, Any] | None,
) -> None:
    """Draw completions of one picture, write the sheet and the mean, say and print what they are worth.

    Raises:
        Exit: chains did not mix, with the code of what has not converged, after everything is written.
    """
    density: Any = flow
    if fast and isinstance(flow, Conditional) and isinstance(flow, Freezable):
        density = flow.frozen(torch.bfloat16)  # exact itself, another density by rounding
    steer = torch.bfloat16 if fast and density is flow else None
    begin = time.perf_counter()
    shown = messages.console.is_terminal and not messages.console.quiet
    with (
        Progress(console=messages.console, disable=not shown, transient=True) as progress,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # what they say is said below
        task = progress.add_task("completing", total=None)

        def note(now: Sweep) -> None:
            progress.update(task, description=f"completing, step {now.k + 1:,}")

        c = likely.complete(density, x, observed, n, bounds, precision=steer, seed=seed, on_step=note)
    seconds = time.perf_counter() - begin
    width = c.quantile(0.95) - c.quantile(0.05)
    draw_sheet(out, x, observed, c, width)
    wrote = str(out)
    if mean is not None:
        write_image(mean, c.mean)
        wrote += f" and {mean}"
    count, status = int((~observed).sum()), c.status[0]
    sure = width[~observed].mean().item() if count and n > 1 else None
    if not count:
        messages.say(
            "nothing is missing: the mask has no white pixel (half white counts), and all completions "
            "are the picture as it is"
        )
    elif n < ENOUGH:
        messages.say(f"{n} draws make 90% intervals too narrow: {ENOUGH} or more hold what they say")
    known = "" if sure is None else f"; 90% intervals are {sure:.3f} wide on average"
    messages.say(
        f"{n} completion{'s' * (n > 1)} of {count} missing values in {seconds:.1f} s: "
        f"{status.value}{known}; wrote {wrote}"
    )
    if about is not None:
        print_json(
            out=str(out),
            mean=None if mean is None else str(mean),
            samples=n,
            missing=count,
            log_prob=c.log_prob[:, 0].tolist(),
            interval_width=sure,
            acceptance=c.acceptance.item(),
            ess=c.ess.item(),
            rhat=c.rhat.item(),
            status=status.name.lower(),
            seconds=seconds,
            seed=seed,
            **about,
        )
    if not status.ok:
        messages.say(
            f"not converged: {status.value} (R-hat {c.rhat.item():.3g}, effective sample size "
            f"{c.ess.item():.3g} of {n})"
        )
        raise typer.Exit(NotConverged.exit_code)


def draw_sheet(out: Path, x: Tensor, observed: Tensor, c: Completions, width: Tensor) -> None:
    """Write one picture: damaged, mean, width of the 90% interval, and below them the completions."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n = len(c.samples)
    columns = min(max(4, math.ceil(math.sqrt(2 * n))), 8)
    rows = math.ceil(n / columns)
    shape = x.shape[-2] / x.shape[-1]
    figure = Figure(figsize=(1.3 * columns, 2.6 * shape + (1.3 * shape) * rows + 0.9))
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[2 * shape + 0.45, rows * shape + 0.15])
    above, below = parts
    top = above.subplots(1, 3)
    shown = (("measured", _marked(x, observed)), ("mean completion", _pixels(c.mean)))
    for axis, (title, picture) in zip(top, shown, strict=False):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=10)
    spread = top[2].imshow(
        width[0].amax(0).cpu().numpy(), cmap="magma", vmin=0, vmax=width.max().item() or 1
    )
    top[2].set_title("90% interval, width", fontsize=10)
    above.colorbar(spread, ax=top[2], shrink=0.8)
    grid = below.subplots(rows, columns, squeeze=False)
    for axis in grid.flat:
        axis.axis("off")
    for axis, sample in zip(grid.flat, c.samples, strict=False):
        axis.imshow(_pixels(sample), interpolation="nearest")
    for axis in top:
        axis.set_xticks([])
        axis.set_yticks([])
    content = io.BytesIO()
    figure.savefig(content, format=out.suffix[1:].lower(), dpi=150)
    write_whole(out, content.getvalue())


def _pixels(x: Tensor) -> Any:
    """Return one picture `(1, C, H, W)` as `(H, W, 3)`."""
    return x[0].expand(3, -1, -1).permute(1, 2, 0).clamp(0, 1).cpu().numpy()


def _marked(x: Tensor, observed: Tensor) -> Any:
    """Return what was measured, in orange where nothing was."""
    colour = torch.tensor([0.85, 0.37, 0.01], dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
    return _pixels(torch.where(observed.all(1, keepdim=True), x.expand(1, 3, *x.shape[2:]), colour))
