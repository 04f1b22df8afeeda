"""The laws of rows that stop at different times: their statuses, and how they leave the batch."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from laws.solvers_registry import BOX, EXACT, SEARCHES, Case, run
from likely import minimize, sets
from likely.sets import ConvexSet
from likely.solvers import (
    Annealed,
    Method,
    PerRow,
    ProjectedAdam,
    ProjectedGradient,
    Solution,
    SpectralProjectedGradient,
    Status,
)

ROWS, EVENT = 6, (2, 3)
# Summing entries of one row or of several may round differently; the problems do not magnify it.
CLOSE = {"rtol": 0, "atol": 1e-12}


@pytest.fixture(params=EXACT, ids=lambda name: name.replace(", ", "_"))
def exact(request: pytest.FixtureRequest) -> Case:
    return EXACT[request.param]


def rand(*shape: int, seed: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loss(x: Tensor, a: Tensor, c: Tensor) -> Tensor:
    return 0.5 * (a * (x - c).square()).flatten(1).sum(1)


A, C = 0.5 + 1.5 * rand(ROWS, *EVENT, seed=1), 3 * rand(ROWS, *EVENT, seed=2) - 1
# The further a row starts from its optimum, the longer it is open; row 3 starts there.
START = C.clamp(0, 1) + torch.tensor([1.0, 1e-4, 0.1, 0, 1e-2, 5])[:, None, None] * (
    rand(ROWS, *EVENT, seed=3) - 0.5
)


def same(whole: Solution, other: Solution, rows: slice = slice(None)) -> None:
    torch.testing.assert_close(whole.x[rows], other.x, **CLOSE)
    torch.testing.assert_close(whole.value[rows], other.value, **CLOSE)
    torch.testing.assert_close(whole.stationarity[rows], other.stationarity, **CLOSE)
    assert whole.steps[rows].tolist() == other.steps.tolist()
    assert whole.evaluations[rows].tolist() == other.evaluations.tolist()
    assert whole.status[rows] == other.status


def test_rows_leave_the_batch_when_they_are_done(exact: Case) -> None:
    method = replace(exact.method, tol=1e-3)
    given: list[list[int]] = []

    def fun(x: Tensor, a: Tensor, c: Tensor, number: Tensor) -> Tensor:
        assert len(x) == len(a) == len(c) == len(number)
        assert torch.equal(a, A[number]) and torch.equal(c, C[number])
        given.append(number.tolist())
        return loss(x, a, c)

    sol, seen = run(PerRow(fun, A, C, torch.arange(ROWS)), START, method)
    assert sol.status == (Status.CONVERGED,) * ROWS
    sizes = [len(rows) for rows in given]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == ROWS and len(set(sizes)) > 2
    # Each call is given exactly the rows still open, in their order.
    for k, rows in enumerate(given):
        assert rows == (sol.evaluations > k).nonzero()[:, 0].tolist()
    assert sum(sizes) == sol.evaluations.sum() < ROWS * len(seen)
    assert sol.evaluations[3] == 1 and len(seen) == len(given) == sol.evaluations.max()
    # All rows are shown, and those that stopped rest where they were shown last.
    for i in seen:
        assert i.rows.tolist() == list(range(ROWS)) and i.x.shape == START.shape
        assert torch.equal(i.value, loss(i.x, A, C)) or torch.allclose(
            i.value, loss(i.x, A, C), **CLOSE
        )
    for r, stop in enumerate((sol.evaluations - 1).tolist()):
        for i in seen[stop:]:
            assert torch.equal(i.x[r], seen[stop].x[r])
            assert i.value[r] == sol.value[r] and i.stationarity[r] == sol.stationarity[r]


@pytest.mark.parametrize("tol", [1e-3, 1e-6])
@pytest.mark.parametrize("keep", ["last", "best"])
def test_leaving_changes_no_result(exact: Case, tol: float, keep: str) -> None:
    method = replace(exact.method, tol=tol, keep=keep)
    left, left_path = run(PerRow(loss, A, C), START, method)
    plain, path = run(lambda x: loss(x, A, C), START, method)
    same(left, plain)
    for i, j in zip(left_path, path, strict=True):
        torch.testing.assert_close(i.x, j.x, **CLOSE)
    for r in range(ROWS):
        one = slice(r, r + 1)
        same(left, run(PerRow(loss, A[one], C[one]), START[one], method)[0], one)


class Shelf(ConvexSet):
    """A set of the user's own, with a bound for each row: the library knows nothing of its rows."""

    def __init__(self, low: Tensor) -> None:
        self.low = low

    def project(self, y: Tensor) -> Tensor:
        assert y.shape == self.low.shape, "a set that is not registered is given whole batches"
        return torch.maximum(y, self.low)

    def violation(self, x: Tensor) -> Tensor:
        return (self.low - x).clamp(min=0).flatten(1).amax(1)


