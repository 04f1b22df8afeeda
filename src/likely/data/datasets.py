"""Data sets by name or place, split once and for all into train, valid and test."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from likely.data.idx import read_idx
from likely.data.images import read_folder
from likely.errors import InvalidInput
from likely.files import write_whole


@final
@dataclass(frozen=True)
class Dataset:
    """Levels 0 .. levels-1 as uint8 `(N, C, H, W)`, in three parts that never overlap.

    `train` is fitted, `valid` decides when to stop, `test` is for figures that are reported.
    """

    name: str
    train: UInt8[Tensor, "n_train channels h w"]
    valid: UInt8[Tensor, "n_valid channels h w"]
    test: UInt8[Tensor, "n_test channels h w"]
    levels: int = 256


def dequantize(
    x: UInt8[Tensor, "*shape"], levels: int = 256, generator: torch.Generator | None = None
) -> Float[Tensor, "*shape"]:
    """Return `(x + u) / levels` with u uniform on [0, 1): continuous data in [0, 1) from levels.

    The density of the result bounds the probability of the levels: by Jensen's inequality
    `E_u[log p((x + u) / levels)] <= log P(x) + D log levels` for D entries (Theis, van den Oord,
    Bethge 2016).

    Example:
        >>> y = dequantize(torch.tensor([0, 255], dtype=torch.uint8))
        >>> (y * 256).floor().tolist()
        [0.0, 255.0]
    """
    noise = torch.rand(x.shape, generator=generator, device=x.device)
    # x + u can round up to the next level in float32; the largest value below it keeps the level.
    return torch.minimum(x + noise, torch.nextafter(x + 1.0, noise)) / levels


def digits() -> Dataset:
    """Return scikit-learn's 8x8 digits, 17 grey levels: 1397 to train, 200 to validate, 200 to test.

    Example:
        >>> digits().test.shape
        torch.Size([200, 1, 8, 8])
    """
    from sklearn.datasets import load_digits

    x = torch.from_numpy(load_digits().images.astype(np.uint8))[:, None]
    # The file is ordered by writer: a fixed shuffle makes the three parts alike.
    x = x[torch.from_numpy(np.random.RandomState(0).permutation(len(x)))]
    return Dataset("digits", x[:-400], x[-400:-200], x[-200:], levels=17)


MNIST_FILES = {
    "train-images-idx3-ubyte": "db8f937d487057fb14a9f0fbe97f0bc8d311ab41b750d41e1ff37c43b9e55e19",
    "t10k-images-idx3-ubyte": "cfeddb84311ecf044fc6a5b0f6ee8a24d265d4e83e388400186eb114082f4209",
}
"""File names without .gz, and the SHA-256 sums of the gzipped files."""

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


def mnist() -> Dataset:
    """Return MNIST: 55,000 to train, the last 5,000 training images to validate, 10,000 to test.

    The files are looked for in `$LIKELY_DATA/mnist` and `$LIKELY_DATA`, then in the user's cache, then
    downloaded into that cache and checked against their SHA-256 sums.

    Raises:
        InvalidInput: none of these works; the message lists what was tried.
    """
    train, test = (read_idx(_mnist_file(name))[:, None] for name in MNIST_FILES)
    return Dataset("mnist", train[:-5000], train[-5000:], test)


def _mnist_file(name: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "likely" / "mnist"
    given = os.environ.get("LIKELY_DATA")
    folders = [Path(given) / "mnist", Path(given), cache] if given else [cache]
    for folder in folders:
        for file in (folder / f"{name}.gz", folder / name):
            if file.is_file():
                return file
    failures = []
    for mirror in MNIST_MIRRORS:
        try:
            with urllib.request.urlopen(f"{mirror}{name}.gz", timeout=30) as response:
                content = response.read()
            if hashlib.sha256(content).hexdigest() != MNIST_FILES[name]:
                failures.append(f"{mirror}: wrong checksum")
                continue
            cache.mkdir(parents=True, exist_ok=True)
            write_whole(cache / f"{name}.gz", content)
            return cache / f"{name}.gz"
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"{mirror}: {getattr(error, 'reason', error)}")
    raise InvalidInput(
        f"MNIST's {name} was not found in {', '.join(map(str, folders))}, and could not be downloaded "
        f"({'; '.join(failures)}). Put the four original files into a folder named mnist and set "
        "LIKELY_DATA to the folder that holds it."
    )


DATASETS = {"digits": digits, "mnist": mnist}


def load_data(name: str) -> Dataset:
    """Return a data set by name (`digits`, `mnist`), or the pictures of a folder or idx file.

    Of a folder or file, every tenth picture validates and every tenth tests (at least 10 are needed).

    Raises:
        InvalidInput: the name is unknown and no such folder or file exists, or it cannot be read.
    """
    if name in DATASETS:
        return DATASETS[name]()
    place = Path(name)
    if name and place.is_dir():
        x = read_folder(place)
    elif place.is_file():
        x = read_idx(place)
        x = x[:, None] if x.ndim == 3 else x
    else:
        raise InvalidInput(
            f"no data named {name!r}, and no such folder or file; expected {', '.join(DATASETS)}, "
            "a folder of pictures, or an idx file of images."
        )
    if x.ndim != 4 or len(x) < 10:
        raise InvalidInput(
            f"{name} holds data of shape {tuple(x.shape)}; expected at least 10 pictures."
        )
    part = torch.arange(len(x)) % 10
    return Dataset(place.name, x[part < 8], x[part == 8], x[part == 9])
