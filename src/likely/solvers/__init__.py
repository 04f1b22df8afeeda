"""Minimise a function of each row over a convex set: one loop, several methods, one Solution."""

from likely.solvers.method import Annealed, Method, ProjectedAdam, ProjectedGradient
from likely.solvers.minimize import minimize
from likely.solvers.solution import Iterate, Solution, Status

__all__ = [
    "Annealed",
    "Iterate",
    "Method",
    "ProjectedAdam",
    "ProjectedGradient",
    "Solution",
    "Status",
    "minimize",
]
