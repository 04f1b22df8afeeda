"""The registry of sets: one case or more for every set that likely.sets exports."""

from math import inf, nan

import torch
from torch import Tensor

from laws.sets_case import EVENT, IMAGES, ROWS, SHAPE, Case, draw, dyadic
from laws.sets_meaning import (
    Rows,
    affine,
    ball,
    entrywise,
    halfspace,
    l1_ball,
    monotone,
    simplex,
)
from laws.sets_meeting import meetings
from laws.sets_more import more_sets
from likely.sets import BoundedObserved, Box, Observed


def registry() -> dict[str, Case]:
    low, high = -draw(*SHAPE, seed=1), draw(*SHAPE, seed=2)
    low[0, 0, 0], high[1, 0, 1] = -inf, inf
    low[2, 1, 0], high[2, 1, 0] = -inf, inf
    low[:, 1, 3] = high[:, 1, 3] = 0.25
    wide, tall = -draw(5, seed=3), draw(2, 1, seed=4)
    values = draw(*SHAPE, seed=5)
    values[0, 0, 0] = -0.0
    mask = draw(*SHAPE, seed=6) < 0.5
    other_mask = draw(*SHAPE, seed=14) < 0.5
    one_mask, column = draw(*EVENT, seed=7) < 0.5, torch.tensor([[True], [False]])
    zero, one = torch.tensor(0.0), torch.tensor(1.0)

    def known(m: Tensor, v: Tensor, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(m, v, lo), torch.where(m, v, hi)

    def slope(*shape: int, last: bool = False) -> Tensor:
        a = dyadic(shape, torch.Generator().manual_seed(15), top=128)
        a.view(-1)[-1 if last else 0] = 1.0
        return a

    def system(m: int, n: int) -> Tensor:
        free = dyadic((m, n - m), torch.Generator().manual_seed(16), top=128)
        return torch.cat([free, torch.eye(m).double()], 1)

    free = torch.tensor(-inf), torch.tensor(inf)
    # A second box that holds every measured value, to intersect with more than once.
    more = Box(torch.full(EVENT, -0.5), 2.0)
    return {
        "box of numbers": entrywise(Box, (0.0, 1.0), zero, one),
        "box of one number": entrywise(Box, (-0.5, -0.5), zero - 0.5, zero - 0.5),
        "box without bounds": entrywise(Box, (-inf, inf), *free),
        "half-open box": entrywise(Box, (0.25, inf), zero + 0.25, free[1]),
        "box per row": entrywise(Box, (low, high), low, high),
        "box of broadcast tensors": entrywise(Box, (wide, tall), wide, tall),
        "box & box": entrywise(
            lambda a, b: Box(a, 0.75) & Box(-0.5, b),
            (low, high + 0.25),
            low.clamp(min=-0.5),
            (high + 0.25).clamp(max=0.75),
        ),
        "observed per row": entrywise(Observed, (mask, values), *known(mask, values, *free)),
        "observed, one mask": entrywise(Observed, (one_mask, values), *known(one_mask, values, *free)),
        "observed, one image": entrywise(Observed, (mask, values[1]), *known(mask, values[1], *free)),
        "observed column": entrywise(Observed, (column, values), *known(column, values, *free)),
        "observed nowhere": entrywise(Observed, (mask & ~mask, values * nan), *free),
        "box & observed": entrywise(
            lambda m, v: Box(0.0, 1.0) & Observed(m, v), (mask, values), *known(mask, values, zero, one)
        ),
        "observed & box": entrywise(
            lambda m, v, lo: Observed(m, v) & Box(lo, inf),
            (one_mask, values, -values),
            *known(one_mask, values, -values, free[1]),
        ),
        "box & (box & observed)": entrywise(
            lambda m, v: more & (Box(-1.0, 1.0) & Observed(m, v)),
            (mask, values),
            *known(mask, values, zero - 0.5, one),
        ),
        "(observed & box) & box": entrywise(
            lambda m, v: (Observed(m, v) & Box(-1.0, 1.0)) & more,
            (mask, values),
            *known(mask, values, zero - 0.5, one),
        ),
        "box & box & observed": entrywise(
            lambda m, v: Box(-1.0, 1.0) & more & Observed(m, v),
            (mask, values),
            *known(mask, values, zero - 0.5, one),
        ),
        "observed & observed": entrywise(
            lambda m, v, n: Observed(m, v) & Observed(n, v),
            (mask, values, other_mask),
            *known(mask | other_mask, values, *free),
        ),
        "observed & observed elsewhere": entrywise(
            lambda m, v: Observed(m, torch.where(m, v, nan)) & Observed(~m, 1 - v),
            (mask, values),
            *[torch.where(mask, values, 1 - values)] * 2,
        ),
        "(box & observed) & observed": entrywise(
            lambda m, v, n: (Box(-1.0, 1.0) & Observed(m, v)) & Observed(n, v),
            (mask, values, other_mask),
            *known(mask | other_mask, values, -one, one),
        ),
        "observed & (box & observed)": entrywise(
            lambda m, v, n: Observed(n, v) & (Box(-1.0, 1.0) & Observed(m, v)),
            (mask, values, other_mask),
            *known(mask | other_mask, values, -one, one),
        ),
        "(box & observed) & (box & observed)": entrywise(
            lambda m, v, n: (Box(-1.0, 1.5) & Observed(m, v)) & (Box(-0.5, 2.0) & Observed(n, v)),
            (mask, values, other_mask),
            *known(mask | other_mask, values, zero - 0.5, one + 0.5),
        ),
        "halfspace": halfspace(slope(10), 0.5, SHAPE),
        "halfspace of event shape": halfspace(slope(*EVENT), torch.tensor(-0.25), SHAPE),
        "halfspace of sums": halfspace(torch.ones(12), 1.5, IMAGES),
        "halfspace per row": halfspace(
            -slope(*IMAGES[1:]), Rows(torch.tensor([0.25, -1.5, 3.0])), IMAGES
        ),
        "hyperplane": affine(torch.ones(10), 1.0, SHAPE),
        "hyperplane per row": affine(
            slope(12, last=True), Rows(torch.tensor([0.0, -2.5, 4.0])), IMAGES
        ),
        "affine, one row": affine(torch.tensor([[2.0, -0.5, 1.0]]), torch.tensor([0.5]), (ROWS, 3)),
        "affine": affine(system(3, 10), torch.tensor([0.5, -1.25, 0.0]), SHAPE),
        "affine per row": affine(system(2, 12), Rows(draw(ROWS, 2, seed=10)), IMAGES),
        "affine with one solution": affine(torch.eye(3), Rows(draw(ROWS, 3, seed=11)), (ROWS, 3)),
        "simplex": simplex(1.0, SHAPE),
        "simplex per row": simplex(Rows(torch.tensor([0.5, 1.0, 4.0])), IMAGES),
        "simplex of whole totals": simplex(Rows(torch.tensor([1, 2, 8])), (ROWS, 4)),
        "simplex of one entry": simplex(2.5, (ROWS, 1)),
        "ball": ball(0.0, 1.0, SHAPE),
        "ball around an image": ball(draw(*EVENT, seed=12), 2.5, SHAPE),
        "ball per row": ball(
            Rows(draw(*IMAGES, seed=13)), Rows(torch.tensor([0.25, 1.0, 100.0])), IMAGES
        ),
        "ball that is a point": ball(0.25, 0, (ROWS, 4)),
        "l1 ball": l1_ball(1.0, SHAPE),
        "l1 ball per row": l1_ball(Rows(torch.tensor([0.5, 2.0, 64.0])), IMAGES),
        "l1 ball that is a point": l1_ball(0.0, (ROWS, 4)),
        "monotone": monotone(SHAPE),
        "monotone images": monotone(IMAGES),
        "monotone pairs": monotone((ROWS, 2)),
        "monotone of one entry": monotone((ROWS, 1)),
        **more_sets(),
        **meetings(),
    }


CASES = registry()
#: what the operators `&` must give
KINDS = {
    name: BoundedObserved if "box" in name and "observed" in name else Observed
    for name in CASES
    if "observed" in name
}
