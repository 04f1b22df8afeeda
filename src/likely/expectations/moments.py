"""The one accumulator: moments and tails of weighted draws, in float64, that merge exactly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from likely.errors import InvalidInput
from likely.expectations.tails import KEPT


@final
@dataclass(frozen=True, eq=False)
class Moments:
    """What n draws leave behind, whatever n: every field but `tail` has the shape of one value of f.

    With `a = w f` and `b = w`, both divided by `exp(scale)`; for estimates that are not self-normalised
    b is None and the weights are as they come. Draws that depend on each other, such as antithetic
    pairs, form one unit; second moments are those of the means of units.
    """

    #: draws, and draws in a unit
    n: int
    unit: int
    #: the logarithm of what a and b were divided by
    scale: Float[Tensor, "*shape"]
    #: means; differentiable
    a: Float[Tensor, "*shape"]
    b: Float[Tensor, "*shape"] | None
    #: sums over units of squared and mixed deviations from the means
    aa: Float[Tensor, "*shape"]
    ab: Float[Tensor, "*shape"] | None
    bb: Float[Tensor, "*shape"] | None
    #: means of |a| and a^2 over draws
    size: Float[Tensor, "*shape"]
    square: Float[Tensor, "*shape"]
    #: draws with f w != 0
    hits: Int[Tensor, "*shape"]
    #: the largest |a|, in falling order, and the largest b
    tail: Float[Tensor, "kept *shape"]
    tail_b: Float[Tensor, "kept *shape"] | None
    #: the mean weight over `exp(scale)`, and its sum of squared deviations; None for weights of one
    w: Float[Tensor, "*shape"] | None = None
    ww: Float[Tensor, "*shape"] | None = None
    #: the sum over units of cubed deviations of a, where units hold several draws and may be few
    aaa: Float[Tensor, "*shape"] | None = None

    @property
    def units(self) -> int:
        """How many independent means there are."""
        return self.n // self.unit

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both samples together (Chan, Golub, LeVeque 1983).

        `mean = (n1 mean1 + n2 mean2) / n` and `M2 = M2_1 + M2_2 + (mean1 - mean2)^2 m1 m2 / m` for m1
        and m2 units, and third powers likewise (Pebay 2008); the largest values of the union are among
        the largest of the two.
        """
        if (self.a.shape, self.unit, self.b is None) != (other.a.shape, other.unit, other.b is None):
            raise InvalidInput(
                f"the two estimates differ in kind: values of shape {tuple(self.a.shape)} and "
                f"{tuple(other.a.shape)}, units of {self.unit} and {other.unit} draws, "
                f"self-normalised {self.b is not None} and {other.b is not None}; expected the same."
            )
        scale = torch.maximum(self.scale, other.scale)
        one, two = self._rescaled(scale), other._rescaled(scale)
        n = one.n + two.n
        between = one.units * two.units / (one.units + two.units)
        gap_a = (one.a - two.a).detach()

        def mean(x: Tensor, y: Tensor) -> Tensor:
            return (one.n * x + two.n * y) / n

        b, ab, bb, tail_b = one.b, one.ab, one.bb, one.tail_b
        if one.b is not None and two.b is not None:
            gap_b = (one.b - two.b).detach()
            b = mean(one.b, two.b)
            ab = _sum(one.ab, two.ab) + gap_a * gap_b * between
            bb = _sum(one.bb, two.bb) + gap_b.square() * between
            tail_b = _largest(torch.cat([_some(one.tail_b), _some(two.tail_b)]))
        w, ww = one.w, one.ww
        if one.w is not None and two.w is not None:
            w = mean(one.w, two.w)
            ww = _sum(one.ww, two.ww) + (one.w - two.w).square() * between
        aaa = one.aaa
        if one.aaa is not None and two.aaa is not None:
            m1, m2 = one.units, two.units
            cross = (m2 * one.aa - m1 * two.aa) * 3 / (m1 + m2)
            aaa = one.aaa + two.aaa + gap_a * (gap_a.square() * between * (m2 - m1) / (m1 + m2) + cross)
        return replace(
            one,
            aaa=aaa,
            w=w,
            ww=ww,
            n=n,
            a=mean(one.a, two.a),
            b=b,
            aa=one.aa + two.aa + gap_a.square() * between,
            ab=ab,
            bb=bb,
            size=mean(one.size, two.size),
            square=mean(one.square, two.square),
            hits=one.hits + two.hits,
            tail=_largest(torch.cat([one.tail, two.tail])),
            tail_b=tail_b,
        )

    def _rescaled(self, scale: Tensor) -> Moments:
        if torch.equal(scale, self.scale):
            return self
        r = (self.scale - scale).exp()
        return replace(
            self,
            scale=scale,
            a=self.a * r,
            b=None if self.b is None else self.b * r,
            aa=self.aa * r.square(),
            ab=None if self.ab is None else self.ab * r.square(),
            bb=None if self.bb is None else self.bb * r.square(),
            size=self.size * r,
            square=self.square * r.square(),
            tail=self.tail * r,
            tail_b=None if self.tail_b is None else self.tail_b * r,
            aaa=None if self.aaa is None else self.aaa * r**3,
            w=None if self.w is None else self.w * r,
            ww=None if self.ww is None else self.ww * r.square(),
        )


