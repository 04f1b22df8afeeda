"""The stopped random walk: a law of whole paths, its events, and its proposals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Literal, final, overload

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from likely.checks import function as checked
from likely.checks import whole
from likely.errors import InvalidInput, InvalidType
from likely.expectations import Law, Mixture
from likely.expectations.problem import Weighing
from likely.seeds import root_of
from likely.walks import exactly, mixed, paths, transforms
from likely.walks import functionals as f
from likely.walks.feedback import Feedback, Masses
from likely.walks.geometry import Geometry, Rule, level_of, rows_of
from likely.walks.laws import Chance, tilted, two_point
from likely.walks.reach import aimed, lattice, warn_of
from likely.walks.sampling import drawn, dtype_of
from likely.walks.steps import LatticeSteps, Steps

#: bytes that the paths of one block of draws may take
BLOCK_BYTES = 2**26


@final
class Walk(Weighing):
    """A random walk that stops at levels, by a rule, or at a horizon: a law of whole stopped paths.

    A draw is the path `x_0, ..., x_T`, which keeps its state once it has stopped, at time tau. Its
    log-probability `sum_(t < tau) log p(x_(t+1) - x_t | t, x_t)` stops there as well, and so does the
    weight `p / q` of a path drawn from a proposal: less variance than weights over all T steps, and the
    same mean. A proposal is a Walk with other steps.

    Args:
        p: the chance of a step of +1, the others being -1: a number, a Fraction, a tensor of one number
            that may require a gradient, or a function of (time, states).
        start: the state at time 0.
        low: the walk stops at or below it; None for no such level.
        high: the walk stops at or above it; None for no such level.
        horizon: the number of steps at which every path ends; None for no end, where only `exact`
            has answers.
        steps: other steps, instead of p: `walks.finite(values, probabilities)`,
            `walks.NormalSteps(mean, scale)`.
        stop: a rule besides the levels: from (time, states) to which of them stop, as booleans.
        absorbing: False for paths that go on to the horizon after their stop; see `unstopped`.

    Raises:
        InvalidType: p is no number, tensor or function.
        InvalidInput: a chance is not strictly between 0 and 1, the start is not strictly between the
            levels, or the horizon is below 1.

    Reference: Siegmund 1976, importance sampling in sequential tests; Asmussen, Glynn 2007, chapter VI.

    Example:
        >>> from likely import exact, expect
        >>> w = Walk(p=18 / 37, start=100, low=0, high=200, horizon=600)
        >>> e = expect(w.hits(200), w, via=w.bridge(200), n=3000, seed=0)
        >>> print(f"{exact(w.hits(200), w):.4g}, {abs(e.mean / 2.388383e-6 - 1) < 0.01}")
        2.388e-06, True
    """

    def __init__(
        self,
        p: Chance | None = None,
        start: float = 0,
        low: float | None = None,
        high: float | None = None,
        horizon: int | None = None,
        *,
        steps: Steps | None = None,
        stop: Rule | None = None,
        absorbing: bool = True,
    ) -> None:
        self.geometry = Geometry(start, low, high, horizon, stop, absorbing)
        if steps is None:
            if p is None:
                raise InvalidInput("p and steps are both missing; expected one of them.")
            steps = two_point(p)
        elif p is not None:
            raise InvalidInput("p and steps are both given; expected one of them.")
        if not isinstance(steps, Steps):
            raise InvalidType(
                f"steps is a {type(steps).__name__}; expected steps, such as those of walks.finite."
            )
        horizon = self.geometry.horizon
        self.steps = steps
        self.covers = steps.covers
        self.space = (self.geometry, set(steps.values) if isinstance(steps, LatticeSteps) else None)
        self.name, self.batch_shape, self.device = "Walk", torch.Size(), torch.device("cpu")
        self.dtype = dtype_of(self.geometry, steps)
        self.block = max(1, BLOCK_BYTES // (self.dtype.itemsize * ((horizon or 0) + 1)))

    def draw(self, n: int, seed: int, attached: bool) -> Shaped[Tensor, "n times"]:
        """Return n paths; integers for steps of integers."""
        if attached:
            raise InvalidInput(
                "paths of walks are not differentiable, so 'path' does not apply; use grad='score'."
            )
        return drawn(self.geometry, self.steps, n, seed, self.dtype)

    def log_prob(self, x: Shaped[Tensor, "n times"]) -> Float[Tensor, " n"]:
        """Return the log-probability of each path up to its stop, in nats.

        Minus infinity for what is no path of this walk: another start, an impossible step, a step after
        the stop.
        """
        return paths.log_prob(rows_of(x, self.geometry), self.geometry, self.steps)

    def log_weights(self, x: Shaped[Tensor, "n times"], p: Law) -> Float[Tensor, " n"] | None:
        """Return `log p - log q` of paths that this walk, q, has drawn, if there is a short way to it.

        Of tilts and h-transforms there is: nearly all is told by when and where a path stopped.
        """
        if not isinstance(p, Walk) or p.geometry != self.geometry:
            return None
        log_w = self.steps.log_weights(rows_of(x, self.geometry), self.geometry, p.steps)
        return None if log_w is None else torch.from_numpy(log_w)

    def sample(
        self, n: int, seed: int | None = None, generator: torch.Generator | None = None
    ) -> Shaped[Tensor, "n times"]:
        """Return n paths: of the states at times 0 to the horizon, kept from the stop on."""
        return self.draw(whole("n", n), root_of(seed, generator), attached=False)

    # Events and values, to be given to expect and exact.

    def hits(self, level: float) -> f.Functional:
        """Return the event that the walk reaches a level, before it stops elsewhere or ends.

        Warns:
            ImpossibleEvent: no path can, so that the probability is exactly 0.
        """
        level = level_of(level, "level")
        warn_of(self.geometry, self.steps, level)
        return f.hitting(self.geometry, level)

    def ruined(self) -> f.Functional:
        """Return the event that the walk reaches its low level."""
        if self.geometry.low is None:
            raise InvalidInput(
                "the walk has no low level to be ruined at; give low, or use hits(level)."
            )
        return self.hits(self.geometry.low)

    def survives(self) -> f.Functional:
        """Return the event that the walk has not stopped when the horizon is over."""
        return f.surviving(self.geometry)

    def ends_above(self, x: float) -> f.Functional:
        """Return the event that the walk stops, or ends, in a state above x."""
        x = level_of(x, "x")
        return f.terminal(self.geometry, lambda state: state > x)

    def terminal(self, function: Callable[[Tensor], Tensor]) -> f.Functional:
        """Return a function of the state in which the walk stops or ends."""
        return f.terminal(self.geometry, function)

    def passage_time(self, level: float, missed: float = 0.0) -> f.Functional:
        """Return the first time at a level, and `missed` for paths that do not reach it.

        With missed = 0, `E[tau | hit] = exact(w.passage_time(level), w) / exact(w.hits(level), w)`.
        """
        level = level_of(level, "level")
        warn_of(self.geometry, self.steps, level)
        return f.passing(self.geometry, level, missed)

    def stopping_time(self) -> f.Functional:
        """Return the time at which the walk stops, at the latest the horizon."""
        return f.stopping(self.geometry)

    def functional(self, function: Callable[[Tensor], Tensor]) -> f.PathFunctional:
        """Return a function of whole paths `(n, horizon + 1)`, which it is given in float64."""
        return f.PathFunctional(self.geometry, checked("function", function, "of the paths"))

    # Proposals: the same walk with other steps.

    def tilt(self, q: float | Fraction | Tensor) -> Walk:
        """Return the walk with tilted steps.

        Steps of +1 and -1: +1 with probability q. Other finite steps: `p_k exp(q v_k)`, normalised.
        Normal steps: the mean q.

        Raises:
            InvalidInput: a probability q is not strictly between 0 and 1, or q is not finite.
        """
        return self._with(tilted(self.steps, q))

    def feedback(self, function: Masses) -> Walk:
        """Return the walk whose probabilities are a function of (time, states).

        The function gives the probability of a step up, `(n,)`, or of each value, `(n, values)`, for
        one time and the states `(n,)`; strictly between 0 and 1. No error bar shows that a feedback
        aims too early: judge it by `relative_variance`.
        """
        return self._with(Feedback(lattice(self.steps, "feedback").values, function, inner=True))

    def bridge(self, level: float, last: int = 64) -> Walk:
        """Return the walk drawn towards a level by the h-transform of Brownian motion.

        `q(t, x) = p h(t + 1, x + 1) / (p h(t + 1, x + 1) + (1 - p) h(t + 1, x - 1))`, where h is the
        chance that Brownian motion with the mean and variance of the steps reaches the level before the
        horizon. A step is no small part of the way when few are left, so that most of the variance
        comes from the last ones: there h is the exact one. Nearly as good as `doob`, without the whole
        programme; for estimates of that event only. With p near 0 or 1 it may miss most of the event:
        see `relative_variance`.

        Args:
            level: one at which the walk stops.
            last: for how many steps before the horizon h is exact; 0 for Brownian motion alone.

        Raises:
            InvalidType: the level is no number.
            InvalidInput: the level is not one that the walk stops at, it cannot be reached, steps are
                not of one law, or the table is too large.
        """
        steps = lattice(self.steps, "bridge")
        event = aimed(self.geometry, steps, level)
        return self._with(transforms.bridge(event, steps, level, whole("last", last, 0)))

    def doob(self, level: float) -> Walk:
        """Return the walk conditioned to reach a level: the exact h-transform, of variance zero.

        As `bridge`, with h from the dynamic programme: `P(hit | x at time t)`. Every path hits, and
        carries the same weight: the probability itself.

        Raises:
            InvalidType: the level is no number.
            InvalidInput: the level is not one that the walk stops at, it cannot be reached, or the
                table is too large.

        Reference: Doob 1957.
        """
        steps = lattice(self.steps, "doob")
        return self._with(transforms.doob(aimed(self.geometry, steps, level), steps))

    def unstopped(self) -> Walk:
        """Return the walk whose paths, and weights, go on to the horizon after their stop.

        Events are still settled at the first passage. This is how textbooks weigh; it never pays.
        """
        return self._with(self.steps, absorbing=False)

    # Exact answers.

    def exact_expectation(self, functional: f.Functional) -> Float[Tensor, ""]:
        """Return `E[f]` in float64, differentiable in p: what `likely.exact` calls."""
        return exactly.expectation(f.own(functional, self), self.steps)

    @overload
    def exact(self, functional: f.Functional, *, rational: Literal[False] = False) -> Tensor: ...
    @overload
    def exact(self, functional: f.Functional, *, rational: Literal[True]) -> Fraction: ...
    def exact(self, functional: f.Functional, *, rational: bool = False) -> Tensor | Fraction:
        """Return `E[f]` by dynamic programming.

        Args:
            functional: one of this walk's events or values; not a function of whole paths.
            rational: return the exact fraction, taking chances as the numbers they are (give p as a
                Fraction for 18/37 itself).

        Raises:
            InvalidInput: steps are not of integers, or f is not one of this walk's.
        """
        if rational:
            return exactly.rational(f.own(functional, self), lattice(self.steps, "rational=True"))
        return self.exact_expectation(functional)

    def relative_variance(
        self, functional: f.Functional, via: Walk | Mixture | Sequence[Walk] | None = None
    ) -> Float[Tensor, ""]:
        """Return `Var_q(w f) / E[f]^2` of a single path, exactly: what `via` is worth.

        The relative standard error of n paths is the square root of it over n.

        Args:
            functional: one of this walk's events or values.
            via: a walk with the same start, stops and horizon; a `Mixture` or list of such walks with
                constant two-point steps; None for the walk itself.

        Raises:
            InvalidInput: there is no recursion for it, the expectation is 0, or via never makes a step
                that matters.
        """
        own = f.own(functional, self)
        if isinstance(via, Sequence):
            via = Mixture(via)
        if isinstance(via, Mixture):
            parts = [self._same(law).steps for law in via.laws]
            return mixed.relative_variance(own, self.steps, parts, via.shares)
        steps = self.steps if via is None else self._same(via).steps
        return exactly.relative_variance(own, self.steps, steps)

    def __repr__(self) -> str:
        g = self.geometry
        return (
            f"Walk({self.steps}, start={g.start}, low={g.low}, high={g.high}, horizon={g.horizon}"
            f"{'' if g.rule is None else ', with a rule'}{'' if g.absorbing else ', unstopped'})"
        )

    def _with(self, steps: Steps, absorbing: bool | None = None) -> Walk:
        g = self.geometry
        goes_on = g.absorbing if absorbing is None else absorbing
        levels = g.start, g.low, g.high, g.horizon
        return Walk(None, *levels, steps=steps, stop=g.rule, absorbing=goes_on)

    def _same(self, via: Law) -> Walk:
        if not isinstance(via, Walk):
            kind = via.name if isinstance(via, Law) else type(via).__name__
            raise InvalidType(f"via is a {kind}; expected a Walk, such as w.tilt(0.55).")
        if via.geometry != self.geometry:
            raise InvalidInput(f"via has {via.geometry}; expected {self.geometry}, as the walk.")
        return via
