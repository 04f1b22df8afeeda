"""likely ruin and its demo: estimates that agree with the exact answer, and clear refusals."""

import json
from pathlib import Path

import pytest
from scipy.stats import binom

from likely.cli import main

TRUTH = 2.388383450606957e-6


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        code = 0
        try:
            main([str(a) for a in arguments])
        except SystemExit as stop:
            code = stop.code or 0
        return (code, *capsys.readouterr())

    return call


@pytest.mark.parametrize("via", ["0.55", "best", "bridge", "doob", "splitting"])
def test_estimates_agree_with_the_exact_answer(run, via: str) -> None:
    code, out, _ = run("ruin", "--via", via, "--json", "-q")
    e = json.loads(out)
    assert code == 0 and e["exact"] == pytest.approx(TRUTH, rel=1e-11)
    # |z| > 4.9 once in a million; with 20 runs of splitting (Student's t) once in 10,000.
    assert abs(e["mean"] - TRUTH) <= 4.8916 * e["stderr"] + 1e-12 * TRUTH
    assert e["interval"][0] <= e["mean"] <= e["interval"][1]
    assert via != "best" or 0.02 < e["stderr"] / e["mean"] < 0.03


def test_the_table_the_picture_and_the_exact_answer(run) -> None:
    code, out, err = run("ruin", "--paths", "500", "--plot", "walks.png")
    assert code == 0 and "95% interval" in out and "2.38838345" in out and "walks.png" in err
    assert Path("walks.png").stat().st_size > 20_000
    assert run("ruin", "--exact", "-q")[1] == "2.38838345061e-06\n"
    # Reflection: P(max S >= 100) = P(S >= 100) + P(S > 100); the level 0 takes away 2^-300 at most.
    fair = float(run("ruin", "--exact", "--games", "300", "--p", "0.5", "-q")[1])
    assert fair == pytest.approx(binom.sf(199, 300, 0.5) + binom.sf(200, 300, 0.5), rel=1e-11)


def test_long_programmes_are_announced_and_say_how_far_they_are(run, monkeypatch) -> None:
    monkeypatch.setattr("likely.cli.ruin.PATIENCE", 1e-3)
    monkeypatch.setattr("likely.cli.ruin.WORD", 0.0)
    _, out, err = run("ruin", "--paths", "500", "--via", "0.58")
    assert "exact" not in out and "ask for it with --exact" in err
    code, out, err = run("ruin", "--exact")
    assert code == 0 and out == "2.38838345061e-06\n"
    assert "the exact answer takes about 0 seconds" in err and "300 of 600 games" in err
    assert not run("ruin", "--exact", "-q")[2]


def test_chances_that_float64_cannot_hold(run) -> None:
    # All games of 400 won: (1/10)^400.
    same = ["--start", "1", "--target", "401", "--games", "400", "--p", "1/10", "--exact", "-q"]
    assert run("ruin", *same)[1] == "10^-400.000000\n"


def test_nobody_hits(run) -> None:
    code, out, _ = run("ruin", "--via", "p")
    assert code == 0 and "no event seen; at most 0.0009981" in out


def test_until(run) -> None:
    e = json.loads(run("ruin", "--via", "0.58", "--until", "0.02", "--json", "-q")[1])
    assert e["stderr"] <= 0.02 * e["mean"] and e["n"] > 3000 and not e["warnings"]


def test_what_cannot_happen_is_said(run) -> None:
    code, out, err = run("ruin", "--games", "50")
    assert (code, out) == (0, "exactly 0\n") and "no path reaches level 200" in err
    assert json.loads(run("ruin", "--games", "50", "--json", "-q")[1])["impossible"] is True


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--p", "1"], "--p is 1"),
        (["--p", "two"], "--p is 'two'"),
        (["--via", "0"], "--via is 0"),
        (["--via", "bridges"], "best, bridge, doob"),
        (["--start", "200"], "--start is 200"),
        (["--games", "0"], "--games 0"),
        (["--games", "100000000000"], "10,000,000"),
        (["--paths", "3"], "--paths is 3"),
        (["--until", "0"], "--until is 0"),
        (["--until", "0.1", "--via", "splitting"], "--until is for"),
        (["--plot", "walks.txt"], "walks.txt"),
    ],
)
def test_bad_input(run, arguments: list[str], words: str) -> None:
    code, out, err = run("ruin", *arguments)
    assert code == 2 and not out and words in err and "Traceback" not in err


def test_the_story(run) -> None:
    code, out, _ = run("demo", "ruin", "--json", "-q")
    story = json.loads(out)
    rows = {row["way"]: row for row in story["ways"]}
    assert code == 0 and len(rows) == 7 and Path("ruin.png").stat().st_size > 50_000
    assert rows["p itself"]["hits"] == 0
    errors = [row["true_error"] for row in story["ways"]]
    assert errors[:6] == sorted(errors[:6], reverse=True) and errors[6] > 1e10
    # Its own error bar says 4 percent.
    assert rows["aiming too early"]["error"] < 0.1 and rows["aiming too early"]["high"] < TRUTH / 10
    assert run("demo", "casino")[0] == 2
