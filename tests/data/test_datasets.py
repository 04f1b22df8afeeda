"""Data sets: fixed parts that never overlap, dequantisation, and MNIST by every road."""

import gzip
import hashlib
import http.client
import io
import struct
import urllib.error

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image

from likely.data import datasets, dequantize, digits, load_data, mnist
from likely.errors import InvalidInput
from likely.seeds import generator_for

# dequantisation

levels = pytest.mark.parametrize("levels", [2, 17, 256])


@levels
def test_levels_are_recovered_by_floor(levels):
    x = torch.arange(levels).to(torch.uint8).repeat(200)
    y = dequantize(x, levels, generator_for(0))
    assert y.dtype == torch.float32 and y.min() >= 0 and y.max() < 1
    assert torch.equal((y.double() * levels).floor(), x.double())


@levels
def test_the_largest_and_smallest_noise_keep_the_level(levels, monkeypatch):
    x = torch.arange(levels).to(torch.uint8)
    for u in (0.0, 1 - 2.0**-24):
        monkeypatch.setattr(torch, "rand", lambda shape, u=u, **kwargs: torch.full(shape, u))
        y = dequantize(x, levels)
        assert y.max() < 1 and torch.equal((y.double() * levels).floor(), x.double())
        if u == 0.0:
            assert torch.equal(y, x.float() / levels)


@pytest.mark.parametrize("level", [0, 3, 255])
def test_noise_is_uniform(level, same_global_state):
    # Each a Kolmogorov-Smirnov test with a false alarm once in 1e6.
    x = torch.full((100_000,), level, dtype=torch.uint8)
    with same_global_state():
        u = dequantize(x, 256, generator_for(level)).double() * 256 - level
    assert scipy.stats.kstest(u.numpy(), "uniform").pvalue > 1e-6


def test_dequantize_keeps_shapes_and_repeats():
    x = torch.randint(0, 256, (2, 1, 3, 4), dtype=torch.uint8, generator=generator_for(0))
    y = dequantize(x, 256, generator_for(1))
    assert y.shape == x.shape and torch.equal(y, dequantize(x, 256, generator_for(1)))
    assert not torch.equal(y, dequantize(x, 256, generator_for(2)))


# digits


def test_digits_are_scikit_learns_split_for_good():
    data = digits()
    assert (data.name, data.levels) == ("digits", 17)
    assert [tuple(p.shape) for p in (data.train, data.valid, data.test)] == [
        (1397, 1, 8, 8),
        (200, 1, 8, 8),
        (200, 1, 8, 8),
    ]
    whole = torch.cat([data.train, data.valid, data.test])
    assert whole.dtype == torch.uint8 and whole.max() == 16

    from sklearn.datasets import load_digits

    # The parts hold each picture of the original exactly once.
    original = load_digits().images.astype(np.uint8).reshape(-1, 64)
    assert sorted(map(bytes, original)) == sorted(map(bytes, whole.reshape(-1, 64).numpy()))
    # Shipped figures refer to these very test pictures.
    sums = [
        hashlib.sha256(p.numpy().tobytes()).hexdigest()[:16]
        for p in (data.train, data.valid, data.test)
    ]
    assert sums == SUMS


SUMS = ["5dfd0e533658bb20", "594f325482364789", "1900f3fe55d3e491"]


# by name or place


def test_load_data_by_name():
    assert torch.equal(load_data("digits").test, digits().test)


@pytest.mark.parametrize("name", ["diggits", "none/such"])
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(InvalidInput, match="expected digits, mnist, a folder"):
        load_data(name)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize("kind", ["folder", "idx", "idx of 4 dimensions"])
def test_places_are_split_by_tens(tmp_path, kind):
    x = np.arange(25, dtype=np.uint8)[:, None, None] + np.zeros((25, 2, 3), np.uint8)
    place = tmp_path / "mine"
    if kind == "folder":
        place.mkdir()
        for i, row in enumerate(x):
            Image.fromarray(row).save(place / f"{i:02}.png")
    else:
        place.write_bytes(idx(x if kind == "idx" else x[:, None]))
    data = load_data(str(place))
    assert data.name == "mine" and data.levels == 256 and data.train.dtype == torch.uint8
    assert data.train[:, 0, 0, 0].tolist() == [i for i in range(25) if i % 10 < 8]
    assert data.valid[:, 0, 0, 0].tolist() == [8, 18] and data.test[:, 0, 0, 0].tolist() == [9, 19]
    assert data.test.shape == (2, 1, 2, 3)


def test_too_few_pictures_are_refused(tmp_path):
    (tmp_path / "few").write_bytes(idx(np.zeros((9, 2, 2), np.uint8)))
    with pytest.raises(InvalidInput, match="at least 10 pictures"):
        load_data(str(tmp_path / "few"))


@pytest.mark.parametrize("shape", [(20,), (20, 4), ()])
def test_idx_files_of_other_things_are_refused(tmp_path, shape):
    (tmp_path / "labels").write_bytes(idx(np.zeros(shape, np.uint8)))
    with pytest.raises(InvalidInput, match="at least 10 pictures"):
        load_data(str(tmp_path / "labels"))


# MNIST


@pytest.mark.mnist
def test_mnist_from_likely_data(monkeypatch, no_network):
    data = mnist()
    assert (data.name, data.levels) == ("mnist", 256)
    assert [len(p) for p in (data.train, data.valid, data.test)] == [55_000, 5_000, 10_000]
    assert data.test.shape[1:] == (1, 28, 28)
    # The known mean of the 60,000 training images, 33.318421 grey levels (0.1306604762 of 255).
    total = data.train.sum(dtype=torch.int64) + data.valid.sum(dtype=torch.int64)
    assert round(total.item() / (60_000 * 784 * 255), 10) == 0.1306604763


