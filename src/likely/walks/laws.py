"""Make laws of steps from numbers, and tilt them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from numbers import Integral
from typing import TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

from likely.checks import number
from likely.errors import InvalidInput, InvalidType
from likely.walks.feedback import Feedback, Masses
from likely.walks.homogeneous import Homogeneous
from likely.walks.normal import NormalSteps
from likely.walks.steps import LatticeSteps, Steps

Chance: TypeAlias = "float | Fraction | Tensor | Masses"
UP_DOWN = (1, -1)


def two_point(p: Chance, name: str = "p") -> LatticeSteps:
    """Return steps of +1 with probability p, and of -1 otherwise.

    Args:
        p: a number between 0 and 1, a tensor of one number, or a function of (time, states).
        name: what to call it where it is wrong.

    Raises:
        InvalidType: p is none of these.
        InvalidInput: p is not strictly between 0 and 1.

    Example:
        >>> two_point(0.25).probabilities.tolist()
        [0.25, 0.75]
    """
    if callable(p) and not isinstance(p, Tensor):
        return Feedback(UP_DOWN, p)
    if not isinstance(p, float | int | Fraction | Tensor) or isinstance(p, bool):
        raise InvalidType(
            f"{name} is a {type(p).__name__}; expected a number, a tensor of one number, or a function "
            "of (time, states)."
        )
    if not (isinstance(p, Tensor) and p.dtype == torch.bool):
        number(name, p)
    if not 0 < p < 1:
        raise InvalidInput(
            f"{name} is {float(p)}; expected a probability strictly between 0 and 1: with 0 or 1, "
            "paths that count would never be drawn."
        )
    return _two(p)


def finite(
    values: Sequence[int],
    probabilities: Sequence[float] | Sequence[Fraction] | Tensor | Masses,
) -> LatticeSteps:
    """Return steps of finitely many integer values.

    Args:
        values: the steps, all different; two at least.
        probabilities: of each, positive, with sum 1; or a function (time, states) -> `(n, values)`.

    Raises:
        InvalidType: values or probabilities are no lists of numbers.
        InvalidInput: values are not different integers, or probabilities are not positive with sum 1.

    Example:
        >>> finite([-1, 0, 2], [0.5, 0.25, 0.25]).extent
        (-1, 2)
    """
    if not isinstance(values, Sequence | np.ndarray | Tensor) or isinstance(values, str):
        raise InvalidType(f"values are a {type(values).__name__}; expected a list of integers.")
    values = values.tolist() if isinstance(values, np.ndarray | Tensor) else values
    whole = all(isinstance(v, Integral) and not isinstance(v, bool) for v in values)
    if len(values) < 2 or len(set(values)) != len(values) or not whole:
        raise InvalidInput(
            f"values are {list(values)}; expected two or more different integers: measure the walk in "
            "units of which all steps are multiples."
        )
    values = [int(v) for v in values]
    if callable(probabilities) and not isinstance(probabilities, Tensor):
        return Feedback(values, probabilities)
    exact = None
    if isinstance(probabilities, np.ndarray):
        probabilities = torch.from_numpy(probabilities)
    if isinstance(probabilities, Tensor):
        masses = probabilities.double()
    else:
        if not isinstance(probabilities, Sequence) or isinstance(probabilities, str):
            kind = type(probabilities).__name__
            raise InvalidType(f"probabilities are a {kind}; expected a list, a tensor or a function.")
        for m in probabilities:
            number("a probability", m)
        given = [m for m in probabilities if isinstance(m, Fraction)]
        exact = tuple(given) if len(given) == len(probabilities) else None
        masses = torch.tensor([float(m) for m in probabilities], dtype=torch.float64)
    fine = masses.shape == (len(values),) and bool((masses > 0).all())
    if not fine or abs(float(masses.detach().sum()) - 1) > 1e-9:
        raise InvalidInput(
            f"probabilities are {masses.tolist()} for {len(values)} values; "
            "expected a positive one for each, with sum 1."
        )
    if tuple(values) == UP_DOWN[::-1]:  # all laws of +1 and -1 have one order
        return Homogeneous(UP_DOWN, masses.flip(0), exact and exact[::-1])
    return Homogeneous(values, masses, exact)


def tilted(steps: Steps, by: float | Fraction | Tensor) -> Steps:
    """Return the steps of a constant tilt; see `Walk.tilt`."""
    if isinstance(steps, NormalSteps):
        number("the tilt", by)
        return NormalSteps(float(by) if isinstance(by, Fraction) else by, steps.scale)
    lattice = cast(LatticeSteps, steps)  # there are no others
    if lattice.values == UP_DOWN:
        # An optimiser may try any number, and is told by a density of zero.
        trial = isinstance(by, Tensor) and by.requires_grad
        return _two(by) if trial else two_point(by, "q")
    if not isinstance(lattice, Homogeneous):
        raise InvalidInput(
            "tilt is for steps of one law, or of +1 and -1; for others give the probabilities as a "
            "function: feedback(fn)."
        )
    number("the tilt", by)
    theta = by.double() if isinstance(by, Tensor) else torch.tensor(float(by), dtype=torch.float64)
    logs = lattice.probabilities.detach().log() + theta * torch.tensor(lattice.values)
    masses = logs.softmax(0)
    if not theta.requires_grad and not bool((masses > 0).all()):  # an optimiser may try any number
        raise InvalidInput(
            f"the tilt is {float(theta):g}: it gives steps of {lattice.values} the probabilities "
            f"{masses.tolist()}; expected a smaller one, under which none is 0."
        )
    return Homogeneous(lattice.values, masses)


def _two(p: float | Fraction | Tensor) -> Homogeneous:
    exact = (p, 1 - p) if isinstance(p, Fraction) else None
    if isinstance(p, Tensor):
        up = p.double()
        return Homogeneous(UP_DOWN, torch.stack([up, 1 - up]))
    return Homogeneous(UP_DOWN, torch.tensor([float(p), float(1 - p)], dtype=torch.float64), exact)
