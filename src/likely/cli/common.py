"""What every command shares: options, messages on stderr, results on stdout."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

import likely
from likely.errors import InvalidInput
from likely.files import check_writable

Seed = Annotated[int, typer.Option(help="Seed of every random draw.", min=0, max=2**63 - 1)]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, mps.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No messages and no progress on stderr.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
ModelName = Annotated[
    str, typer.Option("--model", "-m", help="A model that ships with likely, or a file.")
]


#: what figures are written as
FORMATS = (".png", ".jpg", ".webp", ".svg", ".pdf")


def check_picture(out: Path) -> None:
    """Refuse a picture that cannot be written.

    Raises:
        InvalidInput: its format is unknown, or it cannot be written there.
    """
    if out.suffix.lower() not in FORMATS:
        raise InvalidInput(f"the picture is {out}; expected {', '.join(FORMATS[:-1])} or .pdf.")
    check_writable(out)


class Messages:
    """Messages and progress, on stderr, or nowhere."""

    def __init__(self, quiet: bool) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, markup=False)


def print_json(**values: Any) -> None:
    """Print one JSON object on stdout, versions included; NaN and infinities become null."""
    typer.echo(json.dumps(_finite(values | {"versions": versions()})))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not (float("-inf") < value < float("inf")):
        return None
    return value


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    return {
        "likely": likely.__version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def device_of(name: str) -> torch.device:
    """Return a device that can be used.

    Raises:
        InvalidInput: the name is unknown or the device is not there.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InvalidInput(
            f"device {name!r} cannot be used ({str(error).splitlines()[0]}); try --device cpu."
        ) from None
    return device
