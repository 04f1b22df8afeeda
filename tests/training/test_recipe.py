"""Recipes: the schedule against its formula, settings out of range refused."""

import math

import pytest
import torch

from likely.errors import InvalidInput, InvalidType
from likely.training import Recipe


def test_learning_rate_rises_linearly_and_falls_along_half_a_cosine():
    recipe = Recipe(steps=1000, warmup=0.1, lr=0.5)
    rates = [recipe.learning_rate(i) for i in range(1000)]
    # Warm-up: equal steps from lr/101 to lr at step 100.
    assert rates[0] == pytest.approx(0.5 / 101) and rates[99] == pytest.approx(0.5 * 100 / 101)
    assert rates[100] == 0.5 == max(rates)
    # Halfway down at half the remaining steps, and nearly zero, yet positive, at the last.
    assert rates[550] == pytest.approx(0.25) and rates[325] == pytest.approx(
        0.25 + 0.25 * math.sqrt(0.5)
    )
    assert 0 < rates[-1] < 1e-5
    assert rates[:101] == sorted(rates[:101]) and rates[100:] == sorted(rates[100:], reverse=True)


@pytest.mark.parametrize("warmup", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_every_step_of_every_run_has_a_positive_rate(steps, warmup):
    recipe = Recipe(steps=steps, warmup=warmup)
    assert all(0 < recipe.learning_rate(i) <= recipe.lr for i in range(steps))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("steps", [0, -1]),
        ("batch", [0]),
        ("lr", [0.0, -1e-3, math.inf, math.nan]),
        ("warmup", [-0.1, 1.1, math.nan]),
        ("scaling_lr", [-1.0, math.inf, math.nan]),
        ("weight_decay", [-0.1, math.inf, math.nan]),
        ("betas", [(1.0, 0.9), (0.9, 1.0), (-0.1, 0.9), (0.9,), (0.9, 0.9, 0.9)]),
        ("clip", [0.0, -1.0, math.nan]),
        ("average", [-0.1, 1.0, math.nan]),
        ("evaluations", [0]),
        ("patience", [0]),
        ("precision", ["float16", "", "double"]),
    ],
)
def test_settings_out_of_range_are_refused(name, values):
    for value in values:
        with pytest.raises(InvalidInput, match=f"^{name} is .*expected"):
            Recipe(**{name: value})


@pytest.mark.parametrize("name", ["steps", "batch", "evaluations", "patience", "lr", "average"])
@pytest.mark.parametrize("value", ["3", None, True])
def test_settings_that_are_no_numbers_are_refused(name, value):
    with pytest.raises(InvalidType, match=f"^{name} is {value!r}; expected"):
        Recipe(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("betas", 0.9, InvalidType, "betas is 0.9; expected two decays"),
        ("betas", "ab", InvalidType, "betas is 'ab'; expected two decays"),
        ("betas", ("a", "b"), InvalidType, r"betas\[0\] is 'a'; expected a number"),
        ("betas", (0.9, math.nan), InvalidInput, r"betas\[1\] is nan; expected a finite number"),
        ("clip", "x", InvalidType, "clip is 'x'; expected a number"),
    ],
)
def test_decays_and_the_clip_are_numbers(name, value, error, message):
    with pytest.raises(error, match=message):
        Recipe(**{name: value})


def test_the_clip_may_be_infinite_and_decays_a_list():
    assert Recipe(clip=math.inf, betas=[0.9, 0.95]).clip == math.inf


def test_precision():
    device = torch.device("cpu")
    assert Recipe(precision="float32").dtype(device) == torch.float32
    assert Recipe(precision="bfloat16").dtype(device) == torch.bfloat16
    has = torch.cpu.get_capabilities()
    fast = bool(has.get("avx512_bf16") or has.get("amx_bf16"))
    assert Recipe().dtype(device) == (torch.bfloat16 if fast else torch.float32)


@pytest.mark.parametrize("feature", ["avx512_bf16", "amx_bf16", None])
def test_auto_takes_bfloat16_where_the_processor_has_it(monkeypatch, feature):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {feature: True, "avx2": True})
    expected = torch.float32 if feature is None else torch.bfloat16
    assert Recipe(precision="auto").dtype(torch.device("cpu")) == expected
