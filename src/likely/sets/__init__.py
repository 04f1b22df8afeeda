"""Convex sets: project onto them, ask whether a point is inside, intersect them with `&`.

Every set holds one constraint for each row of a batch `(B, *event)`; rows are independent problems.
"""

from likely.sets.box import Box
from likely.sets.convex import ConvexSet
from likely.sets.observed import BoundedObserved, Observed

__all__ = ["BoundedObserved", "Box", "ConvexSet", "Observed"]
