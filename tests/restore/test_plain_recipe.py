"""The plain recipe to the letter: plain projected gradient ascent, against a bare loop."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import likely
from likely import inpaint
from likely.solvers import Iterate, ProjectedGradient, Status
from restore.images import rand


@pytest.mark.parametrize(
    "side, width, steps, shift, log_scale, dtype, atol",
    [
        (14, 500, 300, 0.03, 1.5, torch.float32, 1e-4),
        (14, 500, 300, 1.0, 1.0, torch.float32, 1e-4),
        (28, 1000, 25, 0.03, 3.0, torch.float32, 1e-4),
        (14, 60, 300, 1.0, 1.0, torch.float64, 1e-9),
    ],
    ids=["14x14", "14x14, full shifts", "28x28", "14x14, float64"],
)
def test_the_plain_recipe_is_a_bare_loop(
    side: int,
    width: int,
    steps: int,
    shift: float,
    log_scale: float,
    dtype: torch.dtype,
    atol: float,
    bare_state: Callable,
    bare_log_prob: Callable,
    tmp_path: Path,
) -> None:
    state = bare_state(side * side, width, mids=4)
    # A large scale drives pixels into the bounds. The slope of a ReLU jumps: were one operation rounded
    # otherwise than in the bare loop, full-size shifts would part the two by the size of that jump.
    state["scaling.scale"] += log_scale
    for i in range(4):
        state[f"coupling.{i}.out_block.weight"] *= shift
    file = tmp_path / "nice.pt"
    torch.save(state, file)
    flow = likely.load(file).to(dtype)
    file.unlink()
    assert flow.event_shape == (1, side, side)

    rows = 2 if dtype == torch.float64 else 1
    image = rand(rows, 1, side, side, seed=1, dtype=dtype)
    observed = torch.ones(side, side, dtype=torch.bool)
    observed[side // 5 : side // 2, side // 5 : 3 * side // 4] = False
    corrupted = torch.where(observed, image, 1.0)

    bare, clipped = [corrupted.clone()], 0
    for _ in range(steps):
        x = bare[-1].clone().requires_grad_()
        (-bare_log_prob(state, x)).sum().backward()
        step = x.detach() - 1e-3 * x.grad
        step = torch.where(observed, image, step)
        clamped = torch.clamp(step, 0.0, 1.0)
        clipped += int((clamped != step).sum())
        bare.append(torch.where(observed, image, clamped))
    moved = (bare[-1] - bare[0])[..., ~observed].abs()
    assert moved.mean() > 0.05 and clipped > 0, "a comparison of things that rest shows nothing"
    seen: list[Iterate] = []
    result = inpaint(
        flow, corrupted, observed, method=ProjectedGradient(lr=1e-3, steps=steps), on_step=seen.append
    )
    assert len(seen) == steps + 1
    for mine, theirs in zip(seen, bare, strict=True):
        torch.testing.assert_close(mine.x, theirs, rtol=0, atol=atol)
    assert torch.equal(result.image, seen[-1].x)
    with torch.no_grad():
        after, before = (bare_log_prob(state, x) for x in (bare[-1], bare[0]))
    torch.testing.assert_close(result.log_prob, after, rtol=1e-4, atol=0)
    torch.testing.assert_close(result.log_prob_before, before, rtol=1e-4, atol=0)
    assert (result.log_prob > result.log_prob_before).all()
    assert result.status == (Status.COMPLETED,) * rows and result.steps.tolist() == [steps] * rows
