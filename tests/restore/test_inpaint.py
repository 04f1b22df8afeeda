"""Inpainting: the plain recipe to the letter, the guarantees, known optima, and bad input."""

from collections.abc import Callable, Iterator
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import Tensor, distributions

import likely
from likely import flows, inpaint
from likely.errors import Infeasible, InvalidInput, InvalidType
from likely.restore import Restoration
from likely.solvers import Annealed, Iterate, Method, ProjectedAdam, ProjectedGradient, Status

PLAIN = ProjectedGradient(lr=1e-3, steps=300)
METHODS = [
    ProjectedGradient(lr=0.05, steps=25),
    ProjectedGradient(lr=0.05, steps=25, keep="best"),
    Annealed(steps=25),
    Annealed(batch=1.0, steps=25, keep="best"),
    ProjectedAdam(steps=25),
    ProjectedAdam(lr=1.0, steps=25, keep="last"),
]


@pytest.fixture(autouse=True)
def same_validation() -> Iterator[None]:
    """Put torch's own validation back: importing zuko turns it off for everyone."""
    before = distributions.Distribution._validate_args
    yield
    distributions.Distribution.set_default_validate_args(before)


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def same_bits(a: Tensor, b: Tensor) -> bool:
    whole = {torch.float32: torch.int32, torch.float64: torch.int64}[a.dtype]
    return a.dtype == b.dtype and torch.equal(a.contiguous().view(whole), b.contiguous().view(whole))


# 1. The plain recipe, against a bare loop.


