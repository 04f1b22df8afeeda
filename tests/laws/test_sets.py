"""The laws of convex sets, for every set that likely.sets exports."""

import inspect
from collections.abc import Callable
from math import inf, nan

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from laws.sets_case import ROWS, Case, far, length, points
from laws.sets_registry import CASES, KINDS
from likely import sets
from likely.sets import BoundedObserved, Box, ConvexSet, Intersection, Observed, ObservedAffine
from likely.sets.convex import rows_of


@pytest.fixture(params=CASES, ids=lambda name: name.replace(" ", "_"))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_every_exported_set_is_registered() -> None:
    exported = {s for s in vars(sets).values() if inspect.isclass(s) and issubclass(s, ConvexSet)}
    concrete = {s for s in exported if not inspect.isabstract(s)}
    assert {type(c.make()) for c in CASES.values()} == concrete
    assert {name: type(CASES[name].make()) for name in KINDS} == KINDS


def test_the_projection_is_inside(case: Case, dtype: torch.dtype) -> None:
    s = case.make()
    for y in points(case, dtype):
        p = s.project(y)
        assert (s.violation(p) <= case.slack(y, p)).all()
        assert s.contains(p, atol=case.slack(y, p).max().item()).tolist() == [True] * ROWS


def test_the_projection_satisfies_the_rules(case: Case, dtype: torch.dtype) -> None:
    # Independent of `violation`: the rules are stated in numpy, and numbers here are exact in float32.
    for y in points(case, dtype):
        p = case.make().project(y)
        for i, slack in enumerate(case.slack(y, p)):
            assert case.breach(i, p[i].double().flatten().numpy()) <= slack


def test_projecting_twice_changes_nothing(case: Case, dtype: torch.dtype, same_bits: Callable) -> None:
    # No bit at all, where the docstring promises a result without tolerance.
    s = case.make()
    for y in points(case, dtype):
        p = s.project(y)
        assert (
            same_bits(s.project(p), p)
            if not case.tol
            else (far(s.project(p), p) <= case.slack(y, p)).all()
        )


def test_inside_points_keep_every_bit(case: Case, dtype: torch.dtype, same_bits: Callable) -> None:
    s, generator = case.make(), torch.Generator().manual_seed(3)
    for _ in range(10):
        c = case.point(generator).to(dtype)
        # Rounding to float32 may leave a set with bounds that float32 cannot hold; these it can.
        assert torch.equal(s.violation(c), torch.zeros(ROWS, dtype=dtype))
        assert torch.equal(s.project(c), c)
        # Measured zeros take the measured sign; all else keeps its bits.
        measured = torch.zeros(case.shape, dtype=torch.bool)
        for part in s.parts if isinstance(s, Intersection) else [s]:
            if isinstance(part, Observed | BoundedObserved | ObservedAffine):
                measured |= part.mask if isinstance(part, Observed) else part.observed.mask
        assert same_bits(s.project(c)[~measured], c[~measured])
        # Zeros of either sign are kept, too; a clamp may take a zero at a bound for the other one.
        minus = torch.where(c == 0, -c, c)
        clamped = isinstance(s, Box | BoundedObserved | Intersection)
        same = torch.equal if clamped else same_bits
        assert same(s.project(minus)[~measured], minus[~measured])


def test_rows_inside_keep_every_bit_among_rows_outside(case: Case, dtype: torch.dtype) -> None:
    s, generator = case.make(), torch.Generator().manual_seed(6)
    for y in points(case, dtype):
        c = case.point(generator).to(dtype)
        for i in range(ROWS):
            mixed = y.clone()
            mixed[i] = c[i]
            assert torch.equal(s.project(mixed)[i], c[i])
            assert s.violation(mixed)[i] == 0


def test_input_is_left_alone(case: Case, dtype: torch.dtype, same_bits: Callable) -> None:
    batches = [*points(case, dtype), case.point(torch.Generator().manual_seed(7)).to(dtype)]
    for y in batches:
        copy = y.clone()
        case.make().project(y).add_(1)
        assert same_bits(y, copy)