@final
@dataclass(frozen=True, eq=False)
class Block:
    """Draws of one block, before they are summarised: `a = w f`, `b = w`, both over `exp(scale)`.

    Args:
        terms: w f, one row a draw, differentiable; `unit` consecutive rows depend on each other.
        weights: w, differentiable; None for weights of one.
        given: the mean of the terms, where it is more than that, such as differentiable.
        seen: the version of the terms, which may be the caller's own tensor.

    Example:
        >>> m = Block(torch.tensor([1.0, 2.0, 3.0])).moments()
        >>> m.n, m.a.item(), m.aa.item()
        (3, 2.0, 2.0)
    """

    terms: Float[Tensor, "n *shape"]
    weights: Float[Tensor, "n *shape"] | None = None
    scale: Float[Tensor, "*shape"] | None = None
    unit: int = 1
    normalise: bool = False
    given: Float[Tensor, "*shape"] | None = None
    seen: int | None = None

    @property
    def n(self) -> int:
        """How many draws there are."""
        return self.terms.shape[0]

    @property
    def a(self) -> Tensor:
        """The mean of `w f`, in float64, differentiable."""
        return average(self.terms) if self.given is None else self.given

    @property
    def b(self) -> Tensor | None:
        """The mean of w, where the estimate is to be divided by it."""
        if not self.normalise:
            return None
        if self.weights is None:
            return torch.ones_like(self.a)
        return average(self.weights)

    def moments(self) -> Moments:
        """Return what remains of the block.

        Raises:
            InvalidInput: the terms were changed in place since the block was made.
        """
        if self.seen is not None and self.terms._version != self.seen:
            raise InvalidInput(
                "the values that f returned were changed in place before their spread was looked at; "
                "expected new tensors from f, or a look at stderr before."
            )
        v = self.terms.detach().double()
        a, b = self.a, self.b
        mean = a.detach()
        off = _means(v, self.unit) - mean
        ab = bb = tail_b = None
        if b is not None:
            w = torch.ones_like(v) if self.weights is None else self.weights.detach().double()
            off_b = _means(w, self.unit) - b.detach()
            ab, bb = (off * off_b).sum(0), off_b.square().sum(0)
            tail_b = _largest(w)
        weight = spread = None
        if self.weights is not None:
            weights = self.weights.detach().double()
            weight = weights.mean(0)
            spread = (_means(weights, self.unit) - weight).square().sum(0)
        size = v.abs()
        return Moments(
            w=weight,
            ww=spread,
            n=self.n,
            unit=self.unit,
            scale=torch.zeros_like(mean) if self.scale is None else self.scale,
            a=a,
            b=b,
            aa=off.square().sum(0),
            aaa=(off**3).sum(0) if self.unit > 1 else None,
            ab=ab,
            bb=bb,
            size=size.mean(0),
            square=v.square().mean(0),
            hits=(v != 0).sum(0),
            tail=_largest(size),
            tail_b=tail_b,
        )


def average(values: Tensor, dim: int = 0) -> Tensor:
    """Return the mean over draws, in float64."""
    return values.mean(dim, dtype=torch.float64)


def _means(v: Tensor, unit: int) -> Tensor:
    return v if unit == 1 else v.reshape(-1, unit, *v.shape[1:]).mean(1)


def _largest(values: Tensor) -> Tensor:
    return values.topk(min(KEPT, values.shape[0]), dim=0).values


def _some(tensor: Tensor | None) -> Tensor:
    return cast(Tensor, tensor)  # both estimates are self-normalised, or neither is


def _sum(x: Tensor | None, y: Tensor | None) -> Tensor:
    return _some(x) + _some(y)
