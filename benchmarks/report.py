"""What a benchmark measured: tables printed as they come, and kept as JSON for the book.

    options, report = Report.begin(parser)     # adds --json FILE, and parses
    report.table("turns", "Turns", ["who", "ms"], [["likely", 1.25], ["peer", None]], "medians of 3")

`docs/measured.py` shows the tables that `docs/benchmarks.md` names, and says what a file must hold.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

Cell = str | int | float | None

#: named with their versions where they take part; some modules have another name than their package
PACKAGES = ["likely", "torch", "numpy", "zuko", "nflows", "normflows", "FrEIA"]
PACKAGES += ["pyproximal", "jax", "optax", "jaxopt", "pyro", "storch", "openturns"]
OTHER_NAMES = {"pyro": "pyro-ppl", "storch": "storchastic"}
#: of a float, in files and in tables
DIGITS = 4


class Report:
    """The tables of one run, with the machine, the date, the command and the versions."""

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self.head = {
            "machine": machine(),
            "date": datetime.now(UTC).date().isoformat(),
            "command": command(),
        }
        self.tables: list[dict[str, object]] = []

    @classmethod
    def begin(cls, parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, Report]:
        """Add `--json` to a parser, parse the command line, and begin."""
        parser.add_argument("--json", type=Path, help="also write all tables to this file")
        options = parser.parse_args()
        return options, cls(options.json)

    def table(
        self,
        name: str,
        title: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[Cell]],
        note: str = "",
    ) -> None:
        """Print a table and, if a file was asked for, write it with all tables before it.

        A cell is a text, a number, or None where there is nothing; numbers that are not finite are
        written as text. The note says what a reader must know: units, repetitions, what differs.
        """
        cells = [[_rounded(cell) for cell in row] for row in rows]
        if any(len(row) != len(columns) for row in cells):
            raise ValueError(f"every row of {name} needs {len(columns)} cells")
        print(f"\n{title}\n{text(columns, cells)}" + f"\n{note}" * bool(note), flush=True)
        self.tables.append(
            {"name": name, "title": title, "columns": [*columns], "rows": cells, "note": note}
        )
        if self.file:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            new = self.file.with_suffix(".new")
            content = self.head | {"versions": versions(), "tables": self.tables}
            new.write_text(json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
            new.replace(self.file)


def text(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Return a table as aligned text."""
    shown = [list(columns), *([show(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    numbers = [all(not isinstance(row[k], str) for row in rows) for k in range(len(columns))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numbers, strict=True)
        ).rstrip()
        for row in shown
    )


def show(cell: Cell) -> str:
    """Return a cell as it is shown: four digits of a float, commas between thousands."""
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 10 ** (DIGITS - 1) else f"{cell:.{DIGITS}g}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def _rounded(cell: Cell) -> Cell:
    if not isinstance(cell, float):
        return cell
    return float(f"{cell:.{DIGITS + 2}g}") if math.isfinite(cell) else str(cell)


def machine() -> str:
    """Return the processor, how many there are, the graphics card, and how busy it was before."""
    name = platform.processor() or platform.machine()
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    busy = f"load {os.getloadavg()[0]:.1f} before the run" if hasattr(os, "getloadavg") else ""
    parts = [name, f"{os.cpu_count()} processors", f"OMP_NUM_THREADS={threads}", busy, _card()]
    return ", ".join(part for part in parts if part)


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def _card() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no graphics card"


def command() -> str:
    """Return the command as one would type it: no `--json`, and no folders of this machine."""
    given = sys.argv[1:]
    kept = [
        word
        for k, word in enumerate(given)
        if not word.startswith("--json") and (k == 0 or given[k - 1] != "--json")
    ]
    words = [Path(w).name if w.startswith(("/", "~")) else w for w in kept]
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])


def versions() -> dict[str, str]:
    """Return the versions of Python and of all packages that take part: that have been imported."""
    imported = [OTHER_NAMES.get(name, name) for name in PACKAGES if name in sys.modules]
    return {"python": platform.python_version()} | {n: importlib.metadata.version(n) for n in imported}
