"""Arguments at the door: whole numbers, shapes, numbers, shares, tensors and functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, cast

import torch
from torch import Tensor

from likely.errors import InvalidInput, InvalidType


def kind(value: object) -> str:
    """Return what something is, for a message.

    Example:
        >>> kind(2.5), kind(float)
        ('a float', 'the class float')
    """
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


def described(value: object) -> str:
    """Return a value as a message shows it, and a class by its name: an instance of it may be meant.

    Example:
        >>> described(2.5), described(float)
        ('2.5', 'the class float')
    """
    return kind(value) if isinstance(value, type) else f"{value!r:.80}"


def whole(name: str, number: object, least: int = 1) -> int:
    """Return an argument that has to be a whole number.

    Raises:
        InvalidType: it is none.
        InvalidInput: it is less than `least`.

    Example:
        >>> whole("n", 16)
        16
    """
    if not isinstance(number, Integral) or isinstance(number, bool):
        raise InvalidType(f"{name} is {described(number)}; expected an integer of {least} or more.")
    if int(number) < least:
        raise InvalidInput(f"{name} is {number}; expected an integer of {least} or more.")
    return int(number)


def sizes(**numbers: object) -> None:
    """Refuse arguments, given by name, that are not all whole numbers of 1 or more.

    Raises:
        InvalidType: one is no whole number.
        InvalidInput: one is less.

    Example:
        >>> sizes(channels=4, width=32)
    """
    for name, given in numbers.items():
        whole(name, given)


def shape_of(name: str, given: object) -> tuple[int, ...]:
    """Return an argument that has to be a shape: whole numbers of 1 or more, or none.

    Raises:
        InvalidType: it is no sequence, or a size no whole number.
        InvalidInput: a size is less than 1.

    Example:
        >>> shape_of("event_shape", [1, 28, 28])
        (1, 28, 28)
    """
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise InvalidType(f"{name} is {kind(given)}; expected a shape, such as (4,).")
    return tuple(whole(f"{name}[{i}]", size) for i, size in enumerate(given))


def tensor(name: str, value: object, what: str = "a floating-point tensor") -> Tensor:
    """Return an argument that has to be a floating-point tensor.

    Raises:
        InvalidType: it is none.

    Example:
        >>> import torch
        >>> tensor("A", torch.zeros(1))
        tensor([0.])
    """
    if not isinstance(value, Tensor):
        raise InvalidType(f"{name} is {kind(value)}; expected {what}.")
    if not value.is_floating_point():
        raise InvalidType(f"{name} has dtype {value.dtype}; expected {what}.")
    return value


def number(name: str, value: object) -> Real | Tensor:
    """Return an argument that has to be a finite number, or a tensor of one, as it is.

    Raises:
        InvalidType: it is no number.
        InvalidInput: it is not finite, or a tensor of several.

    Example:
        >>> number("q", 0.25)
        0.25
    """
    if isinstance(value, Tensor) and (value.is_complex() or value.dtype.itemsize == 0):
        raise InvalidType(f"{name} is a tensor of {value.dtype}; expected a real number.")
    if isinstance(value, bool) or not isinstance(value, Real | Tensor):
        raise InvalidType(f"{name} is {described(value)}; expected a number.")
    if isinstance(value, Tensor) and value.ndim:
        raise InvalidInput(
            f"{name} has shape {tuple(value.shape)}; expected a tensor of one number, ()."
        )
    plain = float(value.detach() if isinstance(value, Tensor) else value)
    if not math.isfinite(plain):
        raise InvalidInput(f"{name} is {plain}; expected a finite number.")
    return value


def positive(name: str, value: object) -> float | Tensor:
    """Return an argument that has to be a positive number, or a tensor of such, as it is.

    Raises:
        InvalidType: it is no number.
        InvalidInput: it is not positive, or not finite.

    Example:
        >>> positive("lr", 1e-3)
        0.001
    """
    several = isinstance(value, Tensor) and value.ndim > 0 and not value.is_complex()
    given = torch.as_tensor(value if several else number(name, value))
    if not ((given > 0) & given.isfinite()).all():
        raise InvalidInput(f"{name} is {described(value)}; expected a positive, finite number.")
    return cast("float | Tensor", value)


def share(name: str, value: object, most: float = 1.0) -> float:
    """Return an argument that has to lie strictly between 0 and `most`.

    Raises:
        InvalidType: it is no number.
        InvalidInput: it lies elsewhere.

    Example:
        >>> share("kill", 0.5)
        0.5
    """
    given = float(number(name, value))
    if not 0 < given < most:
        raise InvalidInput(f"{name} is {given}; expected a share strictly between 0 and {most:g}.")
    return given


def function(name: str, value: object, of: str) -> Callable[..., Any]:
    """Return an argument that has to be a function.

    Raises:
        InvalidType: it is none.

    Example:
        >>> function("f", abs, "of the draws")(-1)
        1
    """
    if not callable(value):
        raise InvalidType(f"{name} is {kind(value)}; expected a function {of}.")
    return cast(Callable[..., Any], value)
