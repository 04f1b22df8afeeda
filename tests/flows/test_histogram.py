"""Histograms on [0, 1]: densities, distribution functions, and draws."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from likely.errors import InvalidInput
from likely.flows import Histogram


def logits(*shape, seed=0, dtype=torch.float64):
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize(
    ("bins", "cells"), [(2, 2), (5, 17), (17, 17), (32, 256), (64, 256), (256, 256)]
)
def test_bins_are_unions_of_cells_and_fill_the_interval(bins, cells):
    edges = Histogram(bins, cells).edges
    assert edges[0] == 0 and edges[-1] == 1 and len(edges) == bins + 1
    assert ((edges * cells).round() - edges * cells).abs().max() < 1e-12
    assert (edges.diff() > 0.5 / cells).all()
    # The same seen from white as from black, and finest at both ends (rounding takes a cell at most).
    assert (edges + edges.flip(0) - 1).abs().max() < 1.01 / cells
    assert edges.diff()[0] <= edges.diff().max()


@pytest.mark.parametrize("bins", [2, 5, 32])
def test_the_density_integrates_to_one_and_has_the_stated_mean(bins):
    law, given = Histogram(bins, 256), logits(3, bins)
    # Midpoints of cells integrate what is constant on them exactly, and x itself too.
    x = ((torch.arange(256, dtype=torch.float64) + 0.5) / 256)[:, None].expand(256, 3)
    density = law.log_prob(x, given.expand(256, 3, bins)).exp()
    torch.testing.assert_close(density.mean(0), torch.ones(3).double(), rtol=0, atol=1e-13)
    torch.testing.assert_close((density * x).mean(0), law.mean(given), rtol=0, atol=1e-13)


def test_the_distribution_function_is_the_integral_and_its_slope_the_density():
    law, given = Histogram(5, 17), logits(7, 5)
    x = torch.rand(
        7, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True
    )
    u, log_f = law(x, given)
    assert torch.equal(log_f, law.log_prob(x, given))
    slope = torch.autograd.grad(u.sum(), x)[0]
    torch.testing.assert_close(slope.log(), law.log_prob(x, given).detach(), rtol=0, atol=1e-12)
    fine = (torch.arange(17_000, dtype=torch.float64)[:, None] + 0.5) / 17_000
    density = law.log_prob(fine.expand(-1, 7), given.expand(17_000, 7, 5)).exp()
    integral = (density * (fine < x)).mean(0)
    torch.testing.assert_close(u.detach(), integral, rtol=0, atol=5e-4)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(law(ends, given[:2])[0], ends, rtol=0, atol=1e-15)


def test_the_inverse_inverts(dtype):
    law, given = Histogram(32, 256), logits(1000, 32, dtype=dtype)
    u = torch.rand(1000, dtype=dtype, generator=torch.Generator().manual_seed(1))
    x, log_p = law.inverse(u, given)
    assert ((x >= 0) & (x < 1)).all()
    torch.testing.assert_close(law(x, given)[0], u, rtol=0, atol=50 * torch.finfo(dtype).eps)
    assert torch.equal(log_p, law.log_prob(x, given))  # so that x is in the bin that was drawn


@pytest.mark.parametrize("u", [0.0, 1 - 2**-24, 1.0])
def test_the_ends_of_the_unit_interval(u):
    law = Histogram(32, 256)
    given = logits(50, 32, dtype=torch.float32)
    given[:, -3:] = -200.0  # the last bins hold nothing in float32
    given[:, :2] = -200.0
    x, log_p = law.inverse(torch.full((50,), u), given)
    assert x.isfinite().all() and ((x >= 0) & (x < 1)).all() and log_p.isfinite().all()


def test_draws_follow_the_law():
    # Kolmogorov-Smirnov; a false alarm once in 1e6.
    law, given = Histogram(6, 256), logits(1, 6)
    u = torch.rand(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    x, _ = law.inverse(u, given.expand(20_000, 6))
    edges, p = law.edges.numpy(), (given + law.edges.diff().log()).softmax(-1)[0].numpy()
    cumulated = [0.0, *p.cumsum()]
    assert stats.kstest(x.numpy(), lambda t: np.interp(t, edges, cumulated)).pvalue > 1e-6


def test_outside_and_nan():
    law = Histogram(4, 16)
    log_p = law.log_prob(torch.tensor([-1e-6, 0.0, 1.0, 1.1, math.nan]), torch.zeros(5, 4))
    assert log_p[0] == log_p[3] == -math.inf
    assert log_p[1:3].isfinite().all() and log_p[4].isnan()


@pytest.mark.parametrize(("bins", "cells"), [(1, 256), (0, 3), (257, 256)])
def test_bad_sizes(bins, cells):
    with pytest.raises(InvalidInput, match=f"bins is {bins} and cells {cells}"):
        Histogram(bins, cells)
