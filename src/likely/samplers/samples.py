"""What sampling returns."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import final

from jaxtyping import Float, Int
from torch import Tensor

#: R-hat above which chains are said not to have mixed (Vehtari et al. 2021 ask for 1.01)
MIXED = 1.05


@final
class Status(Enum):
    """What the draws of a row are worth; the value says what it means and what to try."""

    INDEPENDENT = "the draws are independent of each other, and exact"
    MIXED = "the chains agree (R-hat at most 1.05), and are worth as many independent draws as are kept"
    UNMIXED = (
        "the chains do not agree (R-hat above 1.05): the draws are no fair sample; allow a longer "
        "warmup and larger thin, more temperatures, or start from or propose a conditional density"
    )
    FEW = (
        "the chains agree, but are worth fewer independent draws than are kept: quantiles and means "
        "are less sure than they look; allow a larger thin or more chains"
    )
    NONFINITE = (
        "log p was not finite where a chain ended: it never found a point that the density allows; "
        "start elsewhere, or keep the bounds away from where the density is zero"
    )
    UNCHANGED = "nothing was missing; every draw is the data as given"

    @property
    def ok(self) -> bool:
        """Whether the draws are what was asked for."""
        return self in (Status.INDEPENDENT, Status.MIXED, Status.UNCHANGED)


@final
@dataclass(frozen=True, repr=False)
class Samples:
    """The outcome of `sample`, row by row."""

    #: the draws: known entries bitwise as given, all others within the bounds
    x: Float[Tensor, "n batch *event"]
    #: the log density of each draw
    log_prob: Float[Tensor, "n batch"]
    #: the mean chance of acceptance after the warm-up
    acceptance: Float[Tensor, " batch"]
    #: how many independent draws all steps after the warm-up are worth, of log p or of the mean free
    #: entry, whichever is less
    ess: Float[Tensor, " batch"]
    #: split R-hat, the largest over the free entries and log p
    rhat: Float[Tensor, " batch"]
    #: what the draws are worth
    status: tuple[Status, ...]

    def __repr__(self) -> str:
        ends = ", ".join(f"{n} {end.name}" for end, n in Counter(self.status).items())
        return f"Samples({ends}; x {tuple(self.x.shape)})"


@final
@dataclass(frozen=True)
class Sweep:
    """All chains after one step, as shown to `on_step`."""

    #: counts steps from 0
    k: int
    #: whether this step belongs to the warm-up
    warming: bool
    #: which rows of the batch these are
    rows: Int[Tensor, " batch"]
    x: Float[Tensor, "batch chains *event"]
    log_prob: Float[Tensor, "batch chains"]
    accepted: Float[Tensor, "batch chains"]
