"""What an expectation came out as, and how far it is to be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float, Int
from scipy import stats
from torch import Tensor

from likely.errors import InvalidInput
from likely.expectations.intervals import counted, even, unskewed
from likely.expectations.moments import Block, Moments
from likely.expectations.tails import pareto_k, threshold

#: fewer hits than this are named in `warnings`
FEW = 20
#: where the effective sample size is above this share of the hits, f w hardly varies
EVEN = 0.95
#: with fewer weights than this their mean is not judged
MANY = 100


@final
@dataclass(frozen=True, eq=False, repr=False)
class Estimate:
    """An estimate of `E_p[f]` with its error bar; `e1 + e2` merges two disjoint samples exactly.

    Diagnostics are those of `f w`, not of the weights alone. All tensors have the shape of one value of
    f. An estimate is immutable; merged ones are of a size that does not grow with n.

    Args:
        source: the draws of one block, or what those of several left behind.
        dtype: the dtype of the results.
        event: f returned booleans: its mean is a probability.
        bound: the largest value that a weight can have; infinity where unknown.
        exact: the sum went over the whole support, so there is no error bar.
        partial: the run was interrupted before all draws were made.
        notes: what else is to be said in `warnings`.

    Example:
        >>> from likely import expect
        >>> law = torch.distributions.Normal(0.0, 1.0)
        >>> one, two = (expect(lambda x: x > 1, law, n=1000, seed=seed) for seed in (0, 1))
        >>> both = one + two
        >>> both.n, round(both.mean.item(), 4) == round((one.mean + two.mean).item() / 2, 4)
        (2000, True)
        >>> print(expect(lambda x: x > 8, law, n=1000, seed=0))
        no event seen in 1,000 draws; at most 0.00299 (95%)
    """

    source: Block | Moments
    dtype: torch.dtype = torch.float64
    event: bool = False
    bound: float = 1.0
    exact: bool = False
    partial: bool = False
    notes: tuple[str, ...] = ()

    @cached_property
    def moments(self) -> Moments:
        """What the draws leave behind, summed up when it is first looked at."""
        return self.source if isinstance(self.source, Moments) else self.source.moments()

    def without_draws(self) -> Estimate:
        """Return the same estimate without its draws."""
        return replace(self, source=self.moments)

    @property
    def mean(self) -> Float[Tensor, "*shape"]:
        """The estimate; differentiable if a gradient was asked for."""
        m = self.source
        mean = m.a if m.b is None else m.a / m.b
        if m.b is None and m.scale is not None:
            mean = mean * m.scale.exp()
        return mean if mean.dtype == self.dtype else mean.to(self.dtype)

    @property
    def log_mean(self) -> Float[Tensor, "*shape"]:
        """`log |mean|`, finite where the mean itself underflows."""
        m = self.moments
        log = m.a.abs().log() + m.scale
        return (log if m.b is None else m.a.abs().log() - m.b.log()).to(self.dtype)

    @property
    def stderr(self) -> Float[Tensor, "*shape"]:
        """The standard error of the mean; infinite where nothing was seen, or from one draw.

        So it is where every draw, or as many of each Sobol net, hit an event: they tell no spread;
        `interval` tells what may have been missed.

        That of a self-normalised estimate is by the delta method: `sd(w (f - mean)) / (mean w sqrt n)`.
        """
        m = self.moments
        if self.exact:
            return torch.zeros_like(m.aa, dtype=self.dtype)
        if m.units < 2:
            return torch.full_like(m.aa, torch.inf, dtype=self.dtype)
        if m.b is None or m.ab is None or m.bb is None:
            error = (m.aa / (m.units - 1) / m.units).sqrt() * m.scale.exp()
        else:
            mean, b = (m.a / m.b).detach(), m.b.detach()
            spread = (m.aa - 2 * mean * m.ab + mean.square() * m.bb).clamp(min=0)
            error = (spread / (m.units - 1) / m.units).sqrt() / b
        return torch.where(self._told, error, torch.inf).to(self.dtype)

    def interval(
        self, level: float = 0.95, most: float = 1.0
    ) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
        """Return the ends of a confidence interval, `mean +- t stderr` with Student's t.

        Where units of several draws are averaged, as of Sobol points, they may be few and skewed.
        Hall's transformation takes the skewness g of their means out of t, by
        `t + a t^2 / 3 + a^2 t^3 / 27 + a / 6` with `a = g / sqrt(units)` (Hall 1992); as g is estimated
        too, the interval is the hull of both.

        For unweighted events the interval is that of Clopper and Pearson (1934), which covers at least
        as often as stated; but where no draw hit, or all did, it has one end and spends all of
        `1 - level` on it, so that it may miss 1.5 times as often where that is likely. So it is of
        units with k or k + 1 hits each, as scrambled Sobol points in one dimension have: of u units,
        the number with k + 1 is binomial.

        Where none of n independent draws hit, the lower end is 0 and the upper one holds at the level:
        with `1 - level = a`, they all miss an event of probability above `1 - a^(1/n)` with probability
        below a, so that, for `0 <= f <= most`, the mean is at most `most (1 - a^(1/n)) max w`, and at
        most `most`. Only the latter is known of weights without a bound.

        Args:
            level: how often such intervals cover the truth.
            most: the largest value of f; for events, 1.

        Raises:
            InvalidInput: level is not between 0 and 1, or most is not positive.
        """
        if not isinstance(level, int | float) or not 0 < level < 1 or not most > 0:
            raise InvalidInput(
                f"level={level}, most={most}; expected a level between 0 and 1, a positive most."
            )
        m, mean, alpha = self.moments, self.mean.detach().double(), 1 - level
        if self.exact:
            return mean.to(self.dtype), mean.to(self.dtype)
        error = self.stderr.double()
        quantile = float(stats.t.ppf(1 - alpha / 2, max(m.units - 1, 1)))
        low = mean - error * unskewed(m, quantile).clamp(min=quantile)
        high = mean - error * unskewed(m, -quantile).clamp(max=-quantile)
        if self.event:
            if self._unweighted:
                (bottom, top), alike = counted(m, alpha), even(m)
                low, high = torch.where(alike, bottom, low), torch.where(alike, top, high)
            low, high = low.clamp(min=0), high.clamp(max=1)
        share = -math.expm1(math.log(alpha) / m.n)
        ceiling = most * min(1.0, share * self.bound) if m.b is None and m.unit == 1 else most
        nothing = m.hits == 0
        low = torch.where(nothing, 0.0, low)
        if m.unit == 1 or not (self.event and self._unweighted):  # else the counts have told
            high = torch.where(nothing, ceiling, high)
        return low.to(self.dtype), high.to(self.dtype)

    @property
    def n(self) -> int:
        """How many draws there were; for exact sums, how many points."""
        return self.source.n

    @property
    def hits(self) -> Int[Tensor, "*shape"]:
        """How many draws had `f w != 0`."""
        return self.moments.hits

    @property
    def ess(self) -> Float[Tensor, "*shape"]:
        """The effective sample size of f w, `(sum |f w|)^2 / sum (f w)^2`; 0 where nothing was seen."""
        m = self.moments
        return (m.n * m.size.square() / m.square).nan_to_num(0.0).to(self.dtype)

    @property
    def khat(self) -> Float[Tensor, "*shape"]:
        """The Pareto shape of the largest `|f w|`: above about 0.7 neither mean nor error bar is sound.

        Above 1/2 the variance is infinite. Plus infinity means too few hits to tell, minus infinity
        that the largest values are all the same. Of a self-normalised estimate it is the larger one of
        those of `|f w|` and w. (Vehtari et al. 2024.)
        """
        m = self.moments
        k = _khat(m.tail, m.hits)
        if m.tail_b is not None:
            k = torch.maximum(k, _khat(m.tail_b, torch.full_like(m.hits, m.n)))
        return k.to(m.aa.device, self.dtype)

    @property
    def top_weights(self) -> Float[Tensor, "top *shape"]:
        """The shares of the five largest draws in `sum |f w|`."""
        m = self.moments
        return (m.tail[:5] / (m.n * m.size)).nan_to_num(0.0).to(self.dtype)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against trusting the error bar; empty if nothing does."""
        if self.exact:
            return ()
        found = ["interrupted"] if self.partial else []
        hits = int(self.hits.min()) if self.hits.numel() else 0
        if hits == 0:
            found.append("no event seen")
        elif hits < FEW:
            found.append(f"only {hits} hits")
        elif bool(((self.ess < FEW) & (self.ess < self.hits / 2)).any()):
            found.append(f"effective sample size only {float(self.ess.min()):.3g}")
        # A tail may be heavy in shape and tiny in size: it matters where f w varies.
        seen = (self.hits >= FEW) & (self.ess < EVEN * self.hits)
        k = self.khat[seen]
        k = k[k.isfinite()]  # infinite: too few hits to tell, or a bounded tail
        if not (self.event and self._plain) and (k > threshold(self.n)).any():
            found.append(f"heavy tail, k-hat {k.max().item():.2f}")
        if (off := self._off_weights()) is not None:
            found.append(f"mean weight {off:.3g}, not 1: via does not cover p, or p is not normalised")
        if bool(((self.mean == 0) & self.log_mean.isfinite()).any()):
            found.append("the mean underflows: see log_mean")
        return (*found, *self.notes)

    def _off_weights(self) -> float | None:
        """The mean weight where it cannot be 1, by more than five standard errors.

        Above 1, p is not normalised. Below 1 may mean that via leaves out some of p, which is as it
        should be where f vanishes: it counts only if f did not vanish at any draw, and is no event,
        which a good proposal always hits.
        """
        m = self.moments
        if m.w is None or m.ww is None or m.b is not None or m.units < MANY:
            return None
        mean = m.w * m.scale.exp()
        error = (m.ww / (m.units - 1) / m.units).sqrt() * m.scale.exp()
        below = (1 - mean > 5 * error) & (m.hits == m.n) & (not self.event)
        off = (mean - 1 > 5 * error) | below
        return float(mean[off].flatten()[0]) if off.any() else None

    def __add__(self, other: Estimate) -> Estimate:
        """Merge two estimates from disjoint samples; the larger bound on the weights holds."""
        if not isinstance(other, Estimate):
            return NotImplemented
        if other is self:
            raise InvalidInput(
                "an estimate was added to itself, which would count its draws twice; expected one of "
                "other draws, such as of another seed."
            )
        if self.exact or other.exact:
            raise InvalidInput("an exact sum has no sample to merge; expected two sampled estimates.")
        return Estimate(
            self.moments + other.moments,
            torch.promote_types(self.dtype, other.dtype),
            self.event and other.event,
            max(self.bound, other.bound),
            partial=self.partial or other.partial,
        )

    def __repr__(self) -> str:
        return f"Estimate({self})"

    def __str__(self) -> str:
        m = self.moments
        if self.mean.numel() != 1:
            notes = "; ".join(self.warnings) or "no warnings"
            return f"{tuple(m.a.shape)} means from {m.n:,} draws; {notes}"
        if self.exact:
            return f"{self.mean.item():.6g}, exact over {m.n:,} points"
        if int(self.hits) == 0:
            high = self.interval()[1].item()
            where = "" if self.event else " where 0 <= f <= 1"
            return f"no event seen in {m.n:,} draws; at most {high:.3g} (95%){where}"
        facts = [f"n={m.n:,}", f"hits={int(self.hits):,}", f"ess={self.ess.item():,.0f}"]
        if self.khat < math.inf:  # enough hits to tell
            facts.append(f"k-hat={self.khat.item():.2f}")
        facts += self.warnings
        return f"{self.mean.item():.6g} +- {self.stderr.item():.2g} ({', '.join(facts)})"

    @property
    def _unweighted(self) -> bool:
        """Whether all weights are one, but for rounding."""
        return self.bound == 1.0

    @property
    def _plain(self) -> bool:
        """Whether the draws are independent and unweighted."""
        return self.moments.unit == 1 and self._unweighted

    @property
    def _told(self) -> Tensor:
        """Where the draws tell the spread: not where an event was as frequent in each unit."""
        m = self.moments
        if self._unweighted:
            alike = m.aa * m.unit**2 < 1 / 4  # counts that differ have 1/2 or more
        else:  # a ratio of equal numbers has no spread, whatever the weights
            alike = (m.hits == m.n) if m.b is not None else torch.zeros_like(m.hits, dtype=torch.bool)
        return (m.hits > 0) & ~(alike & self.event)


def _khat(tail: Tensor, positive: Tensor) -> Tensor:
    columns = tail.reshape(len(tail), -1).cpu().numpy().T
    counts = positive.flatten().tolist()
    k = [pareto_k(column, int(n)) for column, n in zip(columns, counts, strict=True)]
    return torch.tensor(k, dtype=torch.float64).reshape(tail.shape[1:]).to(tail.device)