LOW = rand(ROWS, *EVENT, seed=4) - 0.3
MASK = rand(ROWS, *EVENT, seed=5) < 0.4
VALUES = LOW + 0.5 * rand(ROWS, *EVENT, seed=6)
WITHIN: dict[str, Callable[[slice], ConvexSet]] = {
    "box": lambda i: sets.Box(LOW[i], LOW[i] + 0.5),
    "shared and per row": lambda i: sets.Box(LOW.amin(0), 1 + LOW[i]),
    "observed": lambda i: sets.Observed(MASK[i], VALUES[i]),
    "box and observed": lambda i: sets.Box(LOW[i], 1.0 + LOW[i]) & sets.Observed(MASK[i], VALUES[i]),
    "simplex": lambda i: sets.Simplex(torch.arange(1.0, 1 + ROWS, dtype=torch.float64)[i]),
    "ball": lambda i: sets.Ball(LOW[i], 0.2 + rand(ROWS, seed=7)[i]),
    "the user's own": lambda i: Shelf(LOW[i]),
}


@pytest.mark.parametrize("within", WITHIN)
@pytest.mark.parametrize("name", ["gradient", "backtracking", "accelerated", "spectral"])
def test_the_parameters_of_a_set_follow_their_rows(name: str, within: str) -> None:
    method = replace(EXACT[name].method, tol=1e-5, steps=200)
    whole = WITHIN[within](slice(None))
    sol, seen = run(PerRow(loss, A, C), START, method, whole)
    assert sol.status == (Status.CONVERGED,) * ROWS
    assert len(set(sol.evaluations.tolist())) > 1, "the rows stopped together"
    exactly = 1e-12 if within in ("simplex", "ball") else 0.0
    for x in (sol.x, *(i.x for i in seen)):
        assert whole.contains(x, atol=exactly).all()
    for r in range(ROWS):
        one = slice(r, r + 1)
        alone, _ = run(PerRow(loss, A[one], C[one]), START[one], method, WITHIN[within](one))
        same(sol, alone, one)


def test_step_sizes_follow_their_rows() -> None:
    lr = torch.tensor([0.01, 0.02, 0.05, 0.1, 0.2, 0.3], dtype=torch.float64)[:, None, None]
    method = ProjectedAdam(lr=lr, betas=(0.8, 0.9), steps=300, tol=1e-4)
    sol, _ = run(PerRow(loss, A, C), START, method)
    assert len(set(sol.evaluations.tolist())) > 2
    for r in range(ROWS):
        one = slice(r, r + 1)
        alone, _ = run(PerRow(loss, A[one], C[one]), START[one], replace(method, lr=lr[one]))
        same(sol, alone, one)


