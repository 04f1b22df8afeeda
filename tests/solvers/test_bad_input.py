"""Methods, functions, starts and sets that are refused at the door."""

import math
from collections.abc import Callable

import pytest
import torch

from laws.solvers_registry import BOX, ROWS, overshoot, start
from likely import minimize, sets
from likely.errors import InvalidInput, InvalidType
from likely.solvers import Annealed, Method, ProjectedAdam, ProjectedGradient


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


@pytest.mark.parametrize("method", ["adam", ProjectedAdam, 3])
def test_what_is_no_method_is_refused(method: object) -> None:
    with pytest.raises(InvalidType, match=r"expected a value such as solvers\.ProjectedAdam\(\)"):
        minimize(overshoot, start(), BOX, method)


def test_the_iterates_shown_are_copies() -> None:
    seen = minimize(overshoot, start(), BOX, ProjectedGradient(steps=5), on_step=lambda i: i.x.zero_())
    assert torch.equal(seen.x, minimize(overshoot, start(), BOX, ProjectedGradient(steps=5)).x)


@pytest.mark.parametrize("noise", [-0.1, math.inf, math.nan])
def test_bad_noise_is_refused(noise: float) -> None:
    with pytest.raises(InvalidInput, match=f"noise is {noise}"):
        Annealed(noise=noise)


@pytest.mark.parametrize("betas", [(1.0, 0.9), (0.9, 1.0), (-0.1, 0.9), (math.nan, 0.9)])
def test_bad_betas_are_refused(betas: tuple[float, float]) -> None:
    with pytest.raises(InvalidInput, match="betas"):
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