def test_projection_is_non_expansive(case: Case) -> None:
    s = case.make()
    for a, b in zip(points(case, torch.float64, 1), points(case, torch.float64, 2), strict=True):
        p, q = s.project(a), s.project(b)
        rounding = case.slack(a, p) + case.slack(b, q)
        assert (length(p - q) <= length(a - b) * (1 + 1e-14) + rounding).all()


def test_variational_inequality(case: Case) -> None:
    # p = Py exactly when <y - p, c - p> <= 0 for all c in the set; only rounding is forgiven.
    s, generator = case.make(), torch.Generator().manual_seed(4)
    for y in points(case, torch.float64):
        p = s.project(y)
        for _ in range(20):
            c = case.point(generator)
            inner = ((y - p) * (c - p)).flatten(1).sum(1)
            size = ((y - p) * (c - p)).abs().flatten(1).sum(1)
            rounding = case.slack(y, p) * (length(y - p) + length(c - p))
            assert (inner <= 1e-14 * size + rounding).all()


def test_a_ray_from_the_set_comes_back_to_one_point(case: Case) -> None:
    # P(p + t (y - p)) = p for every t >= 0: the least step outside is undone, a huge one as well.
    s = case.make()
    for y in points(case, torch.float64):
        p = s.project(y)
        for t in (1e-9, 1e-4, 2.0):
            x = p + t * (y - p)
            rounding = case.slack(x, p) + 8 * 2.2e-16 * (length(x) + length(p))
            # An iteration knows p itself only so well.
            rounding += case.slack(y, p) * (case.stop(y.dtype) > 0)
            assert (far(s.project(x), p) <= rounding).all()


def test_violation_is_no_more_than_the_distance(case: Case, dtype: torch.dtype) -> None:
    s = case.make()
    for y in points(case, dtype):
        p = s.project(y)
        eps = torch.finfo(dtype).eps
        assert (
            s.violation(y) <= length(y.double() - p.double()) * (1 + 4 * eps) + case.slack(y, p)
        ).all()


def test_batch_is_a_loop_over_rows(case: Case, dtype: torch.dtype, same_bits: Callable) -> None:
    s = case.make()
    for y in points(case, dtype):
        rows, p = [case.row(i) for i in range(ROWS)], s.project(y)
        loop = torch.cat([r.project(y[i : i + 1]) for i, r in enumerate(rows)])
        out = torch.cat([r.violation(y[i : i + 1]) for i, r in enumerate(rows)])
        if case.tol:
            assert (far(p, loop) <= case.slack(y, p)).all()
            assert (far(s.violation(y), out) <= case.slack(y, p) + torch.finfo(dtype).eps * out).all()
        else:
            assert same_bits(p, loop)
            assert same_bits(s.violation(y), out)


def test_rows_of_a_set_are_its_rows(case: Case, dtype: torch.dtype, same_bits: Callable) -> None:
    s = case.make()
    for y in points(case, dtype):
        for chosen in ([2], [0, 2], [2, 1, 0], []):
            index = torch.tensor(chosen, dtype=torch.long)
            some = rows_of(s, index, y.shape)
            assert type(some) is type(s)
            for few in (some, rows_of.dispatch(ConvexSet)(s, index, y.shape)):
                p, out = few.project(y[index]), few.violation(y[index])
                if case.tol:
                    assert (far(p, s.project(y)[index]) <= case.slack(y, s.project(y))[index]).all()
                    assert ((out - s.violation(y)[index]).abs() <= 1e-6 * out).all()
                else:
                    assert same_bits(p, s.project(y)[index])
                    assert same_bits(out, s.violation(y)[index])
            if len(index) == 2:  # and rows of rows
                last = rows_of(some, torch.tensor([1]), y[index].shape)
                assert (
                    far(last.project(y[2:]), s.project(y)[2:]) <= case.slack(y, s.project(y))[2:]
                ).all()


