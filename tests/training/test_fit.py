"""The training loop: against plain PyTorch, interrupted and resumed, diverging, stopping early."""

import importlib
import math
import os
import signal
import threading

import pytest
import torch

from likely import data, flows, training
from likely.errors import CheckpointError, Diverged, InvalidInput, OutputError
from likely.seeds import borrowed_global_state, generator_for, seed_borrowed
from likely.training import Recipe, evaluate, fit

DIGITS = data.digits()
VALID = DIGITS.valid[:40]


def floats(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=generator_for(seed), dtype=torch.float64).to(dtype)


def make(dropout: float = 0.0, width: int = 16, event_shape: tuple[int, ...] = (1, 8, 8)) -> flows.Flow:
    """A flow with the same starting weights at every call."""
    with borrowed_global_state():
        seed_borrowed(0)
        return flows.nice(event_shape, width=width, depth=2, couplings=2, dropout=dropout)


def weights(flow: flows.Flow) -> list[torch.Tensor]:
    return [p.detach().clone() for p in flow.parameters()]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# the mathematics of a run


def plain_run(flow: flows.Flow, train, valid, recipe: Recipe):
    """The recipe in plain PyTorch, step by step, for batches that hold every row."""
    parameters = list(flow.parameters())
    scale, rest = parameters[-1], parameters[:-1]
    optimizer = torch.optim.AdamW(
        [
            {"params": [scale], "weight_decay": 0.0},
            {"params": [p for p in rest if p.ndim == 1], "weight_decay": 0.0},
            {"params": [p for p in rest if p.ndim == 2], "weight_decay": recipe.weight_decay},
        ],
        betas=recipe.betas,
    )
    average, averaged, best, history, since = weights(flow), 0, None, [], []
    for step in range(1, recipe.steps + 1):
        rising = recipe.warmup * recipe.steps
        if step - 1 < rising:
            lr = recipe.lr * step / (rising + 1)
        else:
            part = (step - 1 - rising) / (recipe.steps - rising)
            lr = recipe.lr * (1 + math.cos(math.pi * part)) / 2
        log_likelihood = flow.log_prob(train).mean()
        dims = train[0].numel()
        gradient = torch.autograd.grad(-log_likelihood / dims, parameters)
        norm = torch.stack([g.norm() for g in gradient]).norm()
        for p, g in zip(parameters, gradient, strict=True):
            p.grad = g * min(1.0, recipe.clip / (norm.item() + 1e-6))
        for group, factor in zip(optimizer.param_groups, (recipe.scaling_lr, 1.0, 1.0), strict=True):
            group["lr"] = lr * factor
        optimizer.step()
        since.append(log_likelihood.item())
        evaluating = step % (recipe.steps // recipe.evaluations) == 0 or step == recipe.steps
        if step % 4 == 0 or evaluating:
            # The average decays by so much a step, however many steps it takes in at once.
            decay = min(recipe.average, step / (step + 10)) ** (step - averaged)
            averaged = step
            average = [
                decay * a + (1 - decay) * p.detach() for a, p in zip(average, parameters, strict=True)
            ]
        if evaluating:
            now = weights(flow)
            for p, a in zip(parameters, average, strict=True):
                p.data.copy_(a)
            held_out = flow.log_prob(valid).mean().item()
            for p, value in zip(parameters, now, strict=True):
                p.data.copy_(value)
            if best is None or held_out > best[0]:
                best = held_out, [a.clone() for a in average]
            history.append({"step": step, "train": sum(since) / len(since), "valid": held_out})
            since = []
    return history, best[1]


PLAIN = {
    "steps": 24,
    "evaluations": 4,
    "batch": 10,
    "lr": 0.01,
    "warmup": 0.2,
    "precision": "float32",
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"clip": 1e-3},
        {"weight_decay": 5.0},
        {"average": 0.0},
        {"average": 0.3},
        {"warmup": 0.0, "scaling_lr": 1.0},
        {"warmup": 1.0, "steps": 21},
        {"betas": (0.5, 0.6)},
    ],
    ids=str,
)
def test_a_run_is_the_plain_one(randomize, changes):
    recipe = Recipe(**{**PLAIN, **changes})
    train, valid = floats(10, 5, dtype=torch.float64), floats(7, 5, seed=1, dtype=torch.float64)
    flow, plain = (randomize(make(event_shape=(5,))).double() for _ in range(2))
    start = weights(flow)
    result = fit(flow, train, valid, recipe)
    history, best = plain_run(plain, train, valid, recipe)
    assert [h["step"] for h in result.history] == [h["step"] for h in history]
    for got, expected in zip(result.history, history, strict=True):
        assert got == pytest.approx(expected, rel=1e-10)
    for got, expected, before in zip(weights(flow), best, start, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
        assert (got - before).abs().max() > 1e-4
    assert result.best == max(h["valid"] for h in result.history)
    assert evaluate(flow, valid)[0] == pytest.approx(result.best, rel=1e-12)
    assert result.stopped == "finished" and result.step == recipe.steps and not flow.training


def test_epochs_go_through_the_rows_in_fresh_orders():
    seen = []
    train = torch.arange(10.0)[:, None] + torch.zeros(10, 2)
    flow = make(event_shape=(2,))
    flow.register_forward_pre_hook(lambda module, given: seen.append(given[0][:, 0].int().tolist()))
    fit(flow, train, train, Recipe(steps=12, batch=3, precision="float32"))
    # Ten rows make three batches of three; the row left over is another one in each epoch.
    assert [len(batch) for batch in seen] == [3] * 12
    epochs = [[row for batch in seen[i : i + 3] for row in batch] for i in range(0, 12, 3)]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_the_seed_decides_the_order():
    orders = []
    for seed in (0, 0, 1):
        seen, flow = [], make(event_shape=(2,))
        flow.register_forward_pre_hook(
            lambda module, given, seen=seen: seen.append(given[0][:, 0].tolist())
        )
        fit(flow, floats(10, 2), floats(10, 2), Recipe(steps=3, batch=3, seed=seed))
        orders.append(seen)
    assert orders[0] == orders[1] != orders[2]


def test_levels_are_dequantised_afresh_at_every_step():
    seen, flow = [], make(event_shape=(2,))
    flow.register_forward_pre_hook(lambda module, given: seen.append(given[0].sort(dim=0).values))
    levels = torch.full((4, 2), 3, dtype=torch.uint8)
    fit(flow, levels, levels, Recipe(steps=3, batch=4), levels=5)
    assert all((x * 5).floor().eq(3).all() for x in seen)
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])


