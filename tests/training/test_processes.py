"""Two processes train as one does with the same batches, and decide together."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from likely.errors import InvalidInput
from likely.training import fit
from training.runs import DIGITS, VALID, make, recipe_for, same
from training.shared_runs import SHARED, STEPS, resumed, stopped

# Sums are taken in another order. In float32, NICE differs by 1e-5 nats; Glow by 3e-4 at this rate,
# as the first batch leaves gradients of scales that are zero but for rounding, and Adam's first step
# divides by their size. Measured, times ten; float64 leaves no such excuse.
NATS = {"glow": 5e-3, "glow, float64": 1e-9}
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What each of two processes made of every run, and the folder they left behind."""
    folder = tmp_path_factory.mktemp("two")
    for name in ("from one", "from two", "private"):
        (folder / name).mkdir()
    assert stopped(folder / "from one")["written"]
    script = os.path.join(os.path.dirname(__file__), "shared_runs.py")  # noqa: PTH118, PTH120
    runs = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", script, str(rank), str(folder / "meet"), str(folder)],
            env=ENVIRONMENT,
        )
        for rank in (0, 1)
    ]
    try:
        assert [run.wait(timeout=120) for run in runs] == [0, 0]
    finally:
        for run in runs:
            run.kill()
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)], folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same runs, one process."""
    made = {}

    def of(name):
        if name not in made:
            made[name] = SHARED[name](tmp_path_factory.mktemp("one"))
        return made[name]

    return of


def assert_same_run(shared, expected, nats=1e-4):
    assert shared["stopped"] == expected["stopped"] and shared["step"] == expected["step"]
    assert shared["losses"] == pytest.approx(expected["losses"], rel=0, abs=nats)
    for got, point in zip(shared["history"], expected["history"], strict=True):
        assert got == pytest.approx(point, rel=0, abs=nats)


@pytest.mark.parametrize("name", ["nice", "glow", "glow, float64", "small data", "early"])
def test_two_processes_are_one(both, alone, name):
    first, second = (of[name] for of in both[0])
    assert_same_run(first, alone(name), NATS.get(name, 1e-4))
    assert first["losses"] == second["losses"] and first["history"] == second["history"]
    assert same(first["weights"], second["weights"])


def test_the_curve_is_of_a_run_that_learns(alone):
    for name in ("nice", "glow"):
        losses = alone(name)["losses"]
        assert len(losses) == STEPS and losses[-1] > losses[0] + 10
    assert alone("early")["stopped"] == "early"


def test_all_start_with_the_weights_of_the_first(both, alone):
    for of in both[0]:
        assert_same_run(of["other start"], alone("nice"))


def test_each_draws_its_own_dropout(both):
    first, second = (of["other dropout"]["dropped"] for of in both[0])
    assert first.shape == second.shape and not torch.equal(first, second)


def test_divergence_is_noticed_by_all(both, alone):
    for of in both[0]:
        assert of["diverged"]["error"] == alone("diverged")["error"]
        assert of["diverged"]["error"].startswith("Diverged")


def test_a_batch_that_cannot_be_shared_is_refused(both):
    for of in both[0]:
        assert "batch is 31 rows, which 2 processes cannot share equally" in of["indivisible"]["error"]
        assert of["indivisible"]["losses"] == []


def test_one_interrupt_stops_all_and_the_first_alone_writes(both):
    runs, folder = both
    for of in runs:
        assert (of["stopped"]["stopped"], of["stopped"]["step"]) == ("interrupted", 7)
    assert [of["stopped"]["written"] for of in runs] == [True, False]
    assert [file.name for file in (folder / "private").iterdir()] == ["0.state"]


def test_another_number_of_processes_resumes(both, alone):
    runs, folder = both
    for of in runs:
        assert len(of["resumed from one"]["losses"]) == STEPS - 7
        assert_same_run(of["resumed from one"], alone("nice") | {"losses": alone("nice")["losses"][7:]})
    assert [file.name for file in (folder / "from one").iterdir()] == [], "removed when it ended"
    # They waited for the file before they went on.
    assert all(of["stopped together"]["written"] for of in runs)
    again = resumed(folder / "from two")
    assert_same_run(again, alone("nice") | {"losses": alone("nice")["losses"][7:]})


def test_launched_processes_that_are_no_group_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InvalidInput, match=r"2 processes were launched.*init_process_group"):
        fit(make(), DIGITS.train, VALID, recipe_for("float32"), levels=17)


TRAIN = ["train", "--width", "16", "--depth", "1", "--batch", "32", "--precision", "float32"]


def torchrun(*arguments):
    return two("-m", "likely", *TRAIN, *arguments)


def two(*program):
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", *program]
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_torchrun_writes_one_model_and_speaks_once(tmp_path):
    out = tmp_path / "it.safetensors"
    with torchrun("--steps", "8", "--json", "-o", str(out)) as run:
        answer, messages = run.communicate(timeout=120)
    assert run.returncode == 0, messages
    card = json.loads(answer)
    assert card["processes"] == 2 and card["steps"] == 8 and messages.count("wrote") == 1
    assert [file.name for file in tmp_path.iterdir()] == [out.name]


def test_torchrun_interrupted_leaves_a_state_to_resume(tmp_path):
    out = tmp_path / "it.safetensors"
    with torchrun("--steps", "3000", "--patience", "99", "-o", str(out)) as run:
        for message in run.stderr:
            if message.startswith("step "):
                run.send_signal(signal.SIGINT)
                break
        messages = run.stderr.read()
    assert messages.count("go on with the same command and --resume") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["it.safetensors.state"]


THREADS = """
from pathlib import Path
import torch
from likely.training.processes import launched

with launched(torch.device("cpu")):
    weights = torch.nn.Parameter(torch.ones(3))
    weights.sum().backward()
    torch.optim.AdamW([weights]).step()
print([task.joinpath("comm").read_text() for task in Path("/proc/self/task").iterdir()])
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are read from /proc")
def test_threads_of_the_group_end_with_it(tmp_path):
    # Those that go on into the end of Python abort the process now and then.
    script = tmp_path / "threads.py"
    script.write_text(THREADS)
    with two(str(script)) as run:
        answer, messages = run.communicate(timeout=120)
    assert run.returncode == 0, messages
    assert answer.count("python") == 2 and "gloo" not in answer
