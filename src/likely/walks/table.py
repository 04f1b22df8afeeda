"""The times and states of a walk with integer steps, as the rows and columns of a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from likely.errors import InvalidInput
from likely.walks.geometry import Geometry, States
from likely.walks.homogeneous import Homogeneous
from likely.walks.programme import Grid
from likely.walks.steps import LatticeSteps

Numbers: TypeAlias = NDArray[np.float64]
#: entries of the largest table, each of which takes about 50 bytes while it is made
MOST = 10**8


@final
class Table:
    """Rows for the times and columns for the states that a walk with integer steps can be in.

    At one time the walk is on a lattice: its states are a multiple of `unit` apart, the greatest common
    divisor of the differences between steps; of +1 and -1 it is every second state.

    Args:
        geometry: where the walk starts and stops, and when.
        values: of the steps.

    Raises:
        InvalidInput: there are more than 10^8 entries.
    """

    def __init__(self, geometry: Geometry, values: tuple[int, ...]) -> None:
        grid, self.end = Grid(geometry, values), geometry.end
        low, high = grid.bounds(self.end)
        if (self.end + 1) * (high - low + 1) > MOST:
            raise InvalidInput(
                f"{self.end} steps and {high - low + 1} states make a table of more than {MOST:,} "
                "entries; expected fewer: use tilt, or split, which need none."
            )
        self.states = grid.states(self.end)
        self.inside = geometry.inside(self.states)
        self.lowest, self.width = low, len(self.states)
        self.start = int(geometry.start) - low
        self.values = values
        self.least = min(values)
        self.unit = int(np.gcd.reduce(np.array(values) - self.least))

    def residue(self, t: int) -> int:
        """Return the first column on the lattice of time t."""
        return (self.start + t * self.least) % self.unit

    def lattices(self, end: int) -> Iterator[tuple[slice, States]]:
        """Yield the rows before `end` that have one lattice, and its columns."""
        for t in range(min(self.unit, end)):
            yield slice(t, end, self.unit), np.arange(self.residue(t), self.width, self.unit)

    def logs(self, rows: int) -> Numbers:
        """Return the logarithms of no chance, in so many rows; see `after` for the last column."""
        return np.full((rows, self.width + 1), -np.inf)

    def log_p(self, steps: LatticeSteps, rows: slice, columns: States) -> Numbers:
        """Return the logarithms of the probabilities of each value, `(values, rows, columns)`.

        Of steps of one law there is one row and column for all.
        """
        times, states = range(*rows.indices(self.end)), self.states[columns]
        if isinstance(steps, Homogeneous):
            times, states = times[:1], states[:1]
        with np.errstate(divide="ignore"):
            return np.asarray(
                np.log(np.stack([steps.masses(t, states).detach().numpy() for t in times], 1))
            )

    def after(self, columns: States) -> States:
        """Return the columns that steps of each value lead to, `(values, columns)`.

        Steps out of the table lead to one column more, in which a log_h has minus infinity.
        """
        to = columns + np.array(self.values)[:, None]
        return np.where((to < 0) | (to >= self.width), self.width, to)
