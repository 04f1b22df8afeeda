"""likely puts exact likelihoods to work: learn densities, and restore what is missing with them."""

from likely import data, expectations, flows, sets, solvers, training, walks
from likely.checkpoints import load, save
from likely.errors import LikelyError
from likely.expectations import Estimate, adapt, compare, elbo, exact, expect
from likely.restore import Restoration, inpaint
from likely.solvers import Solution, Status, minimize
from likely.walks import Walk

__version__ = "0.1.0"

__all__ = [
    "Estimate",
    "LikelyError",
    "Restoration",
    "Solution",
    "Status",
    "Walk",
    "adapt",
    "compare",
    "data",
    "elbo",
    "exact",
    "expect",
    "expectations",
    "flows",
    "inpaint",
    "load",
    "minimize",
    "save",
    "sets",
    "solvers",
    "training",
    "walks",
]
