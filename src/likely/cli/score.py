"""likely score: how likely pictures are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

import likely
from likely.checkpoints import read_card
from likely.cli.common import Device, Json, Messages, ModelName, Quiet, Seed, device_of, print_json
from likely.cli.pictures import read_for
from likely.data import dequantize
from likely.errors import InvalidInput


@torch.no_grad()
def score(
    images: Annotated[list[Path], typer.Argument(help="Pictures of the model's size.")],
    model: ModelName = "mnist",
    seed: Seed = 0,
    device: Device = "cpu",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Print log p of each picture in nats, and its bits per dimension once dequantised."""
    messages = Messages(quiet)
    where = device_of(device)
    flow = likely.load(model).to(where)
    levels = read_card(model).get("levels", 256)
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for path in images:
        x = read_for(flow, path, messages)
        value = flow.log_prob(x.to(where)).item()
        level = (x * (levels - 1)).round().to(torch.uint8)
        bits = flow.bits_per_dim(dequantize(level, levels, generator).to(where), levels).item()
        rows.append({"image": str(path), "log_prob": value, "bits_per_dim": bits})
    if not rows:
        raise InvalidInput("no picture was given.")
    if as_json:
        print_json(model=model, seed=seed, scores=rows)
        return
    typer.echo("log_prob\tbits_per_dim\timage")
    for row in rows:
        typer.echo(f"{row['log_prob']:.2f}\t{row['bits_per_dim']:.3f}\t{row['image']}")
