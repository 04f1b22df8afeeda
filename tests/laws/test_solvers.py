"""The laws of methods, for every method that likely.solvers exports."""

import inspect
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from laws.solvers_registry import (
    BOX,
    CASES,
    EXACT,
    ROWS,
    SHAPE,
    Case,
    equal,
    overshoot,
    quadratic,
    run,
    slowly,
    start,
    value_of,
    watched,
)
from likely import minimize, sets, solvers
from likely.solvers import Annealed, Iterate, Method, ProjectedGradient, Solution, Status
from likely.solvers import SpectralProjectedGradient as Spectral


@pytest.fixture(params=CASES, ids=lambda name: name.replace(", ", "_"))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(params=EXACT, ids=lambda name: name.replace(", ", "_"))
def exact(request: pytest.FixtureRequest) -> Case:
    return EXACT[request.param]


def test_every_exported_method_is_registered() -> None:
    exported = {m for m in vars(solvers).values() if inspect.isclass(m) and issubclass(m, Method)}
    concrete = {m for m in exported if not inspect.isabstract(m)}
    assert {type(c.method) for c in CASES.values()} == concrete


def test_reaches_the_optimum(exact: Case) -> None:
    # The problem separates over the entries, so the optimum is the clipped centre.
    a, c = quadratic()
    sol, _ = run(value_of(a, c), start(), exact.method)
    best = c.clamp(0, 1)
    assert (sol.x - best).abs().max() < exact.close
    torch.testing.assert_close(sol.value, value_of(a, c)(best), rtol=0, atol=exact.close)
    assert sol.stationarity.max() < 4 * exact.close
    assert sol.status == (Status.COMPLETED,) * ROWS


def test_every_iterate_is_feasible(case: Case) -> None:
    a, c = quadratic()
    kinds = {Annealed: {"scale": 400.0}, Spectral: {"memory": 1}}
    wild = kinds.get(type(case.method), {"lr": 10.0})
    keep = sets.Observed(start() < 0.4, start(torch.float64))
    for method in (replace(case.method, steps=25), replace(case.method, steps=25, **wild)):
        for within in (BOX, keep, BOX & keep):
            # The start is outside on purpose.
            sol, seen = run(value_of(a, c), 3 * start() - 1, method, within)
            # A line search may find nothing lower, and then stops.
            assert len(seen) == sol.evaluations.max()
            assert case.searches or len(seen) == method.steps + 1
            assert [i.k for i in seen] == list(range(len(seen)))
            assert all(i.rows.tolist() == list(range(ROWS)) for i in seen)
            for x in (sol.x, *(i.x for i in seen)):
                assert within.contains(x).all()


def test_shown_values_are_those_of_the_function(case: Case) -> None:
    a, c = quadratic()
    _, seen = run(value_of(a, c), start(), replace(case.method, steps=20))
    for i in seen:
        assert torch.equal(i.value, value_of(a, c)(i.x))


def test_stationarity_is_what_it_says(case: Case) -> None:
    a, c = quadratic()
    sol, seen = run(value_of(a, c), start(), replace(case.method, steps=20))
    last = Iterate(-1, torch.arange(ROWS), sol.x, sol.value, sol.stationarity)
    for i in (*seen, last):
        x, grad = i.x.numpy(), (a * (i.x - c)).numpy()
        gap = np.abs(np.clip(x - grad, 0, 1) - x).reshape(ROWS, -1).max(1)
        np.testing.assert_allclose(i.stationarity.numpy(), gap, rtol=1e-13)


def test_batch_is_a_loop_over_rows(exact: Case) -> None:
    a, c = quadratic()
    # What a line search finds by comparing values that differ by rounding depends on rounding.
    method = replace(exact.method, tol=1e-6) if exact.searches else exact.method
    whole, _ = run(value_of(a, c), start(), method)
    for r in range(ROWS):
        one = slice(r, r + 1)
        alone, _ = run(value_of(a[one], c[one]), start()[one], method)
        assert alone.evaluations.tolist() == whole.evaluations[one].tolist()
        assert alone.steps.tolist() == whole.steps[one].tolist()
        # Vector and scalar arithmetic may round differently.
        torch.testing.assert_close(whole.x[one], alone.x, rtol=0, atol=1e-12)
        torch.testing.assert_close(whole.value[one], alone.value, rtol=0, atol=1e-12)


