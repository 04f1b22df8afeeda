"""Convex sets: project onto them, ask whether a point is inside, intersect them with `&`.

Every set holds one constraint for each row of a batch `(B, *event)`; rows are independent problems.
"""

from likely.sets.affine import Affine
from likely.sets.affine_operator import AffineOperator
from likely.sets.ball import Ball
from likely.sets.box import Box
from likely.sets.box_hyperplane import BoxHyperplane
from likely.sets.cone import SecondOrderCone
from likely.sets.convex import ConvexSet
from likely.sets.halfspace import Halfspace
from likely.sets.intersection import Intersection
from likely.sets.l1ball import L1Ball
from likely.sets.monotone import Monotone
from likely.sets.observed import BoundedObserved, Observed
from likely.sets.observed_affine import ObservedAffine
from likely.sets.product import Product
from likely.sets.simplex import Simplex

__all__ = [
    "Affine",
    "AffineOperator",
    "Ball",
    "BoundedObserved",
    "Box",
    "BoxHyperplane",
    "ConvexSet",
    "Halfspace",
    "Intersection",
    "L1Ball",
    "Monotone",
    "Observed",
    "ObservedAffine",
    "Product",
    "SecondOrderCone",
    "Simplex",
]
