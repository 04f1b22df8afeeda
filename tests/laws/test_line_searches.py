"""The laws of methods whose trials may fail: they are shortened, counted, and never the result."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from laws.solvers_registry import (
    BOX,
    CASES,
    ROWS,
    SEARCHES,
    Case,
    quadratic,
    run,
    start,
    value_of,
    watched,
)
from likely.solvers import Method, ProjectedGradient, SpectralProjectedGradient, Status
from likely.solvers.method import descends


@pytest.fixture(params=SEARCHES)
def case(request: pytest.FixtureRequest) -> Case:
    return SEARCHES[request.param]


def test_searches_are_those_that_reject() -> None:
    a, c = quadratic()
    for case in CASES.values():
        with watched(case.method) as accepted:
            run(value_of(a, c), start(), replace(case.method, steps=1))
        assert all((rows is not None) == case.searches for rows in accepted)


def walled(outside: str) -> Callable[[Tensor], Tensor]:
    """Two wells, at -0.95 and 0.95, and beyond 1 nothing finite. Steps from between overshoot."""

    def fun(x: Tensor) -> Tensor:
        u = x * 5 / 0.95
        inside = -u.square() + 0.02 * u**4
        if outside == "inf, sloping":
            return (inside - (1 - x).log() * 1e-3).sum(1)
        if outside == "nan, sloping":
            return (inside + 0 * (1 - x).sqrt()).sum(1)
        return torch.where(x < 1, inside, torch.full_like(x, float(outside))).sum(1)

    return fun


@pytest.mark.parametrize("outside", ["inf, sloping", "nan, sloping", "inf", "nan"])
@pytest.mark.parametrize("first", [0.05, 0.2])
def test_a_trial_that_is_not_finite_is_rejected_and_shortened(
    case: Case, outside: str, first: float
) -> None:
    # Rows 0 and 2 overshoot into the wall, row 1 runs the other way.
    x = torch.tensor([[first], [-first], [0.4]], dtype=torch.float64)
    method = replace(case.method, tol=1e-6, steps=100)
    with watched(method) as accepted:
        sol, seen = run(walled(outside), x, method, None)
    values, taken = torch.stack([i.value for i in seen]), torch.stack(accepted)
    broken = ~values.isfinite()
    assert broken[:, [0, 2]].any(0).all() and not broken[:, 1].any(), "no trial fell outside"
    assert not (broken & taken).any()
    assert sol.status == (Status.CONVERGED,) * 3
    assert sol.value.isfinite().all() and (sol.x < 1).all() and (sol.steps < sol.evaluations - 1)[0]
    torch.testing.assert_close(
        sol.x.abs(), torch.full_like(x, 0.95), rtol=0, atol=1e-3 if outside == "inf, sloping" else 1e-7
    )
    for r in range(ROWS):
        last = int(sol.evaluations[r]) - 1
        assert sol.steps[r] == taken[1 : last + 1, r].sum()
        for k in broken[:last, r].nonzero()[:, 0].tolist():
            # The next trial is nearer to the point last taken, and on the same side of it.
            base = seen[int(taken[:k, r].nonzero()[-1])].x[r]
            ratio = (seen[k + 1].x[r] - base) / (seen[k].x[r] - base)
            assert 0 < ratio <= 0.5 + 1e-12


def test_a_failed_trial_is_no_result_even_where_it_is_stationary(case: Case) -> None:
    # The first trial lands on the bound, a worse minimum than the start's own: it is not taken.
    def fun(x: Tensor) -> Tensor:
        return torch.where(x < 0.5, 10 * (x - 0.2).square(), 2 - x).sum(1)

    x = torch.tensor([[0.1]], dtype=torch.float64)
    method = replace(case.method, tol=1e-6, steps=100)
    sol, seen = run(fun, x, method)
    assert (seen[1].x.item(), seen[1].stationarity.item()) == (1.0, 0.0)
    assert sol.status == (Status.CONVERGED,)
    assert abs(sol.x.item() - 0.2) < 1e-6 and sol.value < seen[0].value < seen[1].value


def test_a_start_that_is_not_finite_is_fatal(case: Case) -> None:
    x = torch.tensor([[2.0], [0.9]], dtype=torch.float64)
    for outside in ("inf", "nan", "nan, sloping"):
        sol, _ = run(walled(outside), x, replace(case.method, tol=1e-6), None)
        assert sol.status == (Status.NONFINITE, Status.CONVERGED)
        assert sol.steps[0] == 0 and sol.evaluations[0] == 1 and sol.x[0] == 2


@pytest.mark.parametrize("keep", ["last", "best"])
def test_accepted_points_descend(case: Case, keep: str) -> None:
    # Rosenbrock's valley makes trials fail; every accepted value obeys Armijo's rule over the memory.
    def rosenbrock(x: Tensor) -> Tensor:
        return 100 * (x[:, 1] - x[:, 0].square()).square() + (1 - x[:, 0]).square()

    x = torch.tensor([[-1.2, 1.0], [0.0, 0.0], [3.0, -1.0]], dtype=torch.float64)
    method = replace(case.method, steps=60, keep=keep)
    with watched(method) as accepted:
        sol, seen = run(rosenbrock, x, method, None)
    memory = getattr(method, "memory", 1)
    taken = torch.stack(accepted)
    assert not taken.all()
    for r in range(ROWS):
        values, points = [seen[0].value[r]], [seen[0].x[r]]
        for k in range(1, int(sol.evaluations[r])):
            here = points[-1].clone().requires_grad_()
            (grad,) = torch.autograd.grad(rosenbrock(here[None]).sum(), here)
            slope = grad @ (seen[k].x[r] - points[-1])
            bound = max(values[-memory:]) + 1e-4 * slope
            # Far from the optimum rounding decides nothing.
            assert (seen[k].value[r] <= bound) == taken[k, r]
            assert slope < 0
            if taken[k, r]:
                values.append(seen[k].value[r])
                points.append(seen[k].x[r])
        assert sol.steps[r] == len(values) - 1
        assert torch.equal(sol.value[r], values[-1] if keep == "last" else min(values))
        if memory == 1:
            assert values == sorted(values, reverse=True)
        else:
            assert r > 0 or values != sorted(values, reverse=True), "the search was monotone here"


def test_backtracking_grows_by_a_quarter_and_halves() -> None:
    # f = x^2 / 2: a step s is taken if (1 - s)^2 <= 1 - 2e-4 s, below 1.9998.
    x = torch.full((1, 1), 1.0, dtype=torch.float64)
    method = ProjectedGradient(lr=3.0, backtracking=True, steps=8)
    _, seen = run(lambda x: 0.5 * x.square().sum(1), x, method, None)
    point, step = 1.0, 3.0
    for i in seen[1:]:
        trial = point - step * point
        assert abs(i.x.item() - trial) <= 1e-14
        if step < 1.9998:
            point, step = trial, 1.25 * step
        else:
            step /= 2


def test_spectral_first_steps_are_those_of_the_formula() -> None:
    # On a quadratic no trial fails within the memory: x - s g with s = dx.dx / dx.dg.
    a, c = quadratic()
    _, seen = run(value_of(a, c), start(), SpectralProjectedGradient(steps=8), None)
    x = start()
    grad = a * (x - c)
    s = 1 / grad.flatten(1).abs().amax(1)
    for i in seen[1:]:
        new = x - s[:, None, None] * grad
        torch.testing.assert_close(i.x, new, rtol=0, atol=1e-11)
        dx, dg = (new - x).flatten(1), (a * (new - x)).flatten(1)
        x, grad, s = new, a * (new - c), dx.square().sum(1) / (dx * dg).sum(1)


@pytest.mark.parametrize("method", [c.method for c in SEARCHES.values()], ids=list(SEARCHES))
def test_a_wrong_slope_stalls_and_says_so(method: Method) -> None:
    # The gradient has the wrong sign, so that no step lowers the function; row 1 is honest.
    x = torch.full((2, 2), 0.5, dtype=torch.float64)

    def fun(x: Tensor) -> Tensor:
        honest = (x - 0.45).square().sum(1)
        return torch.stack([(2 * honest.detach() - honest)[0], honest[1]])

    for tol, ends in ((1e-6, Status.STALLED), (None, Status.COMPLETED)):
        sol, seen = run(fun, x, replace(method, tol=tol, steps=200), BOX)
        assert sol.status[0] is ends and sol.steps[0] == 0
        assert torch.equal(sol.x[0], x[0])
        # About as many halvings as a number has digits.
        assert 10 < sol.evaluations[0] < 70
        assert sol.status[1] is (Status.CONVERGED if tol else Status.COMPLETED)
        stop = int(sol.evaluations[0]) - 1
        assert all(torch.equal(i.x[0], seen[stop].x[0]) for i in seen[stop:])
    assert not Status.STALLED.ok


def test_the_rule_of_descent_to_the_letter() -> None:
    # f(y), f(x), <grad f(y), y - x>, with <grad f(x), y - x> = -1, and whether y is taken.
    cases = [
        (1 - 2e-4, 1.0, 9.0, True),
        (1 - 0.5e-4, 1.0, 9.0, False),
        # Values equal but for rounding: the slope at y decides.
        (1.0, 1.0, 0.9997, True),
        (1.0, 1.0, 0.9999, False),
        (1 + 4e-16, 1.0, 0.0, True),
        (1 + 4e-15, 1.0, 0.0, False),
        (torch.inf, 1.0, 0.0, False),
        (torch.nan, 1.0, 0.0, False),
        (-torch.inf, 1.0, torch.nan, True),
        (1.0, torch.inf, 9.0, True),
    ]
    value, before, there = torch.tensor([c[:3] for c in cases], dtype=torch.float64).T
    assert descends(value, before, -torch.ones(len(cases)), there).tolist() == [c[3] for c in cases]
