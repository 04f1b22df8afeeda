"""The adapter that turns anything usable into a density."""

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, distributions

from likely import flows
from likely.density import Density, Samplable, log_prob_of
from likely.errors import InvalidInput, InvalidType

EVENT = torch.Size([1, 2, 3])


@pytest.fixture(autouse=True)
def same_validation() -> Iterator[None]:
    """Put torch's own validation back: importing zuko turns it off for everyone."""
    before = distributions.Distribution._validate_args
    yield
    distributions.Distribution.set_default_validate_args(before)


def points(b: int = 4, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(b, *EVENT, generator=torch.Generator().manual_seed(0), dtype=dtype)


def standard(x: Tensor) -> Tensor:
    """Return log N(x; 0, I), written out."""
    return -0.5 * x.flatten(1).square().sum(1) - 0.5 * x[0].numel() * math.log(2 * math.pi)


class Mine:
    def log_prob(self, x: Tensor) -> Tensor:
        assert x.shape[1:] == EVENT
        return standard(x)


ZERO, ONE = torch.zeros(6, dtype=torch.float64), torch.eye(6, dtype=torch.float64)
SAME = {
    "flat law": distributions.MultivariateNormal(ZERO, ONE),
    "law of images": distributions.Independent(distributions.Normal(ZERO.view(EVENT), 1.0), 3),
    "law whose batch is the event": distributions.Normal(ZERO.view(EVENT), 1.0),
    "law whose batch is the flat event": distributions.Normal(ZERO, 1.0),
    "law of rows": distributions.MultivariateNormal(ZERO.view(2, 3), torch.eye(3, dtype=torch.float64)),
    "object": Mine(),
    "function": standard,
    "method": Mine().log_prob,
}


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("b", [1, 4, 6])
def test_every_kind_of_density_gives_the_same_value(name: str, b: int) -> None:
    # b = 6 is the number of entries too: a law whose batch is the event must not be read by rows.
    x = points(b)
    value = log_prob_of(SAME[name], EVENT)(x)
    torch.testing.assert_close(value, standard(x), rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", SAME)
def test_it_is_differentiable(name: str) -> None:
    x = points().requires_grad_()
    (grad,) = torch.autograd.grad(log_prob_of(SAME[name], EVENT)(x).sum(), x)
    torch.testing.assert_close(grad, -x.detach(), rtol=1e-13, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("own", [torch.float32, torch.float64])
def test_the_result_has_the_dtype_of_the_input(dtype: torch.dtype, own: torch.dtype) -> None:
    x = points(dtype=dtype)
    law = distributions.Normal(torch.zeros(EVENT, dtype=own), 1.0)
    value = log_prob_of(law, EVENT)(x)
    assert value.dtype == dtype
    torch.testing.assert_close(value, standard(x), rtol=1e-6, atol=0)


def test_a_flow_is_a_density_and_a_law() -> None:
    flow = flows.nice((1, 2, 2), width=4)
    assert isinstance(flow, Density) and isinstance(flow, Samplable)
    x = torch.rand(3, 1, 2, 2)
    assert torch.equal(log_prob_of(flow, x.shape[1:])(x), flow.log_prob(x))


def test_a_zuko_flow_is_called_first() -> None:
    zuko = pytest.importorskip("zuko")
    lazy = zuko.flows.MAF(features=6, hidden_features=(4,))
    x = points(dtype=torch.float32)
    assert torch.equal(log_prob_of(lazy(), EVENT)(x), lazy().log_prob(x.flatten(1)))
    with pytest.raises(InvalidType, match=r"MAF .*expected a tensor.*flow\(\)"):
        log_prob_of(lazy, EVENT)(x)


@pytest.mark.parametrize("density", [None, 3, "digits", torch.zeros(6)])
def test_other_things_are_no_density(density: object) -> None:
    with pytest.raises(InvalidType, match=f"density is a {type(density).__name__}.*log_prob"):
        log_prob_of(density, EVENT)


@pytest.mark.parametrize(
    "law",
    [
        distributions.Normal(0.0, 1.0),
        distributions.Normal(torch.zeros(5), 1.0),
        distributions.MultivariateNormal(torch.zeros(7), torch.eye(7)),
        distributions.Normal(torch.zeros(4, 6), 1.0),
    ],
)
def test_a_law_over_another_event_is_refused(law: distributions.Distribution) -> None:
    given = tuple(law.batch_shape + law.event_shape)
    with pytest.raises(InvalidInput) as error:
        log_prob_of(law, EVENT)
    for word in (type(law).__name__, str(given), str(tuple(EVENT))):
        assert word in str(error.value)


def test_a_scalar_law_is_refused_even_for_one_entry() -> None:
    with pytest.raises(InvalidInput, match="Expand"):
        log_prob_of(distributions.Normal(0.0, 1.0), torch.Size([1]))


@pytest.mark.parametrize(
    "function, shape",
    [
        (lambda x: x.sum(), r"\(\)"),
        (lambda x: standard(x)[:, None], r"\(4, 1\)"),
        (lambda x: standard(x)[1:], r"\(3,\)"),
        (lambda x: x, r"\(4, 1, 2, 3\)"),
    ],
)
def test_results_are_one_value_a_row(function: Callable, shape: str) -> None:
    with pytest.raises(InvalidInput, match=rf"returned shape {shape} .*expected \(4,\)"):
        log_prob_of(function, EVENT)(points())


@pytest.mark.parametrize("result", [1.0, [1.0] * 4, None])
def test_results_are_tensors(result: object) -> None:
    with pytest.raises(InvalidType, match=f"returned a {type(result).__name__}"):
        log_prob_of(lambda x: result, EVENT)(points())
