"""Writing files whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from likely.errors import OutputError


def write_whole(path: Path | str, content: bytes) -> None:
    """Write `content` to `path` in one step: a temporary file beside it, then a rename.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full; `path` is untouched.
    """
    target = Path(path)
    check_writable(target)
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=target.parent, prefix=f".{target.name}.", delete=False
        ) as file:
            temporary = file.name
            file.write(content)
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(target)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OutputError(f"could not write {target}: {error.strerror or error}.") from error
        raise


def check_writable(path: Path | str) -> None:
    """Raise before any work if `path` could not be written.

    Raises:
        OutputError: the folder does not exist or is not writable, or `path` is a folder.
    """
    target = Path(path)
    if target.is_dir():
        raise OutputError(f"{target} is a folder; give the name of a file in it.")
    if not target.parent.is_dir():
        raise OutputError(f"folder {target.parent} does not exist; make it first.")
    if not os.access(target.parent, os.W_OK):
        raise OutputError(f"folder {target.parent} is not writable; choose another output.")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
