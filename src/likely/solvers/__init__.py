"""Minimise a function of each row over a convex set: one loop, several methods, one Solution."""

from likely.solvers.accelerated import Accelerated
from likely.solvers.adam import ProjectedAdam
from likely.solvers.annealed import Annealed
from likely.solvers.gradient import ProjectedGradient
from likely.solvers.method import Evaluated, Method, Step
from likely.solvers.minimize import PerRow, minimize
from likely.solvers.solution import Iterate, Solution, Status
from likely.solvers.spectral import SpectralProjectedGradient

__all__ = [
    "Accelerated",
    "Annealed",
    "Evaluated",
    "Iterate",
    "Method",
    "PerRow",
    "ProjectedAdam",
    "ProjectedGradient",
    "Solution",
    "SpectralProjectedGradient",
    "Status",
    "Step",
    "minimize",
]
