"""Pages made from the code at each build: the reference, and the table of statements."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import ModuleType

import statements

import likely


def write(docs: Path) -> None:
    """Write `docs/reference/*.rst` and `docs/statements.md`; neither is committed."""
    folder = docs / "reference"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.rst"):
        old.unlink()
    rooms = [importlib.import_module(f"likely.{name}") for name in _rooms(docs.parent)]
    for room in rooms:
        (folder / f"{room.__name__}.rst").write_text(_room(room))
    (folder / "index.rst").write_text(_index(rooms))
    (docs / "statements.md").write_text(statements.table(docs.parent))


def _rooms(root: Path) -> list[str]:
    """The public modules: packages with names to offer, and the modules beside them."""
    packages = sorted(p.parent.name for p in (root / "src" / "likely").glob("*/__init__.py"))
    return [
        *(p for p in packages if p not in ("cli", "pretrained")),
        "checkpoints",
        "density",
        "errors",
    ]


def _names(room: ModuleType) -> list[str]:
    if hasattr(room, "__all__"):
        return list(room.__all__)
    return [
        name
        for name, value in vars(room).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == room.__name__
    ]


def _room(room: ModuleType) -> str:
    lines = [room.__name__, "=" * len(room.__name__), "", f".. automodule:: {room.__name__}", ""]
    for name in _names(room):
        value = getattr(room, name)
        kind = _kind(value)
        lines += [f".. {kind}:: {room.__name__}.{name}"]
        if kind == "py:data" and isinstance(value, dict):
            lines += ["", f"   By name: {', '.join(f'``{key}``' for key in value)}."]
        if kind == "autoclass":
            lines += ["   :members:", "   :show-inheritance:"]
        lines += [""]
    return "\n".join(lines)


def _kind(value: object) -> str:
    if inspect.isclass(value):
        return "autoexception" if issubclass(value, Exception) else "autoclass"
    return "autofunction" if inspect.isroutine(value) else "py:data"


def _index(rooms: list[ModuleType]) -> str:
    """Every name of `likely` itself, with a link to where it is described."""
    lines = ["Reference", "=========", "", "The names of ``likely`` itself:", ""]
    for name in likely.__all__:
        value = getattr(likely, name)
        if inspect.ismodule(value):
            continue
        home = next(room for room in rooms if name in _names(room))
        role = "class" if inspect.isclass(value) else "func"
        role = "exc" if _kind(value) == "autoexception" else role
        about = (inspect.getdoc(value) or "").split("\n")[0].replace("`", "``")
        lines.append(f"- :py:{role}:`likely.{name} <{home.__name__}.{name}>`: {about}")
    lines += ["", "Room by room:", "", ".. toctree::", "   :maxdepth: 1", ""]
    return "\n".join(lines + [f"   {room.__name__}" for room in rooms] + [""])
