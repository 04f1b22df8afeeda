"""The errors likely raises: each says what was given, what was expected, and what to do."""

from __future__ import annotations


class LikelyError(Exception):
    """Any error that likely raises on purpose. `exit_code` is what the command line returns for it."""

    exit_code = 2


class InvalidInput(LikelyError, ValueError):
    """An argument has the wrong value: a wrong shape, a NaN, an unknown name, an unreadable file."""


class InvalidType(LikelyError, TypeError):
    """An argument is of the wrong kind, such as an integer image or a mask that is not boolean."""


class CheckpointError(LikelyError, ValueError):
    """A checkpoint is corrupt, foreign, or would run code when loaded."""


class OutputError(LikelyError, OSError):
    """A result could not be written: the folder is missing or not writable, or the disk is full."""


class Infeasible(LikelyError, ValueError):
    """No point satisfies the constraints, such as a measured value outside the bounds."""

    exit_code = 3


class NotConverged(LikelyError, RuntimeError):
    """A solver met non-finite values, or did not reach the tolerance that was asked of it."""

    exit_code = 3


class Diverged(LikelyError, RuntimeError):
    """Training met a loss that is not finite; the last good weights were kept."""

    exit_code = 1
