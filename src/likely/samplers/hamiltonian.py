"""Hamiltonian Monte Carlo, and Langevin's one step of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from likely.checks import whole
from likely.samplers.leapfrog import Leapfrog


@final
@dataclass(frozen=True, kw_only=True)
class Hamiltonian(Leapfrog):
    """Hamiltonian Monte Carlo between reflecting walls: trajectories of several leapfrog steps.

    Args:
        leapfrogs: the leapfrog steps of a trajectory, each one gradient of the density.
        step, warmup, thin, chains, target, temperatures, start: see `Leapfrog`.

    Reference: Duane et al. 1987; Neal 2011; Afshar, Domke 2015 (reflections).

    Example:
        >>> method = Hamiltonian(leapfrogs=8, temperatures=(1.0, 2.0, 4.0))
    """

    leapfrogs: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("leapfrogs", self.leapfrogs)

    def trajectory(self) -> int:
        """Return how many leapfrog steps a trajectory has."""
        return self.leapfrogs


@final
@dataclass(frozen=True, kw_only=True)
class Langevin(Leapfrog):
    """Metropolis-adjusted Langevin, `x' = x + h^2/2 grad log p(x) + h N(0, I)`, between walls.

    It is Hamiltonian Monte Carlo with trajectories of one step: cheaper a step, and slower to go far.

    Args:
        step, warmup, thin, chains, target, temperatures, start: see `Leapfrog`.

    Reference: Roberts, Tweedie 1996; Roberts, Rosenthal 1998 (0.574).

    Example:
        >>> method = Langevin(warmup=500)
    """

    target: float = 0.574
    thin: int = 50

    def trajectory(self) -> int:
        """Return 1."""
        return 1
