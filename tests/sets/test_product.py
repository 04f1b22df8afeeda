"""Products of sets: known answers, what parts may be, and what is refused."""

from collections.abc import Callable

import pytest
import torch

from likely.errors import InvalidInput, InvalidType
from likely.sets import Ball, Box, ConvexSet, Halfspace, Observed, Product, Simplex

BOX, BALL = Box(0.0, 1.0), Ball(0.0, 1.0)


def test_known_projections(same_bits: Callable, dtype: torch.dtype) -> None:
    s = Product((slice(0, 2), Simplex(1.0)), (torch.tensor([4, 2]), Ball(0.0, 5.0)))
    y = torch.tensor([[3.0, 4.0, 8.0, -0.0, 6.0, 9.0]], dtype=dtype)
    assert s.project(y).tolist() == [[0.0, 1.0, 4.0, -0.0, 3.0, 9.0]]
    assert same_bits(s.project(y)[:, 3::2], y[:, 3::2])
    assert s.violation(y).item() == pytest.approx(5.0)  # of the ball; 6 / sqrt(2) of the simplex
    # Entries come to a set in the order of its part.
    s = Product((torch.tensor([4, 2]), Halfspace(torch.tensor([1.0, 0.0]), 2.0)))
    assert s.project(y).tolist() == [[3.0, 4.0, 8.0, -0.0, 2.0, 9.0]]


def test_parts_of_images() -> None:
    # Colours of a pixel add up to 1 at the pixels marked; the others are free.
    mask = torch.zeros(3, 2, 2, dtype=torch.bool)
    mask[:, 0, 1] = True
    s = Product((mask, Simplex(1.0)))
    x = s.project(torch.ones(2, 3, 2, 2))
    assert (x[:, :, 0, 1].sum(1) - 1).abs().max() < 1e-6
    assert (x[:, ~mask] == 1).all()
    assert torch.equal(Product((mask.flatten(), Simplex(1.0))).project(torch.ones(2, 3, 2, 2)), x)


def test_one_part_of_all_is_its_set(same_bits: Callable) -> None:
    y = 3 * torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(41))
    s = Ball(0.25, torch.tensor([0.5, 1.0, 2.0, 9.0]))
    for where in (slice(None), slice(0, 6), torch.arange(6), torch.ones(2, 3, dtype=torch.bool)):
        assert same_bits(Product((where, s)).project(y), s.project(y))
        assert same_bits(Product((where, s)).violation(y), s.violation(y))


def test_products_nest(same_bits: Callable) -> None:
    y = 3 * torch.randn(4, 6, generator=torch.Generator().manual_seed(42))
    inner = Product((slice(0, 2), BALL), (slice(2, 4), Simplex(1.0)))
    outer = Product((slice(2, 6), inner), (slice(0, 2), BOX))
    plain = Product((slice(2, 4), BALL), (slice(4, 6), Simplex(1.0)), (slice(0, 2), BOX))
    assert same_bits(outer.project(y), plain.project(y))


@pytest.mark.parametrize(
    "build, error, message",
    [
        (lambda: Product(), InvalidInput, "no parts"),
        (lambda: Product(BOX), InvalidType, "part 0 is .*Box.*expected a pair"),
        (lambda: Product((slice(0, 2), BOX), (slice(2, 3), 1.0)), InvalidType, "part 1 is .*pair"),
        (lambda: Product((BOX, slice(0, 2))), InvalidType, "part 0 is .*pair"),
        (lambda: Product((2, BOX)), InvalidType, "part 0 is given by int"),
        (lambda: Product((torch.ones(2), BOX)), InvalidType, r"part 0 is given by torch\.float32"),
        (
            lambda: Product((slice(0, 3), BOX), (slice(2, 4), BALL)),
            InvalidInput,
            r"entry 2 is taken 2 times, by parts \[0, 1\]",
        ),
        (
            lambda: Product((slice(0, 2), BOX), (torch.tensor([3, 5, 3]), BALL)),
            InvalidInput,
            r"entry 3 is taken 2 times, by parts \[1, 1\]",
        ),
        (
            lambda: Product((torch.ones(4, dtype=torch.bool), BOX), (slice(-1, None), BALL)),
            InvalidInput,
            r"entry 3 is taken 2 times, by parts \[0, 1\]",
        ),
        (
            lambda: Product((torch.ones(4, dtype=torch.bool), BOX), (slice(4, 6), BALL)),
            InvalidInput,
            r"part 1, slice\(4, 6, None\), does not fit an event of 4 entries",
        ),
        (
            lambda: Product(*[(torch.ones(n, dtype=torch.bool), BOX) for n in (4, 5)]),
            InvalidInput,
            r"part 1, a tensor of shape \(5,\), does not fit an event of 4",
        ),
        (
            lambda: Product((torch.tensor([0, -1]), BOX)),
            InvalidInput,
            r"\(2,\), does not fit",
        ),
        (lambda: Product((slice(3, 3), BOX)), InvalidInput, "part 0, .* takes no entry"),
        (lambda: Product((torch.zeros(4, dtype=torch.bool), BOX)), InvalidInput, "takes no entry of 4"),
    ],
)
def test_parts_are_checked_at_the_door(build: Callable, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize(
    "s, message",
    [
        (Product((slice(0, 7), BOX)), r"slice\(0, 7, None\), does not fit an event of 6"),
        (Product((slice(-7, None), BOX)), r"slice\(-7, None, None\), does not fit an event of 6"),
        (Product((slice(6, None), BOX)), "takes no entry of 6"),
        (Product((torch.tensor([0, 6]), BOX)), "part 0, .* does not fit an event of 6"),
        (Product((torch.ones(7, dtype=torch.bool), BOX)), "part 0, .* does not fit an event of 6"),
        (Product((slice(0, 4), BOX), (slice(-3, None), BOX)), r"entry 3 .* parts \[0, 1\]"),
        (Product((slice(0, 2), Halfspace(torch.ones(3), 1.0))), r"a has shape \(3,\)"),
    ],
)
def test_points_that_do_not_fit_are_named(s: ConvexSet, message: str) -> None:
    for use in (s.project, s.violation):
        with pytest.raises(InvalidInput, match=message):
            use(torch.zeros(3, 2, 3))


def test_nan_matters_where_it_is_constrained() -> None:
    s = Product((slice(0, 2), BOX), (slice(2, 3), Observed(torch.tensor([True]), torch.tensor([0.5]))))
    y = torch.tensor([[0.5, 0.5, 0.5, float("nan")], [0.5, float("nan"), 0.5, 0.5]])
    assert s.contains(y).tolist() == [True, False]
