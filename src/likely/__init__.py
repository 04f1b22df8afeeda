"""likely puts exact likelihoods to work: learn densities, and restore what is missing with them."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from likely import data, expectations, flows, samplers, sets, solvers, training, walks
    from likely.checkpoints import load, save
    from likely.errors import LikelyError
    from likely.expectations import Estimate, adapt, compare, elbo, exact, expect
    from likely.restore import Completions, Restoration, complete, inpaint
    from likely.solvers import Solution, Status, minimize
    from likely.walks import Walk

__version__ = "0.1.0"

__all__ = [
    "Completions",
    "Estimate",
    "LikelyError",
    "Restoration",
    "Solution",
    "Status",
    "Walk",
    "adapt",
    "compare",
    "complete",
    "data",
    "elbo",
    "exact",
    "expect",
    "expectations",
    "flows",
    "inpaint",
    "load",
    "minimize",
    "samplers",
    "save",
    "sets",
    "solvers",
    "training",
    "walks",
]

#: where each name comes from; importing torch takes seconds, so it waits for the first use of a name
_HOMES = {
    "checkpoints": ["load", "save"],
    "data": ["data"],
    "errors": ["LikelyError"],
    "expectations": ["Estimate", "adapt", "compare", "elbo", "exact", "expect", "expectations"],
    "flows": ["flows"],
    "restore": ["Completions", "Restoration", "complete", "inpaint"],
    "samplers": ["samplers"],
    "sets": ["sets"],
    "solvers": ["Solution", "Status", "minimize", "solvers"],
    "training": ["training"],
    "walks": ["Walk", "walks"],
}

if not TYPE_CHECKING:  # type checkers read the imports above

    def __getattr__(name: str) -> Any:
        for home, names in _HOMES.items():
            if name in names:
                module = importlib.import_module(f"likely.{home}")
                value = globals()[name] = module if name == home else getattr(module, name)
                return value
        raise AttributeError(f"module 'likely' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
