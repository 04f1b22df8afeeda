"""Evaluation: the mean and its standard error, whatever the batch, dequantised once."""

import math

import pytest
import torch

from likely import data, flows
from likely.errors import InvalidInput, InvalidType
from likely.seeds import generator_for
from likely.training import evaluate
from training.runs import DIGITS, floats, make


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


def test_evaluate_is_without_dropout_and_leaves_the_mode(randomize):
    flow = randomize(flows.nice((4,), width=16, depth=2, dropout=0.5)).train()
    flow.bijection.parts[1].eval()
    x = floats(20, 4)
    found = evaluate(flow, x)
    assert flow.training and not flow.bijection.parts[1].training
    assert found == evaluate(flow.eval(), x)
    with pytest.raises(flows.NotInitialised):
        evaluate(flows.glow((1, 8, 8), 1, 1, width=4), DIGITS.test, levels=17)


@pytest.mark.parametrize(
    ("rows", "levels", "error", "message"),
    [
        (DIGITS.test, 16, InvalidInput, "rows holds level 16; expected 0 to 15"),
        (DIGITS.test, 17.0, InvalidType, "levels is 17.0"),
        (DIGITS.test[:0], 17, InvalidInput, r"rows has shape \(0, 1, 8, 8\)"),
        (DIGITS.test[:, 0], 17, InvalidInput, r"rows has shape .*expected \(N, 1, 8, 8\)"),
        (DIGITS.test.long(), 17, InvalidType, "rows has dtype torch.int64"),
        (DIGITS.test / 0, 17, InvalidInput, "rows holds NaN or infinite"),
        ([1.0], 17, InvalidType, "rows is a list"),
    ],
)
def test_evaluate_refuses_what_is_no_data(rows, levels, error, message):
    with pytest.raises(error, match=message):
        evaluate(make(), rows, levels=levels)


def test_evaluate_of_a_single_row_knows_no_error():
    mean, stderr = evaluate(make(event_shape=(4,)), floats(1, 4))
    assert math.isfinite(mean) and not math.isfinite(stderr)