def test_seed_decides(case: Case, same_global_state: None) -> None:
    a, c = quadratic()

    def solve(seed: int) -> Solution:
        return minimize(value_of(a, c), start(), BOX, case.method, seed=seed)

    assert equal(solve(1), solve(1))
    assert torch.equal(solve(1).x, solve(2).x) == (not case.draws)
    given = minimize(
        value_of(a, c), start(), BOX, case.method, generator=torch.Generator().manual_seed(1)
    )
    assert equal(given, solve(1))
    # Without a seed it draws from entropy, and still not from the global state.
    minimize(value_of(a, c), start(), BOX, case.method)


def test_dtype_shape_and_input_are_kept(case: Case) -> None:
    for dtype in (torch.float32, torch.float64):
        a, c = quadratic(dtype)
        x = start(dtype)
        sol, seen = run(value_of(a, c), x, replace(case.method, steps=5))
        for t in (sol.x, sol.value, sol.stationarity, seen[-1].x, seen[-1].value):
            assert t.dtype == dtype and not t.requires_grad
        assert (sol.x.shape, sol.value.shape, sol.steps.shape) == (SHAPE, (ROWS,), (ROWS,))
        assert sol.steps.dtype == sol.evaluations.dtype == torch.long and len(sol.status) == ROWS
        assert torch.equal(x, start(dtype))


# A line search shortens a trial whose value is not finite: see test_line_searches.py.
BREAKS = [
    (name, when)
    for name, c in CASES.items()
    for when in ("at the start", "its value", "its gradient")
    if not (c.searches and when == "its value")
]


@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize("name, when", BREAKS)
def test_a_broken_row_is_reported_and_disturbs_no_other(name: str, when: str, keep: str) -> None:
    a, c = quadratic()
    method = replace(slowly(CASES[name].method, 0.05), keep=keep, steps=40)
    healthy, healthy_path = run(value_of(a, c), start(), method)
    x1 = start().clone()
    x1[1] = 0.9

    def broken(x: Tensor) -> Tensor:
        # Row 1 slides towards 0, where its function, or its gradient alone, is not defined below 0.6.
        root = 0 * (x[1] - (2.0 if when == "at the start" else 0.6)).sqrt()
        root = torch.where(root.isnan(), 0.0, root) if when == "its gradient" else root
        return torch.stack([value_of(a, c)(x)[0], x[1].sum() + root.sum(), value_of(a, c)(x)[2]])

    sol, seen = run(broken, x1, method)
    assert sol.status == (Status.COMPLETED, Status.NONFINITE, Status.COMPLETED)
    # The same draws with a healthy row 1, from the same places.
    for other in (0, 2):
        both = list(zip(seen, healthy_path, strict=False))
        assert len(both) >= sol.evaluations[other] == healthy.evaluations[other]
        assert sol.steps[other] == healthy.steps[other]
        assert torch.equal(sol.x[other], healthy.x[other])
        assert all(torch.equal(mine.x[other], theirs.x[other]) for mine, theirs in both)
    stop = int(sol.evaluations[1]) - 1
    finite = seen[:stop]
    assert sol.steps[1] == stop, "each of its points was accepted: its values fall all the way"
    if when == "at the start":
        assert stop == 0 and torch.equal(sol.x[1], seen[0].x[1])
    else:
        assert 0 < stop < method.steps and (seen[stop].x[1] < 0.6).any()
        assert all(i.value[1].isfinite() for i in finite)
        assert seen[stop].value[1].isfinite() == (when == "its gradient")
        kept = finite[-1] if keep == "last" else min(finite, key=lambda i: i.value[1].item())
        assert torch.equal(sol.x[1], kept.x[1]) and sol.value[1] == kept.value[1]
    assert all(torch.equal(i.x[1], seen[stop].x[1]) for i in seen[stop:])
    if not CASES[name].searches:
        assert sol.steps.tolist() == [method.steps, stop, method.steps]