@pytest.mark.parametrize("name", ["backtracking", "spectral"])
def test_badly_scaled_rows_do_as_well_as_alone(name: str) -> None:
    # Curvatures differ by 10^12 between the rows: no common step would do.
    scale = 10.0 ** torch.tensor([-6.0, -4, -2, 2, 4, 6], dtype=torch.float64)[:, None, None]
    method = replace(SEARCHES[name].method, lr=1.0) if name == "backtracking" else SEARCHES[name].method
    method = replace(method, steps=150)
    for r in range(ROWS):
        one = slice(r, r + 1)
        # A tolerance of the size of each row's own slopes.
        tol = 1e-5 * scale[r].item()
        fun = PerRow(lambda x, s, a, c: s[:, 0, 0] * loss(x, a, c), scale, A, C)
        whole = minimize(fun, START, None, replace(method, tol=tol))
        alone = minimize(fun.rows(torch.tensor([r])), START[one], None, replace(method, tol=tol))
        assert alone.evaluations.tolist() == whole.evaluations[one].tolist()
        assert alone.status == whole.status[one] == (Status.CONVERGED,)
        torch.testing.assert_close(whole.x[one], alone.x, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(alone.x, C[one], rtol=0, atol=1e-4)
        assert whole.evaluations[r] <= 80


def valley(x: Tensor) -> Tensor:
    return 100 * (x[:, 1] - x[:, 0].square()).square() + (1 - x[:, 0]).square()


def wrong(x: Tensor) -> Tensor:
    """A bowl whose gradient has the wrong sign: no step along it leads down."""
    near = (x - torch.tensor([-1.1, 1.0])).square().sum(1)
    return 2 * near.detach() - near


def bowl(x: Tensor) -> Tensor:
    return (x - 0.5).square().sum(1)


ENDS: list[tuple[Status, Callable[[Tensor], Tensor]]] = [
    (Status.CONVERGED, bowl),
    (Status.NONFINITE, lambda x: (x - 9).sqrt().sum(1)),
    (Status.UNBOUNDED, lambda x: -(x**4).sum(1)),
    (Status.LIMIT, valley),
    (Status.STALLED, wrong),
]


@pytest.mark.parametrize("per_row", [True, False])
@pytest.mark.parametrize("name", ["backtracking", "spectral", "gradient"])
def test_every_status_in_one_batch(name: str, per_row: bool) -> None:
    # Without a search nothing stalls, and the valley's walls are too steep for a step of 0.1.
    ends = ENDS if name != "gradient" else [*ENDS[:3], (Status.LIMIT, lambda x: bowl(x) / 1e4)]
    kind = torch.tensor([*range(len(ends)), *reversed(range(len(ends)))])
    start = torch.tensor([-1.2, 1.0]).expand(len(kind), 2)
    method = replace(EXACT[name].method, tol=1e-5, steps=40)

    def fun(x: Tensor, kind: Tensor) -> Tensor:
        value = x.new_zeros(len(x))
        for i, (_, f) in enumerate(ends):
            rows = (kind == i).nonzero()[:, 0]
            value = value.index_copy(0, rows, f(x[rows]))
        return value

    given = PerRow(fun, kind) if per_row else lambda x: fun(x, kind)
    sol, seen = run(given, start, method, None)
    assert list(sol.status) == [ends[i][0] for i in kind.tolist()]
    for r, (status, stop) in enumerate(zip(sol.status, (sol.evaluations - 1).tolist(), strict=True)):
        if status is Status.CONVERGED:
            assert 0 < stop < method.steps and (sol.x[r] - 0.5).abs().max() < 1e-5
        elif status is Status.NONFINITE:
            assert stop == 0 and torch.equal(sol.x[r], start[r]) and sol.value[r] == torch.inf
        elif status is Status.UNBOUNDED:
            assert 0 < stop < method.steps and seen[stop].value[r] == -torch.inf
            assert sol.value[r].isfinite() and sol.value[r] < -100
        elif status is Status.LIMIT:
            assert stop == method.steps and sol.stationarity[r] > method.tol
        else:
            assert 10 < stop < method.steps and sol.steps[r] == 0
            assert torch.equal(sol.x[r], start[r])
        assert all(torch.equal(i.x[r], seen[stop].x[r]) for i in seen[stop:])
        assert status.ok == (status is Status.CONVERGED)
    # Each kind of row occurs twice, and fares the same.
    assert torch.equal(sol.x, sol.x.flip(0)) and torch.equal(sol.evaluations, sol.evaluations.flip(0))


UNBOUNDED: dict[str, Method] = {
    "gradient": ProjectedGradient(lr=0.1, steps=100, tol=1e-6),
    "backtracking": ProjectedGradient(lr=0.1, backtracking=True, steps=500, tol=1e-6),
    "spectral": SpectralProjectedGradient(steps=100, tol=1e-6),
}


@pytest.mark.parametrize("name", UNBOUNDED)
@pytest.mark.parametrize("tol", [None, 1e-6])
def test_a_fall_to_minus_infinity_is_said(name: str, tol: float | None) -> None:
    method = replace(UNBOUNDED[name], tol=tol)
    x = torch.tensor([[1.0], [0.5], [-2.0]])
    sol, seen = run(lambda x: -(x**4).sum(1), x, method, None)
    assert sol.status == (Status.UNBOUNDED,) * 3 and not Status.UNBOUNDED.ok
    # The last finite point is returned, and it is lower than the start.
    assert sol.value.isfinite().all() and (sol.value < seen[0].value).all()
    torch.testing.assert_close(sol.value, -(sol.x**4).sum(1))
    # On a bounded set there is a least value.
    bounded, _ = run(lambda x: -(x**4).sum(1), x, replace(method, tol=1e-6), sets.Box(-3.0, 3.0))
    assert bounded.status == (Status.CONVERGED,) * 3 and (bounded.x.abs() == 3).all()


@pytest.mark.parametrize("name", ["backtracking", "spectral"])
@pytest.mark.parametrize("slope", [1e-3, 1.0, 1e9])
def test_a_linear_function_has_no_least_value(name: str, slope: float) -> None:
    x = torch.zeros(2, 3)
    sol, _ = run(lambda x: slope * x.sum(1), x, UNBOUNDED[name], None)
    # Spectral steps are at most 1e30: a gentle slope is not followed to infinity. It never converges,
    # also where x is so large that x - slope rounds to x.
    gentle = name == "spectral" and slope < 1e8
    assert sol.status == ((Status.LIMIT if gentle else Status.UNBOUNDED),) * 2
    torch.testing.assert_close(sol.stationarity, torch.full((2,), slope))
    assert (sol.x < -1e20).all()


def test_nothing_else_is_called_unbounded(exact: Case) -> None:
    # Huge, overflowing to plus infinity, or indefinite: none of them falls to minus infinity.
    x = torch.full((3, 1), 1.5)

    def fun(x: Tensor) -> Tensor:
        steep, even = 1e30 * x[0].square(), (x[1] * 1e3) ** 12
        return torch.cat([steep, even, x[2] ** 4 - 3 * x[2].square() - 1e37])

    for tol in (None, 1e-3):
        sol, _ = run(fun, x, replace(exact.method, tol=tol), None)
        assert Status.UNBOUNDED not in sol.status


def test_rows_that_leave_with_noise_follow_the_seed() -> None:
    method = Annealed(scale=4.0, offset=8.0, batch=1.0, noise=0.02, steps=60, tol=0.05)
    first, _ = run(PerRow(loss, A, C), START, method, BOX)
    again, _ = run(PerRow(loss, A, C), START, method, BOX)
    assert torch.equal(first.x, again.x) and first.status == again.status
    assert len(set(first.evaluations.tolist())) > 1
    assert math.isfinite(first.value.sum().item())
