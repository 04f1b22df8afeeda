"""Adaptive quadrature of `int f p` and its derivatives, for laws of one or two entries."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.integrate import cubature
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal, VonMises
from torch.nn import functional as F

from likely.errors import InvalidInput, NotConverged
from likely.expectations.law import Law
from likely.expectations.leaves import leaves_of
from likely.expectations.problem import Problem
from likely.expectations.support import ends, moving_ends
from likely.expectations.torch_law import TorchLaw, discrete, doubled, entries

Array = NDArray[np.float64]
#: regions that the quadrature may split, in one and in two dimensions
SPLITS = {1: 400, 2: 2_000}
#: relative error of a first look at the size of an integral
ROUGHLY = 0.1
LINE, HALF, INTERVAL = "line", "half-line", "interval"


@final
@dataclass(frozen=True, eq=False)
class Chart:
    """Coordinates t on the real line or plane: `x = shift + matrix g(t)`.

    g is the identity for a line, exp for a half-line and the logistic function for an interval, which
    tames densities that are infinite at the ends.
    """

    event: torch.Size
    kind: str
    shift: Tensor
    matrix: Tensor

    def points(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the draws x, `(points, *event)`, and `log |dx/dt|`."""
        # Further out the numbers end: x would be infinite, or equal to the end of its interval.
        low, high = {LINE: (-1e150, 1e150), HALF: (-700.0, 700.0), INTERVAL: (-700.0, 36.0)}[self.kind]
        beyond = ((t < low) | (t > high)).any(1)
        t = t.clamp(low, high)
        log_volume = torch.linalg.slogdet(self.matrix).logabsdet.expand(len(t))
        if self.kind == HALF:
            log_volume = log_volume + t.sum(1)
            t = t.exp()
        elif self.kind == INTERVAL:
            log_volume = log_volume + (F.logsigmoid(t) + F.logsigmoid(-t)).sum(1)
            t = t.sigmoid()
        x = (self.shift + t @ self.matrix.T).reshape(-1, *self.event)
        return x, log_volume.masked_fill(beyond, -torch.inf)


