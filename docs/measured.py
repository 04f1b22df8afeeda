"""Tables of what was measured, from what the benchmarks have written: `benchmarks/results/*.json`.

A line of a page that is nothing but a link to a table of a file,

    [text](../benchmarks/results/flows.json#glow)

stands for that table. `check` finds links to tables that no file holds, tables that no page shows
(losses included), and files that are not as `benchmarks/report.py` writes them.
"""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

from report import show

RESULTS = Path("benchmarks") / "results"
LINK = re.compile(r"^\[[^\]]*\]\(\.\./benchmarks/results/(\w+)\.json#([\w-]+)\)$", re.MULTILINE)

HEAD = {"machine": str, "date": str, "command": str, "versions": dict, "tables": list}
TABLE = {"name": str, "title": str, "columns": list, "rows": list, "note": str}


def rendered(page: str, root: Path) -> str:
    """Return the page with each of its links to a table replaced by the table."""
    return LINK.sub(lambda link: markdown(root, *link.groups()), page)


def markdown(root: Path, file: str, name: str) -> str:
    """Return one table, with its title before it, and after it how it was found."""
    found = json.loads((root / RESULTS / f"{file}.json").read_text())
    table = next(t for t in found["tables"] if t["name"] == name)
    rows = [[show(cell).replace("|", r"\|") for cell in row] for row in table["rows"]]
    numbers = [all(not isinstance(row[k], str) for row in table["rows"]) for k in range(len(rows[0]))]
    lines = [table["columns"], ["--:" if number else "---" for number in numbers], *rows]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    note = f"{table['note']} " if table["note"] else ""
    how = f"{found['date']}, `{found['command']}`; {found['machine']}; {versions}."
    return f"**{table['title']}.** {note}\n\n{body}\n\n<small>{how}</small>\n"


def check(root: Path) -> list[str]:
    """Return a line for everything that is wrong."""
    wrong, held = [], set()
    for file in sorted((root / RESULTS).glob("*.json")):
        faults, names = _read(file, root)
        wrong += [f"{file.name}: {fault}" for fault in faults]
        held |= {(file.stem, name) for name in names}
    shown = set()
    for page in sorted((root / "docs").glob("*.md")):
        text = page.read_text()
        quoted = set(LINK.findall(text))
        shown |= quoted
        if text.count("](../benchmarks/results/") != len(LINK.findall(text)):
            wrong.append(f"{page.name}: a link to results is not alone on its line, or names no table")
        if page.stem == "benchmarks" and re.search(r"^\|", text, re.MULTILINE):
            wrong.append(f"{page.name}: a table written by hand")
        wrong += [
            f"{page.name}: no table {name} in {file}.json" for file, name in sorted(quoted - held)
        ]
    return wrong + [f"{file}.json: no page shows {name}" for file, name in sorted(held - shown)]


def _read(file: Path, root: Path) -> tuple[list[str], list[str]]:
    """Return what is wrong with a file, and the names of its tables."""
    try:
        found = json.loads(file.read_text(), parse_constant=_refuse)
    except ValueError as error:
        return [str(error)], []
    if wrong := _shape(found, HEAD, "the file"):
        return wrong, []
    script = found["command"].split()[1:2]
    if not (script and (root / script[0]).is_file()):
        wrong.append(f"no script {script}")
    if re.search(r"(^|[\s=])[/~]", found["command"]):
        wrong.append("a path of one machine in the command")
    try:
        date.fromisoformat(found["date"])
    except ValueError:
        wrong.append(f"no date: {found['date']}")
    names = []
    for table in found["tables"]:
        faults = _shape(table, TABLE, "a table") or _rows(table)
        wrong += faults
        names += [] if faults else [table["name"]]
    wrong += [f"two tables {name}" for name in names if names.count(name) > 1]
    return wrong, names


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _shape(found: Any, kinds: dict[str, type], what: str) -> list[str]:
    if not isinstance(found, dict) or found.keys() != kinds.keys():
        return [f"{what} does not hold exactly {', '.join(kinds)}"]
    return [f"{what}: {k} is no {t.__name__}" for k, t in kinds.items() if not isinstance(found[k], t)]


def _rows(table: dict[str, Any]) -> list[str]:
    columns, rows = table["columns"], table["rows"]
    if not (
        rows and columns and all(isinstance(row, list) and len(row) == len(columns) for row in rows)
    ):
        return [f"{table['name']}: rows and columns do not agree, or are none"]
    cells = [*columns, *(cell for row in rows for cell in row)]
    kinds = all(cell is None or isinstance(cell, str | int | float) for cell in cells)
    return [] if kinds else [f"{table['name']}: a cell is neither a text nor a number"]
