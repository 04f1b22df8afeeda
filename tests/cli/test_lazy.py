"""Nothing is imported before it is needed: help is quick, and an early Ctrl-C is no traceback."""

from __future__ import annotations

import importlib
import inspect
import pickle
import subprocess
import sys

import pytest

import likely
from likely.cli import app, main


@pytest.mark.parametrize("run", ["import likely; dir(likely)", "from likely.cli import main; main()"])
def test_torch_waits(run: str) -> None:
    script = f"""
import sys
sys.argv = ["likely", "--help"]
try:
    {run.replace("; ", chr(10) + "    ")}
except SystemExit as stop:
    assert not stop.code
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_help_of_all_says_what_that_of_each_says() -> None:
    for name, text in app.COMMANDS.items():
        command = getattr(importlib.import_module(f"likely.cli.{name}"), name)
        assert " ".join(inspect.getdoc(command).split("\n\n")[0].split()) == text


def test_public_names_are_there() -> None:
    assert set(likely.__all__) <= set(dir(likely))
    assert {name for names in likely._HOMES.values() for name in names} == set(likely.__all__)
    for name in likely.__all__:
        assert getattr(likely, name) is vars(likely)[name]
    assert pickle.loads(pickle.dumps(likely.Status.LIMIT)) is likely.Status.LIMIT
    assert pickle.loads(pickle.dumps(likely.expect)) is likely.expect
    with pytest.raises(AttributeError, match="module 'likely' has no attribute 'exspect'"):
        likely.exspect  # noqa: B018


@pytest.mark.parametrize("where", ["importlib.import_module", "run"])
def test_interrupted_while_starting(where: str, monkeypatch, capsys) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"likely.cli.app.{where}", interrupt)
    with pytest.raises(SystemExit) as stop:
        main(["info"])
    assert stop.value.code == 130
    assert capsys.readouterr().err.strip().splitlines()[-1] == "likely: interrupted"
