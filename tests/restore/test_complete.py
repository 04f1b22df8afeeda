"""Plausible completions: the contract, whatever the density."""

import re
import warnings
from collections.abc import Callable
from math import inf

import numpy as np
import pytest
import torch
from torch import Tensor, distributions

from laws.samplers_registry import MIXTURE, Mixture
from likely import complete, flows
from likely.errors import InvalidInput
from likely.flows import Flow
from likely.restore import Completions
from likely.samplers import Direct, Hamiltonian, Independence, Langevin, Sampler, Status, Sweep
from restore.images import rand, with_value

IMAGES, HOLES = rand(5, 1, 2, 2, seed=1), rand(5, 1, 2, 2, seed=2) < 0.5
HOLES[1], HOLES[2], HOLES[3] = True, False, torch.tensor([[True, True], [True, False]])
SHORT = Hamiltonian(leapfrogs=4, warmup=120, thin=30)
#: for what holds at every step
QUICK = Hamiltonian(leapfrogs=2, warmup=20, thin=8)
#: long enough to be worth what is kept: R-hat is near 1.01
LONG = Hamiltonian(leapfrogs=4, warmup=120, thin=100)
METHODS = [LONG, Langevin(warmup=200, thin=120), Independence(MIXTURE), Direct(), None]


def quietly(*args: object, **kwargs: object) -> Completions:
    """Complete, where it is no matter what short chains are worth."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return complete(*args, **kwargs)


def name(method: Sampler | None) -> str:
    return type(method).__name__


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_the_contract(method: Sampler | None, dtype: torch.dtype, same_bits: Callable) -> None:
    image = with_value(IMAGES.to(dtype), -0.0, 1, 0, 0, 0)
    copies = image.clone(), HOLES.clone()
    c = complete(MIXTURE, image, HOLES, n=10, method=method, seed=0)
    assert isinstance(c, Completions)
    assert c.samples.shape == (10, 5, 1, 2, 2) and c.mean.shape == image.shape
    assert c.log_prob.shape == (10, 5) and len(c.status) == 5
    for t in (c.samples, c.mean, c.log_prob, c.acceptance, c.ess, c.rhat, c.quantile(0.05)):
        assert t.dtype == dtype and not t.requires_grad
    for t in (*c.samples, c.mean, c.quantile(0.05), c.quantile(1)):
        assert same_bits(t[HOLES], image[HOLES])
        assert ((t >= 0) & (t <= 1)).all()
    torch.testing.assert_close(c.mean, c.samples.mean(0))
    for q in (0.05, 0.3, 0.9):
        by_rank = np.quantile(c.samples.numpy(), q, axis=0, method="weibull")
        torch.testing.assert_close(c.quantile(q), torch.from_numpy(by_rank).to(dtype))
    for x, log_p in zip(c.samples, c.log_prob, strict=True):
        torch.testing.assert_close(log_p, MIXTURE.log_prob_given(x, HOLES).to(dtype))
    good = Status.INDEPENDENT if method is None or isinstance(method, Direct) else Status.MIXED
    assert c.status == tuple(Status.UNCHANGED if r == 1 else good for r in range(5))
    assert c.rhat[1] == c.acceptance[1] == 1 and c.ess[1] == 10
    if good is Status.INDEPENDENT:
        assert c.rhat.tolist() == c.acceptance.tolist() == [1] * 5 and c.ess.tolist() == [10] * 5
    assert torch.equal(copies[0], image) and torch.equal(copies[1], HOLES)
    assert repr(c).startswith("Completions(")


@pytest.mark.parametrize("n", [19, 40])
def test_intervals_hold_one_more_draw_as_often_as_they_say(n: int) -> None:
    # Theory M5; a z-test over independent images, with a false alarm once in 1e6.
    images, nothing = torch.full((4000, 1, 2, 2), 0.5), torch.zeros(1, 2, 2, dtype=torch.bool)
    c = complete(MIXTURE, images, nothing, n=n, seed=0)
    truth = complete(MIXTURE, images, nothing, n=1, seed=1).samples[0]
    inside = ((c.quantile(0.05) <= truth) & (truth <= c.quantile(0.95))).double().mean((1, 2, 3))
    assert abs(inside.mean() - 0.9) < 4.8916 * inside.std() / len(inside) ** 0.5


def test_of_other_densities_it_reports_their_log_prob(randomize: Callable) -> None:
    flow = randomize(flows.nice((1, 2, 2), width=8, depth=1)).double()
    c = quietly(flow, IMAGES.double(), HOLES, n=4, method=QUICK, seed=0)
    for x, log_p in zip(c.samples, c.log_prob, strict=True):
        torch.testing.assert_close(log_p, flow.log_prob(x).detach(), rtol=1e-12, atol=0)


def test_one_missing_entry_is_a_truncated_normal(assert_mean: Callable) -> None:
    law = distributions.Normal(torch.tensor([0.3, 0.9], dtype=torch.float64), 0.4)
    image = torch.full((200, 2), 0.5, dtype=torch.float64)
    c = quietly(law, image, torch.tensor([True, False]), n=4, method=SHORT, seed=0)
    # Chains of different images are independent: one draw of each.
    x = c.samples[0, :, 1]
    a, b = (torch.tensor((t - 0.9) / 0.4, dtype=torch.float64) for t in (0.0, 1.0))
    pdf = [torch.exp(-t * t / 2) / (2 * torch.pi) ** 0.5 for t in (a, b)]
    truth = 0.9 + 0.4 * (pdf[0] - pdf[1]) / (torch.special.ndtr(b) - torch.special.ndtr(a))
    assert_mean(x, truth.item())


def test_nothing_measured_is_a_draw_of_the_density(assert_mean: Callable) -> None:
    c = complete(MIXTURE, IMAGES[:1], torch.tensor(False), n=3_000, seed=0)
    a, b = ((t - MIXTURE.loc) / MIXTURE.scale for t in (0.0, 1.0))
    pdf = [(-t.square() / 2).exp() / (2 * torch.pi) ** 0.5 for t in (a, b)]
    means = MIXTURE.weights @ (
        MIXTURE.loc + MIXTURE.scale * (pdf[0] - pdf[1]) / (MIXTURE.high - MIXTURE.low)
    )
    for x, truth in zip(c.samples[:, 0].flatten(1).T, means.tolist(), strict=True):
        assert_mean(x, truth)


def test_equal_bounds_count_as_measured(same_bits: Callable) -> None:
    low, high = torch.zeros(2, 2), torch.ones(2, 2)
    low[0, 0] = high[0, 0] = 0.25
    observed = torch.tensor([[False, False], [True, False]])
    known = torch.tensor([[True, False], [True, False]])
    image = with_value(IMAGES, 0.9, slice(None), 0, 0, 0)
    for method in (None, QUICK, Independence(MIXTURE)):
        c = quietly(MIXTURE, image, observed, n=8, bounds=(low, high), method=method, seed=0)
        assert (c.samples[..., 0, 0] == 0.25).all() and (c.mean[..., 0, 0] == 0.25).all()
        torch.testing.assert_close(
            c.log_prob[0], MIXTURE.log_prob_given(c.samples[0], known.expand(image.shape)).float()
        )
    pinned = torch.where(observed, 0.0, 0.25), torch.where(observed, 1.0, 0.25)
    all_equal = complete(MIXTURE, image, observed, n=2, bounds=pinned)
    assert all_equal.status == (Status.UNCHANGED,) * 5


def test_bounds_may_be_infinite(assert_mean: Callable) -> None:
    law = distributions.Normal(torch.tensor([0.0, 5.0], dtype=torch.float64), 2.0)
    image = torch.zeros(200, 2, dtype=torch.float64)
    method = Hamiltonian(leapfrogs=4, warmup=120, thin=40, start="given")
    for bounds, mean in (((-inf, inf), 5.0), ((-inf, 5.0), 5 - 2 * (2 / torch.pi) ** 0.5)):
        c = quietly(law, image, torch.tensor([True, False]), 4, bounds, method, seed=0)
        assert_mean(c.samples[0, :, 1], mean)
        assert (c.samples <= bounds[1]).all()


@pytest.mark.parametrize("method", [QUICK, Independence(MIXTURE), Direct()], ids=name)
def test_seed_decides_and_the_global_state_stays(method: Sampler, same_global_state: Callable) -> None:
    def draw(**seed: object) -> Tensor:
        return quietly(MIXTURE, IMAGES, HOLES, n=3, method=method, **seed).samples

    with same_global_state():
        assert torch.equal(draw(seed=3), draw(seed=3))
        assert not torch.equal(draw(seed=3), draw(seed=4))
        assert torch.equal(draw(seed=3), draw(generator=torch.Generator().manual_seed(3)))
        draw()


class Recorder:
    """A density that notes how many points it was given at once."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def log_prob(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        return MIXTURE.log_prob(x)


