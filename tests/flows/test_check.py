"""flows.check passes what is right and reports what is wrong."""

import pytest
import torch

from likely import flows


class Wrong(flows.Bijection):
    """x -> 3 x, with a slip of choice."""

    def __init__(self, slip: str) -> None:
        super().__init__()
        self.slip = slip

    def forward_and_log_det(self, x):
        one = torch.ones((), dtype=x.dtype)
        log_det = (3 * one).log() * (1 if self.slip == "forgets the dimension" else x[0].numel())
        return 3 * x, log_det.expand(len(x))

    def inverse_and_log_det(self, z):
        _, log_det = self.forward_and_log_det(z)
        return z / (2.5 if self.slip == "does not invert" else 3), (
            log_det if self.slip == "inverse has the wrong sign" else -log_det
        )


def batch() -> torch.Tensor:
    return torch.rand(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5


def test_right_map():
    found = flows.check(Wrong("makes none"), batch())
    assert max(found.round_trip, found.log_det, found.inverse_log_det) < 1e-14


@pytest.mark.parametrize(
    ("slip", "field"),
    [
        ("forgets the dimension", "log_det"),
        ("does not invert", "round_trip"),
        ("inverse has the wrong sign", "inverse_log_det"),
    ],
)
def test_wrong_maps_are_found(slip, field):
    found = dict(vars(flows.check(Wrong(slip), batch())))
    (layer,) = found.pop("layers")
    assert layer.name == "(Wrong)"
    if field != "inverse_log_det":
        assert getattr(layer, field) == pytest.approx(found[field])
    assert found.pop(field) > 0.09
    assert max(found.values()) < 1e-14, "the other figures are right"


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("train", [True, False])
def test_right_flow_in_either_mode(randomize, dropout, train, same_global_state):
    flow = randomize(flows.nice((1, 3, 3), width=16, depth=2, dropout=dropout)).train(train)
    before = {k: v.clone() for k, v in flow.state_dict().items()}
    x = torch.rand(3, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    with same_global_state():
        found = flows.check(flow, x)
    assert found.round_trip < 1e-5 and found.log_det < 1e-12 and found.inverse_log_det < 1e-12
    # It is left as it was: mode, precision, weights, gradients.
    assert flow.training == train
    for name, p in flow.named_parameters():
        assert torch.equal(p, before[name]) and p.requires_grad and p.grad is None


@pytest.mark.parametrize("slip", ["forgets the dimension", "does not invert"])
def test_the_layer_that_is_wrong_is_named(slip):
    def chain(last):
        steps = flows.Chain([flows.PLUConv(2), last])
        rest = flows.Chain([steps, flows.Reshape((2, 1, 3), (6,))])
        return flows.Chain([flows.Centred(), flows.FactorOut((3, 1, 3), 1, rest)]).double()

    x = torch.rand(2, 3, 1, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = flows.check(chain(Wrong(slip)), x)
    assert found.weakest.name == "parts.1.rest.parts.0.parts.1 (Wrong)"
    assert [layer.name.split()[1] for layer in found.layers] == [
        "(Centred)",
        "(PLUConv)",
        "(Wrong)",
        "(Reshape)",
    ]
    others = [layer for layer in found.layers if layer is not found.weakest]
    assert max(max(layer.round_trip, layer.log_det) for layer in others) < 1e-12
    right = flows.check(chain(Wrong("makes none")), x)
    assert max(right.weakest.round_trip, right.weakest.log_det) < 1e-12


class Spoilt(flows.Bijection):
    """x -> x, NaN in the place of choice."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.place = place

    def forward_and_log_det(self, x):
        return x, x.new_full((len(x),), float("nan") if self.place == "log_det" else 0)

    def inverse_and_log_det(self, z):
        return z * (float("nan") if self.place == "inverse" else 1), z.new_zeros(len(z))


@pytest.mark.parametrize("place", ["log_det", "inverse"])
def test_nan_is_the_largest_error(place):
    chain = flows.Chain([Wrong("does not invert"), Spoilt(place), Wrong("forgets the dimension")])
    assert flows.check(chain, batch()).weakest.name == "parts.1 (Spoilt)"


def test_the_layer_that_loses_digits_in_float32_is_named(randomize):
    # An ill-conditioned matrix, right in itself.
    bad = flows.PLUConv(2, torch.tensor([[1.0, 1.0], [1.0, 1.0002]]), bound=10.0)
    chain = flows.Chain([flows.PLUConv(2), bad, flows.PLUConv(2)])
    found = flows.check(chain, torch.rand(2, 2, 2, 3, generator=torch.Generator().manual_seed(0)))
    assert found.weakest.name == "parts.1 (PLUConv)" and found.log_det < 1e-8
