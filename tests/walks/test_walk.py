"""Walks as laws: draws, gradients, blocks, normal steps, rules."""

import math
import signal
import threading
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from likely import Walk, exact, expect
from likely.expectations import Mixture
from likely.walks import NormalSteps, finite
from likely.walks.bits import Bits, below, cut

Z_BOUND = 4.8916
SMALL = Walk(18 / 37, start=2, low=0, high=5, horizon=9)


def leaf(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def test_draws_are_paths_that_keep_their_last_state() -> None:
    x = SMALL.sample(200, seed=0)
    assert x.shape == (200, 10) and x.dtype == torch.int16
    steps = x.diff(dim=1)
    inside = (x[:, :-1] > 0) & (x[:, :-1] < 5)
    assert torch.equal(steps.abs() == 1, inside) and torch.equal(steps == 0, ~inside)


def test_numpy_numbers_are_numbers() -> None:
    w = Walk(np.float64(0.5), np.int8(100), np.int16(0), np.float32(200.0), np.int32(600))
    assert torch.equal(w.sample(5, seed=0), Walk(0.5, 100, 0, 200, 600).sample(5, seed=0))


def test_seeds(same_global_state: object) -> None:
    with same_global_state():
        one, two, other = (SMALL.sample(100, seed=s) for s in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)
    g = torch.Generator().manual_seed(4)
    assert not torch.equal(SMALL.sample(100, generator=g), SMALL.sample(100, generator=g))


@pytest.mark.parametrize("q", [0.3, 1e-4, 1 - 1e-5, 2.0**-16, 0.5 + 2.0**-40])
def test_thresholds_are_exact_beyond_sixteen_bits(q: float) -> None:
    # Where the first bits tie, the rest decides: 2^20 forced ties have the chance that is left.
    import numpy as np

    first, rest = cut(np.array([q]))
    assert (first[0] + rest[0]) * 2.0**-16 == q

    class Tied:
        def __init__(self) -> None:
            self.generator = np.random.default_rng(0)

        def sixteen(self, m: int) -> object:
            return np.full(m, first[0])

    n = 20_000
    hits = int(below(Tied(), n, first, rest)[0].sum())
    assert abs(hits - n * rest[0]) <= Z_BOUND * (n * rest[0] * (1 - rest[0])) ** 0.5 + 1e-9
    k = 10**6
    seen = int(below(Bits(1), k, first, rest)[0].sum())
    assert abs(seen - k * q) <= Z_BOUND * (k * q * (1 - q)) ** 0.5 + 5


def test_gradients_in_p() -> None:
    p = leaf(0.45)
    w = Walk(p, start=2, low=0, high=5, horizon=9)
    f = w.hits(5)
    (truth,) = torch.autograd.grad(exact(f, w), p)
    step = 1e-6
    near = [Walk(0.45 + s, start=2, low=0, high=5, horizon=9) for s in (step, -step)]
    slope = (exact(near[0].hits(5), near[0]) - exact(near[1].hits(5), near[1])) / (2 * step)
    assert truth.item() == pytest.approx(slope.item(), rel=1e-7)
    for via in (None, w.tilt(0.6), w.bridge(5), w.doob(5), Mixture([w.bridge(5), w])):
        grads = []
        for seed in range(40):
            e = expect(f, w, n=500, via=via, grad="score", seed=seed)
            grads.append(torch.autograd.grad(e.mean, p)[0])
        found = torch.stack(grads)
        assert abs(found.mean() - truth) < Z_BOUND * found.std() / 40**0.5 + 1e-12


def test_gradients_in_a_function_of_time_and_state() -> None:
    a = leaf(0.3)
    w = Walk(lambda t, x: torch.sigmoid(a * x / (1 + t)), start=1, low=-2, high=3, horizon=6)
    (truth,) = torch.autograd.grad(exact(w.hits(3), w), a)
    e = expect(w.hits(3), w, n=20_000, grad="score", seed=0)
    (found,) = torch.autograd.grad(e.mean, a, retain_graph=True)
    assert abs(found - truth) < 0.02 * abs(truth) + 0.01
    x = w.sample(20, seed=1)
    assert torch.autograd.gradcheck(
        lambda a: Walk(
            lambda t, x: torch.sigmoid(a * x / (1 + t)), start=1, low=-2, high=3, horizon=6
        ).log_prob(x),
        a,
    )


def test_mixtures_of_tilts() -> None:
    f = SMALL.hits(5)
    mixture = Mixture([SMALL.tilt(0.6), SMALL.tilt(0.7), SMALL], [0.5, 0.3, 0.2])
    n = 5000
    e = expect(f, SMALL, n=n, via=mixture, seed=0)
    spread = (SMALL.relative_variance(f, mixture) / n).sqrt()
    truth = exact(f, SMALL)
    assert abs(e.mean / truth - 1) < Z_BOUND * spread
    assert (e.stderr / truth).item() == pytest.approx(spread.item(), rel=0.1)


def test_inner_levels_and_rules_settle_events() -> None:
    w = Walk(0.5, 0, -10, 10, 40, stop=lambda t, x: torch.tensor(t >= 20).expand(x.shape))
    x = w.sample(2000, seed=0).double()
    assert torch.equal(x[:, 20:], x[:, 20:21].expand(-1, 21))
    assert torch.equal(w.hits(4)(x), (x >= 4).any(1))
    assert torch.equal(w.hits(-4)(x), (x <= -4).any(1))
    first = (x >= 4).double().argmax(1).double()
    assert torch.equal(w.passage_time(4, missed=-1)(x), torch.where(w.hits(4)(x), first, -1.0))
    assert not w.survives()(x).any() and w.stopping_time()(x).max() == 20


def test_events_of_paths_that_go_on_are_settled_at_the_first_passage() -> None:
    full = SMALL.unstopped()
    x = full.sample(5000, seed=0)
    out = (x <= 0) | (x >= 5)
    first = torch.where(out.any(1), out.double().argmax(1), 9)
    last = x.gather(1, first[:, None])[:, 0]
    for f in (full.hits(5), SMALL.hits(5)):
        assert torch.equal(f(x), last >= 5)
    assert torch.equal(full.ruined()(x), last <= 0)
    assert bool((SMALL.log_prob(x)[out[:, :-1].any(1)] == -torch.inf).all())


def test_functions_of_whole_paths() -> None:
    w = Walk(0.5, 0, horizon=300)
    e = expect(w.functional(lambda x: (x * x).sum(1)), w, n=20_000, seed=0)
    assert abs(e.mean - 300 * 301 / 2) < Z_BOUND * e.stderr


def test_normal_steps() -> None:
    m = leaf(0.1)
    w = Walk(steps=NormalSteps(m, 0.5), start=0, low=-1, high=3, horizon=30)
    f = w.hits(3)
    plain = expect(f, w, n=40_000, seed=0)
    tilted = expect(f, w, n=20_000, via=w.tilt(0.15), grad="score", seed=1)
    gap = (plain.mean - tilted.mean).abs()
    assert gap < Z_BOUND * (plain.stderr**2 + tilted.stderr.detach() ** 2).sqrt()
    tilted.mean.backward()
    assert m.grad > 0
    x = w.sample(50, seed=2)
    inside = (x[:, :-1] > -1) & (x[:, :-1] < 3)
    logs = torch.distributions.Normal(m.detach(), 0.5).log_prob(x.diff(dim=1))
    torch.testing.assert_close(w.log_prob(x).detach(), torch.where(inside, logs, 0.0).sum(1))
    both = w.ruined()(x).int() + f(x).int() + w.survives()(x).int()
    assert bool((both == 1).all())


def test_normal_steps_with_a_drift_that_is_a_function() -> None:
    base = Walk(steps=NormalSteps(0.0, 1.0), start=0.0, high=6.0, horizon=10)
    towards = NormalSteps(lambda t, x: (6.5 - x) / (10 - t), 1.0)
    via = Walk(steps=towards, start=0.0, high=6.0, horizon=10)
    one = expect(base.hits(6), base, n=20_000, via=via, seed=0)
    two = expect(base.hits(6), base, n=200_000, seed=1)
    assert abs(one.mean - two.mean) < Z_BOUND * (one.stderr**2 + two.stderr**2).sqrt()


def test_states_have_room() -> None:
    wide = Walk(0.5, 40_000, 0, 80_000, 10)
    assert wide.sample(3, seed=0).dtype == torch.int32
    far = Walk(steps=finite([-1, 3 * 10**9], [0.5, 0.5]), start=0, horizon=5)
    x = far.sample(500, seed=0)
    assert x.dtype == torch.int64 and x.max() == 15 * 10**9


def test_blocks_are_bounded_in_memory() -> None:
    long = Walk(0.5, 0, horizon=10**6)
    assert long.block * 2 * (10**6 + 1) <= 2**26
    assert Mixture([long, long.tilt(0.6)]).block == long.block
    sizes: list[int] = []

    def f(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return x[:, -1] > 0

    expect(f, Walk(0.5, 0, horizon=10**5), n=700, seed=0)
    assert sum(sizes) == 700 and max(sizes) * 2 * (10**5 + 1) <= 2**26


@pytest.fixture
def listening() -> Iterator[None]:
    """Hear Ctrl-C: a process in the background is born deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
def test_an_interrupted_run_returns_what_is_done() -> None:
    calls = []

    def f(x: Tensor) -> Tensor:
        calls.append(len(x))
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return x[:, -1] == 5

    assert threading.current_thread() is threading.main_thread()
    e = expect(f, SMALL, n=1000, block=100, seed=0)
    assert e.partial and e.n == 200 and "interrupted" in e.warnings
    whole = expect(SMALL.hits(5), SMALL, n=200, block=100, seed=0)
    assert e.mean == whole.mean and not whole.partial
    with pytest.raises(KeyboardInterrupt):
        expect(f, SMALL, n=1000, seed=calls.clear() or calls.extend([0, 0]) or 0)


def test_workers_draw_the_same() -> None:
    f, via = SMALL.hits(5), SMALL.tilt(0.6)
    alone, together = (expect(f, SMALL, n=400, via=via, block=100, workers=k, seed=0) for k in (1, 2))
    assert alone.mean == together.mean


def test_no_horizon_in_fractions_of_a_fair_game() -> None:
    fair = Walk(Fraction(1, 2), 3, 0, 10)
    assert exact(fair.hits(10), fair).item() == pytest.approx(0.3, rel=1e-15)
    near = Walk(0.5 + 1e-9, 3, 0, 10)
    r = Fraction(1 - Fraction(0.5 + 1e-9)) / Fraction(0.5 + 1e-9)
    assert exact(near.hits(10), near).item() == pytest.approx(
        float((r**3 - 1) / (r**10 - 1)), rel=1e-13
    )
    steep = Walk(0.001, 1, 0, 400)
    assert exact(steep.hits(400), steep).item() == 0.0  # 1e-1197
    assert exact(steep.ruined(), steep).item() == 1.0
    assert math.isfinite(exact(Walk(0.001, 399, 0, 400).hits(400), Walk(0.001, 399, 0, 400)).item())