def test_batches_larger_than_the_data_hold_every_row():
    flow = make(event_shape=(2,))
    seen = []
    flow.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    fit(flow, floats(4, 2), floats(4, 2), Recipe(steps=2, batch=100))
    assert seen == [4, 4]


DTYPES = (torch.bfloat16, torch.float32)


def test_networks_run_in_bfloat16_when_asked():
    seen = set()
    for precision in ("bfloat16", "float32"):
        flow = make(event_shape=(4,))
        flow.bijection.parts[1].network.out.register_forward_hook(
            lambda module, given, out, precision=precision: seen.add(
                (precision, module.training, out.dtype)
            )
        )
        fit(flow, floats(4, 4), floats(4, 4), Recipe(steps=1, precision=precision))
        assert {p.dtype for p in flow.parameters()} == {torch.float32}
    # Both the steps and the evaluations.
    assert seen == {(str(d).removeprefix("torch."), t, d) for d in DTYPES for t in (True, False)}


def test_the_global_state_is_left_alone(same_global_state):
    flow = make(dropout=0.5)
    with same_global_state():
        fit(flow, DIGITS.train, VALID, Recipe(steps=3, batch=8), levels=17)
        evaluate(flow, VALID, levels=17)


@pytest.mark.parametrize("poison", [Diverged, KeyError])
def test_the_global_state_is_left_alone_by_failures(same_global_state, poison):
    def report(progress):
        if poison is KeyError:
            raise KeyError

    flow = make(dropout=0.5)
    with same_global_state(), pytest.raises(poison):
        recipe = Recipe(steps=9, lr=1e30 if poison is Diverged else 1e-3)
        fit(flow, DIGITS.train, VALID, recipe, levels=17, report=report)


def test_progress_is_reported():
    seen = []
    recipe = Recipe(steps=6, batch=8, evaluations=2)
    result = fit(make(), DIGITS.train, VALID, recipe, levels=17, report=seen.append)
    assert [(p.step, p.steps) for p in seen] == [(i, 6) for i in range(1, 7)]
    assert all(math.isfinite(p.train) for p in seen)
    first, last = (h["valid"] for h in result.history)
    assert [p.valid for p in seen] == [None, None, first, first, first, last]
    assert [p.best for p in seen] == [None, None, first, first, first, max(first, last)]
    mean = sum(p.train for p in seen[:3]) / 3
    assert result.history[0] == {"step": 3, "train": pytest.approx(mean, rel=1e-12), "valid": first}


# learning


