"""Stopped random walks: whole paths as draws, weights that stop with the walk, exact answers."""

from likely.walks.functionals import Functional, ImpossibleEvent, PathFunctional
from likely.walks.laws import finite, two_point
from likely.walks.normal import NormalSteps
from likely.walks.steps import Homogeneous, LatticeSteps, Steps
from likely.walks.tables import Feedback, Tabulated
from likely.walks.walk import Walk

__all__ = [
    "Feedback",
    "Functional",
    "Homogeneous",
    "ImpossibleEvent",
    "LatticeSteps",
    "NormalSteps",
    "PathFunctional",
    "Steps",
    "Tabulated",
    "Walk",
    "finite",
    "two_point",
]
