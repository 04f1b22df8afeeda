"""The idx format of the original MNIST files."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from likely.errors import InvalidInput


def read_idx(path: Path | str) -> UInt8[Tensor, "*shape"]:
    """Read an idx file of bytes, plain or gzipped (told apart by content, not by name).

    The header is two zero bytes, the type 0x08 (unsigned byte), the number of dimensions, and each
    size as a big-endian 32-bit integer; then the entries, row-major.

    Raises:
        InvalidInput: the file is missing, empty, truncated, too long, or of another format.

    Reference: LeCun, Cortes, Burges, "The MNIST database of handwritten digits".

    Example:
        >>> import tempfile, pathlib
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "two.idx"
        >>> _ = file.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
        >>> read_idx(file).tolist()
        [7, 9]
    """
    try:
        content = Path(path).read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror or error}.") from error
    except (EOFError, zlib.error) as error:
        raise InvalidInput(f"{path} is a damaged gzip file ({error}); fetch it again.") from error
    if content[:3] != b"\x00\x00\x08" or len(content) < 4 or len(content) < 4 + 4 * content[3]:
        raise InvalidInput(
            f"{path} is not an idx file of unsigned bytes: it starts with "
            f"{content[:4].hex() or 'nothing'}; expected 000008 and the number of dimensions."
        )
    ndim = content[3]
    shape = struct.unpack(f">{ndim}I", content[4 : 4 + 4 * ndim])
    entries = np.frombuffer(content, np.uint8, offset=4 + 4 * ndim)
    if entries.size != math.prod(shape):
        raise InvalidInput(
            f"{path} holds {entries.size} entries where its header says {shape}, "
            f"{math.prod(shape)} in all; it is truncated or damaged: fetch it again."
        )
    return torch.from_numpy(entries.reshape(shape).copy())
