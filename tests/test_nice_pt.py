"""The nice.pt layout: read as written, whatever its sizes; nothing foreign, nothing that runs code."""

import pickle
import warnings

import pytest
import torch

import likely
from likely.errors import CheckpointError

SIZES = {
    # dim, width, mids, couplings
    "published layout, small": (16, 12, 4, 4),
    "one layer": (16, 12, 0, 4),
    "three couplings": (16, 12, 1, 3),
    "five couplings": (9, 12, 2, 5),
    "two couplings": (4, 7, 3, 2),
    "odd dimension": (25, 11, 1, 4),
    "eleven couplings": (4, 5, 11, 11),
    "not a square": (6, 8, 2, 4),
    "14x14, width 500": (196, 500, 4, 4),
}


def points(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(
        dtype
    )


@pytest.mark.parametrize(("dim", "width", "mids", "couplings"), SIZES.values(), ids=SIZES)
def test_nice_pt_is_the_bare_nice(tmp_path, bare_state, bare_log_prob, dim, width, mids, couplings):
    weights = bare_state(dim, width, mids, couplings)
    torch.save(weights, tmp_path / "nice.pt")
    flow = likely.load(tmp_path / "nice.pt")
    side = round(dim**0.5)
    assert flow.event_shape == ((1, side, side) if side**2 == dim else (dim,))
    assert (flow.config["width"], flow.config["depth"]) == (width, mids + 1)
    assert flow.config["couplings"] == couplings and not flow.training
    x = points(4, *flow.event_shape)
    # In float64 only the order of sums differs; in float32 each of dim terms is off by some roundings.
    expected = bare_log_prob(weights, x)
    torch.testing.assert_close(flow.double().log_prob(x), expected, rtol=1e-11, atol=1e-11)
    flow, x = flow.float(), x.float()
    tolerance = 50 * torch.finfo(torch.float32).eps
    torch.testing.assert_close(
        flow.log_prob(x), bare_log_prob(weights, x), rtol=tolerance, atol=dim * tolerance
    )


def test_nice_pt_reads_back_after_saving(tmp_path, bare_state):
    torch.save(bare_state(9, 6), tmp_path / "nice.pt")
    flow = likely.load(tmp_path / "nice.pt")
    likely.save(flow, tmp_path / "nice.safetensors")
    x = points(4, 1, 3, 3, dtype=torch.float32)
    assert torch.equal(likely.load(tmp_path / "nice.safetensors").log_prob(x), flow.log_prob(x))


def test_nice_pt_in_half_precision(tmp_path, bare_state, bare_log_prob):
    weights = {k: v.bfloat16() for k, v in bare_state(9, 6).items()}
    torch.save(weights, tmp_path / "nice.pt")
    x = points(4, 1, 3, 3)
    got = likely.load(tmp_path / "nice.pt").double().log_prob(x)
    torch.testing.assert_close(got, bare_log_prob(weights, x), rtol=1e-12, atol=1e-12)


def wrap(path, weights, **changes):
    dim = weights["scaling.scale"].numel()
    wrapper = {"model_state_dict": weights, "mask_config": 1, "in_out_dim": dim} | changes
    torch.save({k: v for k, v in wrapper.items() if v is not None}, path)
    return path


@pytest.mark.parametrize("mean_from", ["file", "caller"])
@pytest.mark.parametrize("mask_config", [0, 1])
@pytest.mark.parametrize(("dim", "couplings"), [(16, 4), (25, 3), (6, 2)])
def test_wrapper_is_a_nice_of_the_difference(
    tmp_path, bare_state, bare_log_prob, dim, couplings, mask_config, mean_from
):
    weights = bare_state(dim, 8, 2, couplings, mask_config)
    mean = points(dim, seed=5, dtype=torch.float32)
    given = {"file": mean if mean_from == "file" else None}
    file = wrap(tmp_path / "nice.pt", weights, mask_config=mask_config, mean=given["file"])
    flow = likely.load(file, mean=None if mean_from == "file" else mean)
    x = points(4, *flow.event_shape)
    expected = bare_log_prob(weights, x.flatten(1) - mean, mask_config)
    assert (expected - bare_log_prob(weights, x, mask_config)).abs().min() > 0.01
    # The folded biases are rounded to float32.
    torch.testing.assert_close(flow.double().log_prob(x), expected, rtol=1e-5, atol=1e-5)


def test_wrapper_takes_a_mean_of_the_shape_of_an_image(tmp_path, bare_state):
    file = wrap(tmp_path / "nice.pt", bare_state(16, 8))
    mean, x = points(16, dtype=torch.float32), points(2, 1, 4, 4, dtype=torch.float32)
    flat, image = likely.load(file, mean=mean), likely.load(file, mean=mean.reshape(1, 4, 4))
    assert torch.equal(flat.log_prob(x), image.log_prob(x))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"mean=\.\.\."),
        ({"mean": [0.0] * 16}, r"mean=\.\.\."),
        ({"mean": torch.zeros(15)}, "the mean is for 15 entries, the tensors are for 16"),
        ({"mean": torch.zeros(16), "in_out_dim": 784}, "in_out_dim is for 784 entries"),
        ({"mean": torch.zeros(16), "in_out_dim": None}, "lacks in_out_dim"),
        ({"mean": torch.zeros(16), "in_out_dim": "many"}, "in_out_dim is 'many'"),
        ({"mean": torch.zeros(16), "mask_config": None}, "lacks mask_config"),
        ({"mean": torch.zeros(16), "mask_config": 2}, "mask_config is 2"),
        ({"mean": torch.zeros(16), "mask_config": "left"}, "mask_config is 'left'"),
        ({"mean": torch.zeros(16), "model_state_dict": [1, 2]}, "expected a state_dict"),
        ({"mean": torch.zeros(16), "mask_config": torch.ones(2)}, "mask_config is tensor"),
        ({"mean": torch.zeros(16), "mask_config": torch.tensor([])}, "mask_config is tensor"),
        ({"mean": torch.full((16,), float("nan"))}, "the mean holds NaN"),
        ({"mean": torch.zeros(16, dtype=torch.complex64)}, "the mean holds .* complex"),
    ],
)
def test_incomplete_wrappers_are_refused(tmp_path, bare_state, changes, message):
    weights = bare_state(16, 8)
    file = wrap(tmp_path / "nice.pt", weights, **changes)
    with pytest.raises(CheckpointError, match=message):
        likely.load(file)


