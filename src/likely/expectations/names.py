"""What arguments stand for: short names of estimators, and seeds."""

from __future__ import annotations

from typing import Final

from torch import Tensor

from likely.checks import kind
from likely.errors import InvalidInput, InvalidType
from likely.expectations.baselines import Baseline
from likely.expectations.choose import Auto
from likely.expectations.enumeration import Enumerate
from likely.expectations.gradient import Gradient, Path, Score, Values
from likely.expectations.weak import Weak
from likely.seeds import root_of

__all__ = ["NAMED", "gradient_of", "root_of"]

#: estimators without a parameter; "score" has its baseline
NAMED: Final[dict[str, Gradient]] = {
    "path": Path(),
    "weak": Weak(),
    "enumerate": Enumerate(),
    "auto": Auto(),
}


def gradient_of(
    grad: str | Gradient | None, baseline: str | float | Tensor | Baseline | None = None
) -> Gradient:
    """Return the estimator of a short name.

    Raises:
        InvalidInput: there is no such name, or a baseline is given to what takes none.
        InvalidType: grad is neither a name nor an estimator.
    """
    if grad == "score":
        return Score("loo" if baseline is None else baseline)
    if baseline is not None:
        raise InvalidInput(
            f"baseline is for grad='score'; grad is {grad!r}. As a value: Score(baseline)."
        )
    if grad is None:
        return Values()
    if isinstance(grad, Gradient):
        return grad
    if not isinstance(grad, str):
        raise InvalidType(f"grad is {kind(grad)}; expected a name or an estimator, such as Path().")
    if grad not in NAMED:
        raise InvalidInput(f"grad is {grad!r}; expected None or one of {['score', *NAMED]}.")
    return NAMED[grad]
