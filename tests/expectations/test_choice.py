"""The measured choice, the comparison, and the cost of a batch."""

import math
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Binomial, Categorical, MixtureSameFamily, Normal

from likely import compare, expect, flows
from likely.errors import InvalidInput
from likely.expectations import Auto, Enumerate, Gradient, Mixed, Path, Score, Weak, choose


def wave(x: Tensor) -> Tensor:
    return x * x.sin()


def leaves(*values: float) -> list[Tensor]:
    return [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in values]


@pytest.mark.parametrize("seed", range(5))
def test_auto_chooses_as_the_reference_says(seed: int) -> None:
    mu, tau = leaves(1.36669929517146813, 0.674065389751229)
    # Score or weak over path at the global minimum, path or weak over score at the local one.
    assert chosen(choose(wave, Normal(mu, tau.exp()), seed=seed), ["loc", "scale"]) <= {Weak, Score}
    mu, tau = leaves(0.442297488320822, -0.500058753547454)
    assert chosen(choose(wave, Normal(mu, tau.exp()), seed=seed), ["loc", "scale"]) <= {Weak, Path}


def chosen(how: Gradient, names: list[str]) -> set[type]:
    return {type(how.parts[name]) for name in names} if isinstance(how, Mixed) else {type(how)}


def test_auto_among_score_and_path() -> None:
    mu, tau = leaves(1.36669929517146813, 0.674065389751229)
    among = Auto(among=[Score("loo"), Path()], cost="evaluations")
    assert isinstance(choose(wave, Normal(mu, tau.exp()), auto=among, seed=0), Score)
    mu, tau = leaves(0.442297488320822, -0.500058753547454)
    assert isinstance(choose(wave, Normal(mu, tau.exp()), auto=among, seed=0), Path)


def test_auto_sums_what_it_can_and_takes_what_applies() -> None:
    (eta,) = leaves(0.3)
    assert choose(lambda b: b.sum(1), Bernoulli(logits=eta.expand(3)), n=8, seed=0) == Enumerate()
    few = choose(lambda b: b.sum(1), Bernoulli(logits=eta.expand(3)), n=4, seed=0)
    assert isinstance(few, Weak)
    jump = choose(lambda x: x > 0, Normal(eta, 1.0), seed=0)  # no path through a jump
    assert "path" not in str(jump).lower()
    mixture = MixtureSameFamily(Categorical(torch.ones(2)), Normal(torch.stack([eta, -eta]), 1.0))
    assert isinstance(choose(wave, mixture, auto=Auto(repeats=8), seed=0), Score)
    flow = flows.nice((2,), width=4, depth=1, couplings=2)
    assert isinstance(choose(lambda x: x.sum(1), flow, auto=Auto(repeats=64), seed=0), Path | Score)
    with pytest.raises(InvalidInput, match="no gradient estimator"):
        choose(lambda x: x > 0, Normal(eta, 1.0), auto=Auto(among=[Path()]), seed=0)


def test_auto_from_one_draw_and_of_coins_of_different_numbers() -> None:
    (eta,) = leaves(0.3)
    # From one draw there is no baseline by the others.
    assert expect(torch.sin, Normal(eta, 1.0), n=1, grad="auto", seed=0).mean.requires_grad
    # torch lists no support of these, though it says it has one.
    coins = Binomial(torch.tensor([1.0, 3.0]).double(), logits=eta)
    e = expect(lambda x: x.sum(1), coins, n=8, grad="auto", seed=0)
    assert e.mean.requires_grad
    with pytest.raises(InvalidInput, match="no finite support"):
        expect(lambda x: x.sum(1), coins, n=8, grad="enumerate", seed=0)


def test_auto_draws_its_pilot_apart() -> None:
    # The estimate is the one that the choice makes with the same seed: no draw of the pilot is in it.
    mu, tau = leaves(0.442297488320822, -0.500058753547454)
    law = Normal(mu, tau.exp())
    how = Auto(cost="evaluations")
    auto = expect(wave, law, n=10, grad=how, seed=3)
    named = expect(wave, law, n=10, grad=choose(wave, law, 10, how, seed=3), seed=3)
    assert torch.equal(auto.mean, named.mean)
    assert torch.equal(*(torch.autograd.grad(e.mean, mu)[0] for e in (auto, named)))


def counted() -> tuple[Callable[[Tensor], Tensor], list[int]]:
    calls: list[int] = []

    def f(x: Tensor) -> Tensor:
        calls.append(len(x))
        return wave(x)

    return f, calls


def test_auto_remembers_its_choice_and_measures_again() -> None:
    mu, tau = leaves(0.442297488320822, -0.500058753547454)
    f, calls = counted()
    auto = Auto(every=3, repeats=8, among=[Score(), Path()], cost="evaluations")

    def evaluations(g: Callable[[Tensor], Tensor], law: Normal, seed: int = 0) -> int:
        calls.clear()
        expect(g, law, n=10, grad=auto, seed=seed)
        return len(calls)

    # A lambda that is made anew at each step is the same f.
    found = [evaluations(lambda x: f(x) + 1, Normal(mu, tau.exp()), k) for k in range(7)]
    assert found[1] == found[2] == found[4] == found[5] == 1  # the estimate alone
    assert min(found[0], found[3], found[6]) > 3

    def other(x: Tensor) -> Tensor:
        return f(x).reshape(len(x))

    # Another f, other leaves, other shapes: each is chosen for by itself.
    for law in (Normal(mu, tau.exp()), Normal(mu, 1.0), Normal(mu.expand(1), tau.exp())):
        assert evaluations(other, law) > 3
        assert evaluations(other, law) == 1


