"""The command line: data and JSON on stdout, messages on stderr; exit code 0, 1, 2 or 3.

0 done, 1 failed, 2 wrong usage or input, 3 infeasible or not converged, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from likely.errors import LikelyError

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: from here on, every error is one message on stderr, never a traceback."""
    try:
        from likely.cli.app import run

        run(arguments)
    except KeyboardInterrupt:
        _interrupted()
        sys.exit(INTERRUPTED)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            _interrupted()
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


def _interrupted() -> None:
    print("likely: interrupted", file=sys.stderr)
