"""The code in README and guides runs, as it stands, and their links and names lead somewhere."""

from __future__ import annotations

import re
import shlex
import warnings
from pathlib import Path

import pytest
import torch

from docs_module import docs_module
from likely import data
from likely.cli import main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: their commands were run once, for hours or on other data, and are kept as a record
RECORDS = ("training.md", "benchmarks.md")
#: what a test adds to a command that would take minutes; of options given twice the last one counts
SHORTER = {"train": "--steps 2 --width 8 --depth 1"}


def blocks(page: Path) -> list[tuple[str, str]]:
    """The blocks of Python and of commands, in their order."""
    return re.findall(r"```(python|sh)\n(.*?)```", page.read_text(), re.DOTALL)


def commands(block: str) -> list[list[str]]:
    """The commands of likely in a block; others, such as make and pip, are not run here."""
    lines = block.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [w[1:] for w in words if w and Path(w[0]).name == "likely"]


def runs(page: Path) -> bool:
    return any(kind == "python" or commands(text) for kind, text in blocks(page))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with what README calls a picture, a mask, and a folder of pictures."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FOLDER").mkdir()
    for k, x in enumerate(data.digits().train[:20] / 16):
        data.write_image(tmp_path / "FOLDER" / f"{k}.png", x[None])
    digit = torch.nn.functional.interpolate(data.digits().test[:1] / 16, size=(28, 28))
    data.write_image(tmp_path / "digit.png", digit)
    missing = torch.zeros_like(digit)
    missing[..., 5:12, 5:20] = 1.0
    data.write_image(tmp_path / "mask.png", missing)
    data.write_image(tmp_path / "photo.png", data.digits().test[1:2] / 16)
    data.write_image(tmp_path / "hole.png", (torch.arange(64.0).view(1, 1, 8, 8) < 20).float())
    return tmp_path


def test_there_is_code_to_run() -> None:
    assert {page.name for page in PAGES if runs(page)} >= {"README.md", "methods.md", "quickstart.md"}


@pytest.mark.parametrize("page", [p for p in PAGES if runs(p)], ids=lambda p: p.name)
def test_code_runs(page: Path, folder: Path) -> None:
    # The blocks of a page are read in turn, as one program.
    names: dict[str, object] = {}
    for kind, block in blocks(page):
        if kind == "python":
            with warnings.catch_warnings():
                if "zuko" in block or "dask" in block:  # their own warnings are not likely's
                    warnings.simplefilter("ignore")
                exec(compile(block, str(page), "exec"), names)
        elif page.name not in RECORDS:
            for words in commands(block):
                with pytest.raises(SystemExit) as stop:
                    main([*words, *SHORTER.get(words[0], "").split()])
                assert not stop.value.code, words


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_block_is_of_a_kind_that_is_run(page: Path) -> None:
    kinds = set(re.findall(r"^```([\w{}]+)", page.read_text(), re.MULTILINE))
    directives = {"{toctree}", "{include}"}
    assert kinds <= {"python", "sh"} | directives


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert link.startswith("http") or (page.parent / link).exists(), link


def test_code_and_tests_that_the_theory_names_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    assert docs_module("statements", monkeypatch).check(ROOT) == []