@pytest.mark.parametrize(
    "side, width, steps, shift, log_scale, dtype, atol",
    [
        (14, 500, 300, 0.03, 1.5, torch.float32, 1e-4),
        (28, 1000, 25, 0.03, 3.0, torch.float32, 1e-4),
        (14, 60, 300, 1.0, 1.0, torch.float64, 1e-9),
    ],
    ids=["14x14", "28x28", "14x14, float64"],
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
    # A large scale drives pixels into the bounds. The slope of a ReLU jumps: where rounding puts a unit
    # on the other side, two right loops part by the size of its jump. Small shifts keep that below atol
    # in float32; float64 compares with shifts of full size.
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


def test_the_plain_recipe_is_the_method_without_arguments() -> None:
    assert ProjectedGradient() == PLAIN


# 2. The guarantees, at every iterate and at the output.


@pytest.mark.parametrize("method", METHODS, ids=lambda m: f"{type(m).__name__}-{m.keep}")
@pytest.mark.parametrize("start", ["given", "uniform", "tensor"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_measured_pixels_and_bounds_hold_everywhere(
    method: Method, start: str, dtype: torch.dtype, randomize: Callable
) -> None:
    flow = randomize(flows.nice((1, 6, 6), width=16)).to(dtype)
    image = rand(3, 1, 6, 6, seed=1, dtype=dtype)
    observed = rand(3, 1, 6, 6, seed=2) < 0.5
    image[0, 0, 0, :2], observed[0, 0, 0, :2] = torch.tensor([0.0, -0.0]), True
    # Junk where nothing was measured, and bounds that depend on the pixel.
    image = torch.where(observed, image, 37.0)
    low = -rand(1, 6, 6, seed=3, dtype=dtype)
    high = 1 + rand(3, 1, 6, 6, seed=4, dtype=dtype)
    low[0, 5, 5] = high[:, 0, 5, 5] = 0.25
    observed[:, 0, 5, 5] = False
    begin = 5 * rand(3, 1, 6, 6, seed=5, dtype=dtype) - 2 if start == "tensor" else start
    seen: list[Iterate] = []
    copies = [t.clone() for t in (image, observed, low, high)]
    result = inpaint(
        flow, image, observed, (low, high), method, start=begin, seed=0, on_step=seen.append
    )
    assert len(seen) == method.steps + 1
    for x in (result.image, *(i.x for i in seen)):
        assert same_bits(x[observed], image[observed])
        assert ((low <= x) & (x <= high))[~observed].all()
        assert x.dtype == dtype
    assert not torch.equal(seen[0].x, seen[-1].x)
    for given, copy in zip((image, observed, low, high), copies, strict=True):
        assert torch.equal(given, copy)


def test_where_the_search_starts(randomize: Callable) -> None:
    flow = randomize(flows.nice((1, 4, 4), width=8))
    image, observed = rand(2, 1, 4, 4) * 1.5, rand(2, 1, 4, 4, seed=2) < 0.5
    image = torch.where(observed, image.clamp(max=1), image)
    tensor = rand(2, 1, 4, 4, seed=3) - 0.2
    method = ProjectedGradient(steps=0)

    def first(start: str | Tensor, seed: int | None = None, **bounds: tuple) -> Tensor:
        return inpaint(flow, image, observed, method=method, start=start, seed=seed, **bounds).image

    assert torch.equal(first("given"), image.clamp(0, 1))
    assert torch.equal(first(tensor), torch.where(observed, image, tensor.clamp(0, 1)))
    assert torch.equal(first(tensor.double()), first(tensor))
    a, b, other = first("uniform", 1), first("uniform", 1), first("uniform", 2)
    assert torch.equal(a, b)
    assert (a != other)[~observed].all() and (a != image)[~observed].all()


def test_a_uniform_start_is_uniform_between_the_bounds() -> None:
    # Mean and mean square of n draws of U(-1, 3); |z| > 5 is a false alarm once in 1.7 million each.
    n = 100_000
    image, observed = torch.zeros(1, n, dtype=torch.float64), torch.arange(n) == 0
    x = inpaint(
        lambda x: -x.square().sum(1),
        image,
        observed,
        (-1.0, 3.0),
        ProjectedGradient(steps=0),
        "uniform",
        seed=0,
    ).image[0, 1:]
    u = (x + 1) / 4
    assert abs(u.mean().item() - 1 / 2) < 5 * (1 / 12 / n) ** 0.5
    assert abs(u.square().mean().item() - 1 / 3) < 5 * (4 / 45 / n) ** 0.5


@pytest.mark.parametrize("method", [Annealed(steps=5), ProjectedAdam(steps=5)], ids=repr)
def test_seed_decides_and_the_global_state_stays(
    method: Method, randomize: Callable, same_global_state: None
) -> None:
    flow = randomize(flows.nice((1, 4, 4), width=8))
    image, observed = rand(2, 1, 4, 4), rand(4, 4, seed=2) < 0.5

    def fill(**seed: object) -> Tensor:
        return inpaint(flow, image, observed, method=method, start="uniform", **seed).image

    assert torch.equal(fill(seed=3), fill(seed=3))
    assert not torch.equal(fill(seed=3), fill(seed=4))
    assert torch.equal(fill(seed=3), fill(generator=torch.Generator().manual_seed(3)))
    fill()


def test_it_reports_what_it_returns(randomize: Callable) -> None:
    flow = randomize(flows.nice((1, 4, 4), width=8)).double()
    image, observed = rand(3, 1, 4, 4, dtype=torch.float64), rand(3, 1, 4, 4, seed=2) < 0.5
    image = torch.where(observed, image, 3 * image - 1)
    result = inpaint(flow, image, observed, method=ProjectedAdam(steps=30))
    x = result.image.clone().requires_grad_()
    (grad,) = torch.autograd.grad(flow.log_prob(x).sum(), x)
    gap = ((x + grad).clamp(0, 1) - x).masked_fill(observed, 0).abs().flatten(1).amax(1)
    torch.testing.assert_close(result.log_prob, flow.log_prob(x).detach())
    torch.testing.assert_close(result.stationarity, gap.detach())
    torch.testing.assert_close(result.log_prob_before, flow.log_prob(image.clamp(0, 1)).detach())
    assert (result.log_prob > result.log_prob_before).all()


def test_parameters_and_image_get_no_gradient(randomize: Callable) -> None:
    flow = randomize(flows.nice((1, 4, 4), width=8))
    image = rand(2, 1, 4, 4).requires_grad_()
    result = inpaint(flow, image, rand(4, 4, seed=2) < 0.5, method=ProjectedAdam(steps=3))
    assert image.grad is None and all(p.grad is None for p in flow.parameters())
    for t in (result.image, result.log_prob, result.log_prob_before, result.stationarity):
        assert not t.requires_grad
    assert all(p.requires_grad for p in flow.parameters())


# 3. Any object with log_prob.


def gaussian(d: int, seed: int = 0) -> distributions.MultivariateNormal:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(d, d, generator=generator, dtype=torch.float64) / d**0.5
    covariance = root @ root.T + 0.3 * torch.eye(d, dtype=torch.float64)
    mean = torch.rand(d, generator=generator, dtype=torch.float64)
    return distributions.MultivariateNormal(mean, covariance)


def conditional_mean(law: distributions.MultivariateNormal, x: Tensor, observed: Tensor) -> Tensor:
    """Return E[x_missing | x_observed] put into x: the mode of the conditional law."""
    s, m = law.covariance_matrix, ~observed
    weights = s[m][:, observed] @ torch.linalg.inv(s[observed][:, observed])
    full = x.clone()
    full[m] = law.mean[m] + weights @ (x - law.mean)[observed]
    return full


REACH = ProjectedGradient(lr=0.2, steps=3000, tol=1e-10)


@pytest.mark.parametrize(
    "method", [REACH, ProjectedAdam(lr=0.1, steps=600, betas=(0.9, 0.99))], ids=["gradient", "adam"]
)
@pytest.mark.parametrize("event", [(6,), (1, 2, 3)], ids=str)
def test_a_gaussian_is_filled_with_its_conditional_mean(method: Method, event: tuple) -> None:
    law, image = gaussian(6), rand(3, 6, seed=1, dtype=torch.float64)
    observed = torch.tensor([[1, 0, 1, 0, 0, 1], [0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 0]]).bool()
    shaped, mask = image.view(3, *event), observed.view(3, *event)
    result = inpaint(law, shaped, mask, (-inf, inf), method)
    best = torch.stack([conditional_mean(law, image[i], observed[i]) for i in range(3)])
    torch.testing.assert_close(result.image, best.view(3, *event), rtol=0, atol=1e-7)
    torch.testing.assert_close(result.log_prob, law.log_prob(best), rtol=1e-9, atol=0)
    if method.tol is not None:
        assert result.status == (Status.CONVERGED,) * 3
        assert (result.stationarity <= 1e-10).all()
    # Bounds that hold the optimum change nothing.
    wide = inpaint(law, shaped, mask, (best.min() - 0.1, best.max() + 1.1), method)
    torch.testing.assert_close(wide.image, best.view(3, *event), rtol=0, atol=1e-7)


def test_a_gaussian_with_active_bounds_agrees_with_scipy() -> None:
    law, image = gaussian(8, seed=3), rand(4, 8, seed=1, dtype=torch.float64)
    observed = rand(4, 8, seed=2) < 0.4
    low, high = 0.2, 0.7
    image = image.clamp(low, high)
    result = inpaint(law, image, observed, (low, high), REACH)
    # -log p = |R (x - mean)|^2 / 2 + constant, with R the inverse of the Cholesky factor.
    r = torch.linalg.inv(torch.linalg.cholesky(law.covariance_matrix))
    active = 0
    for i in range(4):
        m = ~observed[i]
        rest = r[:, observed[i]] @ (image[i] - law.mean)[observed[i]]
        target = (r[:, m] @ law.mean[m] - rest).numpy()
        found = optimize.lsq_linear(r[:, m].numpy(), target, (low, high), method="bvls", tol=1e-14)
        active += np.count_nonzero(found.active_mask)
        np.testing.assert_allclose(result.image[i, m].numpy(), found.x, rtol=0, atol=1e-8)
    assert 0 < active < (~observed).sum(), "the bounds must matter for some entries only"
    assert result.status == (Status.CONVERGED,) * 4


@pytest.mark.parametrize("independent", [True, False], ids=["event", "batch is the event"])
def test_independent_normals_are_filled_with_their_clipped_means(independent: bool) -> None:
    mean = 2 * rand(1, 3, 3, seed=1, dtype=torch.float64) - 0.5
    law = distributions.Normal(mean, 0.7)
    law = distributions.Independent(law, 3) if independent else law
    # Nine rows are as many as entries: rows and entries must not be confused.
    image, observed = rand(9, 1, 3, 3, dtype=torch.float64), rand(9, 1, 3, 3, seed=2) < 0.5
    observed[:, 0, 0, 0] = True
    result = inpaint(law, image, observed, method=REACH)
    best = torch.where(observed, image, mean.clamp(0, 1))
    torch.testing.assert_close(result.image, best, rtol=0, atol=1e-9)
    normal = distributions.Normal(mean, 0.7).log_prob(best).flatten(1).sum(1)
    torch.testing.assert_close(result.log_prob, normal, rtol=1e-12, atol=0)


class Bowl:
    """A density of the user's own, most likely at 0.3."""

    def log_prob(self, x: Tensor) -> Tensor:
        return -(x - 0.3).square().flatten(1).sum(1)


@pytest.mark.parametrize("density", [Bowl(), Bowl().log_prob, lambda x: Bowl().log_prob(x)])
def test_objects_and_functions_of_the_user(density: object) -> None:
    image, observed = rand(2, 5, dtype=torch.float64), torch.tensor([True, False, False, True, False])
    result = inpaint(density, image, observed, method=REACH)
    best = torch.where(observed, image, 0.3)
    torch.testing.assert_close(result.image, best, rtol=0, atol=1e-9)
    torch.testing.assert_close(result.log_prob, Bowl().log_prob(best))


def test_a_zuko_flow() -> None:
    zuko = pytest.importorskip("zuko")
    maf = zuko.flows.MAF(features=9, transforms=2, hidden_features=(16,))
    generator = torch.Generator().manual_seed(0)
    for p in maf.parameters():
        p.data.copy_(0.3 * torch.randn(p.shape, generator=generator))
    image, observed = rand(3, 1, 3, 3), rand(3, 1, 3, 3, seed=2) < 0.5
    result = inpaint(maf(), image, observed, method=ProjectedAdam(steps=60))
    assert same_bits(result.image[observed], image[observed])
    assert ((result.image >= 0) & (result.image <= 1)).all()
    assert (result.log_prob > result.log_prob_before).all()
    torch.testing.assert_close(result.log_prob, maf().log_prob(result.image.flatten(1)).detach())
    assert all(p.grad is None for p in maf.parameters())
    with pytest.raises(InvalidType, match=r"MAF .*flow\(\)"):
        inpaint(maf, image, observed)


# 4. Bad input: one clear error, before any work.


def untouched(x: Tensor) -> Tensor:
    raise AssertionError("the density was evaluated before the arguments were checked")


IMAGE, MASK = rand(2, 1, 4, 4), rand(2, 1, 4, 4, seed=2) < 0.5


def with_value(t: Tensor, value: float, *index: int) -> Tensor:
    t = t.clone()
    t[index] = value
    return t


BAD = {
    "mask of another size": (
        {"observed": torch.ones(5, 5, dtype=torch.bool)},
        InvalidInput,
        ["observed", "(5, 5)", "(2, 1, 4, 4)"],
    ),
    "mask of more rows": (
        {"observed": torch.ones(3, 1, 4, 4, dtype=torch.bool)},
        InvalidInput,
        ["observed", "(3, 1, 4, 4)", "(2, 1, 4, 4)"],
    ),
    "mask of numbers": ({"observed": MASK.float()}, InvalidType, ["observed", "float32", "torch.bool"]),
    "mask of bytes": ({"observed": MASK.byte()}, InvalidType, ["observed", "uint8", "torch.bool"]),
    "mask of numpy": ({"observed": MASK.numpy()}, InvalidType, ["observed", "ndarray", "torch.bool"]),
    "bytes": ({"image": (255 * IMAGE).byte()}, InvalidType, ["image", "uint8", "255"]),
    "numpy image": ({"image": IMAGE.numpy()}, InvalidType, ["image", "ndarray"]),
    "NaN measured": (
        {"image": with_value(IMAGE, nan, 1, 0, 2, 3), "observed": MASK | True},
        InvalidInput,
        ["image", "1 NaN", "(1, 0, 2, 3)", "missing"],
    ),
    "NaN missing": (
        {"image": with_value(IMAGE, nan, 1, 0, 2, 3), "observed": with_value(MASK, False, 1, 0, 2, 3)},
        InvalidInput,
        ["image", "1 NaN", "(1, 0, 2, 3)"],
    ),
    "infinite": ({"image": with_value(IMAGE, inf, 0, 0, 0, 0)}, InvalidInput, ["image", "infinite"]),
    "no rows": ({"image": IMAGE[:0], "observed": MASK[:0]}, InvalidInput, ["image", "(0, 1, 4, 4)"]),
    "no entries": (
        {"image": torch.zeros(2, 0), "observed": torch.zeros(2, 0, dtype=torch.bool)},
        InvalidInput,
        ["image", "(2, 0)"],
    ),
    "no batch": (
        {"image": torch.zeros(4), "observed": torch.ones(4, dtype=torch.bool)},
        InvalidInput,
        ["image", "(4,)", "image[None]"],
    ),
    "everything missing": (
        {"observed": torch.zeros(4, 4, dtype=torch.bool)},
        InvalidInput,
        ["nothing was measured", "row 0", "others", "sample"],
    ),
    "everything missing in one row": (
        {"observed": with_value(MASK, False, 1)},
        InvalidInput,
        ["nothing was measured", "row 1"],
    ),
    "measured above": (
        {"image": with_value(IMAGE, 1.5, 1, 0, 2, 3), "observed": with_value(MASK, True, 1, 0, 2, 3)},
        Infeasible,
        ["1 measured", "1.5", "(1, 0, 2, 3)", "from 0 to 1"],
    ),
    "measured below": (
        {"image": with_value(IMAGE, -0.5, 0, 0, 0, 0), "observed": with_value(MASK, True, 0, 0, 0, 0)},
        Infeasible,
        ["1 measured", "-0.5", "(0, 0, 0, 0)"],
    ),
    "bounds swapped": ({"bounds": (1.0, 0.0)}, Infeasible, ["low 1", "high 0"]),
    "NaN bound": ({"bounds": (0.0, nan)}, InvalidInput, ["bound", "NaN"]),
    "one bound": ({"bounds": 1.0}, InvalidInput, ["bounds", "1.0", "(low, high)"]),
    "three bounds": ({"bounds": (0.0, 0.5, 1.0)}, InvalidInput, ["bounds", "(low, high)"]),
    "bounds of another size": (
        {"bounds": (0.0, torch.ones(5))},
        InvalidInput,
        ["bounds", "high", "(5,)", "(2, 1, 4, 4)"],
    ),
    "bounds of more rows": (
        {"bounds": (torch.zeros(3, 2, 1, 4, 4), 1.0)},
        InvalidInput,
        ["bounds", "low", "(3, 2, 1, 4, 4)"],
    ),
    "unknown start": ({"start": "zeros"}, InvalidInput, ["start", "'zeros'", "'given'", "'uniform'"]),
    "start of another size": (
        {"start": torch.zeros(1, 1, 4, 4)},
        InvalidInput,
        ["start", "(1, 1, 4, 4)", "(2, 1, 4, 4)"],
    ),
    "numpy start": ({"start": IMAGE.numpy()}, InvalidInput, ["start", "tensor"]),
    "uniform without bounds": (
        {"start": "uniform", "bounds": (-inf, 1.0)},
        InvalidInput,
        ["uniform", "finite"],
    ),
    "density of another event": (
        {"density": distributions.Normal(torch.zeros(5, 5), 1.0)},
        InvalidInput,
        ["Normal", "(5, 5)", "(1, 4, 4)"],
    ),
    "no density": ({"density": "digits"}, InvalidType, ["density", "str", "log_prob"]),
    "seed and generator": (
        {"seed": 0, "generator": torch.Generator()},
        InvalidInput,
        ["seed", "generator"],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_before_any_work(name: str) -> None:
    changed, error, words = BAD[name]
    arguments = {"density": untouched, "image": IMAGE, "observed": MASK, **changed}
    copies = {k: v.clone() for k, v in arguments.items() if isinstance(v, Tensor)}
    with pytest.raises(error) as caught:
        inpaint(**arguments)
    for word in words:
        assert word in str(caught.value), f"{word!r} is missing in: {caught.value}"
    for k, v in copies.items():
        torch.testing.assert_close(arguments[k], v, rtol=0, atol=0, equal_nan=True)


def test_one_of_several_rows_missing_says_which() -> None:
    with pytest.raises(InvalidInput) as caught:
        inpaint(untouched, IMAGE, with_value(MASK, False, 1))
    assert "row 1:" in str(caught.value) and "others" not in str(caught.value)


def test_a_start_with_nan_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"start .*1 NaN"):
        inpaint(Bowl(), IMAGE, MASK, start=with_value(IMAGE, nan, 0, 0, 0, 0))


@pytest.mark.parametrize(
    "function, shape", [(lambda x: x.sum(), r"\(\)"), (lambda x: x.flatten(1), r"\(2, 16\)")]
)
def test_a_density_of_the_wrong_shape_is_refused(function: Callable, shape: str) -> None:
    with pytest.raises(InvalidInput, match=rf"returned shape {shape}"):
        inpaint(function, IMAGE, MASK)


def test_a_flow_over_other_images_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"\(2, 1, 4, 4\).*6, 6"):
        inpaint(flows.nice((1, 6, 6), width=8), IMAGE, MASK)


def test_nothing_missing_returns_the_image() -> None:
    image = with_value(IMAGE, -0.0, 0, 0, 0, 0)
    result = inpaint(Bowl(), image, torch.tensor(True), method=ProjectedGradient(lr=0.5))
    assert isinstance(result, Restoration)
    assert same_bits(result.image, image) and result.image is not image
    assert result.status == (Status.UNCHANGED,) * 2 and result.steps.tolist() == [0, 0]
    assert result.stationarity.tolist() == [0.0, 0.0]
    assert torch.equal(result.log_prob, Bowl().log_prob(image))
    assert torch.equal(result.log_prob_before, result.log_prob)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: f"{type(m).__name__}-{m.keep}")
def test_a_row_with_nothing_missing_is_unchanged(method: Method) -> None:
    observed = with_value(MASK, True, 1)
    result = inpaint(Bowl(), IMAGE, observed, method=method, seed=0)
    assert same_bits(result.image[1], IMAGE[1])
    assert result.status == (Status.COMPLETED, Status.UNCHANGED)
    assert result.steps.tolist() == [method.steps, 0] and result.stationarity[1] == 0
    assert torch.equal(result.log_prob[1], result.log_prob_before[1])


def test_a_density_that_breaks_is_reported_by_row() -> None:
    def breaks(x: Tensor) -> Tensor:
        return Bowl().log_prob(x) * torch.tensor([1.0, nan])

    result = inpaint(breaks, IMAGE, MASK, method=ProjectedGradient(lr=0.4, steps=50))
    assert result.status == (Status.COMPLETED, Status.NONFINITE)
    assert result.steps.tolist() == [50, 0]
    assert same_bits(result.image[1], IMAGE[1])
    alone = inpaint(Bowl(), IMAGE[:1], MASK[:1], method=ProjectedGradient(lr=0.4, steps=50))
    torch.testing.assert_close(result.image[:1], alone.image, rtol=0, atol=1e-6)


# 5. Shapes.


@pytest.mark.parametrize("shape", [(6, 6), (1, 6, 6), (1, 1, 6, 6), (3, 1, 6, 6), (6, 1), (6,)])
def test_masks_and_bounds_broadcast(shape: tuple[int, ...], randomize: Callable) -> None:
    flow = randomize(flows.nice((1, 6, 6), width=8)).double()
    image = rand(3, 1, 6, 6, seed=1, dtype=torch.float64)
    observed = rand(*shape, seed=2) < 0.5
    low = -0.1 - rand(*shape, seed=3, dtype=torch.float64)
    high = 1.1 + rand(*shape, seed=4, dtype=torch.float64)
    method = ProjectedAdam(lr=0.5, steps=20)
    result = inpaint(flow, image, observed, (low, high), method)
    full = inpaint(
        flow,
        image,
        observed.expand(image.shape).clone(),
        (low.expand(image.shape).clone(), high.expand(image.shape).clone()),
        method,
    )
    assert torch.equal(result.image, full.image)
    assert ((result.image == low) | (result.image == high)).any(), "no bound was met"


def test_rows_are_independent(randomize: Callable) -> None:
    flow = randomize(flows.nice((1, 6, 6), width=8)).double()
    image = rand(3, 1, 6, 6, seed=1, dtype=torch.float64)
    observed = rand(3, 1, 6, 6, seed=2) < 0.5
    low = -rand(3, 1, 1, 1, seed=3, dtype=torch.float64)
    method = ProjectedAdam(steps=20)
    whole = inpaint(flow, image, observed, (low, 1.0), method)
    for i in range(3):
        one = slice(i, i + 1)
        alone = inpaint(flow, image[one], observed[one], (low[one], 1.0), method)
        torch.testing.assert_close(whole.image[one], alone.image, rtol=0, atol=1e-9)
        torch.testing.assert_close(whole.log_prob[one], alone.log_prob, rtol=1e-9, atol=0)


@pytest.mark.parametrize("event", [(7,), (2, 3), (3, 4, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_event_in_either_precision(event: tuple[int, ...], dtype: torch.dtype) -> None:
    image = rand(2, *event, dtype=dtype)
    observed = rand(2, *event, seed=2) < 0.5
    result = inpaint(Bowl(), image, observed, method=ProjectedGradient(lr=0.25, steps=60))
    best = torch.where(observed, image, 0.3)
    torch.testing.assert_close(result.image, best, rtol=0, atol=1e-6)
    for t in (result.image, result.log_prob, result.log_prob_before, result.stationarity):
        assert t.dtype == dtype
    assert result.image.shape == image.shape and result.steps.shape == (2,)


def test_a_float32_flow_restores_float64_images(randomize: Callable) -> None:
    flow = randomize(flows.nice((1, 4, 4), width=8))
    result = inpaint(flow, IMAGE.double(), MASK, method=ProjectedAdam(steps=5))
    assert result.image.dtype == result.log_prob.dtype == torch.float64
    assert same_bits(result.image[MASK], IMAGE.double()[MASK])


def test_the_default_method_is_adam() -> None:
    default = inpaint(Bowl(), IMAGE, MASK)
    assert torch.equal(default.image, inpaint(Bowl(), IMAGE, MASK, method=ProjectedAdam()).image)
    assert same_bits(default.image[MASK], IMAGE[MASK])
    torch.testing.assert_close(
        default.image[~MASK], torch.full_like(IMAGE, 0.3)[~MASK], rtol=0, atol=1e-3
    )
