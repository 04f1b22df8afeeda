"""Proposals cover every region, have small variance, and estimates by them the right mean."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import Normal

from conftest import Z_BOUND
from likely import Estimate, expect, flows
from likely.errors import InvalidInput, InvalidType, NotConverged
from likely.expectations import Mixture
from likely.walks import propose
from likely.walks.gaussians import fit_gaussians
from likely.walks.shell import Shell, fit_shell
from walks.rare import REGIONS, branches, linear, normal

N = 20_000


def estimate(name: str, q: Mixture, seed: int = 100) -> Estimate:
    case = REGIONS[name]
    return expect(lambda x: case.f(x) <= 0, case.p, n=N, via=q, seed=seed)


@pytest.mark.parametrize("name", REGIONS)
def test_small_variance_and_the_right_mean(name: str) -> None:
    case = REGIONS[name]
    e = estimate(name, propose(case.f, case.p, seed=0))
    assert abs(e.mean.item() - case.truth) < Z_BOUND * e.stderr.item()
    # Per draw; plain draws have 1 / P, from 220 to 3.5e6 here.
    assert N * (e.stderr.item() / case.truth) ** 2 < 4


def test_all_four_branches_are_covered() -> None:
    case = REGIONS["four branches, k=7"]
    q = propose(case.f, case.p, seed=0)
    e = expect(lambda x: branches(x) <= 0, case.p, n=N, via=q, seed=1)
    assert (e.stderr / e.mean < 0.05).all()
    # The branches are alike in pairs: the same truth, so the difference is a z-test of both.
    for one, two in ((0, 1), (2, 3)):
        spread = math.hypot(e.stderr[one], e.stderr[two])
        assert abs(e.mean[one] - e.mean[two]) < Z_BOUND * spread


def test_a_flow_is_trained_and_the_given_one_is_not() -> None:
    case = REGIONS["two sides of a parabola"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        given = flows.nsf((2,), width=32, depth=1, couplings=4)
    before = {name: t.clone() for name, t in given.state_dict().items()}
    q = propose(case.f, case.p, given, rounds=0, steps=150, seed=0)
    for name, t in given.state_dict().items():
        assert torch.equal(t, before[name])
    _, shell, flow, p = q.shares
    assert p == pytest.approx(0.05)
    assert flow > shell
    e = estimate("two sides of a parabola", q)
    assert abs(e.mean.item() - case.truth) < Z_BOUND * e.stderr.item()
    assert N * (e.stderr / case.truth).square() < 20  # plain draws have 331
    # The flow by itself is in both parts of the region, of which the left one has 0.65.
    x = q.laws[2].draw(2000, 0, attached=False)
    inside = case.f(x) <= 0
    assert (inside & (x[:, 0] < 0.1)).double().mean() > 0.1
    assert (inside & (x[:, 0] > 0.1)).double().mean() > 0.1


def test_one_in_ten_million_without_a_flow_that_fits() -> None:
    """In many dimensions a flow sees too few points; the others then carry the proposal."""
    case = linear(5.2, 20)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = flows.nsf((20,), width=8, depth=1, couplings=2)
    q = propose(case.f, case.p, flow, steps=20, seed=0)
    e = expect(lambda x: case.f(x) <= 0, case.p, n=N, via=q, seed=1)
    assert abs(e.mean.item() - case.truth) < Z_BOUND * e.stderr.item()
    assert N * (e.stderr / case.truth).square() < 10


def test_the_defence_bounds_the_weights() -> None:
    case = linear(3.0, 2)
    q = propose(case.f, case.p, n=200, defensive=0.2, seed=0)
    assert q.share_of(case.p) == pytest.approx(0.2)
    x = torch.cat([case.p.sample((1000,)), q.draw(1000, 0, attached=False)])
    assert (case.p.log_prob(x).sum(1) - q.log_prob(x)).exp().max() <= 5 + 1e-9


def test_units_of_the_entries_do_not_matter() -> None:
    case = linear(4.0, 2)
    loc, scale = torch.tensor([100.0, -3.0]).double(), torch.tensor([5.0, 0.01]).double()
    plain = propose(case.f, case.p, n=400, seed=0)
    moved = propose(lambda x: case.f((x - loc) / scale), Normal(loc, scale), n=400, seed=0)
    x = plain.draw(50, 0, attached=False)
    gap = plain.log_prob(x) - moved.log_prob(loc + scale * x)
    torch.testing.assert_close(gap, scale.log().sum().expand(50), rtol=0, atol=1e-5)


def test_seeds_decide_everything(same_global_state) -> None:
    case = linear(3.0, 2)
    with same_global_state():
        a, b, c = (propose(case.f, case.p, n=200, seed=seed) for seed in (1, 1, 2))
    x = torch.linspace(1, 3, 10).double().view(5, 2)  # about where the region begins
    assert torch.equal(a.log_prob(x), b.log_prob(x))
    assert not torch.equal(a.log_prob(x), c.log_prob(x))


@pytest.mark.parametrize("dim", [1, 2, 7])
def test_a_shell_is_a_law(dim: int) -> None:
    shell = Shell(dim, 1.5 * dim, 3.0 * dim)
    z = shell.draw(N, 0, attached=False)
    square = z.square().sum(1)
    # r^2 is gamma distributed, and the density agrees with the draws: E_q[p / q] = 1.
    assert stats.kstest(square, stats.gamma(1.5 * dim, scale=2.0).cdf).pvalue > 1e-6
    p = Normal(torch.zeros(dim).double(), 1.0)
    w = (p.log_prob(z).sum(1) - Mixture([shell, p]).log_prob(z)).exp()
    both = expect(lambda x: torch.ones(len(x)).double(), p, n=N, via=[shell, p], seed=1)
    assert w.max() <= 2 + 1e-9
    assert abs(both.mean.item() - 1) < Z_BOUND * both.stderr.item()
    again = fit_shell(z, torch.full((N,), 1 / N).double())
    assert again.shape == pytest.approx(shell.shape, rel=0.1)
    assert again.square == pytest.approx(shell.square, rel=0.05)


def two_clusters(n: int) -> Tensor:
    z = torch.randn(n, 3, generator=torch.Generator().manual_seed(0)).double()
    z[::2, 0] += 14
    z[:, 1] *= 0.1
    return z


def test_gaussian_mixtures_count_the_weights() -> None:
    """Of 4,000 points in two clusters, one has three times the weight of the other."""
    n = 4000
    z = two_clusters(n)
    w = torch.tensor([3.0, 1.0]).double().repeat(n // 2)
    q = fit_gaussians(z, w / w.sum(), n, torch.Generator().manual_seed(0))
    shares, means = q.mixture_distribution.probs, q.component_distribution.mean
    order = means[:, 0].argsort()
    torch.testing.assert_close(shares[order], torch.tensor([0.25, 0.75]).double(), rtol=0, atol=1e-6)
    for k, cluster in zip(order.tolist(), (z[1::2], z[::2]), strict=True):
        torch.testing.assert_close(means[k], cluster.mean(0), rtol=0, atol=1e-6)
        # A squeezed direction is found; those that noise explains are left at 1, exactly.
        cov = q.component_distribution.covariance_matrix[k]
        assert cov[1, 1] == pytest.approx(0.01, abs=0.005)
        assert cov[0, 0] == pytest.approx(1, abs=1e-3)
        assert cov[2, 2] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"n": 10}, InvalidInput, "n is 10"),
        ({"rounds": -1}, InvalidInput, "rounds is -1"),
        ({"steps": 0}, InvalidInput, "steps is 0"),
        ({"defensive": 0.0}, InvalidInput, "defensive is 0"),
        ({"flow": torch.nn.Linear(2, 2)}, InvalidType, "expected a Flow"),
        ({"flow": flows.nsf((3,))}, InvalidInput, "expected 2 entries"),
        ({"f": lambda x: x.sum(1) > 3}, InvalidType, "booleans"),
        ({"f": lambda x: x}, InvalidInput, "f returned shape"),
        ({"f": lambda x: 1 + x.square().sum(1)}, NotConverged, "never fell to 0"),
    ],
)
def test_bad_input(change: dict, error: type, text: str) -> None:
    given = {"f": lambda x: 3 - x.sum(1), "p": normal(2), "n": 100, "seed": 0} | change
    with pytest.raises(error, match=text):
        propose(**given)
