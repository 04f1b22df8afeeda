"""Stopped random walks and rare events: paths, proposals, exact answers, splitting."""

from likely.walks.chain import Chain, chain_of
from likely.walks.feedback import Feedback
from likely.walks.functionals import Functional, ImpossibleEvent, PathFunctional
from likely.walks.homogeneous import Homogeneous
from likely.walks.laws import finite, two_point
from likely.walks.normal import NormalSteps
from likely.walks.propose import propose
from likely.walks.splitting import split
from likely.walks.steps import LatticeSteps, Steps
from likely.walks.subset import subset
from likely.walks.transformed import Transformed
from likely.walks.walk import Walk

__all__ = [
    "Chain",
    "Feedback",
    "Functional",
    "Homogeneous",
    "ImpossibleEvent",
    "LatticeSteps",
    "NormalSteps",
    "PathFunctional",
    "Steps",
    "Transformed",
    "Walk",
    "chain_of",
    "finite",
    "propose",
    "split",
    "subset",
    "two_point",
]