@pytest.fixture
def small(monkeypatch, tmp_path):
    """An MNIST of 5,010 and 3 pictures of one pixel, its sums, an empty cache and no LIKELY_DATA."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LIKELY_DATA", raising=False)
    files = {}
    for name, count in zip(datasets.MNIST_FILES, (5010, 3), strict=True):
        array = (np.arange(count) % 251).astype(np.uint8).reshape(count, 1, 1)
        files[name] = gzip.compress(idx(array), mtime=0)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(datasets, "MNIST_FILES", sums)
    return files


@pytest.fixture
def no_network(monkeypatch):
    tried = []

    def refuse(url, timeout=None):
        tried.append(url)
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    return tried


def test_mnist_from_nowhere_lists_what_was_tried(small, no_network, monkeypatch, tmp_path):
    monkeypatch.setenv("LIKELY_DATA", str(tmp_path / "given"))
    with pytest.raises(InvalidInput) as caught:
        mnist()
    message = str(caught.value)
    for part in (
        str(tmp_path / "given" / "mnist"),
        str(tmp_path / "cache" / "likely" / "mnist"),
        *datasets.MNIST_MIRRORS,
        "no network in tests",
        "LIKELY_DATA",
    ):
        assert part in message
    assert no_network == [f"{m}train-images-idx3-ubyte.gz" for m in datasets.MNIST_MIRRORS]
    assert not (tmp_path / "cache").exists()


def check_small(data):
    assert (len(data.train), len(data.valid), len(data.test)) == (10, 5000, 3)
    assert data.train.flatten().tolist() == list(range(10))
    assert data.test.flatten().tolist() == [0, 1, 2]


@pytest.mark.parametrize("sub", ["mnist", "."])
@pytest.mark.parametrize("zipped", [True, False])
def test_mnist_from_a_given_folder(small, no_network, monkeypatch, tmp_path, sub, zipped):
    folder = tmp_path / "given" / sub
    folder.mkdir(parents=True)
    for name, content in small.items():
        (folder / (f"{name}.gz" if zipped else name)).write_bytes(
            content if zipped else gzip.decompress(content)
        )
    monkeypatch.setenv("LIKELY_DATA", str(tmp_path / "given"))
    check_small(mnist())
    assert no_network == []


def serve(monkeypatch, answer):
    """Let `answer(url)` stand for the network; return the addresses asked for."""
    asked = []

    def urlopen(url, timeout=None):
        assert timeout is not None, "a download without a time limit can hang for ever"
        asked.append(url)
        return io.BytesIO(answer(url))

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    return asked


def of(small, url):
    return small[url.rsplit("/", 1)[1].removesuffix(".gz")]


def test_a_right_download_is_kept(small, monkeypatch, tmp_path):
    asked = serve(monkeypatch, lambda url: of(small, url))
    check_small(mnist())
    assert len(asked) == 2 and all(url.startswith(datasets.MNIST_MIRRORS[0]) for url in asked)
    kept = {f.name: f.read_bytes() for f in (tmp_path / "cache" / "likely" / "mnist").iterdir()}
    assert kept == {f"{name}.gz": content for name, content in small.items()}
    check_small(mnist())
    assert len(asked) == 2, "the second time it comes from the cache"


def test_a_wrong_download_is_refused(small, monkeypatch, tmp_path):
    # The content is a right idx file; only its sum is another.
    serve(monkeypatch, lambda url: gzip.compress(idx(np.zeros((5010, 1, 1), np.uint8))))
    with pytest.raises(InvalidInput, match=r"wrong checksum.*wrong checksum"):
        mnist()
    assert not list((tmp_path / "cache").rglob("*.gz"))


def test_the_second_mirror_stands_in(small, monkeypatch):
    def answer(url):
        return of(small, url) if url.startswith(datasets.MNIST_MIRRORS[1]) else b"<html>"

    asked = serve(monkeypatch, answer)
    check_small(mnist())
    assert len(asked) == 4


@pytest.mark.parametrize(
    "error",
    [TimeoutError("timed out"), http.client.IncompleteRead(b"half"), ConnectionResetError("reset")],
)
def test_a_broken_download_is_one_clear_error(small, monkeypatch, error):
    def answer(url):
        raise error

    serve(monkeypatch, answer)
    with pytest.raises(InvalidInput, match="could not be downloaded"):
        mnist()


def test_a_cache_that_cannot_be_made_is_one_clear_error(small, monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file where the cache should be")
    serve(monkeypatch, lambda url: of(small, url))
    with pytest.raises(InvalidInput, match="could not be downloaded"):
        mnist()


def test_the_real_sums_are_of_the_four_files_known_since_1998():
    assert datasets.MNIST_FILES.keys() == {"train-images-idx3-ubyte", "t10k-images-idx3-ubyte"}
    assert all(len(s) == 64 and int(s, 16) for s in datasets.MNIST_FILES.values())


@pytest.mark.mnist
def test_the_real_sums_are_those_of_the_given_files():
    for name, expected in datasets.MNIST_FILES.items():
        file = datasets._mnist_file(name)
        if file.suffix == ".gz":
            assert hashlib.sha256(file.read_bytes()).hexdigest() == expected
