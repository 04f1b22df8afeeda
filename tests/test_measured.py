"""Tables come from files that benchmarks have written, and all of these files are shown."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from docs_module import docs_module

ROOT = Path(__file__).parent.parent


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small project, with one benchmark, one file of results, and a page that shows it."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "benchmarks" / "race.py").touch()
    write(tmp_path, results())
    link = "[t](../benchmarks/results/race.json#turns)"
    (tmp_path / "docs" / "page.md").write_text(f"Before.\n\n{link}\n")
    return tmp_path


def results() -> dict[str, Any]:
    table = {"name": "turns", "title": "Turns", "columns": ["who", "ms"], "note": "Medians."}
    head = {"machine": "a", "date": "2026-11-25", "command": "python benchmarks/race.py --turns 3"}
    rows = [["likely", 1.23456], ["a|b", None], ["many", 12345]]
    return head | {"versions": {"torch": "2"}, "tables": [table | {"rows": rows}]}


def write(root: Path, content: object) -> None:
    (root / "benchmarks" / "results" / "race.json").write_text(json.dumps(content))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return docs_module("measured", monkeypatch)


def test_of_this_book(measured: ModuleType) -> None:
    assert measured.check(ROOT) == []


def test_a_link_becomes_its_table(measured: ModuleType, root: Path) -> None:
    assert measured.check(root) == []
    shown = measured.rendered((root / "docs" / "page.md").read_text(), root)
    assert shown.startswith("Before.\n\n**Turns.** Medians. \n\n| who | ms |\n| --- | --: |\n")
    assert "| likely | 1.235 |\n| a\\|b | - |\n| many | 12,345 |\n" in shown
    assert "2026-11-25, `python benchmarks/race.py --turns 3`; a; torch 2." in shown


def test_pages_and_files_agree(measured: ModuleType, root: Path) -> None:
    page = root / "docs" / "page.md"
    page.write_text("[t](../benchmarks/results/race.json#turn)\n")
    wrong = ["page.md: no table turn in race.json", "race.json: no page shows turns"]
    assert measured.check(root) == wrong
    page.write_text("See [t](../benchmarks/results/race.json#turns).\n")
    assert "not alone on its line" in measured.check(root)[0]


def test_benchmarks_have_no_tables_written_by_hand(measured: ModuleType, root: Path) -> None:
    (root / "docs" / "page.md").rename(root / "docs" / "benchmarks.md")
    assert measured.check(root) == []
    with (root / "docs" / "benchmarks.md").open("a") as page:
        page.write("\n| who | ms |\n|---|---|\n| likely | 1 |\n")
    assert measured.check(root) == ["benchmarks.md: a table written by hand"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"date": "yesterday"}, "no date"),
        ({"command": "python benchmarks/gone.py"}, "no script"),
        ({"command": "python benchmarks/race.py --model /home/me/NICE"}, "a path"),
        ({"machine": None}, "machine is no str"),
        ({"more": 1}, "the file does not hold exactly"),
        ({"tables": [{"name": "turns"}]}, "a table does not hold exactly"),
    ],
)
def test_what_is_malformed_is_named(
    measured: ModuleType, root: Path, change: dict[str, Any], said: str
) -> None:
    write(root, results() | change)
    assert any(said in line for line in measured.check(root))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": []}, "do not agree, or are none"),
        ({"rows": [["likely"]]}, "do not agree, or are none"),
        ({"rows": [["likely", {}]]}, "neither a text nor a number"),
        ({"rows": [["likely", float("nan")]]}, "NaN is no number of JSON"),
    ],
)
def test_tables_that_are_malformed_are_named(
    measured: ModuleType, root: Path, change: dict[str, Any], said: str
) -> None:
    content = results()
    content["tables"][0] |= change
    write(root, content)
    assert any(said in line for line in measured.check(root))


def test_no_json_at_all(measured: ModuleType, root: Path) -> None:
    (root / "benchmarks" / "results" / "race.json").write_text("{")
    assert measured.check(root)[0].startswith("race.json: ")


def test_what_a_benchmark_writes_is_as_it_should_be(
    measured: ModuleType, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = root / "benchmarks" / "results" / "race.json"
    given = ["benchmarks/race.py", "--json", str(file), "--model", "/home/me/NICE"]
    monkeypatch.setattr("sys.argv", given)
    report = importlib.import_module("report")
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    options, run = report.Report.begin(parser)
    assert options.model == "/home/me/NICE"
    run.table("turns", "Turns", ["who", "ms"], [["likely", float("inf")], ["peer", None]])
    assert measured.check(root) == []
    assert "`python benchmarks/race.py --model NICE`" in measured.markdown(root, "race", "turns")
    with pytest.raises(ValueError, match="needs 2 cells"):
        run.table("more", "More", ["who", "ms"], [["likely"]])
