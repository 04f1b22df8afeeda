"""Normal steps: walks in continuous states."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TypeAlias, final

import torch
from torch import Tensor

from likely.checks import number
from likely.errors import InvalidInput
from likely.walks.bits import Bits
from likely.walks.geometry import Geometry, States, told_states
from likely.walks.steps import Steps, Stretch, walked

#: (time, states) -> mean of the next step
Drift: TypeAlias = Callable[[int, Tensor], Tensor]


@final
class NormalSteps(Steps):
    """Normal steps, whose mean may depend on time and state.

    Args:
        mean: a number, a tensor that may require a gradient, or a function of (time, states).
        scale: the standard deviation of a step, positive.

    Raises:
        InvalidType: the mean is neither number nor function, or the scale no number.
        InvalidInput: the scale is not positive, or a number is not finite.
    """

    def __init__(self, mean: Tensor | float | Drift, scale: Tensor | float) -> None:
        self.extent = (-math.inf, math.inf)
        number("scale", scale)
        self.scale = torch.as_tensor(scale, dtype=torch.float64)
        self.drift = mean if callable(mean) and not isinstance(mean, Tensor) else None
        if self.drift is None:
            number("mean", mean)
        self.mean = torch.as_tensor(0.0 if callable(mean) else mean, dtype=torch.float64)
        if not bool(self.scale > 0):
            raise InvalidInput(f"scale is {float(self.scale)}; expected a positive number.")

    def draw(self, t: int, x: States, moving: States, most: int, bits: Bits) -> States:
        """Return states after normal steps."""
        k = most if self.drift is None else 1
        with torch.no_grad():
            mean = self._mean(t, x).numpy()
        steps = mean + float(self.scale) * bits.generator.standard_normal((k, len(x)))
        return walked(x, steps, moving)

    def log_prob(self, stretches: Iterable[Stretch]) -> Tensor:
        """Return the sum over times of the normal log-density of each step."""
        return torch.stack([self._log_prob(stretch) for stretch in stretches]).sum(0)

    def _log_prob(self, stretch: Stretch) -> Tensor:
        x = stretch.x
        step = torch.from_numpy(x[1:] - x[:-1])
        mean = self.mean
        if self.drift is not None:
            mean = torch.stack([self._mean(stretch.t + k, row) for k, row in enumerate(x[:-1])])
        z = (step - mean) / self.scale
        logs = -z.square() / 2 - self.scale.log() - math.log(2 * math.pi) / 2
        return torch.where(torch.from_numpy(stretch.running), logs, 0.0).sum(0)

    def log_weights(self, rows: States, geometry: Geometry, p: Steps) -> None:
        """There is no shorter way."""

    def __repr__(self) -> str:
        mean = "a function" if self.drift is not None else f"{float(self.mean):g}"
        return f"Normal steps of mean {mean} and scale {float(self.scale):g}"

    def _mean(self, t: int, x: States) -> Tensor:
        if self.drift is None:
            return self.mean
        told = torch.as_tensor(self.drift(t, told_states(x))).double()
        if (told.ndim and told.shape != x.shape) or not bool(told.isfinite().all()):
            raise InvalidInput(
                f"the mean of the steps at time {t} has shape {tuple(told.shape)} or is not finite; "
                f"expected finite values, one for each of {len(x)} states."
            )
        return told.expand(len(x))
