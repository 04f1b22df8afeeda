"""Splitting has the right mean for any score, number of paths and share killed."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from conftest import Z_BOUND
from likely import Estimate, Walk, exact
from likely.errors import InvalidInput, InvalidType, NotConverged
from likely.walks import Chain, NormalSteps, split
from walks.rare import lattice, reach

P_HIT = 2.388383450606957036695686e-6


def z_of(e: Estimate, truth: float) -> float:
    return (e.mean.item() - truth) / e.stderr.item()


def test_the_gambler() -> None:
    e = split(lattice(18 / 37, 100, 600, low=0), 200, n=100, repeats=48, seed=0)
    assert abs(z_of(e, P_HIT)) < Z_BOUND
    assert e.stderr < 0.25 * P_HIT


P = 0.4
WALKS = {
    "two-point": Walk(p=P, low=-3, high=7, horizon=12),
    "half-way up, a tilt": Walk(p=0.3, low=-3, high=7, horizon=12).tilt(P),
    "tabulated": Walk(p=lambda time, x: torch.where(x > 2, 0.5, P), low=-3, high=7, horizon=12),
    "a rule": Walk(p=P, high=7, horizon=12, stop=lambda time, x: x <= -3 + time // 6),
}


@pytest.mark.parametrize("name", WALKS)
def test_walks(name: str) -> None:
    walk = WALKS[name]
    e = split(walk, 7, n=20, repeats=3000, seed=0)
    assert abs(z_of(e, exact(walk.hits(7), walk).item())) < Z_BOUND
    assert e.stderr < 0.1 * e.mean


def test_walks_of_normal_steps() -> None:
    walk = Walk(steps=NormalSteps(0.0, 1.0), horizon=1)
    e = split(walk, 3.0, n=100, repeats=2000, seed=0)
    assert abs(z_of(e, stats.norm.sf(3))) < Z_BOUND


SCORES = {
    "state": None,
    "with time": lambda time, x: torch.where(x >= 7, 7.0, x + 0.3 * (time - 12)).clamp(max=7),
    # It rises and falls with the state, and knows nothing but the event itself.
    "misleading": lambda time, x: torch.where(x >= 7, 7.0, 3 * torch.sin(5.0 * x)),
}


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(("n", "kill"), [(2, 0.5), (3, 0.1), (10, 0.5), (10, 0.9)])
def test_unbiased_whatever_the_score(score: str, n: int, kill: float) -> None:
    truth = reach(0.4, 0, 7, 12, low=-3)
    chain = lattice(0.4, 0, 12, low=-3)
    e = split(chain, 7, SCORES[score], n, kill=kill, repeats=15_000, seed=2)
    assert abs(z_of(e, truth)) < Z_BOUND
    assert e.stderr < 0.2 * truth


@pytest.mark.parametrize("begin", [0.0, 1.0])
def test_sums_of_exponentials_from_random_starts(begin: float) -> None:
    def start(n: int, generator: torch.Generator) -> Tensor:
        return begin * exponential(n, generator)

    def exponential(n: int, generator: torch.Generator) -> Tensor:
        return -(1 - torch.rand(n, generator=generator, dtype=torch.float64)).log()

    chain = Chain(start, lambda time, x, generator: x + exponential(len(x), generator), horizon=5)
    e = split(chain, 16.0, n=50, repeats=1000, seed=0)
    assert abs(z_of(e, stats.gamma.sf(16, 5 + begin))) < Z_BOUND
    assert e.stderr < 0.2 * e.mean


def test_states_of_several_numbers() -> None:
    """Two fair walks, neither of which stops; the score is the sum, a walk of steps -2, 0, 2."""

    def step(time: int, x: Tensor, generator: torch.Generator) -> Tensor:
        return x + 2 * torch.randint(2, x.shape, generator=generator) - 1

    chain = Chain(lambda n, generator: torch.zeros(n, 2, dtype=torch.long), step, horizon=8)
    e = split(chain, 12, lambda time, x: x.sum(1), n=20, repeats=4000, seed=0)
    ways, hit = {0: 1}, 0
    for k in range(8):
        after: dict[int, int] = {}
        for x, m in ways.items():
            for y, share in ((x - 2, 1), (x, 2), (x + 2, 1)):
                if y >= 12:
                    hit += m * share * 4 ** (7 - k)
                else:
                    after[y] = after.get(y, 0) + m * share
        ways = after
    assert abs(z_of(e, hit / 4**8)) < Z_BOUND


def test_sure_impossible_and_seeds(same_global_state) -> None:
    chain = lattice(0.5, 0, 10)
    assert split(chain, 0, seed=0).mean == 1
    with same_global_state():
        e = split(chain, 11, n=20, seed=0)
        a, b, c = (split(chain, 6, n=20, seed=seed) for seed in (1, 1, 2))
    assert a.mean == b.mean != c.mean
    assert (a + c).n == 64
    assert e.mean == 0
    assert e.stderr == math.inf
    assert e.interval() == (0, 1)
    assert "no event seen" in e.warnings


def test_infinite_scores_are_levels_like_others() -> None:
    chain = lattice(0.5, 0, 10)
    e = split(
        chain, math.inf, lambda time, x: torch.where(x >= 6, math.inf, x), n=20, repeats=2000, seed=0
    )
    assert abs(z_of(e, reach(0.5, 0, 6, 10))) < Z_BOUND


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"n": 1}, InvalidInput, "n is 1; expected an integer of 2"),
        ({"kill": 1.0}, InvalidInput, "a share"),
        ({"repeats": 1}, InvalidInput, "repeats is 1"),
        ({"target": math.nan}, InvalidInput, "target is nan"),
        ({"score": lambda time, x: x > 3}, InvalidType, "torch.bool"),
        ({"score": lambda time, x: x[:, None]}, InvalidInput, "score gives shape"),
        ({"score": lambda time, x: x + math.nan}, InvalidInput, "NaN for"),
        ({"score": lambda time, x: 0 * x}, NotConverged, "rose above its first score"),
        ({"score": lambda time, x: torch.tensor(-time).expand(len(x))}, NotConverged, "never rises"),
    ],
)
def test_bad_input(change: dict, error: type, text: str) -> None:
    given = {"chain": lattice(0.5, 0, 10), "target": 6, "n": 20, "seed": 0} | change
    with pytest.raises(error, match=text):
        split(**given)


def test_bad_chains() -> None:
    good = lattice(0.5, 0, 10)
    with pytest.raises(InvalidInput, match="horizon is 0"):
        Chain(good.start, good.step, 0)
    with pytest.raises(InvalidInput, match="expected a tensor of 640 rows"):
        split(Chain(lambda n, generator: torch.zeros(3), good.step, 10), 6, n=20, seed=0)
    with pytest.raises(InvalidInput, match="step returned"):
        split(Chain(good.start, lambda time, x, generator: x[:1], 10), 6, n=20, seed=0)
    with pytest.raises(InvalidInput, match="stopped returned"):
        split(Chain(good.start, good.step, 10, lambda time, x: x), 6, n=20, seed=0)