def test_a_nice_learns_digits():
    flow = make(dropout=0.1, width=32)
    before = evaluate(flow, DIGITS.test, levels=17)[0]
    recipe = Recipe(steps=200, batch=64, lr=1e-2, evaluations=4, precision="float32")
    fit(flow, DIGITS.train, VALID, recipe, levels=17)
    x = data.dequantize(DIGITS.test, 17, generator_for(0))
    train = data.dequantize(DIGITS.train, 17, generator_for(1))
    # The best law of independent normal entries: their means and deviations on the training rows.
    normal = torch.distributions.Normal(train.mean(0), train.std(0)).log_prob(x).flatten(1).sum(1)
    with torch.no_grad():
        gain = flow.log_prob(x) - normal
    # Paired over held-out rows, wider than chance once in 1e6 would have it.
    assert gain.mean() / (gain.std() / len(gain) ** 0.5) > 4.9
    assert evaluate(flow, DIGITS.test, levels=17)[0] > before + 100


# interrupted and resumed


def recipe_for(precision: str, **changes) -> Recipe:
    settings = {"steps": 26, "batch": 32, "lr": 0.01, "evaluations": 5, "precision": precision}
    return Recipe(**settings | changes)


def interrupt_at(step: int):
    def report(progress):
        if progress.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    return report


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


def test_an_interrupted_flow_holds_the_best_weights_so_far():
    whole, part = make(), make()
    recipe = recipe_for("float32")
    seen = []

    def report(progress):
        seen.append(progress)
        interrupt_at(12)(progress)

    result = fit(part, DIGITS.train, VALID, recipe, levels=17, report=report)
    assert result.stopped == "interrupted" and not part.training
    assert evaluate(part, VALID, levels=17)[0] == result.best == seen[-1].best
    assert not same(weights(part), weights(whole))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_handlers_are_put_back(number):
    before = signal.getsignal(number)

    def report(progress):
        assert signal.getsignal(number) is not before
        os.kill(os.getpid(), number)

    result = fit(make(), DIGITS.train, VALID, Recipe(steps=5, batch=8), levels=17, report=report)
    assert (result.stopped, result.step) == ("interrupted", 1)
    assert signal.getsignal(number) is before


def test_a_second_interrupt_stops_at_once():
    before = signal.getsignal(signal.SIGINT)

    def report(progress):
        interrupt_at(2)(progress)
        interrupt_at(2)(progress)

    with pytest.raises(KeyboardInterrupt):
        fit(make(), DIGITS.train, VALID, Recipe(steps=5, batch=8), levels=17, report=report)
    assert signal.getsignal(signal.SIGINT) is before


def test_it_runs_outside_the_main_thread():
    results = []

    def run():
        results.append(fit(make(), DIGITS.train, VALID, Recipe(steps=2, batch=8), levels=17))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert results[0].stopped == "finished"


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


