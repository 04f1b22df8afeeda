"""The laws of methods, for every method that likely.solvers exports."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from likely import minimize, sets, solvers
from likely.errors import InvalidInput, InvalidType
from likely.solvers import Annealed, Iterate, Method, ProjectedAdam, ProjectedGradient, Solution, Status

ROWS, EVENT = 3, (2, 3)
SHAPE = (ROWS, *EVENT)


@dataclass(frozen=True)
class Case:
    """A method that suits the quadratics below, and whether it draws."""

    method: Method
    draws: bool = False
    #: how close to the optimum it must come, in float64
    close: float = 1e-9


CASES = {
    "gradient": Case(ProjectedGradient(lr=0.4, steps=120)),
    # The steps fall from 0.4 to 0.35, and their sum suffices for the least curvature, 1/2.
    "annealed, quiet": Case(Annealed(scale=400.0, offset=1000.0, batch=1.0, noise=0.0, steps=150)),
    "annealed": Case(Annealed(scale=4.0, offset=8.0, batch=1.0, noise=0.1, steps=100), draws=True),
    "adam": Case(ProjectedAdam(lr=0.1, steps=200, betas=(0.8, 0.9)), close=1e-6),
}
EXACT = {name: c for name, c in CASES.items() if not c.draws}


@pytest.fixture(params=CASES, ids=lambda name: name.replace(", ", "_"))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(params=EXACT, ids=lambda name: name.replace(", ", "_"))
def exact(request: pytest.FixtureRequest) -> Case:
    return EXACT[request.param]


def quadratic(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Return curvatures in [0.5, 2] and centres, some outside [0, 1], of sum(a (x - c)^2) / 2."""
    generator = torch.Generator().manual_seed(0)
    a = 0.5 + 1.5 * torch.rand(SHAPE, generator=generator, dtype=torch.float64)
    c = 0.5 + torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    assert ((c < 0) | (c > 1)).any() and ((c > 0) & (c < 1)).any()
    return a.to(dtype), c.to(dtype)


