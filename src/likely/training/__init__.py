"""Fit a flow by maximum likelihood."""

from likely.training.evaluation import evaluate
from likely.training.fit import Fit, Progress, fit
from likely.training.recipe import Recipe

__all__ = ["Fit", "Progress", "Recipe", "evaluate", "fit"]
