"""Checkpoints: what is saved comes back, and damaged or foreign files are refused."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch

import likely
from likely import checkpoints, flows
from likely.errors import CheckpointError, InvalidInput, InvalidType, OutputError


@pytest.fixture
def flow(randomize):
    return randomize(flows.nice((1, 4, 4), width=8, depth=2, couplings=3, dropout=0.25, first=1))


# safetensors


def test_round_trip_is_exact(flow, tmp_path, same_global_state):
    file = tmp_path / "mine.safetensors"
    likely.save(flow, file, card={"data": "none", "curve": [1.5, 2]})
    with same_global_state():
        again = likely.load(file)
    assert again.config == flow.config and again.event_shape == (1, 4, 4) and not again.training
    assert again.state_dict().keys() == flow.state_dict().keys()
    assert all(torch.equal(again.state_dict()[k], v) for k, v in flow.state_dict().items())
    x = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.log_prob(x), flow.eval().log_prob(x))
    assert checkpoints.read_card(file) == {"data": "none", "curve": [1.5, 2]}


def test_bfloat16_rounds_matrices_and_keeps_vectors(flow, tmp_path):
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    likely.save(flow, whole)
    likely.save(flow, half, dtype=torch.bfloat16)
    for name, p in likely.load(half).state_dict().items():
        truth = flow.state_dict()[name]
        assert p.dtype == torch.float32
        assert torch.equal(p, truth.bfloat16().float() if truth.ndim > 1 else truth)
    assert half.stat().st_size < whole.stat().st_size


def test_saving_leaves_the_flow_alone(flow, tmp_path):
    before = {k: v.clone() for k, v in flow.state_dict().items()}
    likely.save(flow, tmp_path / "a.safetensors", dtype=torch.bfloat16)
    assert flow.training
    assert all(
        torch.equal(v, before[k]) and v.dtype == torch.float32 for k, v in flow.state_dict().items()
    )


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool])
def test_weights_are_stored_as_floats_only(flow, tmp_path, dtype):
    with pytest.raises(InvalidInput, match=r"expected torch\.float32"):
        likely.save(flow, tmp_path / "mine.safetensors", dtype=dtype)
    assert not list(tmp_path.iterdir())


def test_hand_made_flows_are_refused(tmp_path):
    flow = flows.Flow(flows.DiagonalScaling((3,)), flows.StandardNormal((3,)), (3,))
    with pytest.raises(CheckpointError, match="by hand"):
        likely.save(flow, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_other_suffixes_are_refused(flow, tmp_path):
    with pytest.raises(InvalidInput, match="safetensors"):
        likely.save(flow, tmp_path / "a.pt")
    assert not list(tmp_path.iterdir())


def test_a_card_that_json_cannot_hold_writes_nothing(flow, tmp_path):
    with pytest.raises(InvalidInput, match="the card cannot be kept as JSON: Object of type object"):
        likely.save(flow, tmp_path / "a.safetensors", card={"x": object()})
    assert not list(tmp_path.iterdir())


def test_sizes_may_be_numbers_of_numpy(tmp_path):
    file = tmp_path / "a.safetensors"
    flow = flows.glow((1, 4, 4), levels=np.int64(1), steps=np.int32(1), width=np.int64(4))
    likely.save(flow, file)
    assert likely.load(file).config == flow.config
    assert repr(flow.config) == repr(flows.glow((1, 4, 4), levels=1, steps=1, width=4).config)


@pytest.mark.parametrize("given", [3, None, "digits", torch.nn.Linear(1, 1), flows.Flow])
def test_only_flows_are_saved(given, tmp_path):
    with pytest.raises(InvalidType, match=r"flow is .*; expected a flow"):
        likely.save(given, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_files_of_arguments_without_effect_are_still_read(tmp_path):
    flow = flows.glow((1, 4, 4), 1, 1, width=4)
    flow.config |= {"bins": 4, "margin": 0.2, "dropout": 0.1}  # as flows.glow took them once
    likely.save(flow, tmp_path / "old.safetensors")
    again = likely.load(tmp_path / "old.safetensors")
    assert all(torch.equal(again.state_dict()[k], v) for k, v in flow.state_dict().items())


@pytest.mark.parametrize("given", [3, None, b"digits", ["digits"]])
def test_what_is_no_path_is_named(given, flow):
    with pytest.raises(InvalidType, match=r"name_or_path is a .*; expected a name or a path"):
        likely.load(given)
    with pytest.raises(InvalidType, match=r"path is a .*; expected a name or a path"):
        likely.save(flow, given)


def test_a_card_is_a_mapping_and_a_mean_a_tensor(flow, tmp_path):
    with pytest.raises(InvalidType, match="card is a int; expected a mapping"):
        likely.save(flow, tmp_path / "a.safetensors", card=3)
    with pytest.raises(InvalidType, match="mean is a int"):
        likely.load(tmp_path / "nice.pt", mean=3)


def test_a_missing_folder_is_refused(flow, tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        likely.save(flow, tmp_path / "none" / "a.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        likely.save(flow, tmp_path / "folder.safetensors")


@pytest.mark.parametrize("existing", [None, b"what was there"])
def test_a_full_disk_leaves_what_was_there(flow, tmp_path, existing):
    resource = pytest.importorskip("resource", reason="no limits on file size here")
    file = tmp_path / "a.safetensors"
    if existing is not None:
        file.write_bytes(existing)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The system itself refuses the bytes past the limit, as it does on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OutputError, match="could not write"):
            likely.save(flow, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    left = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    assert left == ({} if existing is None else {file.name: existing})


def test_a_failed_rename_leaves_what_was_there(flow, tmp_path, monkeypatch):
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"what was there")

    def refuse(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    with pytest.raises(OutputError, match="No space left"):
        likely.save(flow, file)
    assert [f.name for f in tmp_path.iterdir()] == [file.name]
    assert file.read_bytes() == b"what was there"


def header(**changes) -> dict[str, str]:
    config = flows.nice((4,), width=4, depth=1, couplings=2).config
    return {"likely": json.dumps({"format": 1, "config": config, "card": {}} | changes)}


def state() -> dict[str, torch.Tensor]:
    return flows.nice((4,), width=4, depth=1, couplings=2).state_dict()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "another program"),
        ({"format": "pt"}, "another program"),
        ({"likely": "not json"}, "damaged"),
        ({"likely": "[]"}, "damaged"),
        ({"likely": "{}"}, "another program"),
        ({"likely": '{"format": 1}'}, "another program"),
        (header(format=2), "newer likely"),
        (header(config={}), "None model"),
        (header(config={"model": "oracle"}), "'oracle' model; expected one of"),
        (header(config=3), "damaged"),
        (header(config="nice"), "damaged"),
        (header(config={"model": ["nice"]}), "model; expected one of"),
        (header(config={"model": "nice", "event_shape": [4], "colour": "red"}), "does not hold"),
        (header(config={"model": "nice", "event_shape": [5], "width": 4}), "does not hold"),
        (header(config={"model": "nice", "event_shape": "four"}), "does not hold"),
        (header(config={"model": "nice", "event_shape": [10**30, 2]}), "does not hold"),
        ({"likely": "[" * 100_000}, "damaged"),
    ],
)
def test_foreign_safetensors_are_refused(tmp_path, metadata, message):
    file = tmp_path / "a.safetensors"
    safetensors.torch.save_file(state(), file, metadata)
    with pytest.raises(CheckpointError, match=message) as caught:
        likely.load(file)
    assert str(file) in str(caught.value)


def test_complex_weights_are_refused(tmp_path):
    weights = {k: v + 1j for k, v in state().items()}
    safetensors.torch.save_file(weights, tmp_path / "a.safetensors", header())
    torch.save({"scaling.scale": torch.ones(4) + 1j}, tmp_path / "a.pt")
    for name, message in (("a.safetensors", "complex numbers"), ("a.pt", "tensors of real numbers")):
        with pytest.raises(CheckpointError, match=message):
            likely.load(tmp_path / name)


def test_the_header_above_is_right_before_it_is_changed(tmp_path):
    safetensors.torch.save_file(state(), tmp_path / "a.safetensors", header())
    assert likely.load(tmp_path / "a.safetensors").event_shape == (4,)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.2, 0.5, 0.99])
def test_truncated_safetensors_are_refused(flow, tmp_path, part):
    file = tmp_path / "a.safetensors"
    likely.save(flow, file)
    content = file.read_bytes()
    file.write_bytes(content[: int(part * len(content))])
    with pytest.raises(CheckpointError, match=r"damaged|0 bytes"):
        likely.load(file)


def test_junk_is_refused(tmp_path):
    for name in ("a.safetensors", "a.pt", "a"):
        (tmp_path / name).write_bytes(bytes(range(256)) * 20)
        with pytest.raises(CheckpointError, match=r"a(\.|\b)"):
            likely.load(tmp_path / name)


def test_safetensors_take_no_mean(flow, tmp_path):
    likely.save(flow, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="mean"):
        likely.load(tmp_path / "a.safetensors", mean=torch.zeros(16))


# names


def test_unknown_names_list_the_known_ones(monkeypatch, tmp_path):
    monkeypatch.setattr(
        checkpoints, "shipped", lambda: {"alpha": tmp_path / "a", "beta": tmp_path / "b"}
    )
    with pytest.raises(CheckpointError, match=r"'gamma'.*alpha, beta"):
        likely.load("gamma")


def test_names_lead_to_their_files(monkeypatch, flow, tmp_path):
    likely.save(flow, tmp_path / "a.safetensors")
    monkeypatch.setattr(checkpoints, "shipped", lambda: {"alpha": tmp_path / "a.safetensors"})
    assert likely.load("alpha").config == flow.config


@pytest.mark.parametrize("name", ["none.safetensors", "none.pt", ".", ""])
def test_missing_files_are_refused(name):
    with pytest.raises(CheckpointError, match=r"no such file|is a folder"):
        likely.load(name)


@pytest.mark.parametrize("name", sorted(checkpoints.shipped()) or [None])
def test_shipped_models_load_and_invert(name):
    if name is None:
        pytest.skip("no model ships with this build")
    flow = likely.load(name)
    x = torch.rand(2, *flow.event_shape, generator=torch.Generator().manual_seed(0))
    assert flow.log_prob(x).isfinite().all() and not flow.training
    if isinstance(flow, flows.MaskedFlow):
        half = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.5
        back = flow.inverse_and_log_det(flow.forward_and_log_det(x, half)[0], half)[0]
        # A bin that holds hardly anything is hardly moved by its x.
        assert (back - x).abs().median() < 1e-6 and torch.equal(back[half], x[half])
    else:
        torch.testing.assert_close(flow.bijection.inverse(flow.bijection(x)), x, rtol=0, atol=1e-4)
    assert checkpoints.read_card(name)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    flow = flows.nice((4,), width=8)
    with torch.no_grad():
        flow.bijection.parts[1].network.out.bias[0] = value
    likely.save(flow, tmp_path / "it.safetensors")
    with pytest.raises(CheckpointError, match=r"network\.out\.bias holds NaN or infinite weights"):
        likely.load(tmp_path / "it.safetensors")
