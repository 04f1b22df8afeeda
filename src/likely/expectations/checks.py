"""Numbers at the door."""

from __future__ import annotations

from likely.errors import InvalidInput


def whole(name: str, number: object, least: int = 1) -> int:
    """Return an argument that has to be a whole number.

    Raises:
        InvalidInput: it is not, or less than `least`.

    Example:
        >>> whole("n", 16)
        16
    """
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise InvalidInput(f"{name} is {number!r:.40}; expected an integer of {least} or more.")
    return number
