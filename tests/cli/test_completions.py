"""likely inpaint --samples: the sheet, the mean, the figures, and a clear error for each bad input."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import likely
from likely import samplers
from likely.checkpoints import read_card


@pytest.fixture(autouse=True)
def whole_masks(folder: Path) -> None:
    """Masks in which everything, and nothing, is missing."""
    for name, value in (("white.png", 255), ("black.png", 0)):
        Image.fromarray(np.full((8, 8), value, np.uint8)).save(name)


COMPLETE = ("inpaint", "image.png", "--missing", "mask.png", "-o", "sheet.png", "-m", "digits-complete")


def pixels(name: str) -> np.ndarray:
    with Image.open(name) as picture:
        return np.asarray(picture)


def test_sheet_mean_and_figures(folder, run):
    before = torch.get_rng_state()
    code, out, err = run(*COMPLETE, "--samples", 8, "--mean", "mean.png", "--json")
    assert "8 draws make 90% intervals too narrow" in err
    assert (code, "8 completions of 12 missing values" in err) == (0, True), err
    report = json.loads(out)
    assert report["samples"] == 8 and report["missing"] == 12 and len(report["log_prob"]) == 8
    assert report["status"] == "independent" and report["ess"] == 8 and report["rhat"] == 1
    assert 0 < report["interval_width"] < 1
    sheet = pixels("sheet.png")
    assert min(sheet.shape[:2]) > 300 and len(np.unique(sheet[..., :3].reshape(-1, 3), axis=0)) > 20
    measured = pixels("mask.png") == 0
    assert (pixels("mean.png")[measured] == pixels("image.png")[measured]).all()  # byte for byte
    again = json.loads(run(*COMPLETE, "--samples", 8, "--json", "-q")[1])
    assert again["log_prob"] == report["log_prob"]
    other = json.loads(run(*COMPLETE, "--samples", 8, "--json", "-q", "--seed", 1)[1])
    assert other["log_prob"] != report["log_prob"]
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_measured_is_a_draw_and_nothing_missing_the_picture(folder, run):
    every = [a if a != "mask.png" else "white.png" for a in COMPLETE]
    code, _, err = run(*every, "--samples", 2, "--mean", "mean.png")
    assert code == 0 and "2 completions of 64 missing values" in err
    none = [a if a != "mask.png" else "black.png" for a in COMPLETE]
    code, _, err = run(*none, "--samples", 2, "--mean", "mean.png")
    assert code == 0 and "the mask has no white pixel" in err
    assert (pixels("mean.png") == pixels("image.png")).all()


def test_fast_draws_and_a_single_sample(folder, run):
    code, out, _ = run(*COMPLETE, "--samples", 1, "--fast", "--json")
    assert code == 0 and json.loads(out)["interval_width"] is None


def test_chains_that_do_not_mix_are_said_with_their_diagnostics(folder, run, monkeypatch):
    module = importlib.import_module("likely.restore.complete")
    short = samplers.Hamiltonian(warmup=2, thin=1, chains=2)
    monkeypatch.setattr(module, "Hamiltonian", lambda: short)
    code, out, err = run(*COMPLETE[:-1], "digits", "--samples", 4, "--json")
    report = json.loads(out)
    assert code == 3 and "not converged" in err and "R-hat" in err
    assert report["status"] in ("unmixed", "few") and Path("sheet.png").exists()


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--samples", "0"), 2, "--samples is 0"),
        (("--samples", "-3"), 2, "--samples is -3"),
        (("--samples", "4", "--method", "plain"), 2, "--method is of the search"),
        (("--samples", "4", "--steps", "10"), 2, "--steps is of the search"),
        (("--samples", "4", "--history", "h.gif"), 2, "--history is of the search"),
        (("--samples", "4", "-o", "sheet.xyz"), 2, "sheet.xyz"),
        (("--samples", "4", "--mean", "mean.jpg"), 2, "mean.jpg"),
        (("--samples", "4", "--mean", "sheet.png"), 2, "--mean and --out are both"),
        (("--samples", "4", "--mean", "image.png"), 2, "--mean and IMAGE are both"),
        ((), 2, "Ask for --samples 20"),
        (("--mean", "mean.png"), 2, "say how many with --samples"),
        (("--samples", "4", "--bounds", "0.4", "0.6"), 2, "leave --bounds out"),
        (("--samples", "four"), 2, "valid integer"),
    ],
)
def test_bad_input(folder, run, more, code, message):
    before = set(Path().iterdir())
    got, out, err = run(*COMPLETE, *more)
    assert got == code and message in err and "Traceback" not in err and out == ""
    assert set(Path().iterdir()) == before


def test_training_goes_on_from_a_model(folder, run):
    few = ("--steps", 3, "--evaluations", 1, "--threads", 1)
    code, _, err = run("train", "--begin", "digits-complete", *few, "-o", "more.safetensors")
    assert code == 0, err
    card = read_card("more.safetensors")
    assert card["begun_with"]["steps"] == 4000 and card["steps"] == 3
    # Three steps of a trained model leave it about where it was; three of a new one lead nowhere.
    assert card["test_nats"] > 90
    assert likely.load("more.safetensors").config == likely.load("digits-complete").config


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--begin", "digits-complete", "--width", 8), "sizes of its own"),
        (("--begin", "digits-complete", "--model", "glow"), "sizes of its own"),
        (("--begin", "nowhere"), "no model named 'nowhere'"),
        (("--begin", "mnist-nice"), "is of pictures"),
    ],
)
def test_bad_beginnings(folder, run, more, message):
    code, out, err = run("train", *more, "--steps", 1, "-o", "x.safetensors")
    assert code == 2 and message in err and out == "" and not Path("x.safetensors").exists()
