"""The command line: data and JSON on stdout, messages on stderr; exit code 0, 1, 2 or 3.

0 done, 1 failed, 2 wrong usage or input, 3 infeasible or not converged.
"""

from __future__ import annotations

import os
import sys

import typer

from likely.cli.demo import demo
from likely.cli.info import info
from likely.cli.inpaint import inpaint
from likely.cli.sample import sample
from likely.cli.score import score
from likely.cli.train import train
from likely.errors import LikelyError

app = typer.Typer(
    name="likely",
    help="Exact likelihoods, put to work.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (demo, inpaint, score, sample, train, info):
    app.command()(command)


@app.callback()
def _root() -> None:
    """Likely puts exact likelihoods to work."""


def main() -> None:
    """Run the command line: every error is one message on stderr, never a traceback."""
    try:
        app()
    except LikelyError as error:
        print(f"likely: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:
        if os.environ.get("LIKELY_DEBUG"):
            raise
        print(
            f"likely: unexpected {type(error).__name__}: {error}\n"
            "This is a defect of likely; set LIKELY_DEBUG=1 to see where.",
            file=sys.stderr,
        )
        sys.exit(1)
