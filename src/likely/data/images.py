"""Pictures in files: read, convert, write."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from likely.errors import InvalidInput
from likely.files import write_whole

SUFFIXES = (".png", ".bmp", ".gif", ".jpg", ".jpeg", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
LOSSLESS = (".png", ".bmp", ".pgm", ".ppm", ".tif", ".tiff")
_MODES = {1: "L", 3: "RGB"}


def read_image(path: Path | str, channels: int | None = None) -> Float[Tensor, "1 channels h w"]:
    """Read a picture into `(1, C, H, W)`, float32 in [0, 1].

    Args:
        path: any file that Pillow reads; the first frame of several.
        channels: 1 for grey, 3 for colour: the picture is converted; None keeps what it has. Alpha is
            dropped, a palette is resolved, 16-bit grey keeps its precision, floats (TIFF) are taken as
            they are.

    Raises:
        InvalidInput: the file is missing, empty, truncated, not a picture, or holds NaN; or `channels`
            is something else.

    Example:
        >>> import tempfile, pathlib
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "grey.png"
        >>> write_image(file, torch.full((1, 1, 2, 3), 0.2))
        >>> read_image(file).shape
        torch.Size([1, 1, 2, 3])
    """
    if channels not in (None, 1, 3):
        raise InvalidInput(f"channels is {channels}; expected 1 (grey), 3 (colour) or None.")
    file = Path(path)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read {file}: {error.strerror or error}.") from error
    if not content:
        raise InvalidInput(f"{file} is empty (0 bytes); expected a picture.")
    try:
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
            if picture.mode[0] in "IF":
                # 16-bit grey, or floats that are taken as they are.
                scale = 65535.0 if picture.mode[0] == "I" else 1.0
                values = np.asarray(picture, np.float32)[..., None] / scale
                values = values.repeat(channels or 1, axis=2)
            else:
                grey = picture.mode in ("1", "L", "LA", "La")
                # Pillow warns of transparent palettes that go to RGB directly.
                whole = picture.convert("RGBA") if picture.mode == "P" else picture
                values = np.asarray(whole.convert(_MODES[channels or (1 if grey else 3)]), np.float32)
                values = values.reshape(*values.shape[:2], -1) / 255.0
    except UnidentifiedImageError as error:
        raise InvalidInput(
            f"{file} is not a picture that can be read; expected PNG or the like."
        ) from error
    except Image.DecompressionBombError as error:
        raise InvalidInput(f"{file} is too large for a picture: {error}") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise InvalidInput(f"{file} is truncated or damaged: {error}.") from error
    if not np.isfinite(values).all():
        raise InvalidInput(f"{file} holds NaN or infinite values; put any number there and mask it.")
    return torch.from_numpy(values.transpose(2, 0, 1)[None].copy())


def write_image(path: Path | str, x: Float[Tensor, "1 channels h w"]) -> None:
    """Write one picture `(1, C, H, W)` in [0, 1] as 8-bit, whole or not at all.

    An entry read from an 8-bit picture comes back as the same byte.

    Raises:
        InvalidInput: the suffix names no lossless format, or x is not one grey or colour picture.
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_image(f"{folder}/grey.png", torch.full((1, 1, 2, 3), 0.5))
        ...     read_image(f"{folder}/grey.png").shape
        torch.Size([1, 1, 2, 3])
    """
    check_image_name(path)
    if x.ndim != 4 or x.shape[0] != 1 or x.shape[1] not in _MODES:
        raise InvalidInput(f"picture has shape {tuple(x.shape)}; expected (1, 1 or 3, H, W).")
    levels = to_bytes(x)[0].permute(1, 2, 0).cpu().numpy()
    picture = Image.fromarray(levels[..., 0] if x.shape[1] == 1 else levels)
    content = io.BytesIO()
    picture.save(content, format=Image.registered_extensions()[Path(path).suffix.lower()])
    write_whole(path, content.getvalue())


def check_image_name(path: Path | str, *more: str) -> None:
    """Raise `InvalidInput` unless the suffix of `path` names a lossless format, or is one of `more`."""
    if Path(path).suffix.lower() not in (*LOSSLESS, *more):
        raise InvalidInput(
            f"{path} cannot be written: its suffix names no lossless picture format; expected one of "
            f"{', '.join((*more, *LOSSLESS))}."
        )


def to_bytes(x: Float[Tensor, "*shape"]) -> Tensor:
    """Return the nearest of 256 levels for values in [0, 1], as uint8."""
    return (x * 255).round().clamp(0, 255).to(torch.uint8)


def read_folder(folder: Path | str) -> Tensor:
    """Read every picture of a folder, in the order of their names, as uint8 `(N, C, H, W)`.

    Raises:
        InvalidInput: there is none, one cannot be read, or they differ in size.
    """
    files = sorted(f for f in Path(folder).iterdir() if f.suffix.lower() in SUFFIXES)
    if not files:
        raise InvalidInput(f"folder {folder} holds no pictures; expected files such as 0001.png.")
    first = read_image(files[0])
    rows = []
    for file in files:
        x = read_image(file, first.shape[1])
        if x.shape != first.shape:
            raise InvalidInput(
                f"{file} is {x.shape[-2]}x{x.shape[-1]} while {files[0]} is "
                f"{first.shape[-2]}x{first.shape[-1]} (rows x columns); expected one size."
            )
        rows.append(to_bytes(x))
    return torch.cat(rows)