def test_a_mean_of_another_size_is_refused(tmp_path, bare_state):
    for file in (wrap(tmp_path / "a.pt", bare_state(16, 8)), tmp_path / "b.pt"):
        torch.save(bare_state(16, 8), tmp_path / "b.pt")
        with pytest.raises(CheckpointError, match="the mean is for 9 entries"):
            likely.load(file, mean=torch.zeros(9))


def drop(key):
    return lambda s: {k: v for k, v in s.items() if k != key}


FOREIGN = {
    "of another model": lambda s: torch.nn.Sequential(torch.nn.Linear(2, 3)).state_dict(),
    "empty": lambda s: {},
    "no scale": drop("scaling.scale"),
    "no bias": drop("coupling.1.mid_block.0.0.bias"),
    "no last layer": drop("coupling.0.out_block.weight"),
    "one more tensor": lambda s: s | {"extra": torch.zeros(2)},
    "one more layer in a later coupling": lambda s: (
        s
        | {
            "coupling.1.mid_block.1.0.weight": torch.zeros(8, 8),
            "coupling.1.mid_block.1.0.bias": torch.zeros(8),
        }
    ),
    "another width": lambda s: s | {"coupling.0.in_block.0.weight": torch.zeros(9, 8)},
    "another dimension": lambda s: s | {"scaling.scale": torch.zeros(1, 25)},
    "one coupling": lambda s: {
        k: v for k, v in s.items() if not k.startswith(("coupling.1", "coupling.2", "coupling.3"))
    },
    "a gap in the couplings": drop("coupling.2.in_block.0.weight"),
    "numbers for names": lambda s: dict(enumerate(s.values())),
    "a number for a tensor": lambda s: s | {"scaling.scale": 3.0},
    "a scalar for a matrix": lambda s: s | {"coupling.0.in_block.0.weight": torch.tensor(1.0)},
    "a list": lambda s: list(s.values()),
    "a tensor": lambda s: s["scaling.scale"],
    "a name of nothing but dots": lambda s: s | {"coupling.": torch.zeros(2)},
}


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN)
def test_foreign_state_dicts_are_refused(tmp_path, bare_state, change):
    torch.save(change(bare_state(16, 8)), tmp_path / "nice.pt")
    with pytest.raises(CheckpointError, match=r"nice\.pt"):
        likely.load(tmp_path / "nice.pt")


@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize("place", ["alone", "in the weights", "in the wrapper"])
@pytest.mark.parametrize("name", ["nice.pt", "nice.pth", "nice"])
def test_pickles_that_run_code_are_refused(tmp_path, bare_state, place, as_zip, name, attack):
    marker, file = tmp_path / "was here", tmp_path / name
    weights = bare_state(4, 4)
    content = {
        "alone": attack(marker),
        "in the weights": weights | {"scaling.scale": attack(marker)},
        "in the wrapper": {"model_state_dict": weights, "mask_config": attack(marker), "in_out_dim": 4},
    }[place]
    torch.save(content, file, _use_new_zipfile_serialization=as_zip)
    # The attack is real: loaded without care, it runs.
    torch.load(file, weights_only=False)
    marker.rmdir()
    with pytest.raises(CheckpointError, match="could run code"):
        likely.load(file)
    assert not marker.exists()


def test_a_bare_pickle_that_runs_code_is_refused(tmp_path, attack):
    marker, file = tmp_path / "was here", tmp_path / "nice.pt"
    warnings.simplefilter("ignore", UserWarning)  # torch remarks on newer pickle protocols
    for protocol in range(6):
        file.write_bytes(pickle.dumps(attack(marker), protocol=protocol))
        with pytest.raises(CheckpointError, match=r"nice\.pt"):
            likely.load(file)
        assert not marker.exists()


@pytest.mark.parametrize("as_zip", [True, False])
def test_truncated_pt_is_refused(tmp_path, bare_state, as_zip):
    file = tmp_path / "nice.pt"
    torch.save(bare_state(4, 4), file, _use_new_zipfile_serialization=as_zip)
    content = file.read_bytes()
    for part in (0, 1, 2, 10, 100, len(content) // 2, len(content) - 100, len(content) - 1):
        file.write_bytes(content[:part])
        with pytest.raises(CheckpointError, match=r"nice\.pt is (damaged|no file|empty)"):
            likely.load(file)


def test_an_empty_pt_is_called_empty(tmp_path):
    (tmp_path / "nice.pt").touch()
    with pytest.raises(CheckpointError, match="0 bytes"):
        likely.load(tmp_path / "nice.pt")