@final
class Quadrature:
    """The integrals of one problem, in coordinates t in which the law has unit scale.

    The mass of the law is integrated along with everything else: if it does not come out as one, the
    quadrature has missed where the law lives, and says so.
    """

    def __init__(self, problem: Problem, rtol: float) -> None:
        law = problem.law
        self._pairs: list[tuple[Tensor, Tensor]] = []
        if isinstance(law, TorchLaw):  # densities and scores in float32 are too coarse to integrate
            fine, self._pairs = doubled(law.distribution)
            problem = replace(problem, law=TorchLaw(fine))
        self.problem = problem
        self.rtol = rtol
        self.chart = _chart_of(problem.law)
        self._probe = torch.zeros(1, len(self.chart.shift), device=self.chart.shift.device).double()

    def value(self) -> Tensor:
        """Return `int f p`."""
        values = self.problem.values(self.chart.points(self._probe)[0])

        def integrand(t: Tensor) -> Tensor:
            with torch.no_grad():
                return self._product(t).reshape(len(t), -1)

        total = self._integrate(integrand, values[0].numel(), self.rtol)
        dtype = values.dtype if values.dtype.is_floating_point else torch.float64
        return total.reshape(values.shape[1:]).to(values.device, dtype)

    def slopes(self, shape: torch.Size) -> list[tuple[Tensor, Tensor]]:
        """Return each tensor that `f p` is made of with `int d(f p)/d(tensor)`, `(*tensor, *shape)`."""
        with torch.enable_grad():
            found = leaves_of(self._product(self._probe).sum())
        own = {id(leaf) for _, leaf in self._pairs}
        pairs = [*self._pairs, *((leaf, leaf) for leaf in found if id(leaf) not in own)]
        if not pairs:
            return []
        leaves = [leaf for _, leaf in pairs]

        def integrand(t: Tensor) -> Tensor:
            with torch.enable_grad():
                y = self._product(t).reshape(len(t), -1)
                rows = torch.eye(y.numel(), dtype=y.dtype, device=y.device).reshape(-1, *y.shape)
                found = torch.autograd.grad(
                    y, leaves, rows, retain_graph=True, is_grads_batched=True, allow_unused=True
                )
            parts = [
                y.new_zeros(y.numel(), leaf.numel()) if g is None else g.reshape(y.numel(), -1).double()
                for g, leaf in zip(found, leaves, strict=True)
            ]
            return torch.cat(parts, dim=1).reshape(len(t), -1)

        sizes = [leaf.numel() for leaf in leaves]
        # The slopes of leaves of f in float32 are rounded at each point.
        rtol = max(self.rtol, *(10 * torch.finfo(leaf.dtype).eps for leaf in leaves))
        total = self._integrate(integrand, shape.numel() * sum(sizes), rtol)
        split = torch.split(total.reshape(shape.numel(), -1), sizes, dim=1)
        return [
            (t, part.T.reshape(t.shape + shape).to(t.device))
            for (t, _), part in zip(pairs, split, strict=True)
        ]

    def _product(self, t: Tensor) -> Tensor:
        """Return `f(x) p(x) |dx/dt|`."""
        x, mass = self._mass(t)
        values = self.problem.values(x).double()
        return values * mass.reshape(-1, *(1,) * (values.ndim - 1))

    def _mass(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return x and `p(x) |dx/dt|`."""
        x, log_volume = self.chart.points(t)
        log_mass = self.problem.law.log_prob(x).double() + log_volume
        # Far out densities overflow. What is left out there would be missed in the total.
        lost = log_mass.isnan() | (log_mass == torch.inf)
        return x, log_mass.masked_fill(lost, -torch.inf).exp()

    def _integrate(
        self, integrand: Callable[[Tensor], Tensor], columns: int, rtol: float
    ) -> Float[Tensor, " columns"]:
        """Integrate a function of points t, `(n, dims)`, to rows `(n, columns)`."""

        def at(nodes: Array) -> Array:
            t = torch.as_tensor(nodes, device=self.chart.shift.device)
            with torch.no_grad():
                mass = self._mass(t)[1]
            out = torch.cat([mass.new_zeros(len(t), columns), mass[:, None]], dim=1)
            # Where p vanishes f may overflow, and with it the slopes at all points of a batch.
            live = mass > 0
            if live.any():
                out[live, :-1] = integrand(t[live])
            if not out.isfinite().all():
                raise InvalidInput(
                    "f p, or its slope in a parameter, is NaN or infinite where the density of "
                    f"{self.problem.law.name} is positive; expected finite values: look at f, or use "
                    "expect."
                )
            return out.detach().cpu().numpy()

        # Errors are relative to `int |f| p`: what cancels has no smaller ones, what is tiny has.
        size = self._cubature(lambda nodes: np.abs(at(nodes)), ROUGHLY, 0.0).estimate
        size[size == 0] = 1.0
        result = self._cubature(lambda nodes: at(nodes) / size, rtol, 1e-14)
        result.estimate *= size
        mass, name = float(result.estimate[-1]), self.problem.law.name
        if result.status != "converged":
            raise NotConverged(
                f"the quadrature of {name} ended with an error of {float(np.max(result.error)):.1e}; f "
                "may jump or oscillate: allow a larger rtol, or use expect."
            )
        if not abs(mass - 1) < max(1e-8, 10 * rtol):
            raise NotConverged(
                f"the density of {name} came out with a total probability of {mass:.10g}, not 1: its "
                "log_prob is not normalised or not that precise, or the quadrature missed where it "
                "lives; allow a larger rtol, or use expect."
            )
        return torch.as_tensor(result.estimate[:-1])

    def _cubature(self, function: Callable[[Array], Array], rtol: float, atol: float) -> Any:
        dims = len(self.chart.shift)
        far, most = np.full(dims, np.inf), SPLITS[dims]
        return cubature(function, -far, far, rule="gk21", rtol=rtol, atol=atol, max_subdivisions=most)


def _chart_of(law: Law) -> Chart:
    """Return the coordinates of a law.

    Raises:
        InvalidInput: it is not a continuous law of one or two entries.
    """
    if not isinstance(law, TorchLaw):
        raise InvalidInput(f"there is no exact answer for {law.name}; use expect.")
    whole = law.distribution
    event = whole.batch_shape + whole.event_shape
    dims = math.prod(event)
    if dims not in (1, 2):
        raise InvalidInput(
            f"{law.name} has draws of shape {tuple(event)}, {dims} entries; quadrature is for one or "
            "two. Use expect."
        )
    if isinstance(whole, MultivariateNormal) and not whole.batch_shape:
        return Chart(event, LINE, whole.loc.detach(), whole.scale_tril.detach())
    base, _ = entries(law)
    kind, shift, scale = _ends(base)
    flat = [t.detach().double().expand(base.batch_shape).reshape(-1) for t in (shift, scale)]
    return Chart(event, kind, flat[0], torch.diag(flat[1]))


def _ends(base: Distribution) -> tuple[str, Tensor, Tensor]:
    """Return the kind of support, and the shift and scale that lead from coordinates to x."""
    if isinstance(base, VonMises):  # its draws lie in this interval, though torch says the line
        return INTERVAL, torch.full_like(base.loc, -math.pi), torch.full_like(base.loc, 2 * math.pi)
    found = None if discrete(TorchLaw(base)) else ends(base)
    if found is not None:
        if moving_ends(base):
            raise InvalidInput(
                f"the support of {type(base).__name__} moves with a parameter, which quadrature cannot "
                "differentiate; detach its ends, or use expect with grad='path'."
            )
        low, high = (torch.as_tensor(end, dtype=torch.float64) for end in found)
        if bool(low.isfinite().all()):
            if bool(high.isfinite().all()):
                return INTERVAL, low, high - low
            centre, scale = _centre_and_scale(base)
            # Coordinates begin where the law lives, even if it is far from its end.
            return HALF, low, torch.maximum(centre - low, scale)
        if not bool((low.isfinite() | high.isfinite()).any()):
            return LINE, *_centre_and_scale(base)
    raise InvalidInput(
        f"{type(base).__name__} has neither a finite support nor one of intervals and lines to "
        "integrate over; use expect."
    )


def _centre_and_scale(base: Distribution) -> tuple[Tensor, Tensor]:
    """Return mean and deviation, or the quartiles of draws where these are infinite or not known."""
    try:
        centre, scale = base.mean, base.stddev
        if bool((centre.isfinite() & scale.isfinite()).all()):
            return centre, scale
    except NotImplementedError:
        pass
    x = TorchLaw(base).draw(1000, 0, attached=False).double()
    low, centre, high = x.quantile(x.new_tensor([0.25, 0.5, 0.75]), dim=0)
    return centre, high - low