def value_of(a: Tensor, c: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: 0.5 * (a * (x - c).square()).flatten(1).sum(1)


def start(dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(SHAPE, generator=generator, dtype=dtype)


BOX = sets.Box(0.0, 1.0)


def equal(a: Solution, b: Solution) -> bool:
    pairs = ((a.x, b.x), (a.value, b.value), (a.stationarity, b.stationarity), (a.steps, b.steps))
    return all(torch.equal(p, q) for p, q in pairs) and a.status == b.status


def run(
    fun: Callable[[Tensor], Tensor], x: Tensor, method: Method, within: sets.ConvexSet | None = BOX
) -> tuple[Solution, list[Iterate]]:
    seen: list[Iterate] = []
    return minimize(fun, x, within, method, seed=5, on_step=seen.append), seen


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
    wild = {"scale": 400.0} if isinstance(case.method, Annealed) else {"lr": 10.0}
    keep = sets.Observed(start() < 0.4, start(torch.float64))
    for method in (replace(case.method, steps=25), replace(case.method, steps=25, **wild)):
        for within in (BOX, keep, BOX & keep):
            # The start is outside on purpose.
            sol, seen = run(value_of(a, c), 3 * start() - 1, method, within)
            assert len(seen) == method.steps + 1
            assert [i.k for i in seen] == list(range(method.steps + 1))
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
    last = Iterate(-1, sol.x, sol.value, sol.stationarity)
    for i in (*seen, last):
        x, grad = i.x.numpy(), (a * (i.x - c)).numpy()
        gap = np.abs(np.clip(x - grad, 0, 1) - x).reshape(ROWS, -1).max(1)
        np.testing.assert_allclose(i.stationarity.numpy(), gap, rtol=1e-13)


def test_batch_is_a_loop_over_rows(exact: Case) -> None:
    a, c = quadratic()
    whole, _ = run(value_of(a, c), start(), exact.method)
    for r in range(ROWS):
        one = slice(r, r + 1)
        alone, _ = run(value_of(a[one], c[one]), start()[one], exact.method)
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
        assert sol.steps.dtype == torch.long and len(sol.status) == ROWS
        assert torch.equal(x, start(dtype))


@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize("when", ["at the start", "on the way"])
def test_a_broken_row_is_reported_and_disturbs_no_other(case: Case, keep: str, when: str) -> None:
    a, c = quadratic()
    method = replace(case.method, keep=keep, steps=40)
    _, healthy_path = run(value_of(a, c), start(), method)
    x1 = start().clone()
    x1[1] = 0.9

    def broken(x: Tensor) -> Tensor:
        # Row 1 slides towards 0, where its function is not defined below 0.6.
        slide = x[1].sum() + 0 * (x[1] - (0.6 if when == "on the way" else 2.0)).sqrt().sum()
        return torch.stack([value_of(a, c)(x)[0], slide, value_of(a, c)(x)[2]])

    sol, seen = run(broken, x1, method)
    assert sol.status == (Status.COMPLETED, Status.NONFINITE, Status.COMPLETED)
    # The same draws with a healthy row 1, from the same places.
    for other in (0, 2):
        for mine, theirs in zip(seen, healthy_path, strict=True):
            assert torch.equal(mine.x[other], theirs.x[other])
    stop = int(sol.steps[1])
    finite = [i for i in seen if i.k < stop]
    if when == "at the start":
        assert stop == 0 and torch.equal(sol.x[1], seen[0].x[1])
    else:
        assert 0 < stop < method.steps and finite
        assert all(i.value[1].isfinite() for i in finite) and not seen[stop].value[1].isfinite()
        kept = finite[-1] if keep == "last" else min(finite, key=lambda i: i.value[1].item())
        assert torch.equal(sol.x[1], kept.x[1]) and sol.value[1] == kept.value[1]
    assert all(torch.equal(i.x[1], seen[stop].x[1]) for i in seen[stop:])
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
    x[1] = (x[1] + 0.001 * torch.tensor([1.0, -1.0, 1.0])).clamp(0, 1)
    x[2] = 1 - x[2].round()
    method = replace(exact.method, tol=1e-4)
    sol, seen = run(value_of(a, c), x, method)
    gaps = torch.stack([i.stationarity for i in seen])
    first = [int((gaps[:, r] <= method.tol).nonzero()[0]) for r in range(ROWS)]
    assert sol.steps.tolist() == first
    assert first[0] == 0 < first[1] < first[2] < method.steps
    assert len(seen) == first[2] + 1
    assert sol.status == (Status.CONVERGED,) * ROWS
    for r, k in enumerate(first):
        assert all(torch.equal(i.x[r], seen[k].x[r]) for i in seen[k:])
        assert torch.equal(sol.x[r], seen[k].x[r])
        assert sol.stationarity[r] == seen[k].stationarity[r] <= method.tol
        assert sol.value[r] == seen[k].value[r]
        alone, _ = run(value_of(a[r : r + 1], c[r : r + 1]), x[r : r + 1], method)
        assert alone.steps.tolist() == [k]


def test_running_out_of_steps_is_said(case: Case) -> None:
    a, c = quadratic()
    sol, seen = run(value_of(a, c), start(), replace(case.method, tol=0.0, steps=3), None)
    assert sol.status == (Status.LIMIT,) * ROWS
    assert sol.steps.tolist() == [3] * ROWS and len(seen) == 4
    # Without a tolerance there is nothing to miss.
    sol, _ = run(value_of(a, c), start(), replace(case.method, steps=3))
    assert sol.status == (Status.COMPLETED,) * ROWS
    assert not Status.LIMIT.ok and not Status.NONFINITE.ok
    assert Status.COMPLETED.ok and Status.CONVERGED.ok and Status.UNCHANGED.ok


def overshoot(x: Tensor) -> Tensor:
    """(x - 1/2)^2 with the slope of x: methods run past the best point down to 0."""
    return (x - x.detach() + (x.detach() - 0.5).square()).flatten(1).sum(1)


def test_keep_last_and_best(case: Case) -> None:
    x = torch.linspace(0.8, 1.0, ROWS, dtype=torch.float64)[:, None].expand(ROWS, 4)
    last, seen = run(overshoot, x, replace(case.method, keep="last", steps=60))
    best, again = run(overshoot, x, replace(case.method, keep="best", steps=60))
    assert all(torch.equal(i.x, j.x) for i, j in zip(seen, again, strict=True))
    values = torch.stack([i.value for i in seen])
    at = values.argmin(0)
    assert torch.equal(last.x, seen[-1].x) and torch.equal(last.value, values[-1])
    assert (at > 0).all() and (at < 60).all(), "no overshoot: the test would compare nothing"
    assert torch.equal(best.value, values.amin(0)) and (best.value < last.value).all()
    for r, k in enumerate(at.tolist()):
        assert torch.equal(best.x[r], seen[k].x[r])
        assert best.stationarity[r] == seen[k].stationarity[r]
    assert best.steps.tolist() == last.steps.tolist() == [60] * ROWS


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


# What each method says it does, against torch's own optimisers or the formula.


def descend(optimizer: torch.optim.Optimizer, x: Tensor, a: Tensor, c: Tensor) -> None:
    optimizer.zero_grad()
    value_of(a, c)(x).sum().backward()
    optimizer.step()


def test_projected_gradient_is_sgd_with_a_projection() -> None:
    a, c = quadratic()
    _, seen = run(value_of(a, c), start(), ProjectedGradient(lr=0.05, steps=30))
    x = start().requires_grad_()
    optimizer = torch.optim.SGD([x], lr=0.05)
    for i in seen[1:]:
        descend(optimizer, x, a, c)
        x.data.clamp_(0, 1)
        torch.testing.assert_close(i.x, x.data, rtol=0, atol=1e-14)


@pytest.mark.parametrize("betas, eps", [((0.9, 0.999), 1e-8), ((0.5, 0.7), 0.1), ((0.0, 0.0), 1e-3)])
def test_projected_adam_is_adam_with_half_a_cosine(betas: tuple[float, float], eps: float) -> None:
    a, c = quadratic()
    steps = 40
    method = ProjectedAdam(lr=0.05, steps=steps, betas=betas, eps=eps)
    _, seen = run(value_of(a, c), start(), method)
    x = start().requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.05, betas=betas, eps=eps)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    for i in seen[1:]:
        descend(optimizer, x, a, c)
        schedule.step()
        x.data.clamp_(0, 1)
        torch.testing.assert_close(i.x, x.data, rtol=0, atol=1e-12)


def test_annealed_is_the_formula() -> None:
    a, c = quadratic()
    method = Annealed(scale=3.0, offset=7.0, batch=5.0, noise=0.2, steps=25)
    _, seen = run(value_of(a, c), start(), method)
    generator = torch.Generator().manual_seed(5)
    x = start()
    for k, i in enumerate(seen[1:]):
        noise = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
        x = x + 3.0 / (7.0 + k) * (-a * (x - c) / 5.0 + 0.2 * noise)
        x = x.clamp(0, 1)
        torch.testing.assert_close(i.x, x, rtol=0, atol=1e-13)


def test_defaults_are_the_recipes() -> None:
    plain, paper = ProjectedGradient(), Annealed()
    assert (plain.lr, plain.steps, plain.tol, plain.keep) == (1e-3, 300, None, "last")
    assert (paper.scale, paper.offset, paper.batch, paper.noise) == (10.0, 100.0, 100.0, 1.0)
    assert paper.keep == "last" and ProjectedAdam().keep == "best"
    a, c = quadratic()
    default = minimize(value_of(a, c), 2 * start())
    free = minimize(value_of(a, c), 2 * start(), sets.Box(-math.inf, math.inf), ProjectedAdam())
    assert equal(default, free)


def test_annealed_noise_has_the_stated_size() -> None:
    # With no gradient, x_K ~ N(0, noise^2 sum a_k^2). n entries: the mean square over its expectation
    # is chi-squared over n; |z| > 5 on its normal limit is a false alarm once in 1.7 million.
    n, steps = 200_000, 4
    method = Annealed(scale=3.0, offset=2.0, batch=7.0, noise=0.5, steps=steps)
    x = torch.zeros(1, n, dtype=torch.float64)
    sol = minimize(lambda x: 0 * x.sum(1), x, None, method, seed=0)
    variance = 0.25 * sum((3.0 / (2.0 + k)) ** 2 for k in range(steps))
    z = (sol.x.square().mean().item() / variance - 1) / math.sqrt(2 / n)
    assert abs(z) < 5
    assert abs(sol.x.mean().item()) < 5 * math.sqrt(variance / n)


def test_annealed_with_noise_averages_at_the_optimum() -> None:
    # On a quadratic the recursion is linear: E[x_k] - c = prod(1 - a_j curvature) (x_0 - c).
    n, steps = 50_000, 40
    method = Annealed(scale=4.0, offset=8.0, batch=2.0, noise=1.0, steps=steps)
    x = torch.full((n, 1), 3.0, dtype=torch.float64)
    sol = minimize(lambda x: (x - 0.5).square().sum(1), x, None, method, seed=1)
    left = math.prod(1 - 4.0 / (8.0 + k) for k in range(steps)) * 2.5
    error = sol.x.mean().item() - (0.5 + left)
    # |z| > 5: a false alarm once in 1.7 million.
    assert abs(error) < 5 * sol.x.std().item() / math.sqrt(n)


# Errors at the door.


@pytest.mark.parametrize("method", [ProjectedGradient, Annealed, ProjectedAdam])
@pytest.mark.parametrize(
    "bad", [{"steps": -1}, {"tol": -1e-3}, {"tol": math.nan}, {"keep": "first"}], ids=str
)
def test_bad_schedules_are_refused(method: type[Method], bad: dict) -> None:
    (name, value), *_ = bad.items()
    with pytest.raises(InvalidInput, match=f"{name}={value!r}"):
        method(**bad)


@pytest.mark.parametrize(
    "method, names",
    [
        (ProjectedGradient, ["lr"]),
        (Annealed, ["scale", "offset", "batch"]),
        (ProjectedAdam, ["lr", "eps"]),
    ],
)
@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf, math.nan])
def test_bad_rates_are_refused(method: type[Method], names: list[str], rate: float) -> None:
    for name in names:
        with pytest.raises(InvalidInput, match=f"got {rate} "):
            method(**{name: rate})


