"""Divergence: it is said, and the flow keeps the best weights it had."""

import pytest
import torch

from likely.errors import Diverged, InvalidInput, InvalidType
from likely.training import Recipe, evaluate, fit
from training.runs import DIGITS, VALID, floats, make, same, weights


def test_an_absurd_learning_rate_diverges():
    flow = make()
    start = weights(flow)
    recipe = Recipe(steps=50, batch=32, lr=1e30, evaluations=1)
    with pytest.raises(Diverged, match=r"not finite at step \d+.*lower learning rate than 1e\+30"):
        fit(flow, DIGITS.train, VALID, recipe, levels=17)
    # There was no evaluation: the last good weights are those of the start.
    assert same(weights(flow), start) and not flow.training


def test_weights_that_blow_up_in_the_last_step_are_noticed():
    flow = make()
    before = weights(flow)
    with pytest.raises(Diverged):
        fit(flow, DIGITS.train, VALID, Recipe(steps=1, lr=1e30), levels=17)
    assert same(weights(flow), before)


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


@pytest.mark.parametrize(
    "rows, error, words",
    [
        (torch.zeros(9, 1, 8, 8, dtype=torch.int64), InvalidType, "levels as torch.uint8"),
        (torch.zeros(9, 1, 8, 8, dtype=torch.bool), InvalidType, "levels as torch.uint8"),
        (torch.full((9, 1, 8, 8), 17, dtype=torch.uint8), InvalidInput, "holds level 17"),
    ],
)
def test_rows_that_are_no_levels_are_refused(rows, error, words):
    with pytest.raises(error, match=words):
        fit(make(), rows, rows, Recipe(steps=1), levels=17)
