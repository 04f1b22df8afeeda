"""Expectations `E_p[f]`: values, gradients, error bars, proposals, diagnostics."""

from likely.expectations.adapt import adapt
from likely.expectations.adapter import law_of
from likely.expectations.baselines import Baseline
from likely.expectations.choose import Auto, choose
from likely.expectations.compare import Comparison, compare
from likely.expectations.elbo import elbo
from likely.expectations.enumeration import Enumerate
from likely.expectations.estimate import Estimate
from likely.expectations.exact import Tractable, exact
from likely.expectations.expect import expect
from likely.expectations.gradient import Gradient, Path, Score
from likely.expectations.law import Law
from likely.expectations.mixed import Mixed
from likely.expectations.mixture import Mixture
from likely.expectations.sampling import Antithetic, Independent, Sampling, Sobol
from likely.expectations.until import rel
from likely.expectations.weak import Weak

__all__ = [
    "Antithetic",
    "Auto",
    "Baseline",
    "Comparison",
    "Enumerate",
    "Estimate",
    "Gradient",
    "Independent",
    "Law",
    "Mixed",
    "Mixture",
    "Path",
    "Sampling",
    "Score",
    "Sobol",
    "Tractable",
    "Weak",
    "adapt",
    "choose",
    "compare",
    "elbo",
    "exact",
    "expect",
    "law_of",
    "rel",
]
