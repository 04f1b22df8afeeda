"""What an estimate says against itself, and only when it should."""

import math

import pytest
import torch
from torch import Tensor
from torch import distributions as d
from torch.distributions import Normal

from likely import adapt, compare, elbo, exact, expect
from likely.errors import InvalidInput, InvalidType
from likely.expectations import Auto, Mixture, Sobol, choose, rel

P = Normal(torch.tensor(0.0).double(), torch.tensor(1.0).double())
FIVE = Normal(torch.tensor(5.0).double(), torch.tensor(1.0).double())
WIDE = Normal(torch.tensor(0.3).double(), torch.tensor(1.5).double())


class Scaled:
    """P up to a factor."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def log_prob(self, x: Tensor) -> Tensor:
        return P.log_prob(x) + math.log(self.factor)

    def sample(self, n: int) -> Tensor:
        raise RuntimeError("never drawn")


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_law_that_is_not_normalised_is_named(factor: float) -> None:
    e = expect(Tensor.square, Scaled(factor), n=4000, via=WIDE, seed=0)
    assert "mean weight" in str(e) and "not normalised" in str(e.warnings)
    both = e + expect(Tensor.square, Scaled(factor), n=2000, via=WIDE, seed=1)
    assert f"mean weight {factor:g}"[:13] in str(both.warnings)
    assert not expect(Tensor.square, Scaled(factor), n=4000, via=WIDE, normalise=True, seed=0).warnings


def test_a_proposal_that_leaves_out_half_of_p_is_named() -> None:
    p, half = d.Uniform(-1.0, 1.0), d.Uniform(0.0, 1.0)
    assert "mean weight 0.5, not 1" in str(
        expect(lambda x: x + 2, p, n=1000, via=half, seed=0).warnings
    )
    # Where f vanishes there is nothing to miss.
    assert not expect(lambda x: x > 0.5, p, n=1000, via=half, seed=0).warnings


def test_weights_that_are_right_are_not_named() -> None:
    for seed in range(200):  # five standard errors: a false alarm once in 1e6
        assert not any(
            "mean weight" in w for w in expect(torch.cos, P, n=400, via=WIDE, seed=seed).warnings
        )
    # A shifted proposal leaves out the bulk of p on purpose.
    assert not expect(lambda x: x > 5, P, n=4000, via=FIVE, seed=0).warnings
    assert not expect(lambda x: x > 5, P, n=4000, via=[FIVE, P], seed=0).warnings


def test_a_run_that_ends_before_its_tolerance_says_so() -> None:
    short = expect(lambda x: x, P, n=2000, until=rel(0.01), seed=0)
    assert short.n == 2000 and "ended before rel(0.01) was reached" in str(short)
    assert not expect(lambda x: x > 1, P, until=rel(0.1), seed=0).warnings


@pytest.mark.parametrize("hits", [4, 12, 22])
def test_few_hits_have_no_khat(hits: int) -> None:
    e = expect(lambda x: x.exp() * (torch.arange(len(x)) < hits), P, n=1000, seed=0)
    assert e.hits == hits and e.khat == math.inf
    assert "k-hat" not in str(e) and "heavy" not in str(e)
    assert (f"only {hits} hits" in str(e)) == (hits < 20)


LEAF = torch.tensor(0.3, requires_grad=True)
LAW = Normal(LEAF, 1.0)
UNSOUND = Normal(torch.tensor(math.nan), 1.0, validate_args=False)
ONCE = expect(torch.sin, P, n=8, seed=0)


def pairs(x: Tensor) -> Tensor:
    return torch.stack([x, x], 1)


BAD = {
    "until is 0.1; expected a rule, such as rel": lambda: expect(torch.sin, P, until=0.1),
    "tolerance is 'a'": lambda: rel("a"),
    "minimum is 1.5": lambda: rel(0.1, minimum=1.5),
    "seed is True": lambda: expect(torch.sin, P, seed=True),
    "every is 0": lambda: Auto(every=0),
    "n is True": lambda: expect(torch.sin, P, n=True),
    "generator is a int": lambda: expect(torch.sin, P, generator=3),
    "sampling is 'sobol'": lambda: expect(torch.sin, P, sampling="sobol"),
    "sampling is the class Sobol": lambda: expect(torch.sin, P, sampling=Sobol),
    "via draws events of shape \\(3,\\)": lambda: expect(torch.sin, P, via=Normal(torch.zeros(3), 1.0)),
    "via draws events of shape \\(2,\\)": lambda: expect(
        torch.sin, P, via=[P, Normal(torch.zeros(2), 1)]
    ),
    "baseline is a list": lambda: expect(torch.sin, LAW, grad="score", baseline=[1]),
    "baseline is tensor": lambda: expect(torch.sin, LAW, grad="score", baseline=torch.zeros(7, 5)),
    "baseline is nan": lambda: expect(torch.sin, LAW, grad="score", baseline=math.nan),
    "complex": lambda: expect(lambda x: torch.exp(1j * x), P),
    "p is the class Normal": lambda: expect(torch.sin, Normal),
    "f is a NoneType": lambda: exact(None, P),
    "estimators is a str; expected a list": lambda: compare(torch.sin, LAW, "score", [LEAF]),
    "parameters is a Tensor; expected a list": lambda: compare(torch.sin, LAW, ["score"], LEAF),
    "start is 'a'": lambda: adapt(lambda x: x > 1, P, lambda m: Normal(m, 1.0), "a"),
    "rounds is 0": lambda: adapt(lambda x: x > 1, P, lambda m: Normal(m, 1.0), 0.0, rounds=0),
    "log_joint is a NoneType": lambda: elbo(None, LAW),
    "k is 'a'": lambda: elbo(torch.sin, LAW, k="a"),
    "n is 0": lambda: choose(torch.sin, LAW, 0),
    "laws is a int": lambda: Mixture(3),
    "shares are": lambda: Mixture([P], ["a"]),
    "among holds": lambda: Auto(among=["score"]),
    "normalise is 'yes'": lambda: expect(torch.sin, P, via=WIDE, normalise="yes"),
    "batched is 1": lambda: expect(torch.sin, P, batched=1),
    "tolerance is inf": lambda: rel(math.inf),
    "tolerance is True": lambda: rel(True),
    "via\\[1\\] is the class Normal": lambda: expect(torch.sin, P, via=[P, Normal]),
    "laws\\[0\\] is a int": lambda: Mixture([3]),
    "baseline is tensor.*shape of one value of f, \\(2,\\)": lambda: expect(
        pairs, LAW, grad="score", baseline=torch.zeros(3)
    ),
    "baseline has dtype torch.complex64": lambda: expect(
        torch.sin, LAW, grad="score", baseline=torch.tensor(1j)
    ),
    "p is a Normal whose loc holds NaN": lambda: expect(torch.sin, UNSOUND),
    "via is a Independent whose loc holds NaN": lambda: expect(
        torch.sin, P, via=d.Independent(UNSOUND, 0)
    ),
    "neither Normal nor f depends": lambda: expect(torch.sin, P, grad="auto"),
    "an estimate was added to itself": lambda: ONCE + ONCE,
    "level=a": lambda: expect(torch.sin, P, seed=0).interval("a"),
    "Laplace loc": lambda: expect(torch.sin, d.Laplace(LEAF, 1.0), grad="weak"),
}


@pytest.mark.parametrize("words", BAD)
def test_bad_calls_are_refused_at_the_door(words: str) -> None:
    with pytest.raises((InvalidInput, InvalidType), match=words):
        BAD[words]()
