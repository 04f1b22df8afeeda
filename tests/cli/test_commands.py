"""The command line: what it writes and prints, and one clear error for each bad input."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import likely
from likely import data
from likely.cli.common import Messages
from likely.cli.train import Bar
from likely.training import Progress


def pixels(name: str) -> np.ndarray:
    with Image.open(name) as picture:
        return np.asarray(picture)


INPAINT = ("inpaint", "image.png", "--missing", "mask.png", "-o", "out.png", "-m", "digits")


def test_inpaint_fills_the_hole_and_keeps_the_rest(folder, run):
    code, out, err = run(*INPAINT, "--json", "--history", "history.gif", "--steps", 40)
    assert code == 0 and "filled 12 of 64" in err
    report = json.loads(out)
    measured = pixels("mask.png") == 0
    assert (pixels("out.png") == pixels("image.png"))[measured].all()
    assert (pixels("out.png") != pixels("image.png"))[~measured].any()
    assert report["log_prob"] > report["log_prob_before"]
    assert {"stationarity", "steps", "status", "seed", "versions"} <= report.keys()
    assert report["steps"] == 40 and report["status"] == "completed" and report["missing"] == 12
    with Image.open("history.gif") as film:
        assert film.n_frames > 3


def test_inpaint_reports_the_log_prob_of_the_library(folder, run):
    report = json.loads(run(*INPAINT, "--json", "--method", "plain", "--steps", 20)[1])
    x = data.read_image("image.png", 1)
    observed = data.read_image("mask.png", 1) < 0.5
    method = likely.solvers.ProjectedGradient(steps=20)
    result = likely.inpaint(likely.load("digits"), x, observed, method=method)
    assert report["log_prob"] == pytest.approx(result.log_prob.item(), abs=1e-3)


@pytest.mark.parametrize("method", ["adam", "plain", "paper"])
def test_same_seed_same_picture(folder, run, method):
    for name in ("a.png", "b.png"):
        arguments = [name if a == "out.png" else a for a in INPAINT]
        code, _, _ = run(
            *arguments, "--method", method, "--steps", 15, "--start", "uniform", "--seed", 7
        )
        assert code == 0
    assert (pixels("a.png") == pixels("b.png")).all()


def test_nothing_missing_returns_the_picture_and_says_so(folder, run):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("mask.png")
    code, out, err = run(*INPAINT, "--json")
    assert code == 0 and "nothing is missing" in err and json.loads(out)["status"] == "unchanged"
    assert (pixels("out.png") == pixels("image.png")).all()


def test_colour_is_converted_and_said(folder, run):
    grey = pixels("image.png")
    Image.fromarray(np.stack([grey] * 3, -1)).save("image.png")
    code, _, err = run(*INPAINT, "--steps", 5)
    assert code == 0 and "converted to grey" in err
    assert pixels("out.png").shape == (8, 8)


def test_quiet_is_quiet(folder, run):
    code, out, err = run(*INPAINT, "--quiet", "--steps", 5)
    assert (code, out, err) == (0, "", "")


def test_a_tolerance_out_of_reach_is_exit_code_3(folder, run):
    code, _, err = run(*INPAINT, "--tol", 1e-12, "--steps", 3)
    assert code == 3 and "not converged" in err and Path("out.png").is_file()


class Harmful:
    def __reduce__(self):
        return Path("ran.txt").touch, ()


def _write(name: str, content: bytes) -> None:
    Path(name).write_bytes(content)


def _half(name: str) -> None:
    content = Path(name).read_bytes()
    _write(name, content[: len(content) // 2])


def _grey(name: str, *shape: int, value: int = 0) -> None:
    Image.fromarray(np.full(shape, value, np.uint8)).save(name)


def _nan() -> None:
    values = pixels("image.png").astype(np.float32) / 255
    values[0, 0] = np.nan
    Image.fromarray(values).save("nan.tiff")


def _replace(old: str, new: str) -> tuple[str, ...]:
    return tuple(new if a == old else a for a in INPAINT)


BAD = {
    "mask of another size": (lambda: _grey("mask.png", 9, 8), INPAINT, 2, "9x8"),
    "empty mask file": (lambda: _write("mask.png", b""), INPAINT, 2, "0 bytes"),
    "everything missing": (
        lambda: _grey("mask.png", 8, 8, value=255),
        INPAINT,
        2,
        "nothing was measured",
    ),
    "measured value outside the bounds": (
        lambda: None,
        (*INPAINT, "--bounds", "0.1", "1"),
        3,
        "outside the bounds",
    ),
    "bounds swapped": (lambda: None, (*INPAINT, "--bounds", "1", "0"), 3, "low 1 lies above"),
    "NaN in the image": (_nan, _replace("image.png", "nan.tiff"), 2, "NaN"),
    "0-byte image": (lambda: _write("image.png", b""), INPAINT, 2, "0 bytes"),
    "truncated image": (lambda: _half("image.png"), INPAINT, 2, "image.png"),
    "no picture": (lambda: _write("image.png", b"hello"), INPAINT, 2, "not a picture"),
    "no such image": (lambda: Path("image.png").unlink(), INPAINT, 2, "image.png"),
    "image is a folder": (lambda: None, _replace("image.png", "."), 2, "."),
    "picture of another size": (lambda: _grey("image.png", 10, 8), INPAINT, 2, "10x8"),
    "unknown model": (lambda: None, (*INPAINT[:-1], "dogs"), 2, "digits"),
    "corrupt checkpoint": (
        lambda: _write("bad.safetensors", b"\0" * 100),
        (*INPAINT[:-1], "bad.safetensors"),
        2,
        "damaged",
    ),
    "foreign checkpoint": (
        lambda: torch.save({"weight": torch.zeros(2)}, "foreign.pt"),
        (*INPAINT[:-1], "foreign.pt"),
        2,
        "nice.pt layout",
    ),
    "a pickle that would run code": (
        lambda: torch.save(Harmful(), "harm.pt"),
        (*INPAINT[:-1], "harm.pt"),
        2,
        "could run code",
    ),
    "output folder missing": (
        lambda: None,
        _replace("out.png", "nowhere/out.png"),
        2,
        "does not exist",
    ),
    "output is a folder": (
        lambda: Path("dir.png").mkdir(),
        _replace("out.png", "dir.png"),
        2,
        "is a folder",
    ),
    "output suffix unknown": (lambda: None, _replace("out.png", "out.xyz"), 2, "suffix"),
    "history suffix unknown": (lambda: None, (*INPAINT, "--history", "h.mp4"), 2, ".gif, .png"),
    "a lossy output": (lambda: None, _replace("out.png", "out.jpg"), 2, "lossless"),
    "output over the mask": (lambda: None, _replace("out.png", "mask.png"), 2, "both mask.png"),
    "output over the image": (lambda: None, _replace("out.png", "./image.png"), 2, "own name"),
    "history over the output": (lambda: None, (*INPAINT, "--history", "out.png"), 2, "both out.png"),
    "a mask of zeros and ones": (lambda: _grey("mask.png", 8, 8, value=1), INPAINT, 2, "1 of 255"),
    "bounds of bytes": (lambda: None, (*INPAINT, "--bounds", "0", "255"), 2, "from 0 to 1"),
    "a tolerance that says nothing": (
        lambda: None,
        (*INPAINT, "--tol", "1"),
        2,
        "less than 1, the width",
    ),
    "a tolerance as wide as the bounds": (
        lambda: None,
        (*INPAINT, "--bounds", "0", "0.5", "--tol", "0.5"),
        2,
        "width of the bounds",
    ),
    "an empty model file": (lambda: _write("e.pt", b""), (*INPAINT[:-1], "e.pt"), 2, "0 bytes"),
    "a folder as model": (lambda: Path("m").mkdir(), (*INPAINT[:-1], "m"), 2, "is a folder"),
    "a seed out of range": (lambda: None, (*INPAINT, "--seed", str(10**23)), 2, "--seed"),
    "negative threads": (
        lambda: None,
        ("train", "--threads", "-2", "-o", "out.safetensors"),
        2,
        "--threads",
    ),
    "threads without end": (
        lambda: None,
        ("train", "--threads", "100000", "-o", "out.safetensors"),
        2,
        "--threads",
    ),
    "a margin without a logit": (
        lambda: None,
        ("train", "--model", "glow", "--margin", "1e-4", "-o", "out.safetensors"),
        2,
        "margin is 0.0001, which has no effect where preprocess is 'centred'",
    ),
    "an interrupted run is there": (
        lambda: _write("out.safetensors.state", b"state"),
        ("train", "-o", "out.safetensors"),
        2,
        "--resume",
    ),
    "negative steps": (lambda: None, (*INPAINT, "--steps", "-1"), 2, "--steps is -1"),
    "learning rate zero": (lambda: None, (*INPAINT, "--lr", "0"), 2, "--lr is 0"),
    "learning rate infinite": (lambda: None, (*INPAINT, "--lr", "inf"), 2, "--lr is inf"),
    "negative tolerance": (lambda: None, (*INPAINT, "--tol", "-1"), 2, "--tol is -1"),
    "tolerance not a number": (lambda: None, (*INPAINT, "--tol", "nan"), 2, "--tol is nan"),
    "paper with --lr": (lambda: None, (*INPAINT, "--method", "paper", "--lr", "1"), 2, "--lr"),
    "unknown device": (lambda: None, (*INPAINT, "--device", "quantum"), 2, "quantum"),
    "unknown option": (lambda: None, (*INPAINT, "--quick"), 2, "--quick"),
    "score without a picture": (lambda: None, ("score", "none.png", "-m", "digits"), 2, "none.png"),
    "sample of none": (lambda: None, ("sample", "-n", "0", "-o", "out.png"), 2, "--number is 0"),
    "demo of another kind": (lambda: None, ("demo", "-o", "out.xyz"), 2, "out.xyz"),
    "info of nothing": (lambda: None, ("info", "dogs"), 2, "dogs"),
    "train on nothing": (lambda: None, ("train", "-d", "dogs", "-o", "out.safetensors"), 2, "dogs"),
    "train to another suffix": (lambda: None, ("train", "-o", "out.png"), 2, ".safetensors"),
    "train an unknown model": (
        lambda: None,
        ("train", "-m", "dogs", "-o", "out.safetensors"),
        2,
        "nice",
    ),
    "train with width 0": (
        lambda: None,
        ("train", "--width", "0", "-o", "out.safetensors"),
        2,
        "width",
    ),
    "resume nothing": (
        lambda: None,
        ("train", "--resume", "--width", "8", "-o", "out.safetensors"),
        2,
        "nothing to resume",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_error(folder, run, name):
    damage, arguments, code, words = BAD[name]
    damage()
    before = sorted(folder.rglob("*"))
    outcome = run(*arguments)
    assert (outcome.code, outcome.out) == (code, "")
    assert words in outcome.err and "Traceback" not in outcome.err
    assert "unexpected" not in outcome.err
    # Nothing was written, and no pickle ran.
    assert sorted(folder.rglob("*")) == before


def test_every_lossless_format_keeps_the_measured_bytes(folder, run):
    measured = pixels("mask.png") == 0
    for suffix in data.images.LOSSLESS:
        arguments = [f"out{suffix}" if a == "out.png" else a for a in INPAINT]
        assert run(*arguments, "--steps", 3).code == 0
        assert (pixels(f"out{suffix}") == pixels("image.png"))[measured].all()


def test_what_is_lost_is_said(folder, run):
    grey = pixels("image.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save("deep.png")
    assert "more than 8 bits" in run(*_replace("image.png", "deep.png"), "--steps", 1).err
    Image.fromarray(np.stack([grey, grey], -1)).save("clear.png")
    assert "alpha is ignored" in run(*_replace("image.png", "clear.png"), "--steps", 1).err
    soft = pixels("mask.png").copy()
    soft[0, :3] = 100
    Image.fromarray(soft).save("mask.png")
    assert "3 pixel(s) of the mask are grey" in run(*INPAINT, "--steps", 1).err


def test_a_likelihood_that_fell_is_said(folder, run):
    code, _, err = run(*INPAINT, "--method", "plain", "--lr", 1e30, "--steps", 5)
    assert code == 0 and "log p fell" in err


def test_a_full_standard_output_is_no_traceback(folder):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "likely", "info"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1 and "could not write the output" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_closed_standard_output_does_not_matter_where_nothing_is_printed(folder):
    def close() -> None:
        os.close(1)

    command = [sys.executable, "-m", "likely", *INPAINT, "--steps", "1"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, preexec_fn=close)
    assert done.returncode == 0 and Path("out.png").is_file() and "unexpected" not in done.stderr


def test_a_full_disk_leaves_no_trace(folder, run):
    """A real short write, by a limit on the size of files, in a process of its own."""

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60, 60))

    before = sorted(folder.iterdir())
    done = subprocess.run(
        [sys.executable, "-m", "likely", *INPAINT, "--steps", "2"],
        capture_output=True,
        text=True,
        preexec_fn=little_room,
        env={"PYTHONDONTWRITEBYTECODE": "1", "PATH": ""},
    )
    assert done.returncode == 2 and "could not write out.png" in done.stderr
    assert "Traceback" not in done.stderr and sorted(folder.iterdir()) == before


def test_an_unexpected_error_is_no_traceback(folder, run, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(likely, "inpaint", broken)
    code, _, err = run(*INPAINT)
    assert code == 1 and "unexpected ZeroDivisionError: oops" in err and "Traceback" not in err


def test_an_interrupt_says_so(folder, run, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(likely, "inpaint", interrupted)
    code, _, err = run(*INPAINT)
    assert code == 130 and "interrupted" in err and not Path("out.png").exists()


def test_score_agrees_with_the_library(folder, run):
    flow = likely.load("digits")
    x = data.read_image("image.png")
    report = json.loads(run("score", "image.png", "-m", "digits", "--json")[1])
    assert report["scores"][0]["log_prob"] == pytest.approx(flow.log_prob(x).item(), abs=1e-3)
    table = run("score", "image.png", "image.png", "-m", "digits")[1].splitlines()
    assert table[0].split("\t") == ["log_prob", "bits_per_dim", "image"] and len(table) == 3


def test_sample_draws_what_the_library_draws(folder, run):
    report = json.loads(
        run("sample", "-m", "digits", "-n", 5, "-o", "grid.png", "--seed", 3, "--json")[1]
    )
    flow = likely.load("digits")
    expected = flow.log_prob(flow.sample(5, seed=3)).tolist()
    assert report["log_prob"] == pytest.approx(expected, abs=1e-2)
    assert pixels("grid.png").ndim == 2


def test_info_lists_and_describes(folder, run):
    assert "digits" in run("info")[1]
    card = run("info", "digits")[1]
    assert "likely train --data digits" in card and "| step |" in card
    assert json.loads(run("info", "digits", "--json")[1])["card"]["data"] == "digits"
    assert "digits" in json.loads(run("info", "--json")[1])["models"]


def test_train_then_score(folder, run):
    arguments = ("train", "--width", 8, "--depth", 1, "--steps", 30, "--batch", 64, "--json")
    code, out, err = run(*arguments, "-o", "mine.safetensors", "--store", "bfloat16")
    report = json.loads(out)
    assert code == 0 and "nats" in err and report["stopped"] == "finished"
    flow = likely.load("mine.safetensors")
    test, _ = likely.training.evaluate(flow, data.digits().test, levels=17)
    # The reported figure is that of the weights in the file.
    assert report["test_nats"] == pytest.approx(test, abs=1e-3)
    assert not Path("mine.safetensors.state").exists()


def test_train_suits_itself_to_how_many_rows_there_are(folder, run, monkeypatch):
    given = ("train", "--steps", 1, "--quiet", "-o")
    assert run(*given, "few.safetensors")[0] == 0
    few = likely.load("few.safetensors").config
    assert (few["width"], few["depth"], few["couplings"], few["dropout"]) == (200, 2, 8, 0.3)
    monkeypatch.setattr("likely.cli.train.FEW", 1)
    assert run(*given, "many.safetensors", "--width", 8, "--depth", 1)[0] == 0
    many = likely.load("many.safetensors").config
    assert (many["width"], many["couplings"], many["dropout"]) == (8, 4, 0.2)


@pytest.mark.parametrize(
    "steps, said", [(14_000, "about 47 min for 14,000 steps"), (100_000, "about 5.6 hours"), (300, "")]
)
def test_train_says_how_long_it_will_take(capsys, monkeypatch, steps, said):
    now = [0.0]
    monkeypatch.setattr("likely.cli.train.time.monotonic", lambda: now[0])
    bar = Bar(Messages(quiet=False), dims=64, levels=17)
    for k in range(30):
        now[0] += 0.2 if k >= 5 else 100.0
        bar.update(Progress(k + 1, steps, -3.0, None, None))
    err = capsys.readouterr().err
    assert err.count("about") == bool(said) and said in err


def test_train_glow_then_sample(folder, run):
    sizes = ("--model", "glow", "--width", 8, "--blocks", 1, "--levels", 2)
    code, out, err = run(
        "train", *sizes, "--steps", 5, "--batch", 64, "--json", "-o", "glow.safetensors"
    )
    assert code == 0 and json.loads(out)["parameters"] > 0
    assert likely.load("glow.safetensors").config["steps"] == 1
    assert run("sample", "--model", "glow.safetensors", "-n", 2, "-o", "two.png")[0] == 0
    code, _, err = run("train", "--model", "glow", "--couplings", 4, "-o", "x.safetensors")
    assert code == 2 and "--couplings was given, which --model glow does not have" in err
    code, _, err = run("train", "--blocks", 4, "-o", "x.safetensors")
    assert code == 2 and "--blocks was given, which --model nice does not have" in err


def test_demo_writes_one_picture_and_one_table(folder, run):
    code, out, _ = run("demo", "-n", 2, "--json", "-q")
    report = json.loads(out)
    assert code == 0 and Path("demo.png").stat().st_size > 5000
    ways = ["plain recipe", "paper's recipe", "default", "mean of 64", "completion 1", "completion 2"]
    assert [w["way"] for w in report["ways"]] == ways
    assert all(w["violation"] == 0 for w in report["ways"])
    best = max(w["log_prob"] for w in report["ways"])
    assert best > report["log_prob_originals"]


def test_help_lists_the_commands(run):
    code, out, _ = run("--help")
    assert code == 0
    for command in ("demo", "inpaint", "score", "sample", "train", "info"):
        assert command in out