def test_rows_equal_a_run_without_the_broken_one(exact: Case) -> None:
    a, c = quadratic()
    keep = [0, 2]
    nan = torch.tensor([1.0, math.nan, 1.0], dtype=torch.float64)
    sol, _ = run(lambda x: nan * value_of(a, c)(x), start(), exact.method)
    without, _ = run(value_of(a[keep], c[keep]), start()[keep], exact.method)
    torch.testing.assert_close(sol.x[keep], without.x, rtol=0, atol=1e-12)
    assert sol.status[1] is Status.NONFINITE


def test_an_infinite_gradient_is_not_finite(case: Case) -> None:
    # f is finite at 0, its slope is not; clipped by a box, the step would look harmless.
    x = torch.zeros(2, 1, dtype=torch.float64)
    x[1] = 0.5
    sol, seen = run(lambda x: -x.sqrt().sum(1), x, replace(case.method, steps=10))
    assert sol.status[0] is Status.NONFINITE and sol.steps[0] == 0
    assert sol.status[1] is Status.COMPLETED
    assert all(BOX.contains(i.x).all() for i in seen)


def test_each_row_stops_by_itself(exact: Case) -> None:
    a, c = quadratic()
    x = c.clamp(0, 1)
    # Row 0 starts at its optimum, row 1 near it, row 2 far away.
    x[1, 0, 1] += 0.001
    x[2] = 1 - x[2].round()
    method = replace(exact.method, tol=1e-4)
    sol, seen = run(value_of(a, c), x, method)
    gaps = torch.stack([i.stationarity for i in seen])
    first = [int((gaps[:, r] <= method.tol).nonzero()[0]) for r in range(ROWS)]
    assert sol.evaluations.tolist() == [k + 1 for k in first]
    assert (sol.steps <= torch.tensor(first)).all()
    assert exact.searches or sol.steps.tolist() == first
    assert first[0] == 0 < first[1] < first[2] < method.steps
    assert len(seen) == first[2] + 1
    assert sol.status == (Status.CONVERGED,) * ROWS
    for r, k in enumerate(first):
        assert all(torch.equal(i.x[r], seen[k].x[r]) for i in seen[k:])
        assert torch.equal(sol.x[r], seen[k].x[r])
        assert sol.stationarity[r] == seen[k].stationarity[r] <= method.tol
        assert sol.value[r] == seen[k].value[r]
        alone, _ = run(value_of(a[r : r + 1], c[r : r + 1]), x[r : r + 1], method)
        assert alone.evaluations.tolist() == [k + 1] and alone.steps[0] == sol.steps[r]


def test_running_out_of_steps_is_said(case: Case) -> None:
    a, c = quadratic()
    sol, seen = run(value_of(a, c), start(), replace(case.method, tol=0.0, steps=3), None)
    assert sol.status == (Status.LIMIT,) * ROWS
    assert sol.evaluations.tolist() == [4] * ROWS and len(seen) == 4
    assert case.searches or sol.steps.tolist() == [3] * ROWS
    # Without a tolerance there is nothing to miss.
    sol, _ = run(value_of(a, c), start(), replace(case.method, steps=3))
    assert sol.status == (Status.COMPLETED,) * ROWS
    assert not Status.LIMIT.ok and not Status.NONFINITE.ok
    assert Status.COMPLETED.ok and Status.CONVERGED.ok and Status.UNCHANGED.ok


