"""Randomness that never touches the global state."""

from __future__ import annotations

import os
from typing import Final, final

import torch

from likely.errors import InvalidInput, InvalidType

_MASK: Final = 2**64 - 1


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
    if seed is not None and not (type(seed) is int and 0 <= seed < 2**63):
        raise InvalidInput(f"seed is {seed!r:.60}; expected an integer from 0 to below 2^63.")
    new = torch.Generator(device=device)
    if seed is None:
        new.seed()
    else:
        new.manual_seed(seed)
    return new


def root_of(seed: int | None, generator: torch.Generator | None = None) -> int:
    """Return the seed that all others are derived from: the given one, or one drawn.

    Raises:
        InvalidInput: both are given, or the seed is out of range.
    """
    if generator is None and seed is None:
        return fresh_seed()
    if generator is None and type(seed) is int and 0 <= seed < 2**63:
        return seed
    if not isinstance(generator, torch.Generator | None):
        raise InvalidType(f"generator is a {type(generator).__name__}; expected a torch.Generator.")
    device = "cpu" if generator is None else generator.device
    source = generator_for(seed, generator, device)
    return int(torch.randint(2**63 - 1, (), generator=source, device=source.device))


def fresh_seed() -> int:
    """Return a seed from the system's entropy, without a generator."""
    return int.from_bytes(os.urandom(8), "big") >> 1


def derived(seed: int, *path: int) -> int:
    """Return a seed of its own for each path below a seed, such as (block, purpose).

    Each step is a round of SplitMix64 (Steele, Lea, Flood 2014), a bijection of 64 bits for each step.
    """
    z = seed
    for step in path:
        z = (z ^ step * 0xD1342543DE82EF95) + 0x9E3779B97F4A7C15 & _MASK
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK
        z ^= z >> 31
    return z >> 1


@final
class borrowed_global_state:  # noqa: N801 (read as a phrase: with borrowed_global_state():)
    """Let torch's own layers draw from the global generators, which are put back as found afterwards.

    Inside, seed them with `seed_borrowed`, or give a seed at once. (A class: it costs a quarter of a
    generator function.)
    """

    def __init__(self, device: torch.device | str = "cpu", seed: int | None = None) -> None:
        self._cuda = is_cuda(device)
        self._device = device
        self._seed = seed

    def __enter__(self) -> None:
        self._cpu = torch.default_generator.get_state()
        if self._cuda:
            self._gpu = torch.cuda.get_rng_state(self._device)
        if self._seed is not None:
            _seed(self._seed, self._device, self._cuda)

    def __exit__(self, *error: object) -> None:
        torch.default_generator.set_state(self._cpu)
        if self._cuda:
            torch.cuda.set_rng_state(self._gpu, self._device)


def seed_borrowed(seed: int, device: torch.device | str = "cpu") -> None:
    """Seed the global generators of the CPU and of `device`; only within `borrowed_global_state`."""
    _seed(seed, device, is_cuda(device))


def _seed(seed: int, device: torch.device | str, cuda: bool) -> None:
    torch.default_generator.manual_seed(seed)
    if cuda:
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def is_cuda(device: torch.device | str) -> bool:
    """Return whether a device has a generator of its own beside that of the CPU."""
    kind = device.type if isinstance(device, torch.device) else torch.device(device).type
    return kind == "cuda"
