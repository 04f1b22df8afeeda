"""The training loop: against plain PyTorch, on digits, stopping early, and rows it refuses."""

import math

import pytest
import torch

from likely import data, flows, training
from likely.errors import Diverged, InvalidInput
from likely.seeds import generator_for
from likely.training import Recipe, evaluate, fit
from training.runs import DIGITS, VALID, floats, make, weights


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
    dtypes = torch.bfloat16, torch.float32
    assert seen == {(str(d).removeprefix("torch."), t, d) for d in dtypes for t in (True, False)}


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


def test_public_names():
    assert set(training.__all__) == {"Fit", "Progress", "Recipe", "evaluate", "fit"}
