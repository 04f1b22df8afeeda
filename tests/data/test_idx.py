"""idx files: what is written reads back, and everything else is refused."""

import gzip
import struct

import hypothesis
import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch

from likely.data import read_idx
from likely.errors import InvalidInput


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


# Settled names and no deadline: the machine that runs this may be busy.
@hypothesis.settings(max_examples=60, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    arrays.arrays(np.uint8, arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)),
    hypothesis.strategies.booleans(),
)
def test_round_trip(tmp_path_factory, array, zipped):
    file = tmp_path_factory.mktemp("idx") / "entries"
    file.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    got = read_idx(file)
    assert got.dtype == torch.uint8 and got.shape == array.shape
    assert np.array_equal(got.numpy(), array)


def test_sizes_are_big_endian(tmp_path):
    (tmp_path / "a").write_bytes(idx(np.zeros((256, 2), np.uint8)))
    assert read_idx(tmp_path / "a").shape == (256, 2)


def test_the_result_can_be_written_to(tmp_path):
    (tmp_path / "a").write_bytes(idx(np.arange(6, dtype=np.uint8)))
    x = read_idx(tmp_path / "a")
    x += 1
    assert x.tolist() == [1, 2, 3, 4, 5, 6]


GOOD = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
ZIPPED = gzip.compress(GOOD, mtime=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "nothing"),
        (GOOD[:3], "not an idx file"),
        (GOOD[:4], "not an idx file"),
        (GOOD[:15], "not an idx file"),
        (GOOD[:-1], "holds 23 entries"),
        (GOOD + b"\0", "holds 25 entries"),
        (GOOD[:16], "holds 0 entries"),
        (b"\x00\x00\x0d" + GOOD[3:], "not an idx file of unsigned bytes"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "not an idx file"),
        (b"a line of text, much as any other", "not an idx file"),
        (gzip.compress(b""), "nothing"),
        (gzip.compress(GOOD[:-1]), "holds 23 entries"),
        (gzip.compress(b"text"), "not an idx file"),
        (ZIPPED[:2], "damaged gzip|cannot read"),
        (ZIPPED[:12], "damaged gzip|cannot read"),
        (ZIPPED[: len(ZIPPED) // 2], "damaged gzip|cannot read"),
        (ZIPPED[:-3], "damaged gzip|cannot read"),
        (ZIPPED[:-8] + bytes(8), "damaged gzip|cannot read"),
        (ZIPPED[:12] + b"\xff\xff\xff" + ZIPPED[15:], "damaged gzip|cannot read"),
        (ZIPPED + b"junk", "damaged gzip|cannot read"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)} bytes",
)
def test_what_is_wrong_is_refused(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InvalidInput, match=message) as caught:
        read_idx(tmp_path / "file")
    assert str(tmp_path / "file") in str(caught.value)


def test_missing_files_and_folders_are_refused(tmp_path):
    for place in (tmp_path / "none", tmp_path):
        with pytest.raises(InvalidInput, match="cannot read"):
            read_idx(place)
