"""The evidence lower bound of a latent-variable model, and its gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from likely.checks import kind, whole
from likely.errors import InvalidInput, InvalidType
from likely.expectations.adapter import law_of
from likely.expectations.baselines import Baseline
from likely.expectations.enumeration import Enumerate
from likely.expectations.estimate import Estimate
from likely.expectations.expect import expect
from likely.expectations.gradient import Gradient, Path, Score, Values
from likely.expectations.law import AnyLaw, Law
from likely.expectations.linear import first_only
from likely.expectations.names import root_of
from likely.expectations.problem import Problem, over, plain_terms
from likely.expectations.sampling import Independent
from likely.expectations.weak import Weak
from likely.seeds import derived

LogJoint: TypeAlias = Callable[[Tensor], Tensor]
Kind: TypeAlias = Literal["score", "path", "stl", "dreg", "weak", "enumerate"]


def elbo(
    log_joint: LogJoint,
    q: AnyLaw,
    n: int = 16,
    grad: Kind | None = "path",
    *,
    k: int = 1,
    baseline: str | float | Tensor | Baseline | None = None,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    batched: bool = False,
) -> Estimate:
    """Estimate `E_q[log 1/k sum_j h(z_j) / q(z_j)] <= log int h`, in nats, and differentiate it.

    With k = 1 it is the evidence lower bound `E_q[log h(z) - log q(z)]`. Gradients flow to the
    parameters of q as `grad` says, and to those of log h directly:

    - "score": `E_q[grad log q (log h/q - b)]`; the missing term `-E_q[grad log q]` vanishes. For any
      q, discrete ones too.
    - "path": differentiates through the draws, `log q` included.
    - "stl": sticking the landing: as path, without that vanishing term, so that the gradient has no
      variance where q is the posterior.
    - "dreg": doubly reparameterised, for k > 1: `sum_j (w_j / sum w)^2 d log w_j/dz dz/dtheta`, whose
      relative error does not grow with k.
    - "weak" and "enumerate": as in `expect`.

    "stl", "dreg" and "weak" give first derivatives only: second ones are refused.

    Args:
        log_joint: log h, the logarithm of a density in z up to its integral, such as
            `log p(x, z)`, from draws `(n, *event)` to `(n,)`.
        q: the law of z.
        n: draws; with k > 1, of k points each.
        grad: the gradient estimator; None for the value only.
        k: points in each importance-weighted average.
        baseline: of the score, as in `expect`.
        seed: of the draws.
        generator: to take the seed from, instead.
        batched: the batch shape of q counts separate problems, such as images, as in `expect`.

    Returns:
        An `Estimate` of the bound; its mean is differentiable.

    Raises:
        InvalidInput: there is no such estimator, k > 1 with other than "path" and "dreg", or log_joint
            gives other than one value for each draw.
        InvalidType: grad is no name, or log_joint no function to tensors.

    Reference: Kingma, Welling 2014; Roeder, Wu, Duvenaud 2017 (sticking the landing); Burda, Grosse,
    Salakhutdinov 2016 (importance weighting); Tucker et al. 2019 (doubly reparameterised).

    Example:
        >>> from torch.distributions import Normal
        >>> mu = torch.tensor(0.5, requires_grad=True)
        >>> h = Normal(2.0, 1.0)
        >>> bound = elbo(h.log_prob, Normal(mu, 1.0), grad="stl", seed=0)
        >>> bound.mean.backward()
        >>> round(mu.grad.item(), 4)
        1.5
    """
    hows: dict[str | None, Gradient] = {
        None: Values(),
        "score": Score("loo" if baseline is None else baseline),
        "path": Path(),
        "stl": Path(),
        "dreg": Path(),
        "weak": Weak(),
        "enumerate": Enumerate(),
    }
    if grad is not None and not isinstance(grad, str):
        raise InvalidType(f"grad is {kind(grad)}; expected one of the names {list(hows)}.")
    if grad not in hows or (baseline is not None and grad != "score"):
        raise InvalidInput(
            f"grad is {grad!r} with baseline {baseline!r}; expected one of {list(hows)}, and a "
            "baseline for 'score' alone."
        )
    if not callable(log_joint):
        raise InvalidType(f"log_joint is a {type(log_joint).__name__}; expected a function of z.")
    whole("n", n)
    if whole("k", k) > 1 and grad not in (None, "path", "dreg"):
        raise InvalidInput(f"k is {k} with grad={grad!r}; expected 1, or more with 'path' or 'dreg'.")
    law = law_of(q, batched, "q")

    def joint(z: Tensor) -> Tensor:
        log_h = log_joint(z)
        if not isinstance(log_h, Tensor):
            raise InvalidType(f"log_joint returned {kind(log_h)}; expected a tensor (n,).")
        # Another shape would broadcast against log q, to a matrix or to what nobody asked for.
        if log_h.shape != (len(z), *law.batch_shape):
            raise InvalidInput(
                f"log_joint returned shape {tuple(log_h.shape)} for draws of shape {tuple(z.shape)}; "
                f"expected {(len(z), *law.batch_shape)}: one value for each draw."
            )
        return log_h

    if k > 1:
        with torch.set_grad_enabled(grad is not None and torch.is_grad_enabled()):
            return _weighted(joint, law, n, grad == "dreg", k, root_of(seed, generator))

    def f(z: Tensor) -> Tensor:
        if grad in ("path", "enumerate"):
            return joint(z) - law.log_prob(z)
        if grad in ("stl", "dreg"):
            return first_only(joint(z) - landed(law, z))
        with torch.no_grad():
            log_q = law.log_prob(z)
        return joint(z) - log_q

    return expect(f, law, n, grad=hows[grad], seed=seed, generator=generator)


def landed(law: Law, z: Tensor) -> Tensor:
    """Return log q(z) with the gradient that goes through z alone, not through q's parameters."""
    log_q = law.log_prob(z)
    own = law.log_prob(z.detach())
    return log_q - (own - own.detach())


def _weighted(log_joint: LogJoint, law: Law, n: int, doubly: bool, k: int, seed: int) -> Estimate:
    """Return the importance-weighted bound from n averages of k points each."""
    problem = Problem(log_joint, law, None, Independent())
    z = law.draw(n * k, derived(seed, 0), attached=torch.is_grad_enabled())
    hooked = z
    if doubly and z.requires_grad:
        hooked = z * 1.0  # a tensor of our own to hang the hook on
    log_q = landed(law, hooked) if doubly else law.log_prob(hooked)
    log_w = (problem.values(hooked) - log_q).reshape(n, k, *law.batch_shape)
    values = log_w.logsumexp(1) - math.log(k)
    if doubly and hooked.requires_grad:
        share = log_w.detach().softmax(1).flatten(0, 1)
        # log h and log q meet z with weight w_j / sum w; on the way through z it is squared.
        hooked.register_hook(lambda g: g * over(share, g))  # type: ignore[no-untyped-call]
        values = first_only(values)
    return problem.estimate(plain_terms(values), n)
