"""The models that ship: small enough, and every figure on their cards measured again."""

from __future__ import annotations

import pytest
import torch

import likely
from likely import data, training
from likely.checkpoints import read_card, shipped
from likely.cli.info import card_text

LIMITS = {"digits": 2, "digits-complete": 2, "mnist": 12, "mnist-complete": 12, "mnist-nice": 12}
"""MiB in the package."""

MODELS = [
    *("digits", "digits-complete"),
    *(
        pytest.param(name, marks=pytest.mark.mnist)
        for name in ("mnist", "mnist-complete", "mnist-nice")
    ),
]


def test_these_models_ship():
    assert set(shipped()) == set(LIMITS)


@pytest.mark.parametrize("name", LIMITS)
def test_the_file_is_small_and_its_card_beside_it(name):
    path = shipped()[name]
    assert path.stat().st_size <= LIMITS[name] * 2**20
    flow, card = likely.load(name), read_card(name)
    assert {"data", "command", "seed", "test_nats", "learning_curve"} <= card.keys()
    assert card["parameters"] == sum(p.numel() for p in flow.parameters())
    assert path.with_suffix(".md").read_text() == card_text(name, flow.config, card) + "\n"


@pytest.mark.parametrize("name", MODELS)
def test_the_figure_on_the_card_is_the_one_measured(name):
    card, rows = read_card(name), data.load_data(read_card(name)["data"])
    if name == "mnist-complete":
        # Ten thousand images take it minutes: a z-test on some of all (the first half is easier), a
        # false alarm once in 1e6.
        nats, stderr = training.evaluate(likely.load(name), rows.test[::33], levels=rows.levels)
        assert (
            abs(nats - card["test_nats"]) < 4.8916 * (stderr**2 + card["test_nats_stderr"] ** 2) ** 0.5
        )
        return
    nats, stderr = training.evaluate(likely.load(name), rows.test, levels=rows.levels)
    # The same noise and weights: only rounding differs between machines.
    assert nats == pytest.approx(card["test_nats"], abs=0.01)
    assert stderr == pytest.approx(card["test_nats_stderr"], abs=0.01)


@pytest.mark.parametrize("name", MODELS)
def test_held_out_data_are_likelier_than_noise(name):
    flow, rows = likely.load(name), data.load_data(read_card(name)["data"])
    held_out = training.evaluate(flow, rows.test[:100], levels=rows.levels)[0]
    noise = torch.rand(100, *flow.event_shape, generator=torch.Generator().manual_seed(0))
    assert held_out > training.evaluate(flow, noise)[0] + 50
