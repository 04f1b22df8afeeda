"""Reflections and the leapfrog: exact, reversible, volume preserving (docs/theory_completions.md)."""

import math

import pytest
import torch
from torch import Tensor

from likely.samplers.trajectory import leapfrog, reflect

INF = math.inf


def bounce(y: float, low: float, high: float) -> tuple[float, bool]:
    """Reflect at one wall after the other, the slow and obvious way."""
    turned = False
    while not low <= y <= high:
        y = 2 * low - y if y < low else 2 * high - y
        turned = not turned
    return y, turned


@pytest.mark.parametrize(
    "walls", [(0.0, 1.0), (-0.75, 0.5), (0.0, INF), (-INF, 2.0), (-INF, INF)], ids=str
)
def test_reflect_is_one_wall_after_the_other(walls: tuple[float, float]) -> None:
    # Multiples of 1/64, so that all sums are exact; odd ones never end on a wall.
    y = torch.arange(-401, 402, 2, dtype=torch.float64) / 64
    x, turned = reflect(y, *(torch.tensor(w, dtype=torch.float64) for w in walls))
    wanted = [bounce(v, *walls) for v in y.tolist()]
    assert x.tolist() == [w[0] for w in wanted] and turned.tolist() == [w[1] for w in wanted]


def test_reflect_keeps_within_the_walls_to_the_bit(dtype: torch.dtype) -> None:
    draws = torch.Generator().manual_seed(0)
    low = torch.randn(10_000, generator=draws, dtype=dtype)
    high = low + torch.rand(10_000, generator=draws, dtype=dtype) ** 4
    for scale in (0.1, 10.0, 1e6):
        x, _ = reflect(scale * torch.randn(10_000, generator=draws, dtype=dtype), low, high)
        assert ((x >= low) & (x <= high)).all()
    assert torch.equal(reflect(high + 1, low, low)[0], low)


def bowl(x: Tensor) -> Tensor:
    """The gradient of a log density that is not quadratic."""
    return -3 * (x - 0.4) - 0.5 * (5 * x.flip(-1)).sin()


WALLS = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
STEP = torch.tensor([0.3, 0.9, 0.1], dtype=torch.float64)


def end(x: Tensor, p: Tensor, steps: int = 5) -> tuple[Tensor, Tensor]:
    x, p = leapfrog(x, p, bowl(x), STEP, WALLS, steps, bowl)
    return x, p + STEP / 2 * bowl(x)


def test_trajectories_lead_back() -> None:
    draws = torch.Generator().manual_seed(0)
    x = torch.rand(500, 3, generator=draws, dtype=torch.float64)
    p = 2 * torch.randn(500, 3, generator=draws, dtype=torch.float64)
    y, q = end(x, p)
    back, r = end(y, -q)
    assert (y - x).abs().max() > 0.5
    torch.testing.assert_close(back, x, rtol=0, atol=1e-9)
    torch.testing.assert_close(-r, p, rtol=0, atol=1e-9)


def test_trajectories_preserve_volume() -> None:
    draws = torch.Generator().manual_seed(1)
    for _ in range(20):
        start = torch.cat(
            [torch.rand(3, generator=draws), 2 * torch.randn(3, generator=draws)]
        ).double()
        matrix = torch.autograd.functional.jacobian(
            lambda s: torch.cat(end(s[:3], s[3:], 3)), start, vectorize=True
        )
        assert torch.linalg.det(matrix).abs().item() == pytest.approx(1, abs=1e-9)


def test_energy_errs_by_the_square_of_the_step() -> None:
    # A harmonic well far from the walls: halved steps quarter the error.
    x, p = torch.tensor([0.3], dtype=torch.float64), torch.tensor([0.7], dtype=torch.float64)
    wide = torch.tensor([-INF], dtype=torch.float64), torch.tensor([INF], dtype=torch.float64)

    def error(steps: int) -> float:
        h = torch.tensor([1.0 / steps], dtype=torch.float64)
        y, q = leapfrog(x, p, -x, h, wide, steps, lambda t: -t)
        q = q - h / 2 * y
        return abs((y.square() + q.square() - x.square() - p.square()).item())

    assert error(40) / error(80) == pytest.approx(4, rel=0.01)


def test_a_trajectory_that_runs_away_stays_finite() -> None:
    wide = torch.tensor([-INF]), torch.tensor([INF])
    y, q = leapfrog(
        torch.ones(1), torch.ones(1), torch.ones(1), torch.tensor([1e30]), wide, 9, lambda t: 1e30 * t
    )
    assert y.isfinite().all() and not q.square().isfinite().all()
