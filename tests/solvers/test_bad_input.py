"""Methods, functions, starts and sets that are refused at the door."""

import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from laws.solvers_registry import BOX, ROWS, equal, overshoot, start
from likely import minimize, sets
from likely.errors import InvalidInput, InvalidType
from likely.solvers import (
    Accelerated,
    Annealed,
    Iterate,
    Method,
    PerRow,
    ProjectedAdam,
    ProjectedGradient,
    SpectralProjectedGradient,
)

EVERY = [ProjectedGradient, Annealed, ProjectedAdam, Accelerated, SpectralProjectedGradient]


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize(
    "bad", [{"steps": -1}, {"tol": -1e-3}, {"tol": math.nan}, {"keep": "first"}], ids=str
)
def test_bad_schedules_are_refused(method: type[Method], bad: dict) -> None:
    (name, value), *_ = bad.items()
    with pytest.raises(InvalidInput, match=re.escape(f"{name} is {value!r}; expected")):
        method(**bad)


@pytest.mark.parametrize(
    "method, names",
    [
        (ProjectedGradient, ["lr"]),
        (Annealed, ["scale", "offset", "batch"]),
        (ProjectedAdam, ["lr", "eps"]),
        (Accelerated, ["lr"]),
    ],
)
@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf, math.nan])
def test_bad_rates_are_refused(method: type[Method], names: list[str], rate: float) -> None:
    for name in names:
        with pytest.raises(InvalidInput, match=f"{name} is {rate};"):
            method(**{name: rate})


@pytest.mark.parametrize(
    "method, names",
    [
        *[(m, ["steps", "tol"]) for m in EVERY],
        (ProjectedGradient, ["lr"]),
        (Annealed, ["scale", "offset", "batch", "noise"]),
        (ProjectedAdam, ["lr", "eps", "betas"]),
        (Accelerated, ["lr"]),
        (SpectralProjectedGradient, ["memory"]),
    ],
)
def test_what_is_no_number_is_refused(method: type[Method], names: list[str]) -> None:
    for name in names:
        for bad in ("1e-3", [1.0], *([1.5] if name in ("steps", "memory") else [])):
            with pytest.raises(InvalidType, match=re.escape(f"{name} is {bad!r};")):
                method(**{name: bad})
    with pytest.raises(InvalidType, match=r"a beta is '0\.9'"):
        ProjectedAdam(betas=("0.9", 0.9))


@pytest.mark.parametrize("method", ["adam", ProjectedAdam, 3])
def test_what_is_no_method_is_refused(method: object) -> None:
    with pytest.raises(InvalidType, match=r"expected a value such as solvers\.ProjectedGradient\(\)"):
        minimize(overshoot, start(), BOX, method)


@pytest.mark.parametrize("method", [m(steps=5, keep="best") for m in EVERY], ids=repr)
@pytest.mark.parametrize("per_row", [True, False])
def test_the_iterates_shown_are_copies(method: Method, per_row: bool) -> None:
    def spoil(i: Iterate) -> None:
        for t in (i.x, i.value, i.stationarity, i.rows):
            t.zero_()

    fun = PerRow(overshoot) if per_row else overshoot
    spoiled = minimize(fun, start(), BOX, method, seed=0, on_step=spoil)
    assert equal(spoiled, minimize(fun, start(), BOX, method, seed=0))


@pytest.mark.parametrize("noise", [-0.1, math.inf, math.nan])
def test_bad_noise_is_refused(noise: float) -> None:
    with pytest.raises(InvalidInput, match=f"noise is {noise}"):
        Annealed(noise=noise)


@pytest.mark.parametrize("betas", [(1.0, 0.9), (0.9, 1.0), (-0.1, 0.9), (math.nan, 0.9)])
def test_bad_betas_are_refused(betas: tuple[float, float]) -> None:
    with pytest.raises(InvalidInput, match="beta"):
        ProjectedAdam(betas=betas)


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
@pytest.mark.parametrize("wrap", [lambda f: f, PerRow], ids=["plain", "PerRow"])
def test_functions_that_do_not_fit_are_refused(fun: Callable, got: str, wrap: Callable) -> None:
    with pytest.raises(InvalidInput, match=got):
        minimize(wrap(fun), start(), BOX)


def test_a_function_that_ceases_to_fit_is_refused() -> None:
    # Right for the whole batch, wrong once a row has left: the error names the rows it was given.
    def fun(x: Tensor, t: Tensor) -> Tensor:
        gap = (x - t).square().flatten(1).sum(1)
        return gap if len(x) == ROWS else gap.sum()

    target = start() / 2
    x = start().clone()
    x[0] = target[0]
    method = ProjectedGradient(lr=0.1, tol=1e-6)
    with pytest.raises(InvalidInput, match=r"returned \(\) for input \(2, 2, 3\).*\(2,\)"):
        minimize(PerRow(fun, target), x, BOX, method)


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_data_have_the_rows_of_the_start(rows: int) -> None:
    fun = PerRow(lambda x, d: (x - d).flatten(1).sum(1), torch.zeros(rows, 2, 3))
    with pytest.raises(InvalidInput, match=rf"start has {ROWS} rows.*\[{rows}\]"):
        minimize(fun, start(), BOX)


@pytest.mark.parametrize("shapes", [[(3, 1), (2, 1)], [(3,), ()], [()]], ids=str)
def test_data_of_unequal_rows_are_refused(shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(InvalidInput, match="the data have shapes"):
        PerRow(lambda x, *data: x.sum(1), *[torch.zeros(s) for s in shapes])


def test_a_schedule_and_a_search_exclude_each_other() -> None:
    with pytest.raises(InvalidInput, match="lr is a schedule, and backtracking is on"):
        ProjectedGradient(lr=lambda k: 1.0, backtracking=True)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf, math.nan])
def test_a_schedule_starts_with_a_rate(rate: float) -> None:
    with pytest.raises(InvalidInput, match=f"lr is {rate};"):
        ProjectedGradient(lr=lambda k: rate)
    with pytest.raises(InvalidInput, match=f"lr is {rate};"):
        ProjectedGradient(lr=rate, backtracking=True)


@pytest.mark.parametrize("memory", [0, -3])
def test_a_search_compares_with_something(memory: int) -> None:
    with pytest.raises(InvalidInput, match=f"memory is {memory}; expected an integer of 1"):
        SpectralProjectedGradient(memory=memory)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_the_start_is_finite(bad: float) -> None:
    x = start()
    x[1, 0, 2] = bad
    for method in EVERY:
        with pytest.raises(InvalidInput, match=r"start .*1 NaN or infinite"):
            minimize(overshoot, x, BOX, method())


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
