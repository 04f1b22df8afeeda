"""Resuming: the run goes on as if never interrupted; states that do not fit are refused."""

import importlib

import pytest
import torch

from likely import data, flows
from likely.errors import CheckpointError, InvalidInput, OutputError
from likely.seeds import borrowed_global_state, generator_for, seed_borrowed
from likely.training import Recipe, fit
from training.runs import DIGITS, VALID, interrupt_at, make, recipe_for, same, weights


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("stops", [(7,), (3, 8, 25)], ids=str)
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, precision, stops):
    recipe, file = recipe_for(precision), tmp_path / "run.state"
    whole = make(dropout=0.3)
    expected = fit(whole, DIGITS.train, VALID, recipe, levels=17)
    assert len(expected.history) == 6
    for i, stop in enumerate(stops):
        # A new process starts from other weights and another global state.
        part = make(dropout=0.3)
        for p in part.parameters() if i else ():
            p.data.fill_(7.0)
        result = fit(
            part, DIGITS.train, VALID, recipe, levels=17,
            state_file=file, resume=i > 0, report=interrupt_at(stop),
        )  # fmt: skip
        assert (result.stopped, result.step) == ("interrupted", stop) and file.is_file()
    with borrowed_global_state():
        seed_borrowed(99)
        part = make(dropout=0.3)
        result = fit(part, DIGITS.train, VALID, recipe, levels=17, state_file=file, resume=True)
    assert same(weights(part), weights(whole)) and result == expected
    assert list(tmp_path.iterdir()) == [], "the state is removed when the run ends"


def test_a_killed_run_resumes_from_its_last_state(tmp_path, monkeypatch):
    # The state is kept every minute; here, after every step.
    module = importlib.import_module("likely.training.fit")
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", -1.0)
    recipe, file, whole = recipe_for("float32"), tmp_path / "run.state", make(dropout=0.3)
    expected = fit(whole, DIGITS.train, VALID, recipe, levels=17)

    def kill(progress):
        if progress.step == 12:
            raise MemoryError

    with pytest.raises(MemoryError):
        fit(make(dropout=0.3), DIGITS.train, VALID, recipe, levels=17, state_file=file, report=kill)
    part, steps = make(dropout=0.3), []
    result = fit(
        part, DIGITS.train, VALID, recipe, levels=17,
        state_file=file, resume=True, report=lambda p: steps.append(p.step),
    )  # fmt: skip
    assert steps[0] == 12 and same(weights(part), weights(whole)) and result == expected


def test_a_resumed_glow_takes_its_permutations_and_scales_from_the_state(tmp_path):
    recipe, file = recipe_for("float32", steps=8), tmp_path / "run.state"

    def glow(seed):
        with borrowed_global_state():
            seed_borrowed(seed)
            return flows.glow((1, 8, 8), levels=2, steps=1, width=8)

    whole, first, second = glow(0), glow(0), glow(1)
    expected = fit(whole, DIGITS.train, VALID, recipe, levels=17)
    fit(first, DIGITS.train, VALID, recipe, levels=17, state_file=file, report=interrupt_at(3))
    result = fit(second, DIGITS.train, VALID, recipe, levels=17, state_file=file, resume=True)
    assert same(weights(second), weights(whole)) and result == expected
    x = data.dequantize(VALID, 17, generator_for(0))
    assert torch.equal(second.log_prob(x), whole.log_prob(x))


@pytest.fixture
def interrupted(tmp_path):
    """A run of 26 steps, stopped at the eighth, and its state file."""
    file = tmp_path / "run.state"
    recipe = recipe_for("float32")
    fit(make(), DIGITS.train, VALID, recipe, levels=17, state_file=file, report=interrupt_at(8))
    return recipe, file


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.02}, "lr was 0.01, now 0.02"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"steps": 27}, "steps was 26, now 27"),
        ({"precision": "bfloat16"}, "precision was"),
        ({"betas": (0.9, 0.999)}, "betas was"),
    ],
)
def test_other_settings_are_refused(interrupted, changes, message):
    recipe, file = interrupted
    flow = make()
    before = weights(flow)
    other = Recipe(**{**vars(recipe), **changes})
    with pytest.raises(CheckpointError, match=message):
        fit(flow, DIGITS.train, VALID, other, levels=17, state_file=file, resume=True)
    assert same(weights(flow), before) and file.is_file()


