"""The command line: data and JSON on stdout, messages on stderr; exit code 0, 1, 2 or 3.

0 done, 1 failed, 2 wrong usage or input, 3 infeasible or not converged, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from likely.cli.common import versions
from likely.cli.demo import demo
from likely.cli.descend import descend
from likely.cli.info import info
from likely.cli.inpaint import inpaint
from likely.cli.sample import sample
from likely.cli.score import score
from likely.cli.train import train
from likely.errors import LikelyError

INTERRUPTED = 130

app = typer.Typer(
    name="likely",
    help="Exact likelihoods, put to work.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or input, 3 infeasible or not converged, "
    "130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (demo, inpaint, score, sample, train, descend, info):
    app.command()(command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(" ".join(f"{name} {version}" for name, version in versions().items()))
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the versions.")
    ] = False,
) -> None:
    """Exact likelihoods, put to work."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: from here on, every error is one message on stderr, never a traceback."""
    try:
        try:
            app(arguments)
        finally:
            if sys.stdout is not None:  # None where it was closed
                sys.stdout.flush()
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            print("likely: interrupted", file=sys.stderr)
        raise
    except LikelyError as error:
        print(f"likely: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        # Standard output is closed or full; what could not be flushed must not be tried again at exit.
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
        print(f"likely: could not write the output: {error.strerror}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        if os.environ.get("LIKELY_DEBUG"):
            raise
        print(
            f"likely: unexpected {type(error).__name__}: {error}\n"
            "This is a defect of likely; set LIKELY_DEBUG=1 to see where.",
            file=sys.stderr,
        )
        sys.exit(1)
