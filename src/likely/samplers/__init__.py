"""Draw from a density between bounds: one loop, several methods, and what the draws are worth."""

from likely.samplers.chains import sample
from likely.samplers.diagnostics import ess, rhat
from likely.samplers.direct import Direct
from likely.samplers.hamiltonian import Hamiltonian, Langevin
from likely.samplers.independence import Independence
from likely.samplers.leapfrog import Leapfrog
from likely.samplers.sampler import Moved, Plan, Sampler, Target
from likely.samplers.samples import Samples, Status, Sweep

__all__ = [
    "Direct",
    "Hamiltonian",
    "Independence",
    "Langevin",
    "Leapfrog",
    "Moved",
    "Plan",
    "Sampler",
    "Samples",
    "Status",
    "Sweep",
    "Target",
    "ess",
    "rhat",
    "sample",
]
