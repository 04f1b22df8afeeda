"""A proposal for a failure region, found from nothing: several regions, many dimensions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from likely.checks import share, whole
from likely.errors import InvalidInput, InvalidType
from likely.expectations.adapter import law_of
from likely.expectations.law import AnyLaw
from likely.expectations.mixture import Mixture
from likely.expectations.names import root_of
from likely.flows import Flow
from likely.seeds import derived, generator_for
from likely.walks.flow_fit import train_flow
from likely.walks.gaussians import fit_gaussians
from likely.walks.shell import fit_shell
from likely.walks.standard import Scaled, Standardised, standardised
from likely.walks.subset import chains_of, pilot

#: what no component of the proposal goes below
LEAST = 0.1
#: one point in so many shows how well the flow does elsewhere
HELD_OUT = 5
#: of the points below a threshold, in the search for the region
SHARE = 0.1


@torch.no_grad()
def propose(
    f: Callable[[Tensor], Tensor],
    p: AnyLaw,
    flow: Flow | None = None,
    *,
    n: int = 2000,
    rounds: int = 2,
    defensive: float = 0.05,
    steps: int = 300,
    seed: int | None = None,
    generator: torch.Generator | None = None,
) -> Mixture:
    """Return a proposal for `P(f(x) <= 0)` under independent normal entries, to be passed as `via`.

    The best proposal is p given the event. Subset simulation finds points of it, without a hit of p to
    begin with; then, in each round, the components are fitted to all points so far by maximum
    likelihood (which is the cross-entropy method), and their draws that hit, weighted by p / q, are the
    next points. The components are a Gaussian mixture, a shell in every direction at the distance of
    the event, the flow if one is given, and p itself as a defence, by which no weight exceeds
    `1 / defensive`.

    Estimate with other draws than these: `expect(lambda x: f(x) <= 0, p, via=propose(f, p))`.

    Args:
        f: the limit state function, from draws `(n, *event)` to numbers `(n,)`.
        p: a `torch.distributions` law of independent normal entries.
        flow: a flow over as many entries, of which a copy is trained: for regions that are bent or
            hollow. It sees standardised rows.
        n: draws in a round; the search uses half as many at each threshold.
        rounds: how often the proposal is improved by its own draws.
        defensive: the share of p.
        steps: of Adam, for the flow, in each round.
        seed: of the draws; use another one for the estimate.
        generator: to take the seed from, instead.

    Raises:
        InvalidType: f is no function, or returns no numbers.
        InvalidInput: p has other entries, f returns NaN or a wrong shape, or a number is out of range.
        NotConverged: the search does not reach `f <= 0`.

    Reference: Rubinstein 1997; Au, Beck 1999; Geyer, Papaioannou, Straub 2019; Hesterberg 1995, the
    defence; Müller et al. 2019, flows as proposals.

    Example:
        >>> from likely import expect
        >>> p = torch.distributions.Normal(torch.zeros(2).double(), 1.0)
        >>> f = lambda x: 5 - x.sum(1).abs() / 2**0.5  # two regions
        >>> q = propose(f, p, seed=0)
        >>> e = expect(lambda x: f(x) <= 0, p, n=5000, via=q, seed=1)
        >>> bool((e.mean / (2 * 2.8665e-7) - 1).abs() < 0.1)
        True
    """
    for name, given, least in (("n", n, 40), ("rounds", rounds, 0), ("steps", steps, 1)):
        whole(name, given, least)
    share("defensive", defensive)
    g = standardised(f, p)
    if not bool((g.scale.square() > 0).all()):
        raise InvalidInput(
            f"a scale of p is {g.scale.min().item():.3g}, of square 0 in {g.scale.dtype}: p has no "
            "density; expected p in float64, or x in other units."
        )
    flow = _copy_of(flow, g)
    root = root_of(seed, generator)
    source = generator_for(derived(root, 0))
    points = 10 * (n // 20)
    z = pilot(g, points, chains_of(points, SHARE), source).z
    # Points of one chain count as one.
    found = [_Points(z, z.new_full((len(z),), 1 / len(z), dtype=torch.float64), SHARE * len(z))]
    for k in range(rounds + 1):
        q = _fitted(found, p, g, flow, defensive, steps, source)
        if k == rounds:
            break
        x = q.draw(n, derived(root, 1, k), attached=False)
        z = ((x - g.loc) / g.scale).reshape(len(x), -1)
        log_w = law_of(p).log_prob(x).double() - q.log_prob(x)
        hit = g(z) <= 0
        if hit.any():
            w = log_w[hit].softmax(0)
            found.append(_Points(z[hit], w, 1 / float(w.square().sum())))
    return q


@final
@dataclass(frozen=True, eq=False)
class _Points:
    """Weighted points of the event; the weights have sum 1."""

    z: Float[Tensor, "n dim"]
    w: Float[Tensor, " n"]
    #: how many independent points they are worth
    size: float


def _fitted(
    found: Sequence[_Points],
    p: AnyLaw,
    g: Standardised,
    flow: Flow | None,
    defensive: float,
    steps: int,
    generator: torch.Generator,
) -> Mixture:
    """Fit every component, and their shares, to points that count by their effective sizes."""
    size = sum(points.size for points in found)
    z = torch.cat([points.z for points in found])
    w = torch.cat([points.w * (points.size / size) for points in found])
    laws: list[AnyLaw] = [fit_gaussians(z, w, size, generator), fit_shell(z, w)]
    held = torch.arange(len(z), device=z.device) % (HELD_OUT if flow else 1) == 0
    if flow is not None:
        train_flow(flow, z, w, held, steps, generator)
        laws.append(copy.deepcopy(flow))
    log_q = torch.stack([law_of(law).log_prob(z[held]).double() for law in laws], 1)
    shares = fit_shares(log_q, w[held] / w[held].sum())
    whole = [(1 - defensive) * share for share in shares]
    return Mixture([*(Scaled(law, g.loc, g.scale) for law in laws), p], [*whole, defensive])


def fit_shares(log_q: Float[Tensor, "n components"], w: Float[Tensor, " n"]) -> list[float]:
    """Return the shares of a mixture of given laws of the largest likelihood, none below 0.1.

    Example:
        >>> fit_shares(torch.tensor([[0.0, -9.0], [0.0, -9.0]]).double(), torch.tensor([0.5, 0.5]))
        [0.9, 0.1]
    """
    q = (log_q - log_q.amax(1, keepdim=True)).exp().T
    shares = q.new_full(q.shape[:1], 1 / len(q))
    for _ in range(50):
        shares = shares * (q @ (w / (shares @ q)))
    free = 1 - LEAST * len(shares)
    return (LEAST + free * shares).tolist()


def _copy_of(flow: Flow | None, g: Standardised) -> Flow | None:
    if flow is None:
        return None
    if not isinstance(flow, Flow):
        raise InvalidType(f"flow is a {type(flow).__name__}; expected a Flow, such as flows.nsf.")
    if flow.event_shape.numel() != g.dim:
        raise InvalidInput(
            f"flow is over events of shape {tuple(flow.event_shape)}; expected {g.dim} entries."
        )
    return copy.deepcopy(flow)
