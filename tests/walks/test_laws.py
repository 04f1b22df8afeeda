"""Laws of every walk and proposal, against the enumeration of all paths."""

from functools import cache

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from likely import Walk, exact, expect
from walks.walks_registry import CASES, TRIPLES, weights

Z_BOUND = 4.8916


@cache
def everything(name: str) -> tuple[Tensor, Tensor]:
    return CASES[name].paths()


@pytest.mark.parametrize("name", CASES)
def test_log_prob_is_that_of_the_enumeration(name: str) -> None:
    x, p = everything(name)
    assert p.sum().item() == pytest.approx(1, rel=1e-12)
    torch.testing.assert_close(CASES[name].walk.log_prob(x), p.log(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_proposals_are_laws(name: str) -> None:
    x, _ = everything(name)
    for q in [*CASES[name].proposals.values(), *CASES[name].aimed.values()]:
        assert q.log_prob(x).exp().sum().item() == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_exact_values_are_sums_over_all_paths(name: str) -> None:
    x, p = everything(name)
    w = CASES[name].walk
    for event, f in CASES[name].functionals.items():
        truth = (p * f(x).double()).sum().item()
        assert exact(f, w).item() == pytest.approx(truth, rel=1e-12, abs=1e-15), event
        assert float(w.exact(f, rational=True)) == pytest.approx(truth, rel=1e-12, abs=1e-15), event


@pytest.mark.parametrize("name, event, via", TRIPLES)
def test_relative_variances_are_sums_over_all_paths(name: str, event: str, via: str) -> None:
    x, p = everything(name)
    one = CASES[name]
    proposal = {**one.proposals, **one.aimed}[via]
    f = one.functionals[event]
    q, y = proposal.log_prob(x).exp(), f(x).double()
    mean = (p * y).sum()
    truth = (q * (weights(p, q) * y - mean).square()).sum() / mean.square()
    found = one.walk.relative_variance(f, proposal)
    assert found.item() == pytest.approx(truth.item(), rel=1e-11, abs=1e-15)


@pytest.mark.parametrize("name, event, via", TRIPLES)
def test_estimates_are_unbiased(name: str, event: str, via: str) -> None:
    one = CASES[name]
    f = one.functionals[event]
    proposal = {**one.proposals, **one.aimed}[via]
    truth, n = exact(f, one.walk).item(), 4000
    spread = (one.walk.relative_variance(f, proposal) / n).sqrt().item() * abs(truth)
    e = expect(f, one.walk, n=n, via=proposal, seed=len(name + event + via))
    assert abs(e.mean.item() - truth) <= Z_BOUND * spread + 1e-12 * abs(truth)


@pytest.mark.parametrize("name", CASES)
def test_draws_follow_the_law(name: str) -> None:
    # Of each path, the exact binomial test; 1e-6 is shared among all of them.
    x, _ = everything(name)
    index = {tuple(row): k for k, row in enumerate(x.tolist())}
    n = 20_000
    for q in [CASES[name].walk, *CASES[name].proposals.values(), *CASES[name].aimed.values()]:
        rows = q.sample(n, seed=5).tolist()
        counts = torch.tensor([index[tuple(row)] for row in rows]).bincount(minlength=len(x)).numpy()
        chance = q.log_prob(x).exp().clamp(max=1).numpy()
        tail = np.minimum(stats.binom.cdf(counts, n, chance), stats.binom.sf(counts - 1, n, chance))
        assert (tail > 0.5e-6 / len(x)).all()


@pytest.mark.parametrize("name", CASES)
def test_short_ways_to_weights_lead_to_the_same(name: str) -> None:
    one = CASES[name]
    for via, q in {**one.proposals, **one.aimed}.items():
        x = q.sample(500, seed=3)
        log_w = q.log_weights(x, one.walk)
        # Of tilts of one law, and of transforms of any: it is what makes them quick.
        if via == "feedback" or name == "rule" or (via, name) == ("tilt", "moving"):
            assert log_w is None
            continue
        torch.testing.assert_close(log_w, one.walk.log_prob(x) - q.log_prob(x), rtol=0, atol=1e-12)
        assert q.log_weights(x, Walk(0.5, 0, -3, 3, 4)) is None


@pytest.mark.parametrize("name", CASES)
def test_paths_of_other_walks_are_impossible(name: str) -> None:
    w = CASES[name].walk
    x = w.sample(50, seed=0).clone()
    assert w.log_prob(x).isfinite().all()
    for where, change in [(0, 1), (-1, 7), (1, -9)]:
        wrong = x.clone()
        wrong[:, where] += change
        assert (w.log_prob(wrong) == -torch.inf).all()
