"""Randomness that never touches the global state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from likely.errors import InvalidInput


def generator_for(
    seed: int | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> torch.Generator:
    """Return the generator to draw from: the caller's, or a new one from `seed`, or one from entropy.

    Raises:
        InvalidInput: both are given, the generator lives on another device, or seed is out of range.

    Example:
        >>> a, b = (torch.rand(3, generator=generator_for(0)) for _ in range(2))
        >>> torch.equal(a, b)
        True
    """
    if generator is not None:
        if seed is not None:
            raise InvalidInput("both seed and generator were given; give one of them.")
        if generator.device.type != torch.device(device).type:
            raise InvalidInput(f"generator is on {generator.device}; expected one on {device}.")
        return generator
    if seed is not None and not (isinstance(seed, int) and 0 <= seed < 2**63):
        raise InvalidInput(f"seed is {seed!r:.60}; expected an integer from 0 to below 2^63.")
    new = torch.Generator(device=device)
    if seed is None:
        new.seed()
    else:
        new.manual_seed(seed)
    return new


@contextmanager
def borrowed_global_state(device: torch.device | str = "cpu") -> Iterator[None]:
    """Let torch's own layers draw from the global generators, which are put back as found afterwards.

    Inside, seed them with `seed_borrowed`.
    """
    if torch.device(device).type == "cuda":
        with torch.random.fork_rng(devices=[torch.device(device)]):
            yield
        return
    before = torch.get_rng_state()  # what fork_rng does, at a fifth of its cost
    try:
        yield
    finally:
        torch.set_rng_state(before)


def seed_borrowed(seed: int, device: torch.device | str = "cpu") -> None:
    """Seed the global generators of the CPU and of `device`; only within `borrowed_global_state`."""
    torch.default_generator.manual_seed(seed)
    if torch.device(device).type == "cuda":
        torch.cuda.manual_seed(seed)