@pytest.mark.parametrize(
    ("flow", "train"),
    [(make(width=8), DIGITS.train), (make(dropout=0.5), DIGITS.train), (make(), DIGITS.train[:-1])],
    ids=["another model", "another dropout", "other rows"],
)
def test_another_model_or_other_rows_are_refused(interrupted, flow, train):
    recipe, file = interrupted
    with pytest.raises(CheckpointError, match="other settings"):
        fit(flow, train, VALID, recipe, levels=17, state_file=file, resume=True)


def test_the_same_settings_are_accepted(interrupted):
    recipe, file = interrupted
    result = fit(make(), DIGITS.train, VALID, recipe, levels=17, state_file=file, resume=True)
    assert result.stopped == "finished"


@pytest.mark.parametrize("change", ["levels", "train", "valid"])
def test_a_run_resumes_on_its_own_data_only(tmp_path, change):
    given = {"train": DIGITS.train[:64], "valid": VALID, "levels": 17}
    recipe = Recipe(steps=6, batch=8)

    def run(report=None, **changes):
        train, valid, levels = (given | changes).values()
        return fit(
            make(), train, valid, recipe, levels=levels,
            state_file=tmp_path / "state", resume=report is None, report=report,
        )  # fmt: skip

    assert run(report=interrupt_at(3)).stopped == "interrupted"
    other = {"levels": 18, "train": DIGITS.train[1:65], "valid": VALID.flip(0)}[change]
    with pytest.raises(CheckpointError, match="other settings"):
        run(**{change: other})
    assert run().stopped == "finished"


DAMAGES = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "cut early": lambda content: content[:2],
    "text": lambda content: b"some text, much as any other",
    "bytes": lambda content: bytes(range(256)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_states_are_refused(interrupted, damage):
    recipe, file = interrupted
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CheckpointError, match="damaged"):
        fit(make(), DIGITS.train, VALID, recipe, levels=17, state_file=file, resume=True)


@pytest.mark.parametrize(
    "content",
    [torch.zeros(3), [1, 2], {}, {"run": 3}, {"run": {}, "state": {}, "model": {}, "optimizer": {}}],
)
def test_foreign_states_are_refused(interrupted, content):
    recipe, file = interrupted
    torch.save(content, file)
    with pytest.raises(CheckpointError, match=r"run\.state"):
        fit(make(), DIGITS.train, VALID, recipe, levels=17, state_file=file, resume=True)


def test_states_that_run_code_are_refused(interrupted, tmp_path, attack):
    recipe, file = interrupted
    marker = tmp_path / "was here"
    saved = torch.load(file, weights_only=True)
    torch.save(saved | {"state": attack(marker)}, file)
    with pytest.raises(CheckpointError, match=r"run\.state"):
        fit(make(), DIGITS.train, VALID, recipe, levels=17, state_file=file, resume=True)
    assert not marker.exists()


def test_a_missing_state_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="nothing to resume"):
        fit(make(), DIGITS.train, VALID, levels=17, state_file=tmp_path / "none", resume=True)
    with pytest.raises(InvalidInput, match="state_file"):
        fit(make(), DIGITS.train, VALID, levels=17, resume=True)


def test_a_state_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        fit(
            make(), DIGITS.train, VALID, Recipe(steps=5, batch=8), levels=17,
            state_file=tmp_path / "none" / "run.state", report=interrupt_at(1),
        )  # fmt: skip
