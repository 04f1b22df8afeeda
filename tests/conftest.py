"""Fixtures shared by the tests: random weights, a bare NICE, comparisons, and where MNIST is."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

State = dict[str, Tensor]

Z_BOUND = 4.8916
"""A standard normal exceeds it in absolute value with probability 1e-6."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs MNIST, with the reason, where LIKELY_DATA does not lead to it."""
    given = os.environ.get("LIKELY_DATA")
    name = "t10k-images-idx3-ubyte"
    places = [Path(given) / "mnist", Path(given)] if given else []
    if not any((place / file).is_file() for place in places for file in (name, f"{name}.gz")):
        reason = f"LIKELY_DATA is {given!r}; set it to the folder that holds mnist/{name}.gz"
        for item in items:
            if item.get_closest_marker("mnist"):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def randomize() -> Callable[..., nn.Module]:
    """`randomize(module, seed=0)` draws every parameter anew; matrices keep sizes as they are."""

    def draw(module: nn.Module, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        for p in module.parameters():
            scale = p[0].numel() ** -0.5 if p.ndim > 1 else 0.3
            p.data.copy_(scale * torch.randn(p.shape, generator=generator))
        return module

    return draw


@pytest.fixture(scope="session")
def bare_state() -> Callable[..., State]:
    """`bare_state(dim, width, mids, couplings, mask_config, seed)`: random tensors, nice.pt layout."""

    def build(
        dim: int, width: int, mids: int = 1, couplings: int = 4, mask_config: int = 1, seed: int = 0
    ) -> State:
        generator = torch.Generator().manual_seed(seed)
        state: State = {}

        def linear(name: str, inputs: int, outputs: int) -> None:
            weight = torch.randn(outputs, inputs, generator=generator)
            state[f"{name}.weight"] = weight * (2 / inputs) ** 0.5
            state[f"{name}.bias"] = 0.1 * torch.randn(outputs, generator=generator)

        for i in range(couplings):
            even, odd = (dim + 1) // 2, dim // 2
            moved, kept = (even, odd) if (mask_config + i) % 2 else (odd, even)
            linear(f"coupling.{i}.in_block.0", kept, width)
            for j in range(mids):
                linear(f"coupling.{i}.mid_block.{j}.0", width, width)
            linear(f"coupling.{i}.out_block", width, moved)
        state["scaling.scale"] = 0.3 * torch.randn(1, dim, generator=generator)
        return state

    return build


@pytest.fixture(scope="session")
def bare_log_prob() -> Callable[..., Tensor]:
    """`bare_log_prob(state, x, mask_config=1)`: NICE as nice.md states it, and nothing of likely."""

    def evaluate(state: State, x: Tensor, mask_config: int = 1) -> Tensor:
        state = {k: v.to(x.dtype) for k, v in state.items()}
        x = x.flatten(1)
        i = 0
        while f"coupling.{i}.out_block.weight" in state:

            def linear(name: str, h: Tensor, i: int = i) -> Tensor:
                name = f"coupling.{i}.{name}"
                return h @ state[f"{name}.weight"].T + state[f"{name}.bias"]

            parts = [x[:, 0::2], x[:, 1::2]]
            # Mask 1 shifts the even positions by a function of the odd ones, mask 0 the reverse.
            moved = 0 if (mask_config + i) % 2 == 1 else 1
            h = torch.relu(linear("in_block.0", parts[1 - moved]))
            j = 0
            while f"coupling.{i}.mid_block.{j}.0.weight" in state:
                h = torch.relu(linear(f"mid_block.{j}.0", h))
                j += 1
            parts[moved] = parts[moved] + linear("out_block", h)
            x = torch.zeros_like(x)
            x[:, 0::2], x[:, 1::2] = parts
            i += 1
        scale = state["scaling.scale"]
        z = x * torch.exp(scale)
        return -(F.softplus(z) + F.softplus(-z)).sum(1) + scale.sum()

    return evaluate


@pytest.fixture(params=[torch.float64, torch.float32], ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture(scope="session")
def same_bits() -> Callable[[Tensor, Tensor], bool]:
    """`same_bits(a, b)`: equal to the bit, so that the two zeros differ."""

    def compare(a: Tensor, b: Tensor) -> bool:
        whole = {torch.float32: torch.int32, torch.float64: torch.int64}[a.dtype]
        return a.dtype == b.dtype and torch.equal(*(t.contiguous().view(whole) for t in (a, b)))

    return compare


@pytest.fixture(scope="session")
def attack() -> type:
    """`attack(folder)`: an object that runs code when it is unpickled: it makes the folder."""

    class Attack:
        def __init__(self, marker: Path) -> None:
            self.marker = marker

        def __reduce__(self) -> tuple:
            return os.mkdir, (str(self.marker),)

    return Attack


@pytest.fixture(scope="session")
def assert_mean() -> Callable[..., None]:
    """`assert_mean(draws, truth)`: a z-test of the mean; each call raises a false alarm once in 1e6."""

    def check(draws: Tensor, truth: float) -> None:
        draws = draws.double().flatten()
        z = (draws.mean() - truth).item() / (draws.std().item() / math.sqrt(len(draws)))
        assert abs(z) < Z_BOUND, f"mean {draws.mean():.6f} is {z:.1f} standard errors from {truth:.6f}"

    return check


@pytest.fixture(scope="session")
def same_global_state() -> Callable[[], AbstractContextManager[None]]:
    """`with same_global_state():` fails if torch's global random state moves inside."""

    @contextmanager
    def watch() -> Iterator[None]:
        before = torch.random.get_rng_state()
        yield
        assert torch.equal(torch.random.get_rng_state(), before), "the global random state moved"

    return watch