def test_keep_last_and_best(case: Case) -> None:
    # A line search would not follow a false slope; a sum of unequal squares makes it fail trials.
    x = torch.linspace(0.8, 1.0, ROWS, dtype=torch.float64)[:, None].expand(ROWS, 4)
    stiff = 10.0 ** torch.arange(4.0, dtype=torch.float64)
    fun = (lambda x: (stiff * (x - 0.3).square()).sum(1)) if case.searches else overshoot
    method = replace(slowly(case.method, 0.05), steps=60 if not case.searches else 12)
    with watched(method) as accepted:
        last, seen = run(fun, x, replace(method, keep="last"))
    best, again = run(fun, x, replace(method, keep="best"))
    assert all(torch.equal(i.x, j.x) for i, j in zip(seen, again, strict=True))
    values = torch.stack([i.value for i in seen])
    everything = torch.ones(ROWS, dtype=torch.bool)
    taken = torch.stack([everything if a is None else a for a in accepted])
    assert taken.all() == (not case.searches), "no trial failed: the test would compare nothing"
    at = values.argmin(0)
    assert torch.equal(best.value, values.amin(0)) and (best.value <= last.value).all()
    for r in range(ROWS):
        final, k = int(taken[:, r].nonzero()[-1]), int(at[r])
        assert torch.equal(last.x[r], seen[final].x[r]) and last.value[r] == values[final, r]
        assert torch.equal(best.x[r], seen[k].x[r])
        assert best.stationarity[r] == seen[k].stationarity[r]
        assert case.searches or 0 < k < final == method.steps, "no overshoot: nothing to compare"
    assert best.steps.tolist() == last.steps.tolist() == taken[1:].sum(0).tolist()
    assert best.evaluations.tolist() == last.evaluations.tolist() == [len(seen)] * ROWS


def test_a_converged_row_returns_the_point_that_met_its_tolerance() -> None:
    # The values rise all the way, so the least one belongs to the start, which is not stationary.
    def rising(x: Tensor) -> Tensor:
        return ((x - 0.5).square() - 4 * (x.detach() - 0.5).square()).sum(1)

    x = torch.ones(1, 2, dtype=torch.float64)
    method = ProjectedGradient(lr=0.25, steps=200, tol=1e-6, keep="best")
    sol, seen = run(rising, x, method)
    assert seen[0].value < seen[-1].value
    assert sol.status == (Status.CONVERGED,) and sol.stationarity.item() <= 1e-6
    assert torch.equal(sol.x, seen[-1].x)


def test_no_steps_is_a_projection_with_a_certificate(case: Case) -> None:
    a, c = quadratic()
    y = 3 * start() - 1
    sol, seen = run(value_of(a, c), y, replace(case.method, steps=0))
    assert torch.equal(sol.x, BOX.project(y)) and len(seen) == 1
    assert torch.equal(sol.value, value_of(a, c)(sol.x))
    assert sol.steps.tolist() == [0] * ROWS and sol.status == (Status.COMPLETED,) * ROWS
    sol, _ = run(value_of(a, c), c.clamp(0, 1), replace(case.method, steps=0, tol=0.0))
    assert sol.status == (Status.CONVERGED,) * ROWS


@pytest.mark.parametrize("shape", [(3,), (0, 4), (2, 0), (1, 1), (2, 1, 3, 2)])
def test_any_event_shape(case: Case, shape: tuple[int, ...]) -> None:
    x = torch.full(shape, 0.5, dtype=torch.float64)
    sol, _ = run(lambda x: (x[:, None] - 2).flatten(1).square().sum(1), x, case.method)
    assert sol.x.shape == shape and sol.value.shape == shape[:1]
    if case in EXACT.values():
        torch.testing.assert_close(sol.x, torch.ones_like(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(case: Case, mode: Callable) -> None:
    a, c = quadratic()
    with mode():
        off, _ = run(value_of(a, c), start(), case.method)
        assert not torch.is_grad_enabled()
    on, _ = run(value_of(a, c), start(), case.method)
    assert torch.equal(off.x, on.x)


def test_leaves_gradients_of_parameters_alone(case: Case) -> None:
    c = torch.zeros(SHAPE, dtype=torch.float64, requires_grad=True)
    x = start().requires_grad_()
    sol, _ = run(lambda x: (x - c).square().flatten(1).sum(1), x, replace(case.method, steps=3))
    assert c.grad is None and x.grad is None and not sol.x.requires_grad