@pytest.mark.parametrize("noise", [-0.1, math.inf, math.nan])
def test_bad_noise_is_refused(noise: float) -> None:
    with pytest.raises(InvalidInput, match=f"noise is {noise}"):
        Annealed(noise=noise)


@pytest.mark.parametrize("betas", [(1.0, 0.9), (0.9, 1.0), (-0.1, 0.9), (math.nan, 0.9)])
def test_bad_betas_are_refused(betas: tuple[float, float]) -> None:
    with pytest.raises(InvalidInput, match="betas"):
        ProjectedAdam(betas=betas)


def test_methods_are_values() -> None:
    assert ProjectedAdam(lr=0.1) == ProjectedAdam(lr=0.1) != ProjectedAdam(lr=0.2)
    with pytest.raises(AttributeError):
        ProjectedAdam().lr = 1.0


@pytest.mark.parametrize(
    "fun, got",
    [
        (lambda x: x.flatten(1).sum(1, keepdim=True), r"\(3, 1\)"),
        (lambda x: x.sum(), r"returned \(\)"),
        (lambda x: x, r"\(3, 2, 3\)"),
        (lambda x: 1.0, "float"),
        (lambda x: x.detach().flatten(1).sum(1), "differentiable"),
        (lambda x: torch.zeros(ROWS, requires_grad=True) * 2, "differentiable"),
    ],
)
def test_functions_that_do_not_fit_are_refused(fun: Callable, got: str) -> None:
    with pytest.raises(InvalidInput, match=got):
        minimize(fun, start(), BOX)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_the_start_is_finite(bad: float) -> None:
    x = start()
    x[1, 0, 2] = bad
    with pytest.raises(InvalidInput, match=r"start .*1 NaN or infinite"):
        minimize(overshoot, x, BOX)


@pytest.mark.parametrize(
    "x, got", [(torch.zeros(2, 3, dtype=torch.long), "int64"), ([[0.0]], "list"), (None, "NoneType")]
)
def test_the_start_is_a_floating_tensor(x: object, got: str) -> None:
    with pytest.raises(InvalidType, match=f"start .*{got}"):
        minimize(overshoot, x, BOX)


def test_the_start_has_rows() -> None:
    with pytest.raises(InvalidInput, match="start"):
        minimize(overshoot, torch.tensor(1.0), BOX)


def test_a_set_over_another_shape_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"\(1, 4\).*\(3, 4\)"):
        minimize(overshoot, torch.zeros(1, 4), sets.Box(torch.zeros(3, 4), 1.0))


def test_seed_and_generator_exclude_each_other() -> None:
    with pytest.raises(InvalidInput, match="seed and generator"):
        minimize(overshoot, start(), BOX, seed=0, generator=torch.Generator())
