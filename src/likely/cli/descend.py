"""likely descend: a stochastic programme minimised with several gradient estimators, as a picture."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.distributions import Normal

from likely.cli.common import Json, Messages, Quiet, Seed, check_picture, print_json
from likely.errors import InvalidInput
from likely.expectations import expect
from likely.files import write_whole
from likely.seeds import derived

#: the stationary points of the objective, (mu, sigma)
POINTS: Final = {
    "global minimum": (1.36669929517146813, 1.96219822814219785),
    "local minimum": (0.442297488320822, 0.606495024931581),
    "saddle": (0.862957672498357, 1.17433201791134851),
}
#: starts, (mu, sigma)
STARTS: Final = ((0.0, 1.0), (1.0, 1.0), (0.0, math.e), (2.0, 1.0))
WAYS: Final = ("score", "path", "weak")


@dataclass(frozen=True)
class Descent:
    """One trajectory: `(steps + 1, 2)` of (mu, sigma), with where it ended."""

    way: str
    start: tuple[float, float]
    points: Tensor
    value: float
    nearest: str
    distance: float


def descend(
    out: Annotated[Path, typer.Option("--out", "-o", help="The picture to write.")] = Path(
        "descend.png"
    ),
    steps: Annotated[int, typer.Option(help="Steps of stochastic gradient descent.", min=1)] = 1000,
    number: Annotated[int, typer.Option("--number", "-n", help="Draws in a step.", min=2)] = 16,
    rate: Annotated[float, typer.Option(help="The first step size.")] = 0.1,
    seed: Seed = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Minimise E[X sin X] + (mu-1)^2/2 + sigma - log sigma by stochastic gradients; draw the paths.

    X is normal with mean mu and standard deviation sigma = e^tau. Starts are four, gradient estimators
    three; the exact objective is known, and so are its two minima and the saddle between them.
    """
    messages = Messages(quiet)
    if not 0 < rate <= 10:
        raise InvalidInput(f"--rate is {rate}; expected a step size above 0, of 10 at most.")
    check_picture(out)
    found: list[Descent] = []
    for way in WAYS:
        messages.say(f"{way}: {steps:,} steps of {number} draws from {len(STARTS)} starts")
        found += _descend(way, steps, number, rate, seed)
    _draw(out, found)
    if as_json:
        rows = [
            {
                "way": d.way,
                "start": list(d.start),
                "mu": d.points[-1, 0].item(),
                "sigma": d.points[-1, 1].item(),
                "objective": d.value,
                "nearest": d.nearest,
                "distance": d.distance,
            }
            for d in found
        ]
        print_json(out=str(out), steps=steps, number=number, seed=seed, descents=rows)
        return
    table = Table(title=f"{steps:,} steps of {number} draws")
    for heading in ("gradient", "start", "end", "objective", "exact", "nearest", "distance"):
        table.add_column(heading, justify="right" if heading in ("objective", "distance") else "left")
    for d in found:
        best = _objective(*_as_parameters(POINTS[d.nearest]))
        table.add_row(
            d.way,
            "({:.2f}, {:.2f})".format(*d.start),
            "({:.3f}, {:.3f})".format(*d.points[-1].tolist()),
            f"{d.value:.4f}",
            f"{best.item():.4f}",
            d.nearest,
            f"{d.distance:.3f}",
        )
    Console(highlight=False).print(table)
    messages.say(f"wrote {out}")


def _descend(way: str, steps: int, number: int, rate: float, seed: int) -> list[Descent]:
    """Descend from all starts at once: a batch of as many problems."""
    mu = torch.tensor([start[0] for start in STARTS], dtype=torch.float64)
    tau = torch.tensor([math.log(start[1]) for start in STARTS], dtype=torch.float64)
    track = [torch.stack([mu, tau.exp()], 1)]
    for k in range(steps):
        mu.requires_grad_()
        tau.requires_grad_()
        law = Normal(mu, tau.exp())
        noisy = expect(_wave, law, number, grad=way, seed=derived(seed, k), batched=True).mean
        value = noisy + (mu - 1).square() / 2 + tau.exp() - tau
        slopes = torch.autograd.grad(value.sum(), [mu, tau])
        # Falls from rate to a tenth of it, so that the noise settles.
        step = rate / (1 + 9 * k / steps)
        # A single wild gradient must not throw a start into the other basin's far side.
        mu, tau = (
            (t - step * slope.clamp(-5, 5)).detach() for t, slope in zip((mu, tau), slopes, strict=True)
        )
        track.append(torch.stack([mu, tau.exp()], 1))
    paths = torch.stack(track, 1)
    values = _objective(mu, tau)
    minima = {name: POINTS[name] for name in ("global minimum", "local minimum")}
    found = []
    for start, path, value in zip(STARTS, paths, values, strict=True):
        gaps = {name: math.dist(path[-1].tolist(), point) for name, point in minima.items()}
        nearest = min(gaps, key=lambda name: gaps[name])
        found.append(Descent(way, start, path, value.item(), nearest, gaps[nearest]))
    return found


def _wave(x: Tensor) -> Tensor:
    return x * x.sin()


def _as_parameters(point: tuple[float, float]) -> tuple[Tensor, Tensor]:
    mu, sigma = torch.tensor(point, dtype=torch.float64)
    return mu, sigma.log()


def _objective(mu: Tensor, tau: Tensor) -> Tensor:
    """Return the exact objective: `E[X sin X] = exp(-sigma^2/2) (mu sin mu + sigma^2 cos mu)`."""
    v = (2 * tau).exp()
    wave = (-v / 2).exp() * (mu * mu.sin() + v * mu.cos())
    return wave + (mu - 1).square() / 2 + tau.exp() - tau


def _draw(out: Path, found: list[Descent]) -> None:
    """One panel an estimator: the contour of the exact objective, the minima, the saddle, the paths."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.3 * len(WAYS), 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(WAYS), sharey=True, squeeze=False)[0]
    mu, sigma = torch.linspace(-0.6, 2.6, 200).double(), torch.linspace(0.2, 3.2, 200).double()
    grid = _objective(*torch.meshgrid(mu, sigma.log(), indexing="xy")).numpy()
    for axis, way in zip(axes, WAYS, strict=True):
        axis.contour(mu, sigma, grid, levels=40, cmap="Greys_r", linewidths=0.6, vmax=6)
        for name, (x, y) in POINTS.items():
            marker = {"global minimum": "*", "local minimum": "o", "saddle": "x"}[name]
            axis.plot(x, y, marker, color="#d95f02", markersize=9, label=name, zorder=3)
        for d in found:
            if d.way == way:
                axis.plot(*d.points.T.numpy(), lw=0.8, color="#1b6ca8", alpha=0.8)
                axis.plot(*d.start, ".", color="#1b6ca8", markersize=8)
        axis.set(title=way, xlabel="mu", xlim=(-0.6, 2.6), ylim=(0.2, 3.2))
    axes[0].set_ylabel("sigma")
    axes[0].legend(fontsize="small", loc="lower right")
    content = io.BytesIO()
    figure.savefig(content, format=out.suffix[1:].lower(), dpi=110)
    write_whole(out, content.getvalue())