def test_auto_by_name_remembers_nothing() -> None:
    (mu,) = leaves(0.4)
    f, calls = counted()
    for seed in range(2):
        calls.clear()
        expect(f, Normal(mu, 1.0), n=10, grad="auto", seed=seed)
        assert len(calls) > 3


def test_a_remembered_choice_leaves_every_step_unbiased() -> None:
    # Pilots of two repetitions choose at random; a choice that had seen the draws it is applied to
    # would favour small gradients. z-tests of two leaves at each of four steps: a false alarm once in
    # 1e5 (|z| < 4.8916 each).
    rows = []
    picked = set()
    for run in range(400):
        auto = Auto(every=2, repeats=2, draws=2, among=[Score("none"), Path()], cost="evaluations")
        steps = []
        for k in range(4):
            mu, tau = leaves(0.8, 0.1)
            law = Normal(mu, tau.exp())
            mean = expect(wave, law, n=2, grad=auto, seed=10 * run + k).mean
            steps.append(torch.stack(torch.autograd.grad(mean, [mu, tau])))
            (kept,) = auto._kept.values()
            picked.add(type(kept.how))
        rows.append(torch.stack(steps))
    found = torch.stack(rows)
    mu, tau = leaves(0.8, 0.1)
    v = (2 * tau).exp()
    truth = (-v / 2).exp() * (mu * mu.sin() + v * mu.cos())
    exact = torch.stack(torch.autograd.grad(truth, [mu, tau]))
    z = (found.mean(0) - exact) / (found.std(0) / math.sqrt(len(found)))
    assert z.abs().max() < 4.8916 and len(picked) > 1, z


def test_auto_counts_time_against_variance() -> None:
    # The mean of an odd f is 0: a baseline from a pilot changes no variance and doubles the time.
    (mu,) = leaves(0.0)

    def slow(x: Tensor) -> Tensor:
        for _ in range(10 * len(x)):
            x.sin()
        return x.sin()

    auto = Auto(repeats=64, among=[Score("mean"), Score("none")])
    assert choose(slow, Normal(mu, 1.0), auto=auto, seed=0) == Score("none")


def test_a_cost_is_time_or_evaluations() -> None:
    with pytest.raises(InvalidInput, match="expected 'time' or 'evaluations'"):
        Auto(cost="money")


def test_the_table() -> None:
    mu, tau = leaves(0.442297488320822, -0.500058753547454)
    how = {"score": "score", "raw": Score("none"), "path": "path", "weak": "weak"}
    found = compare(wave, Normal(mu, tau.exp()), how, {"mu": mu, "tau": tau}, repeats=500, seed=0)
    text = str(found)
    assert "weak *" in text and "path *" in text and len(text.splitlines()) == 9
    row = found.row("weak", "mu")
    assert row.evaluations == 2 and row.product == 2 * row.variance
    assert found.row("path", "tau").evaluations == 1 and found.row("path", "tau").seconds > 0
    figure = found.plot()
    assert [axis.get_title() for axis in figure.axes] == ["mu", "tau"]
    figure.savefig(__import__("io").BytesIO(), format="png")
    with pytest.raises(InvalidInput, match="expected one of"):
        found.row("best", "mu")
    with pytest.raises(InvalidInput, match="expected one of"):
        found.best("sigma")


def test_comparing_in_a_batch_or_in_turn_is_the_same() -> None:
    # With a parameter in f itself, copies cannot share a batch.
    mu, shift = leaves(0.5, 0.0)
    apart = compare(lambda x: (x + shift).square(), Normal(mu, 1.0), ["score", "path"], [mu], seed=0)
    batch = compare(Tensor.square, Normal(mu, 1.0), ["score", "path"], [mu], seed=0)
    for one, two in zip(apart.rows, batch.rows, strict=True):
        # Both from 1,000 repetitions: the ratio of two variances lies within six of its errors.
        assert 0.7 < float(one.variance / two.variance) < 1.4


def test_comparing_nothing() -> None:
    (mu,) = leaves(0.5)
    for how, parameters in (
        ([], [mu]),
        (["score"], []),
        (["score"], [mu.detach()]),
        (["score"], [mu * 2]),
    ):
        with pytest.raises(InvalidInput, match="expected leaf tensors"):
            compare(wave, Normal(mu, 1.0), how, parameters)


def test_a_batch_of_a_thousand_is_faster_than_a_thousand() -> None:
    def step(mu: Tensor, batched: bool) -> None:
        law = Normal(mu, 1.0)
        expect(wave, law, n=16, grad="score", batched=batched, seed=0).mean.sum().backward()

    many = torch.linspace(-1, 1, 1000, dtype=torch.float64).requires_grad_()
    (one,) = leaves(0.3)
    for mu, batched in ((many, True), (one, False)):
        step(mu, batched)
    begin = time.perf_counter()
    for _ in range(20):
        step(one, False)
    alone = (time.perf_counter() - begin) * 50
    begin = time.perf_counter()
    step(many, True)
    together = time.perf_counter() - begin
    assert alone / together > 50  # measured: 300; a busy machine is no failure


def test_weak_derivatives_of_many_entries_are_left_out_of_the_pilot() -> None:
    seen = []

    def f(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.numel())
        return x.square().sum(1)

    leaf = torch.zeros(1000, requires_grad=True)
    expect(f, Normal(leaf, 1.0), n=16, grad="auto", seed=0).mean.backward()
    assert leaf.grad.isfinite().all() and max(seen) <= 2**23  # 1,000 entries, 16 draws, 256 repeats
    seen.clear()
    some = torch.zeros(40, requires_grad=True)
    expect(f, Normal(some, 1.0), n=16, grad="auto", seed=0).mean.backward()
    # Those of 40 entries take part, changed one by one, in fewer repetitions.
    assert 40 * 40 * 16 * 32 <= max(seen) <= 2**27