def test_rows_are_independent(case: Case, dtype: torch.dtype, same_bits: Callable) -> None:
    # What happens in the other rows changes no bit of a row, NaN included.
    s = case.make()
    for y in points(case, dtype):
        for i in range(ROWS):
            other = torch.full_like(y, nan)
            other[i] = y[i]
            if case.stop(dtype):  # sums over fewer rows may be taken in another order
                assert far(s.project(other), s.project(y))[i] <= case.slack(y, s.project(y))[i]
            else:
                assert same_bits(s.project(other)[i], s.project(y)[i])
            assert same_bits(s.violation(other)[i], s.violation(y)[i])


def test_shape_and_dtype_are_kept(case: Case, dtype: torch.dtype) -> None:
    y, s = next(points(case, dtype)), case.make()
    assert (s.project(y).shape, s.project(y).dtype) == (case.shape, dtype)
    assert (s.violation(y).shape, s.violation(y).dtype) == ((ROWS,), dtype)
    assert (s.contains(y).shape, s.contains(y).dtype) == ((ROWS,), torch.bool)


def test_float32_is_float64_rounded(case: Case) -> None:
    s = case.make()
    for y in points(case, torch.float32):
        p = s.project(y)
        assert (far(p, s.project(y.double()).float()) <= case.slack(y, p)).all()


def test_gradients_are_those_of_the_projection(case: Case) -> None:
    generator = torch.Generator().manual_seed(5)
    for scale in (0.1, 3.0):
        y = scale * torch.randn(case.shape, generator=generator, dtype=torch.float64)
        assert torch.autograd.gradcheck(case.make().project, y.requires_grad_(), eps=1e-7, atol=1e-5)


def test_gradients_are_finite_at_special_points(case: Case, dtype: torch.dtype) -> None:
    zeros = torch.zeros(case.shape, dtype=dtype)
    for y in (zeros, zeros + 0.25, zeros - 1, case.point(torch.Generator().manual_seed(8)).to(dtype)):
        y = y.clone().requires_grad_()
        s = case.make()
        (grad,) = torch.autograd.grad(s.project(y).sum() + s.violation(y).sum(), y)
        assert grad.isfinite().all()


@settings(max_examples=12, deadline=None, derandomize=True, database=None)
@given(data=st.data())
@pytest.mark.parametrize("name", CASES)
def test_projection_agrees_with_the_oracle(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    y = data.draw(hnp.arrays(np.float64, case.shape, elements=st.floats(-4, 4, width=32)))
    p = case.make().project(torch.from_numpy(y)).numpy()
    for i in range(ROWS):
        # SLSQP solves this quadratic to about the root of its tolerance.
        np.testing.assert_allclose(p[i].ravel(), case.oracle(i, y[i].ravel()), atol=1e-7)


def test_violation_is_the_largest_breach(case: Case) -> None:
    s = case.make()
    for y in points(case, torch.float64):
        slack = case.slack(y, s.project(y)) + (16 if case.tol else 0) * 2.2e-16 * length(y)
        for i in range(ROWS):
            breach = case.breach(i, y[i].flatten().numpy())
            assert abs(s.violation(y)[i].item() - breach) <= slack[i]


def test_contains_means_violation_within_atol(case: Case) -> None:
    s = case.make()
    for y in points(case, torch.float64):
        out = s.violation(y)
        assert torch.equal(s.contains(y), out == 0)
        for atol in (0.0, 0.5, *out.tolist()):
            assert torch.equal(s.contains(y, atol=atol), out <= atol)


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].bounds])
def test_the_least_step_outside_is_seen(name: str, dtype: torch.dtype) -> None:
    # One ulp past a bound or off a measured value is outside, whichever entry and row it is.
    case = CASES[name]
    s = case.make()
    inside = s.project(next(points(case, dtype)))
    for i in range(ROWS):
        low, high = case.bounds(i)
        for bound, away in ((low, -inf), (high, inf)):
            for j in np.flatnonzero(np.isfinite(bound)):
                x = inside.clone()
                edge = torch.tensor(bound[j], dtype=dtype)
                x[i].view(-1)[j] = torch.nextafter(edge, torch.tensor(away, dtype=dtype))
                expected = [row == i for row in range(ROWS)]
                assert (s.violation(x) > 0).tolist() == expected
                assert (~s.contains(x)).tolist() == expected
