"""Ready-made models: what they record, rebuild and refuse."""

import json

import pytest
import torch

from likely import flows
from likely.errors import InvalidInput


def test_config_records_every_argument_and_rebuilds():
    flow = flows.nice((1, 4, 4), 12, depth=2, couplings=3, dropout=0.25, split="halves", first=1)
    assert flow.config == {
        "model": "nice",
        "event_shape": [1, 4, 4],
        "width": 12,
        "depth": 2,
        "couplings": 3,
        "dropout": 0.25,
        "split": "halves",
        "first": 1,
    }
    config = json.loads(json.dumps(flow.config))
    again = flows.MODELS[config.pop("model")](**config)
    assert again.config == flow.config
    again.load_state_dict(flow.state_dict())


def test_defaults_are_the_published_sizes():
    flow = flows.nice((1, 28, 28))
    assert flow.config["width"] == 1000 and flow.config["depth"] == 5 and flow.config["couplings"] == 4
    assert flow.config["dropout"] == 0.0 and flow.config["first"] == 0
    assert flow.config["split"] == "interleaved" and flow.event_shape == (1, 28, 28)
    assert sum(p.numel() for p in flow.parameters()) == 19_158_352
    assert isinstance(flow.base, flows.StandardLogistic)


def test_dropout_reaches_every_network(randomize):
    flow = randomize(flows.nice((8,), width=32, depth=2, couplings=2, dropout=0.5))
    x = torch.zeros(4, 8)
    assert torch.equal(flow.eval()(x), flow(x))
    with torch.random.fork_rng():
        for part in flow.train().bijection.parts[1:3]:
            assert not torch.equal(part(x), part(x))


@pytest.mark.parametrize(
    ("build", "without", "effective"),
    [
        (flows.glow, {"dropout": 0.1}, {"depth": 1}),
        (flows.glow, {"margin": 1e-4}, {"preprocess": "logit"}),
        (flows.glow, {"bins": 4}, {"coupling": "spline"}),
        (flows.realnvp, {"dropout": 0.1, "depth": 0}, {"depth": 1}),
        (flows.realnvp, {"margin": 1e-4, "preprocess": "none"}, {"preprocess": "logit"}),
    ],
)
def test_arguments_without_effect_are_refused(build, without, effective):
    (name, value), *_ = without.items()
    with pytest.raises(InvalidInput, match=f"{name} is {value}, which has no effect where"):
        build((1, 4, 4), width=4, **without)
    assert build((1, 4, 4), width=4, **(without | effective)).config[name] == value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"event_shape": (1,)}, "at least 2 entries"),
        ({"event_shape": (0, 4)}, r"event_shape\[0\] is 0"),
        ({"event_shape": ()}, "at least 2 entries"),
        ({"couplings": 1}, "2 couplings"),
        ({"couplings": 0}, "2 couplings"),
        ({"split": "thirds"}, "split is 'thirds'"),
        ({"first": 2}, "first 2"),
        ({"width": 0}, "width is 0"),
        ({"depth": 0}, "depth is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InvalidInput, match=message):
        flows.nice(**{"event_shape": (4,), "width": 4, **arguments})
