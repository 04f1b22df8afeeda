"""likely sample: draw pictures from a model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import torch
import typer

import likely
from likely.cli.common import Device, Json, Messages, ModelName, Quiet, Seed, device_of, print_json
from likely.cli.pictures import check_pictures, enlarge, grid
from likely.data import write_image
from likely.data.images import check_image_name
from likely.errors import InvalidInput
from likely.files import check_writable


@torch.no_grad()
def sample(
    out: Annotated[Path, typer.Option("--out", "-o", help="The picture to write, a grid of draws.")],
    number: Annotated[int, typer.Option("--number", "-n", help="How many draws.")] = 16,
    model: ModelName = "mnist",
    seed: Seed = 0,
    device: Device = "cpu",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Draw pictures from a model and write them as one grid, clipped to [0, 1]."""
    messages = Messages(quiet)
    if number < 1:
        raise InvalidInput(f"--number is {number}; expected at least 1 draw.")
    check_image_name(out)
    check_writable(out)
    flow = likely.load(model).to(device_of(device))
    check_pictures(flow)
    x = flow.sample(number, seed=seed)
    values = flow.log_prob(x)
    write_image(out, grid(enlarge(x.cpu().clamp(0, 1), 56), math.ceil(math.sqrt(number)), gap=2))
    messages.say(f"{number} draws, mean log p {values.mean().item():.1f} nats; wrote {out}")
    if as_json:
        print_json(out=str(out), model=model, seed=seed, log_prob=values.tolist())
