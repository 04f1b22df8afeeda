"""The book, built by Sphinx: `make docs`. Pages are plain Markdown and read as well without it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "benchmarks")]

# Two idle OpenMP threads that spin slow the examples several-fold on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import links  # noqa: E402
import measured  # noqa: E402
import pages  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402
from sphinx.errors import ExtensionError  # noqa: E402

import likely  # noqa: E402

project = "likely"
author = "The likely authors"
project_copyright = author
version = release = likely.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery/*.ipynb", "gallery/*.py"]
html_theme = "furo"
html_title = f"likely {release}"
html_static_path: list[str] = []
nitpicky = True
# Types of torch and jaxtyping, and names that are not public, have no pages here.
nitpick_ignore_regex = [("py:.*", r"(?!likely\.).*"), ("py:.*", r"likely(\.\w+){3,}")]

myst_heading_anchors = 3

# Docstrings put names and formulas into single backticks.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False

#: shown, and not run: they need the original MNIST files, or about a minute and write a picture
NOT_RUN = ("completions_mnist", "convergence", "restore_mnist", "vae")
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": rf"/(?!{'|'.join(NOT_RUN)})\w+\.py$",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "min_reported_time": 1,
    "abort_on_example_error": True,
}


def _to_gallery(app: Sphinx, name: str, source: list[str]) -> None:
    """Links to example scripts lead to their gallery pages."""
    source[0] = re.sub(r"\]\(\.\./examples/(\w+)\.py\)", r"](gallery/\1.rst)", source[0])


def _tables(app: Sphinx, name: str, source: list[str]) -> None:
    """What was measured stands where the page names it, and the page is made again where it changes."""
    for file, _ in measured.LINK.findall(source[0]):
        app.env.note_dependency(str(HERE.parent / measured.RESULTS / f"{file}.json"))
    source[0] = measured.rendered(source[0], HERE.parent)


def _links(app: Sphinx, error: Exception | None) -> None:
    """A book with a link inside of it that leads nowhere is not built."""
    if error is None and app.builder.format == "html" and (wrong := links.check(Path(app.outdir))):
        raise ExtensionError("\n".join(wrong))


def setup(app: Sphinx) -> None:
    """Write the pages that are made from the code, before Sphinx looks for pages."""
    if wrong := measured.check(HERE.parent):
        raise ValueError("\n".join(wrong))
    pages.write(HERE)
    app.connect("source-read", _to_gallery)
    app.connect("source-read", _tables)
    app.connect("build-finished", _links)
