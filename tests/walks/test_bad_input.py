"""What walks refuse, and how they say so."""

import math
from collections.abc import Callable

import pytest
import torch
from torch.distributions import Normal

from likely import Walk, adapt, exact, expect
from likely.errors import InvalidInput, InvalidType
from likely.expectations import Mixture
from likely.walks import Chain, ImpossibleEvent, NormalSteps, finite, propose, split, subset

W = Walk(18 / 37, start=100, low=0, high=200, horizon=600)
NORMAL = Walk(steps=NormalSteps(0.0, 1.0), start=0, high=3, horizon=5)
OTHER = Walk(18 / 37, start=100, low=0, high=201, horizon=600)
LAZY = Walk(steps=finite([-1, 0, 2], [0.5, 0.3, 0.2]), start=0, low=-10, high=30, horizon=100)
LONG = Walk(0.5, 0, -(10**6), 10**6, 10**7)
GAUSS = Normal(torch.zeros(2).double(), 1.0)
RULED = Walk(0.5, 0, -3, 3, 5, stop=lambda t, x: x == 1)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Walk(), "p and steps are both missing"),
        (lambda: Walk(0.5, steps=finite([-1, 1], [0.5, 0.5])), "both given"),
        (lambda: Walk(0.0), "p is 0.0; expected a probability strictly between 0 and 1"),
        (lambda: Walk(1), "p is 1"),
        (lambda: Walk(1.5), "p is 1.5"),
        (lambda: Walk(float("nan")), "p is nan"),
        (lambda: Walk(torch.ones(2)), r"p has shape \(2,\)"),
        (lambda: Walk(0.5, start=0, low=0, high=5), "start is 0, low 0, high 5"),
        (lambda: Walk(0.5, start=7, low=0, high=5), "strictly between the levels"),
        (lambda: Walk(0.5, start=float("inf")), "start is inf"),
        (lambda: Walk(0.5, start=0.5, horizon=3), "start is 0.5; expected an integer"),
        (lambda: Walk(0.5, horizon=0), "horizon is 0"),
        (lambda: Walk(0.5, horizon=2.5), "horizon is 2.5"),
        (lambda: W.tilt(0.0), "q is 0.0"),
        (lambda: W.tilt(1.0), "q is 1.0"),
        (lambda: W.tilt(-2), "q is -2"),
        (lambda: finite([1], [1.0]), "two or more different integers"),
        (lambda: finite([0.5, 1], [0.5, 0.5]), "two or more different integers"),
        (lambda: finite([0, 1], [0.5, 0.4]), "with sum 1"),
        (lambda: finite([0, 1], [1.0, 0.0]), "a positive one for each"),
        (lambda: NormalSteps(0.0, 0.0), "scale is 0.0"),
        (lambda: W.bridge(150), "the level is 150; expected one that the walk stops at"),
        (lambda: W.unstopped().doob(200), "expected one that the walk stops at"),
        (lambda: RULED.doob(3), "no other rule"),
        (lambda: Walk(0.5, 0, -3, 30, 20).bridge(30), "probability is exactly 0, and there is nothing"),
        (lambda: Walk(0.5, 0, -3, 30, 20).doob(30), "no path reaches level 30 from 0"),
        (lambda: Walk(lambda t, x: 0.5 + 0 * x, 0, -3, 3, 9).bridge(3), "for steps of one law"),
        (lambda: NORMAL.bridge(3), "bridge is for steps of integers"),
        (lambda: NORMAL.doob(3), "doob is for steps of integers"),
        (lambda: NORMAL.feedback(lambda t, x: x), "feedback is for steps of integers"),
        (lambda: Walk(0.5, 0, high=3, horizon=5).ruined(), "no low level"),
        (lambda: Walk(0.5, 0, -3, 3).sample(5), "horizon is None"),
        (lambda: W.sample(0), "n is 0"),
        (lambda: W.log_prob(torch.zeros(5, 600)), r"\(5, 600\); expected \(n, 601\)"),
        (lambda: exact(W.hits(200), Walk(0.5, 0, -3, 3, 9)), "take it from this walk"),
        (lambda: exact(NORMAL.hits(3), NORMAL), "exact answers are for steps of integers"),
        (lambda: exact(Walk(0.5, 0, -3, 3).survives(), Walk(0.5, 0, -3, 3)), "horizon is None"),
        (lambda: exact((w := Walk(0.5, 0, -3)).ruined(), w), "between two levels"),
        (lambda: expect(W.hits(200), W, grad="path"), "'path' does not apply"),
        (lambda: W.relative_variance(W.hits(200), Walk(0.5, 0, -3, 3, 9)), "as the walk"),
        (lambda: W.relative_variance(W.ruined(), W.doob(200)), "never makes a step that matters"),
        (lambda: W.relative_variance(W.hits(200), Mixture([W, W.bridge(200)])), "when and where"),
        (lambda: W.relative_variance(W.hits(150), Mixture([W, W.tilt(0.55)])), "when and where"),
        (lambda: expect(W.hits(200), W, via=W.feedback(lambda t, x: x * 0 + 1.0)), "strictly between"),
        (lambda: expect(W.hits(200), W, via=W.feedback(lambda t, x: x[:3])), "returned"),
        (lambda: expect(W.hits(200), W, via=Walk(0.5, 100, 50, 200, 600)), "expected what p draws"),
        (lambda: expect(W.hits(200), W, via=[W, Walk(0.5, 100, 0, 200, 500)]), "expected what p draws"),
        (lambda: split(Walk(0.5, 0, -5, 5, 20), -5), "has reached it"),
        (lambda: Walk(0.5, 2**62, horizon=5), "below 2.61"),
        (lambda: W.hits(math.nan), "level is nan"),
        (lambda: Walk(0.5, 0, horizon=5, stop=lambda t, x: x).sample(3), "expected a boolean tensor"),
        (lambda: expect(OTHER.hits(200), W), "take it from this walk"),
        (lambda: expect(OTHER.functional(lambda x: x[:, -1]), W), "take it from this walk"),
        (lambda: expect(W.hits(200), torch.distributions.Normal(0.0, 1.0)), "p is a Normal"),
        (lambda: adapt(OTHER.hits(200), W, W.tilt, 0.55, seed=0), "take it from this walk"),
        (lambda: expect(W.functional(lambda x: x.sum()), W, n=9), r"shape \(\) for 9 paths"),
        (lambda: W.bridge(200, last=-1), "last is -1"),
        (lambda: LONG.doob(10**6), "more than 100,000,000 entries"),
        (lambda: W.ends_above(math.nan), "x is nan"),
        (lambda: W.passage_time(200, missed=math.inf), "missed is inf"),
        (lambda: LAZY.tilt(1e308), "expected a smaller one"),
        (lambda: LAZY.tilt(-5000), "expected a smaller one"),
        (lambda: propose(lambda x: 2 - x.sum(1), Normal(torch.zeros(2), 1e-30)), "of square 0 in"),
        (lambda: split(W, math.nan), "target is nan"),
    ],
)  # fmt: skip
def test_refusals(make: Callable[[], object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        make()


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Walk("18/37"), "p is a str"),
        (lambda: Walk(0.5, start="0"), "start is a str"),
        (lambda: Walk(0.5, low=[-5]), "low is a list"),
        (lambda: Walk(steps=[-1, 1]), "steps is a list"),
        (lambda: W.hits("200"), "level is a str"),
        (lambda: split(Chain(lambda n, g: torch.zeros(n).long(), lambda t, x, g: x + 0.5, 5), 3),
         "returned torch.float32"),
        (lambda: W.relative_variance(W.hits(200), 0.5), "via is a float"),
        (lambda: Walk(True), "p is a bool"),
        (lambda: LAZY.tilt([1, 2]), r"the tilt is \[1, 2\]; expected a number"),
        (lambda: LAZY.tilt("0.5"), "the tilt is '0.5'; expected a number"),
        (lambda: NORMAL.tilt(None), "the tilt is None"),
        (lambda: W.tilt(torch.tensor(0.5 + 0j)), "q is a tensor of torch.complex64"),
        (lambda: NormalSteps("0", 1.0), "mean is '0'"),
        (lambda: NormalSteps(0.0, None), "scale is None"),
        (lambda: finite(None, [1.0]), "values are a NoneType"),
        (lambda: finite([1, -1], ["a", "b"]), "a probability is 'a'"),
        (lambda: finite([1, -1], None), "probabilities are a NoneType"),
        (lambda: W.functional(3), "function is a int"),
        (lambda: W.terminal("x"), "function is a str"),
        (lambda: expect(W.functional(lambda x: 3), W, n=9), "returned a int"),
        (lambda: W.passage_time(200, missed="0"), "missed is '0'"),
        (lambda: W.bridge("200"), "level is a str"),
        (lambda: expect(W.hits(200), W, via=W.feedback(lambda t, x: None), n=9), "a NoneType"),
        (lambda: Walk(0.5, 0, absorbing="no"), "absorbing is 'no'"),
        (lambda: split(W, "200"), "target is '200'"),
        (lambda: split(W, 200, score=3), "score is a int"),
        (lambda: split(W, 200, kill="half"), "kill is 'half'"),
        (lambda: Chain(3, lambda t, x, g: x, 5), "start is a int"),
        (lambda: subset(lambda x: 5 - x.sum(1), GAUSS, share="0.1"), "share is '0.1'"),
        (lambda: propose(lambda x: 5 - x.sum(1), GAUSS, defensive="0.1"), "defensive is '0.1'"),
        (lambda: Walk(0.5, 0, stop=3), "stop is a int"),
        (lambda: exact(lambda x: x[:, -1], W), "they have no dynamic programme|others have no"),
        (lambda: W.relative_variance(W.hits(200), Mixture([torch.distributions.Normal(0.0, 1.0)])),
         "via is a Normal"),
    ],
)  # fmt: skip
def test_wrong_kinds(make: Callable[[], object], words: str) -> None:
    with pytest.raises(InvalidType, match=words):
        make()


def test_what_cannot_happen_is_said() -> None:
    short = Walk(0.5, 0, -3, 30, 20)
    with pytest.warns(ImpossibleEvent, match="no path reaches level 30 from 0.*exactly 0"):
        f = short.hits(30)
    assert exact(f, short) == 0 and short.exact(f, rational=True) == 0
    assert not f(short.sample(100, seed=0)).any()
    with pytest.raises(InvalidInput, match="exactly 0"):
        short.relative_variance(f)
    with pytest.warns(ImpossibleEvent, match="level 250"):
        W.hits(250)
    with pytest.warns(ImpossibleEvent):
        W.passage_time(-1)
    W.hits(150)  # within reach: no word


def test_an_optimiser_may_leave_the_range() -> None:
    q = torch.tensor(1.2, requires_grad=True)
    assert (W.tilt(q).log_prob(W.sample(3, seed=0)) == -torch.inf).all()
