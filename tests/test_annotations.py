"""The shapes and types in the signatures are true: every example runs with them checked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_example_fits_its_annotations():
    # The checks are put in when likely is first imported, so this needs a process of its own.
    conf = "beartype.BeartypeConf(is_pep484_tower=True)"  # an int is a float, as for type checkers
    hook = f"--jaxtyping-packages=likely,beartype.beartype(conf={conf})"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", hook, "src"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
