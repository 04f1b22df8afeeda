"""Steps whose probabilities are a function of time and state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias, final

import torch
from torch import Tensor

from likely.errors import InvalidInput, InvalidType
from likely.walks.bits import Bits
from likely.walks.geometry import Geometry, States, told_states
from likely.walks.steps import LatticeSteps, Steps, Stretch, chosen, walked

#: (time, states) -> probabilities: of a step up, `(n,)`, or of each value, `(n, values)`
Masses: TypeAlias = Callable[[int, Tensor], Tensor]


@final
class Feedback(LatticeSteps):
    """Steps whose probabilities are a function of time and state.

    Args:
        values: integers, all different.
        masses: from (time, states) to probabilities, `(n, values)`; of two, `(n,)`, of the first.
        inner: refuse probabilities of 0 and 1, as a proposal must that is to cover every path.
    """

    def __init__(self, values: Sequence[int], masses: Masses, inner: bool = False) -> None:
        if not callable(masses):
            raise InvalidType(
                f"probabilities are a {type(masses).__name__}; expected a function (time, states)."
            )
        self.values, self.extent = tuple(values), (min(values), max(values))
        self.fractions = None
        self._function = masses
        self._inner = inner

    def draw(self, t: int, x: States, moving: States, most: int, bits: Bits) -> States:
        """Return states one step later, from one uniform number a path and cumulated probabilities."""
        with torch.no_grad():
            upto = self.masses(t, x).cumsum(0)[:-1].numpy()
        u = bits.generator.random(len(x))
        steps = chosen(self.values, u < upto, x.dtype)
        return walked(x, steps[None], moving)

    def log_prob(self, stretches: Iterable[Stretch]) -> Tensor:
        """Return the sum over times of the logarithms of what the function says."""
        return torch.stack([self._log_prob(stretch) for stretch in stretches]).sum(0)

    def log_weights(self, rows: States, geometry: Geometry, p: Steps) -> None:
        """There is no shorter way."""

    def _log_prob(self, stretch: Stretch) -> Tensor:
        x, total = stretch.x, torch.zeros(stretch.x.shape[1], dtype=torch.float64)
        for k, on in enumerate(stretch.running):
            step = torch.from_numpy(x[k + 1] - x[k])
            logs = torch.full(step.shape, -torch.inf, dtype=torch.float64)
            for value, mass in zip(self.values, self.masses(stretch.t + k, x[k]), strict=True):
                here = (step == value) & (mass > 0)
                logs = torch.where(here, torch.where(here, mass, 1.0).log(), logs)
            total = total + torch.where(torch.from_numpy(on), logs, 0.0)
        return total

    def masses(self, t: int, x: States) -> Tensor:
        """Return what the function says, checked.

        Raises:
            InvalidType: it is no tensor of numbers.
            InvalidInput: it is of a wrong shape, or no probabilities.
        """
        answer = self._function(t, told_states(x))
        try:
            told = torch.as_tensor(answer).double()
        except (RuntimeError, TypeError, ValueError):
            raise InvalidType(
                f"the function of (time, states) returned a {type(answer).__name__}; expected a tensor "
                "of probabilities."
            ) from None
        if told.shape in ((), (len(x),)) and len(self.values) == 2:
            up = told.expand(len(x))
            told = torch.stack([up, 1 - up], 1)
        if told.shape != (len(x), len(self.values)):
            raise InvalidInput(
                f"the function of (time, states) returned {tuple(told.shape)} for {len(x)} states; "
                f"expected ({len(x)}, {len(self.values)}), or ({len(x)},) for steps of two values."
            )
        seen = told.detach()
        off = bool(((seen.sum(1) - 1).abs() > 1e-6).any()) or not bool((seen >= 0).all())
        if off or (self._inner and not bool((seen > 0).all())):
            kind = "strictly between 0 and 1" if self._inner else "from 0 to 1"
            raise InvalidInput(
                f"the function of (time, states) returned {seen.min().item():.6g} to "
                f"{seen.max().item():.6g} at time {t}; expected probabilities {kind} that sum to 1."
            )
        return told.T / seen.sum(1)