class ConditionalRecorder(Recorder):
    def log_prob_given(self, x: Tensor, observed: Tensor) -> Tensor:
        self.sizes.append(len(x))
        return MIXTURE.log_prob_given(x, observed)

    def sample_given(self, image: Tensor, *rest: object) -> tuple[Tensor, Tensor]:
        self.sizes.append(rest[1] * len(image))
        return MIXTURE.sample_given(image, *rest)


@pytest.mark.parametrize(
    "method, points", [(QUICK, 4), (Hamiltonian(warmup=0, temperatures=(1, 2)), 8), (Direct(), 6)]
)
def test_a_thousand_images_stay_within_the_chunk(method: Sampler, points: int) -> None:
    density = ConditionalRecorder() if isinstance(method, Direct) else Recorder()
    image = rand(1_000, 1, 2, 2, seed=1)
    rows = slice(None) if isinstance(method, Direct) else slice(30)
    c = quietly(density, image[rows], HOLES[3], n=6, method=method, chunk=50, seed=0)
    assert max(density.sizes) == 50 // points * points
    assert len(c.status) == (1_000 if isinstance(method, Direct) else 30)
    spread = c.samples.std(0)[:, 0, 1, 1]
    assert (spread > 0).all()


@pytest.mark.parametrize("chunk", [1, 9, 512])
def test_the_rows_shown_are_those_of_the_image(chunk: int, same_bits: Callable) -> None:
    seen: list[Sweep] = []
    c = quietly(MIXTURE, IMAGES, HOLES, 4, method=QUICK, chunk=chunk, seed=0, on_step=seen.append)
    per = max(1, chunk // 4)
    rows = [0, 2, 3, 4]
    parts = [rows[i : i + per] for i in range(0, 4, per)]
    steps = QUICK.warmup + QUICK.thin
    assert [s.rows.tolist() for s in seen] == [p for p in parts for _ in range(steps)]
    assert [s.k for s in seen] == [*range(steps)] * len(parts)
    for s in seen:
        known = HOLES[s.rows][:, None].expand_as(s.x)
        assert same_bits(s.x[known], IMAGES[s.rows][:, None].expand_as(s.x)[known])
        assert ((s.x >= 0) & (s.x <= 1)).all()
    last = {r: x for s in seen for r, x in zip(s.rows.tolist(), s.x, strict=True)}
    for r in rows:
        assert torch.equal(c.samples[:, r], last[r])


def test_starts(same_bits: Callable) -> None:
    given = rand(4, 5, 1, 2, 2, seed=7) * 3 - 1

    def first(start: object) -> Tensor:
        seen: list[Sweep] = []
        method = Hamiltonian(warmup=0, step=1e-20, start=start)
        quietly(MIXTURE, IMAGES, HOLES, 4, method=method, seed=0, on_step=seen.append, chunk=8)
        return torch.cat([s.x for s in seen if s.k == 0]).transpose(0, 1)

    some = [0, 2, 3, 4]
    wanted = torch.where(HOLES, IMAGES, given.clamp(0, 1))[:, some]
    torch.testing.assert_close(first(given), wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(first("given"), IMAGES[some].expand(4, 4, 1, 2, 2), rtol=0, atol=1e-12)
    for start in ("uniform", MIXTURE):
        x = first(start)
        assert (x[0] != x[1])[~HOLES[some]].all()


def test_chains_that_do_not_mix_are_said() -> None:
    narrow = Mixture(
        torch.tensor([0.5, 0.5]), torch.tensor([[0.1] * 4, [0.9] * 4]), torch.full((2, 4), 0.02)
    )
    with pytest.warns(
        UserWarning, match=r"1 of 2 images UNMIXED.*R-hat above 1\.05.*R-hat is up to"
    ) as w:
        c = complete(
            narrow.log_prob, IMAGES[:2], torch.tensor([[[[False]]], [[[True]]]]), method=SHORT, seed=0
        )
    assert len(w) == 1
    assert c.status == (Status.UNMIXED, Status.UNCHANGED) and not c.status[0].ok
    assert c.rhat[0] > 2 and c.ess[0] < 16
    tempered = Hamiltonian(
        leapfrogs=4, warmup=200, thin=150, temperatures=tuple(3.0**i for i in range(7))
    )
    again = quietly(narrow.log_prob, IMAGES[:1], torch.tensor(False), method=tempered, seed=0)
    first = again.samples[:, 0, 0, 0, 0]
    assert again.rhat[0] < 1.2 and (first < 0.5).any() and (first > 0.5).any()


def test_too_few_steps_are_said() -> None:
    # Every one of 1,000 steps is kept, and they are correlated: R-hat is near 1, and they are few.
    method = Langevin(warmup=200, thin=1)
    with pytest.warns(UserWarning, match="FEW"):
        c = complete(MIXTURE, IMAGES[:1], HOLES[:1], n=4_000, method=method, seed=0)
    assert c.status == (Status.FEW,) and c.rhat[0] <= 1.05 and c.ess[0] < 4_000


def test_a_start_that_the_density_does_not_allow_is_said() -> None:
    def nowhere(x: Tensor) -> Tensor:
        return x.flatten(1).sum(1).log() * 0 - inf

    with pytest.warns(UserWarning, match="NONFINITE"):
        c = complete(nowhere, IMAGES[:1], HOLES[:1], method=SHORT, seed=0)
    assert c.status == (Status.NONFINITE,) and c.acceptance[0] == 0


def test_a_uniform_law_mixes() -> None:
    c = complete(lambda x: 0 * x.flatten(1).sum(1), IMAGES[:1], HOLES[:1], method=SHORT, seed=0)
    assert c.status == (Status.MIXED,)


def test_statuses_explain_themselves() -> None:
    for status in Status:
        assert len(status.value) > 20
    assert {s for s in Status if s.ok} == {Status.INDEPENDENT, Status.MIXED, Status.UNCHANGED}
    assert re.search(r"1\.05", Status.UNMIXED.value)


def test_a_rough_gradient_leaves_the_law_exact(randomize: Callable, assert_mean: Callable) -> None:
    flow = randomize(flows.nice((1, 2, 2), width=8, depth=1), seed=3)
    image = IMAGES[:1].expand(150, 1, 2, 2)
    means = []
    for precision in (None, torch.bfloat16):
        c = quietly(flow, image, HOLES[3], 4, method=SHORT, precision=precision, seed=0)
        torch.testing.assert_close(c.log_prob[0], flow.log_prob(c.samples[0]).detach())
        means.append(c.samples[0, :, 0, 1, 1].double())
    assert not torch.equal(*means)
    se = ((means[0].var() + means[1].var()) / 150).sqrt()
    assert abs(means[0].mean() - means[1].mean()) < 4.8916 * se  # false alarm once in 1e6


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(mode: Callable) -> None:
    on = quietly(MIXTURE, IMAGES, HOLES, 4, method=QUICK, seed=0)
    with mode():
        off = quietly(MIXTURE, IMAGES, HOLES, 4, method=QUICK, seed=0)
    assert torch.equal(on.samples, off.samples)


def test_the_density_stays_as_it_was(randomize: Callable) -> None:
    flow: Flow = randomize(flows.nice((1, 2, 2), width=8, depth=1, dropout=0.5)).train()
    image = IMAGES.clone().requires_grad_()
    c = quietly(flow, image, HOLES, 2, method=Hamiltonian(warmup=5, thin=4), seed=0)
    assert all(m.training for m in flow.modules())
    assert all(p.requires_grad and p.grad is None for p in flow.parameters()) and image.grad is None
    torch.testing.assert_close(c.log_prob[0], flow.eval().log_prob(c.samples[0]).detach())


@pytest.mark.parametrize("low", [-inf, -4.0], ids=["no bounds", "half bounds"])
def test_tables_without_bounds_and_with_nan(low: float, assert_mean: Callable) -> None:
    # Two columns of correlation 0.8, the second missing, as tables have it.
    law = distributions.MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.8], [0.8, 1.0]]))
    table = torch.tensor([[0.5, torch.nan]]).double().repeat(200, 1)
    c = quietly(law, table, ~table.isnan(), n=4, bounds=(low, inf), method=SHORT, seed=0)
    assert torch.equal(c.samples[..., 0], table[:, 0].expand(4, -1))
    # Chains of different rows are independent: one draw of each.
    assert_mean(c.samples[3, :, 1], 0.4)
    assert_mean((c.samples[3, :, 1] - 0.4).square(), 0.36)


def test_a_conditional_density_knows_values_of_0_to_1_only() -> None:
    with pytest.raises(InvalidInput, match=r"a measured value is \d+.*rescale"):
        complete(MIXTURE, torch.full((1, 1, 2, 2), 12.0), HOLES[:1], bounds=(0.0, 16.0))
