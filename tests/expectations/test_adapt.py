"""Adapted proposals come near the best of their family, and do not touch what they are given."""

import math

import pytest
import torch
from scipy import optimize, stats
from torch import Tensor
from torch.distributions import Independent, Normal

from likely import adapt, expect, flows
from likely.errors import InvalidInput, InvalidType

P = Normal(torch.tensor(0.0).double(), torch.tensor(1.0).double())


def rare(x: Tensor) -> Tensor:
    return x > 5


def shifted(m: Tensor) -> Normal:
    return Normal(m, 1.0)


def second_moment(m: float) -> float:
    """E_q[(f w)^2] for q = N(m, 1): exp(m^2) P(X > 5 + m)."""
    return m * m + stats.norm.logsf(5 + m)


def test_cross_entropy_finds_the_conditional_mean() -> None:
    q = adapt(rare, P, shifted, 4.0, "cross-entropy", n=20_000, seed=0)
    truth = stats.norm.pdf(5) / stats.norm.sf(5)
    # The mean of about 10,000 weighted hits, of standard deviation 0.19: six standard errors.
    assert abs(q.loc.item() - truth) < 0.02
    assert not q.loc.requires_grad


def test_variance_finds_its_own_optimum() -> None:
    q = adapt(rare, P, shifted, 4.0, "variance", n=20_000, seed=0)
    truth = optimize.minimize_scalar(second_moment, bounds=(3, 8), method="bounded").x
    assert abs(q.loc.item() - truth) < 0.05
    e = expect(rare, P, n=4000, via=q, seed=1)
    assert abs(e.mean.item() / stats.norm.sf(5) - 1) < 5 * e.stderr.item() / stats.norm.sf(5)
    worse = expect(rare, P, n=4000, via=shifted(torch.tensor(3.5).double()), seed=1)
    assert e.stderr < 0.7 * worse.stderr


@pytest.mark.parametrize("objective", ["variance", "cross-entropy"])
def test_several_parameters_and_dimensions(objective: str) -> None:
    p = Independent(Normal(torch.zeros(2).double(), 1.0), 1)

    def family(m: Tensor, t: Tensor) -> Independent:
        return Independent(Normal(m, t.exp()), 1)

    start = [torch.tensor([2.0, 0.0]).double(), torch.zeros(2).double()]
    q = adapt(lambda x: x.sum(1) > 6, p, family, start, objective, seed=0)
    truth = stats.norm.sf(6 / math.sqrt(2))
    e = expect(lambda x: x.sum(1) > 6, p, n=5000, via=q, seed=1)
    assert abs(e.mean.item() - truth) < 5 * e.stderr.item() < 0.3 * truth
    assert torch.equal(start[0], torch.tensor([2.0, 0.0]).double())


def test_a_flow_can_be_the_family(same_global_state) -> None:
    torch.manual_seed(0)
    flow = flows.nice((2,), width=8, depth=1, couplings=2)
    p = Independent(Normal(torch.zeros(2), 1.0), 1)
    before = {k: v.clone() for k, v in flow.state_dict().items()}

    def ring(x: Tensor) -> Tensor:
        return x.sum(1) > 4

    with same_global_state():
        q = adapt(ring, p, flow, n=2000, rounds=3, steps=20, objective="cross-entropy", seed=0)
    assert all(torch.equal(v, before[k]) for k, v in flow.state_dict().items())
    e, raw = (expect(ring, p, n=4000, via=law, seed=1) for law in (q, flow))
    assert abs(e.mean.item() - stats.norm.sf(4 / math.sqrt(2))) < 5 * e.stderr.item()
    assert e.stderr < raw.stderr


@pytest.mark.parametrize("objective", ["variance", "cross-entropy"])
def test_a_family_may_refuse_parameters_on_the_way(objective: str) -> None:
    q = adapt(lambda x: x > 3, P, Normal, [3.0, 5.0], objective, seed=0)
    assert q.scale > 0
    e = expect(lambda x: x > 3, P, n=4000, via=q, seed=1)
    assert abs(e.mean.item() - stats.norm.sf(3)) < 5 * e.stderr.item()
    assert e.stderr < 0.03 * e.mean


def test_bad_input() -> None:
    with pytest.raises(InvalidInput, match="does not depend on its parameters"):
        adapt(rare, P, lambda m: Normal(m.item(), 1.0), 4.0, seed=0)
    with pytest.raises(InvalidInput, match="Start nearer"):
        adapt(lambda x: x > 30, P, shifted, 0.0, seed=0)
    with pytest.raises(InvalidInput, match="objective is 'entropy'"):
        adapt(rare, P, shifted, 4.0, "entropy")
    with pytest.raises(InvalidInput, match="start is missing"):
        adapt(rare, P, shifted)
    with pytest.raises(InvalidType, match="family is a int"):
        adapt(rare, P, 3, 4.0)
    with pytest.raises(InvalidInput, match="leave out start"):
        adapt(rare, P, flows.nice((2,), width=4), 1.0)
    with pytest.raises(InvalidInput, match="one a draw"):
        adapt(lambda x: x[:, None], P, shifted, 4.0)
    with pytest.raises(InvalidInput, match="n is 1; expected an integer of 2 or more"):
        adapt(rare, P, shifted, 4.0, n=1)
    with pytest.raises(InvalidInput, match="no parameter of the module"):
        adapt(rare, P, flows.nice((2,), width=4).requires_grad_(False))


@pytest.mark.parametrize(
    "family, start, words",
    [
        (shifted, math.nan, "start is nan; expected real, finite"),
        (shifted, [], r"start is \[\]; expected real, finite"),
        (shifted, torch.tensor(1j), "expected real, finite"),
        (shifted, [1.0, 2.0], "start holds 2 parameters, which the family does not take: too many"),
        (Normal, 4.0, "start holds 1 parameters, which the family does not take: missing"),
        (Normal, [4.0, -1.0], "the family refuses its start: .*scale"),
        (shifted, torch.tensor([4.0, 5.0]), r"the family draws events of shape \(2,\)"),
        (lambda m: m, 4.0, "what the family makes is a Tensor"),
    ],
)
def test_bad_starts(family, start, words) -> None:
    with pytest.raises((InvalidInput, InvalidType), match=words):
        adapt(rare, P, family, start, seed=0)