class Attack:
    """Runs code when it is unpickled: it makes a folder."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


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


def test_states_that_run_code_are_refused(interrupted, tmp_path):
    recipe, file = interrupted
    marker = tmp_path / "was here"
    saved = torch.load(file, weights_only=True)
    torch.save(saved | {"state": Attack(marker)}, file)
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


# divergence


def test_an_absurd_learning_rate_diverges():
    flow = make()
    start = weights(flow)
    recipe = Recipe(steps=50, batch=32, lr=1e30, evaluations=1)
    with pytest.raises(Diverged, match=r"not finite at step \d+.*lower learning rate than 1e\+30"):
        fit(flow, DIGITS.train, VALID, recipe, levels=17)
    # There was no evaluation: the last good weights are those of the start.
    assert same(weights(flow), start) and not flow.training


@pytest.mark.parametrize("evaluations", [1, 8])
@pytest.mark.parametrize("lr", [10.0, 1e4, 1e38])
def test_however_it_diverges_the_flow_is_no_worse_than_its_start(lr, evaluations):
    flow = make()
    start = evaluate(flow, VALID, levels=17)[0]
    recipe = Recipe(steps=40, batch=32, lr=lr, evaluations=evaluations, precision="float32")
    with pytest.raises(Diverged):
        fit(flow, DIGITS.train, VALID, recipe, levels=17)
    assert all(p.isfinite().all() for p in flow.parameters())
    assert evaluate(flow, VALID, levels=17)[0] >= start


def test_poison_in_the_middle_keeps_the_best_weights():
    train = floats(64, 1, 8, 8)
    train[17] = 3e38
    flow, seen = make(), []
    recipe = Recipe(steps=100, batch=1, evaluations=50, lr=0.01, precision="float32", seed=2)
    with pytest.raises(Diverged, match="not finite at step"):
        fit(flow, train, floats(16, 1, 8, 8, seed=1), recipe, report=seen.append)
    assert 8 <= len(seen) < 64, "it met the poison in the middle; choose another seed"
    assert all(p.isfinite().all() for p in flow.parameters()) and not flow.training
    assert evaluate(flow, floats(16, 1, 8, 8, seed=1))[0] == seen[-1].best
    assert seen[-1].best > evaluate(make(), floats(16, 1, 8, 8, seed=1))[0]


# early stopping


@pytest.mark.parametrize("patience", [1, 3])
def test_early_stopping(patience, tmp_path):
    # What is fitted is far from what is held out: every step makes the latter worse.
    train, valid = 0.01 * floats(32, 4), 5 + floats(32, 4, seed=1)
    flow, seen = make(event_shape=(4,)), []
    recipe = Recipe(
        steps=800, batch=32, evaluations=100, lr=1e-2, warmup=0, patience=patience, precision="float32"
    )
    result = fit(flow, train, valid, recipe, state_file=tmp_path / "s", report=seen.append)
    assert result.stopped == "early" and result.step == 8 * (1 + patience)
    values = [h["valid"] for h in result.history]
    assert values == sorted(values, reverse=True) and len(values) == 1 + patience
    assert result.best == values[0] == evaluate(flow, valid)[0]
    assert list(tmp_path.iterdir()) == []


# at the door


@pytest.mark.parametrize("name", ["train", "valid"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_refused(name, value):
    rows = {"train": floats(4, 4), "valid": floats(4, 4)}
    rows[name][2, 1] = value
    with pytest.raises(InvalidInput, match=f"{name} holds NaN or infinite"):
        fit(make(event_shape=(4,)), **rows)


@pytest.mark.parametrize("name", ["train", "valid"])
@pytest.mark.parametrize("shape", [(4, 5), (4,), (0, 4)])
def test_rows_of_another_shape_are_refused(name, shape):
    rows = {"train": floats(4, 4), "valid": floats(4, 4)} | {name: torch.zeros(shape)}
    with pytest.raises(InvalidInput, match=rf"{name} has shape .*expected \(N, 4\)"):
        fit(make(event_shape=(4,)), **rows)


# evaluation


@pytest.mark.parametrize("batch", [7, 20, 500])
def test_evaluate_is_the_mean_and_its_standard_error(randomize, batch):
    flow = randomize(make(event_shape=(4,))).double().eval()
    x = floats(20, 4, dtype=torch.float64)
    values = flow.log_prob(x)
    mean, stderr = evaluate(flow, x, batch=batch)
    assert mean == pytest.approx(values.mean().item(), rel=1e-13)
    assert stderr == pytest.approx(values.std().item() / math.sqrt(20), rel=1e-12)


def test_evaluate_dequantises_once(same_global_state):
    flow = make().eval()
    with same_global_state():
        first = evaluate(flow, DIGITS.test, levels=17)
    assert (
        first
        == evaluate(flow, DIGITS.test, levels=17)
        != evaluate(flow, DIGITS.test, levels=17, seed=1)
    )
    x = data.dequantize(DIGITS.test, 17, generator_for(0))
    assert first[0] == pytest.approx(flow.log_prob(x).double().mean().item(), rel=1e-12)


def test_evaluate_of_a_single_row_knows_no_error():
    mean, stderr = evaluate(make(event_shape=(4,)), floats(1, 4))
    assert math.isfinite(mean) and not math.isfinite(stderr)


def test_public_names():
    assert set(training.__all__) == {"Fit", "Progress", "Recipe", "evaluate", "fit"}


def test_weights_that_blow_up_in_the_last_step_are_noticed():
    flow = make()
    before = [p.clone() for p in flow.parameters()]
    with pytest.raises(Diverged):
        fit(flow, DIGITS.train, VALID, Recipe(steps=1, lr=1e30), levels=17)
    assert all(torch.equal(a, b) for a, b in zip(before, flow.parameters(), strict=True))


@pytest.mark.parametrize("change", ["levels", "train", "valid"])
def test_a_run_resumes_on_its_own_data_only(tmp_path, change):
    given = {"train": DIGITS.train[:64], "valid": VALID, "levels": 17}
    recipe = Recipe(steps=6, batch=8)

    def interrupt(progress):
        if progress.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    def run(**more):
        rows = {**given, **more}
        resume = "report" not in more
        report = rows.pop("report", None)
        train, valid, levels = rows["train"], rows["valid"], rows["levels"]
        options = {"state_file": tmp_path / "state", "resume": resume, "report": report}
        return fit(make(), train, valid, recipe, levels=levels, **options)

    assert run(report=interrupt).stopped == "interrupted"
    other = {"levels": 18, "train": DIGITS.train[1:65], "valid": VALID.flip(0)}[change]
    with pytest.raises(CheckpointError, match="other settings"):
        run(**{change: other})
    assert run().stopped == "finished"
