"""The spectral projected gradient method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from likely.checks import whole
from likely.rows import column, inner
from likely.solvers.method import Evaluated, Method, Projection, State, Step, descends


@final
@dataclass(frozen=True)
class SpectralProjectedGradient(Method):
    """Spectral projected gradient: a step length from curvature, and a nonmonotone line search.

    From x the direction is `d = P(x - s grad f(x)) - x`, with the step of Barzilai and Borwein,
    `s = <dx, dx> / <dx, dg>`, dx and dg being the last changes of x and of the gradient (a hundred
    times the last s where `<dx, dg> <= 0`). A trial `x + a d`, a = 1 at first, is taken if
    `f(x + a d) <= max of the last values + 1e-4 a <grad f(x), d>`; else a falls to the least of the
    parabola through what is known, kept within [0.1 a, 0.5 a]. Every row has its own s and a, and its
    own values to compare with. A row whose trial falls on x itself stalls.

    It wants a smooth f, and then few evaluations, without a step size to choose.

    Args:
        memory: how many values a trial is compared with; 1 for a monotone search.
        steps, tol, keep: see `Method`.

    Raises:
        InvalidInput: memory is less than 1.
        InvalidType: a setting is no number.

    Reference: Birgin, Martinez, Raydan 2000, algorithm SPG2; Barzilai, Borwein 1988; Grippo,
    Lampariello, Lucidi 1986.

    Example:
        >>> method = SpectralProjectedGradient(tol=1e-6)
    """

    memory: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("memory", self.memory)

    def init(self, x: Tensor) -> State:
        """Return the point last taken, its direction, and the lengths of each row."""
        one, zero = x.new_ones(x.shape[0]), torch.zeros_like(x)
        # Compared with infinity, the start is always taken.
        last = x.new_full((x.shape[0], self.memory), torch.inf)
        point = {"x": x, "grad": zero, "direction": zero, "value": one * torch.inf}
        return {**point, "last": last, "slope": one * 0, "length": one, "spectral": one}

    def step(
        self, k: int, at: Evaluated, state: State, project: Projection, generator: torch.Generator
    ) -> Step:
        """Return `x + a d`, from a new x where the trial was taken."""
        a, slope = state["length"], state["slope"]
        dx = at.x - state["x"]
        accepted = descends(at.value, state["last"].amax(1), a * slope, inner(at.grad, dx))
        rows = column(accepted, at.x)

        # Where the trial failed: the least of a parabola through f(x), its slope and the trial.
        rise = at.value - state["value"] - a * slope
        shorter = torch.clamp(-a * a * slope / (2 * rise), 0.1 * a, 0.5 * a)
        shorter = torch.where(rise.isfinite(), shorter, 0.1 * a)

        # Where it was taken: a new direction, as long as the curvature along the last step suggests.
        curvature, moved = inner(dx, at.grad - state["grad"]), inner(dx, dx)
        s = torch.where(curvature > 0, moved / curvature, 100 * state["spectral"])
        if k == 0:
            gap = (project(at.x - at.grad) - at.x).abs()[:, None].flatten(1)
            s = 1 / gap.amax(1) if gap.shape[1] else s
        limits = torch.finfo(s.dtype)
        s = s.clamp(max(limits.tiny, 1e-30), min(limits.max, 1e30))
        direction = project(at.x - column(s, at.x) * at.grad) - at.x

        state["last"] = torch.where(
            accepted[:, None], torch.cat([state["last"][:, 1:], at.value[:, None]], 1), state["last"]
        )
        if k == 0:
            state["last"] = at.value[:, None].expand_as(state["last"])
        state["x"] = torch.where(rows, at.x, state["x"])
        state["grad"] = torch.where(rows, at.grad, state["grad"])
        state["direction"] = torch.where(rows, direction, state["direction"])
        state["value"] = torch.where(accepted, at.value, state["value"])
        state["slope"] = torch.where(accepted, inner(at.grad, direction), slope)
        state["spectral"] = torch.where(accepted, s, state["spectral"])
        state["length"] = torch.where(accepted, torch.ones_like(a), shorter)
        point = state["x"] + column(state["length"], at.x) * state["direction"]
        return Step(point, accepted, (point == state["x"])[:, None].flatten(1).all(1))
