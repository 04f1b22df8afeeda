"""The modules that make the book, which are no part of the package."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


def docs_module(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return a module of `docs/`; those of `benchmarks/` can be imported while the test runs."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
