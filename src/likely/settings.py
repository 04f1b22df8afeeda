"""Checks of the settings of a method, when it is made."""

from __future__ import annotations

from numbers import Integral, Real

import torch
from torch import Tensor

from likely.errors import InvalidInput, InvalidType


def check_kind(name: str, value: object, kind: type) -> None:
    """Raise InvalidType unless a setting is a number of this kind, `Real` or `Integral`."""
    if not isinstance(value, kind):
        expected = "a whole number" if kind is Integral else "a number"
        raise InvalidType(f"{name} is {value!r:.80}; expected {expected}.")


def check_rate(name: str, rate: float | Tensor) -> None:
    """Raise InvalidType unless a rate or scale is a number, InvalidInput unless it is positive."""
    if not isinstance(rate, Tensor):
        check_kind(name, rate, Real)
    given = torch.as_tensor(rate)
    if not ((given > 0) & given.isfinite()).all():
        raise InvalidInput(f"{name} is {rate}; expected a positive, finite number.")


def check_count(name: str, value: object, least: int = 1) -> None:
    """Raise InvalidType unless a setting is a whole number, InvalidInput if it is below the least."""
    check_kind(name, value, Integral)
    if isinstance(value, bool) or value < least:  # type: ignore[operator]
        raise InvalidInput(f"{name} is {value}; expected a whole number of {least} or more.")
