"""The commands by name: each is imported, and torch with it, when it is asked for."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated, Any, final

import typer
from typer.core import TyperGroup

#: the first sentence of each command's help, which `likely --help` shows without importing it
COMMANDS = {
    "demo": "Restore digits that no model saw, and complete them; write a picture, print a table.",
    "inpaint": "Fill in missing pixels by maximum likelihood; measured pixels are kept exactly.",
    "score": "Print log p of each picture in nats, and its bits per dimension once dequantised.",
    "sample": "Draw pictures from a model and write them as one grid, clipped to [0, 1].",
    "train": "Fit a model by maximum likelihood; early stopping keeps the best weights on held-out "
    "data.",
    "descend": "Minimise E[X sin X] + (mu-1)^2/2 + sigma - log sigma by stochastic gradients; draw the "
    "paths.",
    "ruin": "Estimate the chance to leave a casino with the target, and compute it exactly.",
    "info": "List the models that ship with likely, or print the card of one.",
}
PLAIN: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
}


@final
class Commands(TyperGroup):
    """The group of all commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, name: str) -> Any:
        """Return a command by its name."""
        if name not in COMMANDS:
            return None
        one = typer.Typer(**PLAIN)
        one.command(name)(getattr(importlib.import_module(f"likely.cli.{name}"), name))
        return typer.main.get_command(one)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the names and what they do."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


app = typer.Typer(
    name="likely",
    cls=Commands,
    help="Exact likelihoods, put to work.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or input, 3 infeasible or not converged, "
    "130 interrupted.",
    no_args_is_help=True,
    **PLAIN,
)


def _version(wanted: bool) -> None:
    if wanted:
        from likely.cli.common import versions

        typer.echo(" ".join(f"{name} {version}" for name, version in versions().items()))
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the versions.")
    ] = False,
) -> None:
    """Exact likelihoods, put to work."""


def run(arguments: list[str] | None) -> None:
    """Run one command."""
    try:
        app(arguments)
    finally:
        if sys.stdout is not None:  # None where it was closed
            sys.stdout.flush()
