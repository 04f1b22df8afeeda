"""Numbers with an exponent of their own, so that nothing under- or overflows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

#: the exponent of zero: far below any other, far above where float64 stops being exact
NOTHING = -1e12


@final
@dataclass(frozen=True, eq=False)
class Scaled:
    """Numbers `mantissa 2^exponent`, elementwise, differentiable; powers of two lose no digits.

    Args:
        mantissa: of size 1/2 to 1, or 0.
        exponent: whole numbers, in float64.
    """

    mantissa: Tensor
    exponent: Tensor

    @staticmethod
    def of(values: Tensor, exponent: Tensor | float = 0.0) -> Scaled:
        """Return `values 2^exponent`."""
        # 2^1000 is finite; subnormal values get a smaller mantissa.
        power = torch.frexp(values.detach()).exponent.double().clamp(min=-1000)
        mantissa = values * torch.exp2(-power)
        return Scaled(mantissa, torch.where(values.detach() == 0, NOTHING, power + exponent))

    def __mul__(self, other: Scaled | Tensor) -> Scaled:
        """Return the product."""
        if isinstance(other, Tensor):
            return Scaled.of(self.mantissa * other, self.exponent)
        return Scaled.of(self.mantissa * other.mantissa, self.exponent + other.exponent)

    def __add__(self, other: Scaled) -> Scaled:
        """Return the sum."""
        top = torch.maximum(self.exponent, other.exponent)
        one = self.mantissa * torch.exp2(self.exponent - top)
        return Scaled.of(one + other.mantissa * torch.exp2(other.exponent - top), top)

    def sum(self) -> Scaled:
        """Return the sums over the first dimension."""
        top = self.exponent.amax(0)
        return Scaled.of((self.mantissa * torch.exp2(self.exponent - top)).sum(0), top)

    def __sub__(self, other: Scaled) -> Scaled:
        """Return the difference."""
        return self + Scaled(-other.mantissa, other.exponent)

    def __truediv__(self, other: Scaled) -> Scaled:
        """Return the quotient."""
        return Scaled.of(self.mantissa / other.mantissa, self.exponent - other.exponent)

    def __getitem__(self, index: Tensor | int) -> Scaled:
        """Return some of the numbers."""
        return Scaled(self.mantissa[index], self.exponent[index])

    def unless(self, flags: Tensor, other: Scaled) -> Scaled:
        """Return the other numbers where flagged, and these elsewhere."""
        return Scaled(
            torch.where(flags, other.mantissa, self.mantissa),
            torch.where(flags, other.exponent, self.exponent),
        )

    @property
    def value(self) -> Tensor:
        """The numbers in float64; those below 1e-308 are 0, those above 1e308 infinite."""
        # In two halves: 2^exponent alone may be out of range where the number is not.
        half = (self.exponent / 2).floor()
        return self.mantissa * torch.exp2(half) * torch.exp2(self.exponent - half)

    @property
    def log(self) -> Tensor:
        """The natural logarithms of positive numbers, minus infinity for 0."""
        logs = self.mantissa.log() + self.exponent * math.log(2)
        return torch.where(self.mantissa == 0, -torch.inf, logs)
