"""Replica exchange: a law of two modes, and the swaps themselves."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from conftest import Z_BOUND
from likely.samplers import Hamiltonian, Langevin, Sampler, Sweep, Target, sample
from likely.samplers.exchange import exchange

#: two normal laws of scale 0.03, at 0.2 and 0.8, with weights 0.7 and 0.3: 20 scales apart
WEIGHT = 0.7


def two_modes(x: Tensor) -> Tensor:
    parts = [-((x - m) / 0.03).square().flatten(1).sum(1) / 2 for m in (0.2, 0.8)]
    return torch.logaddexp(parts[0] + math.log(WEIGHT), parts[1] + math.log(1 - WEIGHT))


def problem(rows: int) -> Target:
    low = torch.zeros(rows, 2, dtype=torch.float64)
    image = torch.full_like(low, 0.2)
    return Target(
        lambda x: two_modes(x[:, :1]), image, torch.tensor([[True, False]] * rows), low, low + 1
    )


LADDER = (1.0, 3.0, 9.0, 27.0, 81.0)


@pytest.mark.parametrize(
    "method",
    [
        Hamiltonian(leapfrogs=4, chains=1, warmup=100, thin=60, temperatures=LADDER, start="given"),
        Langevin(chains=1, warmup=100, thin=100, temperatures=LADDER, start="given"),
    ],
    ids=lambda m: type(m).__name__,
)
def test_both_modes_are_found_with_their_weights(method: Sampler) -> None:
    # All start in the one mode. Rows are independent; a false alarm once in 1e6.
    rows = 500
    found = sample(problem(rows), 1, method, torch.Generator().manual_seed(0)).x[0, :, 0]
    share = (found < 0.5).double().mean().item()
    assert abs(share - WEIGHT) < Z_BOUND * math.sqrt(WEIGHT * (1 - WEIGHT) / rows)
    # Within the modes, the spread is theirs.
    gap = found - torch.where(found < 0.5, 0.2, 0.8)
    var = gap.square() / 0.03**2
    assert abs(var.mean() - 1) < Z_BOUND * math.sqrt(2 / rows)


def test_a_single_chain_stays_in_its_mode_and_several_say_so() -> None:
    alone = Hamiltonian(leapfrogs=4, chains=1, warmup=100, thin=100, start="given")
    found = sample(problem(100), 1, alone, torch.Generator().manual_seed(0)).x[0, :, 0]
    # Long steps early in the warm-up may throw one across; the weights are far off all the same.
    assert (found < 0.5).double().mean() > 0.9
    several = Hamiltonian(leapfrogs=4, warmup=60, thin=10)
    draws = sample(problem(40), 16, several, torch.Generator().manual_seed(0))
    both = ((draws.x[..., 0] < 0.5).any(0)) & ((draws.x[..., 0] > 0.5).any(0))
    assert both.any()
    assert all(s.name == "UNMIXED" for s, b in zip(draws.status, both.tolist(), strict=True) if b)
    assert (draws.rhat[both] > 2).all() and (draws.ess[both] < 16).all()


def test_a_swap_is_accepted_by_its_ratio() -> None:
    log_p = torch.tensor([[[-3.0, -1.0, -1.5]]]).expand(1, 100_000, 3)
    inverse = torch.tensor([1.0, 0.5, 0.2])
    draws = torch.Generator().manual_seed(0)
    order, swapped = exchange(0, log_p, inverse, draws)
    # The hotter point is the likelier one: the swap is sure. Temperature 2 has no partner.
    assert swapped.all() and (order == torch.tensor([1, 0, 2])).all()
    order, swapped = exchange(1, log_p, inverse, draws)
    chance = math.exp(0.3 * -0.5)
    share = swapped.double().mean().item()
    assert abs(share - chance) < Z_BOUND * math.sqrt(chance * (1 - chance) / 100_000)
    assert (order[..., 0] == 0).all() and (order.sort(-1).values == torch.arange(3)).all()


def test_points_nowhere_allowed_are_not_swapped_among_themselves() -> None:
    log_p = torch.full((1, 50, 2), -math.inf)
    order, swapped = exchange(0, log_p, torch.tensor([1.0, 0.5]), torch.Generator().manual_seed(0))
    assert not swapped.any() and (order == torch.arange(2)).all()


def test_steps_are_adapted_in_the_warm_up_and_then_kept() -> None:
    def law(x: Tensor) -> Tensor:
        return -((x - 0.5) / 0.05).square().sum(1) / 2

    low = torch.zeros(10, 50, dtype=torch.float64)
    wide = Target(law, low + 0.5, low == 0, low, low + 1)
    for first in (1e-4, 1.0):
        seen: list[Sweep] = []
        method = Hamiltonian(leapfrogs=4, warmup=150, thin=20, chains=1, step=first)
        draws = sample(wide, 2, method, torch.Generator().manual_seed(0), seen.append)
        assert 0.7 < draws.acceptance.mean() < 0.92
        assert [s.warming for s in seen] == [True] * 150 + [False] * 40
        fixed = sample(wide, 2, replace(method, warmup=0), torch.Generator().manual_seed(0))
        assert not 0.05 < fixed.acceptance.mean() < 0.999
