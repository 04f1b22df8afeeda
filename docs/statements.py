"""The table statement -> code -> test, read from theory pages; `check` finds names of nothing."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple


class Statement(NamedTuple):
    """One section of a theory page, with what it names in backticks after *Code* and *Test*."""

    page: Path
    title: str
    code: tuple[str, ...]
    tests: tuple[str, ...]
    proved: bool


def read(root: Path) -> list[Statement]:
    """Return the statements of all theory pages, in order."""
    found = []
    for page in sorted((root / "docs").glob("theory*.md")):
        for section in re.split(r"^## ", page.read_text(), flags=re.MULTILINE)[1:]:
            title, _, text = section.partition("\n")
            named = (tuple(_named(text, kind)) for kind in KINDS)
            found.append(Statement(page, title, *named, proved="∎" in text))
    return found


#: a list of names runs to the end of its sentence
KINDS = {
    "code": re.compile(r"\*Code\*:((?:[^`.]|`[^`]*`)*)"),
    "tests": re.compile(r"\*Tests?\*:((?:[^`.]|`[^`]*`)*)"),
}


def _named(text: str, kind: str) -> list[str]:
    sentences = KINDS[kind].findall(text)
    names = [name for s in sentences for name in re.findall(r"`([^`]+)`", s)]
    if kind == "tests":
        names = [name for name in names if name.startswith(("test_", "tests/"))]
        names += ["tests/laws"] if any("the laws" in s or "law" in s.split() for s in sentences) else []
    return list(dict.fromkeys(names))


def check(root: Path) -> list[str]:
    """Return a line for every name that does not exist, and every proof without code or test."""
    known = _definitions(root / "src")
    tests = _definitions(root / "tests")
    wrong = []
    for s in read(root):
        where = f"{s.page.name}, {s.title}"
        for name in s.code:
            for part in re.split(r" & |, ", name):
                if not _exists(part, known, root / "src" / "likely"):
                    wrong.append(f"{where}: no code named {part}")
        for name in s.tests:
            if not ((root / name).exists() if "/" in name else name in tests):
                wrong.append(f"{where}: no test named {name}")
        if s.proved and not (s.code and s.tests):
            wrong.append(f"{where}: a proof that names no code, or no test")
    return wrong


def _exists(name: str, known: dict[str, set[str]], package: Path) -> bool:
    """Whether a file, or a name such as `Flow.log_prob`, `Chain(reversible=True)`, `n=1`, exists."""
    if name.endswith(".py"):
        return bool(list(package.rglob(name)) or (package / name).exists())
    owner, _, member = re.split(r"[(=]", name)[0].rpartition(".")
    if not owner:
        return (
            member in known or bool(list(package.rglob(f"{member}.py"))) or (package / member).is_dir()
        )
    last = owner.rpartition(".")[2]
    return member in known.get(last, set()) or (member in known and _is_room(last, package))


def _is_room(name: str, package: Path) -> bool:
    return name == "likely" or (package / name).is_dir()


def _definitions(folder: Path) -> dict[str, set[str]]:
    """Every function, argument, class and constant of some modules, and the members of each class."""
    found: dict[str, set[str]] = {}
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            for name in _names(node):
                members = getattr(node, "body", []) if isinstance(node, ast.ClassDef) else []
                found.setdefault(name, set()).update(n for m in members for n in _names(m))
    return found


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.arg):
        return [node.arg]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [t.id for t in targets if isinstance(t, ast.Name)]


def table(root: Path) -> str:
    """Return the page: one row a statement, with links to the proof."""
    lines = [
        "# Statements, code, tests",
        "",
        "Made at each build from the theory pages, after a check that every name in it exists.",
        "`tests/laws` are the laws that hold for all of a registry: every bijection, set, method.",
        "",
        "| statement | code | tests |",
        "|---|---|---|",
    ]
    for s in read(root):
        code, tests = (", ".join(f"`{n}`" for n in names) for names in (s.code, s.tests))
        lines.append(f"| [{s.title}]({s.page.name}#{_slug(s.title)}) | {code} | {tests} |")
    wrong = check(root)
    if wrong:
        raise ValueError("\n".join(wrong))
    return "\n".join([*lines, ""])


def _slug(title: str) -> str:
    """The anchor of a heading, as forges and MyST make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
