"""A few rows at a time: the same result, in bounded memory."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from likely import flows, inpaint
from likely.errors import InvalidInput
from likely.flows import Flow
from likely.solvers import (
    Accelerated,
    Annealed,
    Iterate,
    Method,
    ProjectedAdam,
    ProjectedGradient,
    SpectralProjectedGradient,
    Status,
)
from restore.images import IMAGE, MASK, Bowl, rand

ROWS = 6
METHODS = [
    ProjectedGradient(lr=0.02, steps=15),
    ProjectedGradient(lr=1.0, backtracking=True, steps=15),
    SpectralProjectedGradient(steps=15),
    Accelerated(lr=0.5, steps=15),
    Annealed(noise=0.0, steps=15, keep="best"),
    ProjectedAdam(lr=0.3, steps=15),
    ProjectedAdam(steps=5, tol=0.1),
    # What inpaint takes when it is given none: a tensor of step sizes, each row its own.
    None,
]
IMAGES = rand(ROWS, 1, 4, 4, seed=1, dtype=torch.float64)
HOLES = rand(ROWS, 1, 4, 4, seed=2) < 0.5
# Rows 1 and 4 are complete.
HOLES[[1, 4]] = True
BOUNDS = -0.1 - rand(ROWS, 1, 1, 1, seed=3, dtype=torch.float64), 1 + rand(ROWS, 1, 4, 4, seed=4)
BEGIN = 2 * rand(ROWS, 1, 4, 4, seed=5, dtype=torch.float64) - 0.5


@pytest.fixture(scope="module")
def flow(randomize: Callable) -> Flow:
    return randomize(flows.nice((1, 4, 4), width=16, depth=2)).double()


def name(method: Method | None) -> str:
    return "default" if method is None else f"{type(method).__name__}-{method.tol}"


@pytest.mark.parametrize(
    "method, precision", [*[(m, None) for m in METHODS], *[(m, torch.float64) for m in METHODS[:-1]]]
)
def test_the_chunk_changes_no_result(
    method: Method | None, precision: torch.dtype | None, flow: Flow
) -> None:
    given = {"bounds": BOUNDS, "method": method, "start": BEGIN, "precision": precision}
    whole = inpaint(flow, IMAGES, HOLES, **given)
    for chunk in (1, 2, 5) if method else (1,):
        result = inpaint(flow, IMAGES, HOLES, chunk=chunk, **given)
        # To rounding: a row alone is multiplied otherwise than among others.
        atol = 1e-8 if method is None else 1e-10
        torch.testing.assert_close(result.image, whole.image, rtol=0, atol=atol)
        torch.testing.assert_close(result.log_prob, whole.log_prob, rtol=1e-10, atol=0)
        torch.testing.assert_close(result.log_prob_before, whole.log_prob_before, rtol=1e-12, atol=0)
        torch.testing.assert_close(result.stationarity, whole.stationarity, rtol=1e-5, atol=1e-8)
        assert result.status == whole.status
        assert result.steps.tolist() == whole.steps.tolist()
        assert result.evaluations.tolist() == whole.evaluations.tolist()
    assert [s is Status.UNCHANGED for s in whole.status] == HOLES.flatten(1).all(1).tolist()


@pytest.mark.parametrize("start", ["given", "uniform"])
def test_the_start_does_not_depend_on_the_chunk(start: str, flow: Flow) -> None:
    def fill(chunk: int) -> Tensor:
        method = ProjectedGradient(lr=1e-3, steps=3)
        return inpaint(flow, IMAGES, HOLES, method=method, start=start, chunk=chunk, seed=1).image

    for chunk in (1, 4):
        torch.testing.assert_close(fill(chunk), fill(512), rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 2, 3, 512])
def test_the_rows_shown_are_those_of_the_image(chunk: int, flow: Flow, same_bits: Callable) -> None:
    seen: list[Iterate] = []
    method = ProjectedAdam(steps=4)
    result = inpaint(flow, IMAGES, HOLES, BOUNDS, method, start=BEGIN, chunk=chunk, on_step=seen.append)
    incomplete = [0, 2, 3, 5]
    parts = [incomplete[i : i + chunk] for i in range(0, len(incomplete), chunk)]
    assert [i.rows.tolist() for i in seen] == [p for p in parts for _ in range(method.steps + 1)]
    assert [i.k for i in seen] == list(range(method.steps + 1)) * len(parts)
    for i in seen:
        own = HOLES[i.rows]
        assert same_bits(i.x[own], IMAGES[i.rows][own])
        torch.testing.assert_close(i.value, -flow.log_prob(i.x).detach())
        if i.k == 0:
            first = BEGIN.clamp(BOUNDS[0], BOUNDS[1].double())[i.rows]
            assert torch.equal(i.x[~own], first[~own])
    best: dict[int, float] = {}
    for i in seen:
        for row, value in zip(i.rows.tolist(), i.value.tolist(), strict=True):
            best[row] = min(value, best.get(row, torch.inf))
    torch.testing.assert_close(
        -result.log_prob[incomplete], torch.tensor([best[r] for r in incomplete], dtype=torch.float64)
    )


class Recorder:
    """A density that notes what it was given, and how often for each image."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.searched: list[Tensor] = []

    def log_prob(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        if x.requires_grad:
            self.searched.append(x.detach().clone())
        return Bowl().log_prob(x)


@pytest.mark.parametrize("chunk", [1, 2, 4, 5, 6, 7])
def test_no_batch_is_larger_than_the_chunk(chunk: int) -> None:
    density = Recorder()
    inpaint(density, IMAGES, HOLES, method=ProjectedGradient(steps=2), chunk=chunk)
    assert max(density.sizes) == min(chunk, ROWS)
    # The likelihood before, of all rows; then the search, of those that miss something.
    assert sum(density.sizes) == ROWS + 3 * 4


def test_complete_rows_are_never_searched() -> None:
    for chunk in (1, 3, 512):
        density = Recorder()
        result = inpaint(density, IMAGES, HOLES, method=ProjectedAdam(steps=3), chunk=chunk)
        for x in density.searched:
            for full in (IMAGES[1], IMAGES[4]):
                assert not (x == full).flatten(1).all(1).any()
        assert torch.equal(result.image[[1, 4]], IMAGES[[1, 4]])
        assert result.evaluations.tolist() == [4, 0, 4, 4, 0, 4]
        assert result.steps.tolist() == [3, 0, 3, 3, 0, 3]
    nothing = Recorder()
    inpaint(nothing, IMAGES[[1, 4]], HOLES[[1, 4]], method=ProjectedAdam(steps=3), chunk=1)
    assert not nothing.searched and nothing.sizes == [1, 1]


@pytest.mark.parametrize("method", [METHODS[1], METHODS[2]], ids=name)
def test_rows_stop_by_themselves_in_every_chunk(method: Method) -> None:
    method = replace(method, tol=1e-3, steps=200)
    scale = 0.2 + rand(1, 4, 4, seed=7, dtype=torch.float64)
    density = torch.distributions.StudentT(4.0, torch.full_like(scale, 0.3), scale)
    whole = inpaint(density, IMAGES, HOLES, BOUNDS, method, start=BEGIN)
    assert [s.name for s in whole.status] == [
        "UNCHANGED" if r in (1, 4) else "CONVERGED" for r in range(6)
    ]
    assert len(set(whole.evaluations.tolist())) > 2
    for chunk in (1, 2, 5):
        result = inpaint(density, IMAGES, HOLES, BOUNDS, method, start=BEGIN, chunk=chunk)
        torch.testing.assert_close(result.image, whole.image, rtol=0, atol=1e-9)
        assert result.evaluations.tolist() == whole.evaluations.tolist()
        assert result.status == whole.status


def test_finished_rows_leave_their_chunk() -> None:
    density = Recorder()
    method = SpectralProjectedGradient(tol=1e-9)
    image = torch.where(HOLES, IMAGES, 0.3)
    image[2] = torch.where(HOLES[2], IMAGES[2], 0.9)
    result = inpaint(density, image, HOLES, method=method)
    # The others start at the optimum, 0.3, and are evaluated once.
    assert result.evaluations[[0, 3, 5]].tolist() == [1, 1, 1]
    assert [len(x) for x in density.searched] == [4] + [1] * (int(result.evaluations[2]) - 1)
    assert result.status[2] is Status.CONVERGED and result.evaluations[2] > 1


@pytest.mark.parametrize("shape", [(ROWS, 1, 4, 4), (ROWS, 1, 1, 1), (1, 1, 4, 4), (4, 4), ()], ids=str)
def test_step_sizes_follow_their_rows(shape: tuple[int, ...], flow: Flow) -> None:
    lr = 0.01 + rand(*shape, seed=6, dtype=torch.float64)
    method = ProjectedAdam(lr=lr, steps=8, keep="last")
    whole = inpaint(flow, IMAGES, HOLES, BOUNDS, method, start=BEGIN)
    for chunk in (1, 3):
        result = inpaint(flow, IMAGES, HOLES, BOUNDS, method, start=BEGIN, chunk=chunk)
        torch.testing.assert_close(result.image, whole.image, rtol=0, atol=1e-9)
    for r in (0, 5):
        one = slice(r, r + 1)
        mine = lr[one] if shape[:1] == (ROWS,) else lr
        alone = inpaint(
            flow,
            IMAGES[one],
            HOLES[one],
            tuple(b[one] for b in BOUNDS),
            ProjectedAdam(lr=mine, steps=8, keep="last"),
            start=BEGIN[one],
        )
        torch.testing.assert_close(whole.image[one], alone.image, rtol=0, atol=1e-9)


@pytest.mark.parametrize("chunk", [0, -1])
def test_a_chunk_holds_a_row(chunk: int) -> None:
    with pytest.raises(InvalidInput, match=rf"chunk is {chunk}; expected an integer of 1"):
        inpaint(Recorder(), IMAGE, MASK, chunk=chunk)
