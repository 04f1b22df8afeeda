"""Evaluation: the mean and its standard error, whatever the batch, dequantised once."""

import math

import pytest
import torch

from likely import data
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


def test_evaluate_of_a_single_row_knows_no_error():
    mean, stderr = evaluate(make(event_shape=(4,)), floats(1, 4))
    assert math.isfinite(mean) and not math.isfinite(stderr)
