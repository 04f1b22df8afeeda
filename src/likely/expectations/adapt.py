"""Find a good proposal in a family: cross-entropy and variance minimisation."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, cast

import torch
from torch import Tensor

from likely.checks import whole
from likely.errors import InvalidInput, InvalidType
from likely.expectations.adapter import law_of, same_space
from likely.expectations.law import AnyLaw, Law
from likely.expectations.mixture import Mixture
from likely.expectations.names import root_of
from likely.expectations.problem import Function, Problem, weigh
from likely.expectations.sampling import Independent
from likely.seeds import derived

Family: TypeAlias = "Callable[..., AnyLaw]"
OBJECTIVES = ("variance", "cross-entropy")


def adapt(
    f: Function,
    p: AnyLaw,
    family: Family | torch.nn.Module,
    start: Sequence[Tensor | float] | Tensor | float | None = None,
    objective: Literal["variance", "cross-entropy"] = "variance",
    *,
    n: int = 2000,
    rounds: int = 5,
    steps: int = 50,
    seed: int | None = None,
    generator: torch.Generator | None = None,
) -> AnyLaw:
    """Return the law of a family that suits the estimation of `E_p[f]` by importance sampling.

    "variance" minimises the second moment `E_q[(f p/q_t)^2] = E_r[(f p)^2 / (q_t r)]`, and
    "cross-entropy" the divergence from the best proposal `|f| p / E|f|`, that is
    `-E_r[|f| p/r log q_t]`, in the parameters t; r is what the draws come from: in each round the equal
    mixture of the law found so far and the start, which keeps the family from collapsing. Logarithms
    of both are minimised by L-BFGS. The draws are used for nothing else: estimate with new ones.

    Args:
        f: as in `expect`; one value a draw.
        p: the law to integrate under.
        family: from parameters to a law, or a module that is a law, such as a flow, a copy of which is
            trained.
        start: the first parameters, one or several; for a module, its own are the start.
        objective: "variance" or "cross-entropy".
        n: draws in a round.
        rounds: how often draws are made anew.
        steps: of L-BFGS in a round, at the most.
        seed: of the draws; use another one for the estimate.
        generator: to take the seed from, instead.

    Returns:
        The law, without a graph: pass it as `via`.

    Raises:
        InvalidInput: the start is not finite, or not what the family takes; no draw of it hits, so that
            there is nothing to go by; or the family makes no use of its parameters.
        InvalidType: the family is no function or module, or the start no numbers or tensors.

    Reference: Rubinstein 1997, 1999; de Boer et al. 2005.

    Example:
        >>> from torch.distributions import Normal
        >>> from likely import expect
        >>> p = Normal(0.0, 1.0)
        >>> q = adapt(lambda x: x > 5, p, lambda m: Normal(m, 1.0), 3.0, seed=0)
        >>> e = expect(lambda x: x > 5, p, n=2000, via=q, seed=1)
        >>> bool((e.mean / 2.8665e-7 - 1).abs() < 0.2), bool(e.stderr / e.mean < 0.08)
        (True, True)
    """
    if objective not in OBJECTIVES:
        raise InvalidInput(f"objective is {objective!r}; expected one of {OBJECTIVES}.")
    for name, number, least in (("n", n, 2), ("rounds", rounds, 1), ("steps", steps, 1)):
        whole(name, number, least)
    make, frozen, parameters = _family(family, start)
    root = root_of(seed, generator)
    problem = Problem(f, law_of(p), None, Independent())
    first = _first(frozen, problem.law)
    for k in range(rounds):
        r = Mixture([frozen(), first])
        with torch.no_grad():
            x = r.draw(n, derived(root, k), attached=False)
            log_p = problem.law.log_prob(x)
            log_r = r.log_prob(x)
            log_f = _size(problem.values(x)).log()
        keep = (log_f + weigh(log_p, log_r)) > -torch.inf
        if not keep.any():
            raise InvalidInput(
                f"none of {n} draws of the start in round {k} hits: f p is zero at all of them. Start "
                "nearer to the event, or adapt to an easier one first."
            )
        x, log_f, log_p, log_r = x[keep], log_f[keep], log_p[keep].double(), log_r[keep].double()
        _improve(make, parameters, x, log_f + log_p - log_r, log_f + log_p, objective, steps)
    return frozen()


def _improve(
    make: Callable[[], AnyLaw],
    parameters: list[Tensor],
    x: Tensor,
    log_fw: Tensor,
    log_fp: Tensor,
    objective: str,
    steps: int,
) -> None:
    """Minimise the objective over the parameters, in place, on draws that hit."""
    optimiser = torch.optim.LBFGS(parameters, max_iter=steps, line_search_fn="strong_wolfe")
    share = log_fw.softmax(0)

    def loss() -> Tensor:
        optimiser.zero_grad()
        try:
            law = law_of(make())
        except ValueError:  # outside of the family, such as a scale below zero
            return _halved(parameters)
        log_q = law.log_prob(x).double()
        if not log_q.requires_grad:
            raise InvalidInput(
                "the law of the family does not depend on its parameters; make it of the tensors that "
                "the family is given, without float() or .item()."
            )
        if objective == "variance":
            # log of sum (f p / r) (f p / q) / n
            value = (log_fw + log_fp - log_q).logsumexp(0)
        else:
            value = -(share * log_q).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach() if value.isfinite() else _halved(parameters)

    before = [t.detach().clone() for t in parameters]
    with torch.enable_grad():
        optimiser.step(loss)  # type: ignore[no-untyped-call]
    if not all(t.isfinite().all() for t in parameters):
        with torch.no_grad():
            for t, old in zip(parameters, before, strict=True):
                t.copy_(old)


def _halved(parameters: list[Tensor]) -> Tensor:
    """Return the loss outside of the family: without slopes the line search halves its step."""
    for t in parameters:
        t.grad = torch.full_like(t, torch.nan)
    return parameters[0].new_full((), torch.inf)


def _family(
    family: Family | torch.nn.Module, start: Sequence[Tensor | float] | Tensor | float | None
) -> tuple[Callable[[], AnyLaw], Callable[[], AnyLaw], list[Tensor]]:
    """Return how to make the law, attached and for good, and the parameters it is made from."""
    if isinstance(family, torch.nn.Module):
        if start is not None:
            raise InvalidInput("a module brings its own parameters to start from; leave out start.")
        module = copy.deepcopy(family)
        law = cast(AnyLaw, module)
        law_of(law)
        wanted: list[Tensor] = [t for t in module.parameters() if t.requires_grad]
        if not wanted:
            raise InvalidInput("no parameter of the module requires gradients: nothing to adapt.")
        return lambda: law, lambda: copy.deepcopy(law), wanted
    if start is None:
        raise InvalidInput("start is missing; expected the first parameters of the family.")
    if not callable(family):
        raise InvalidType(f"family is a {type(family).__name__}; expected parameters -> law.")
    given = start if isinstance(start, Sequence) else [start]
    if not all(isinstance(t, Tensor | float | int) for t in given):
        raise InvalidType(f"start is {start!r:.60}; expected numbers or tensors.")
    parameters = [torch.as_tensor(t).detach().clone() for t in given]
    if not parameters or any(t.is_complex() or not t.isfinite().all() for t in parameters):
        raise InvalidInput(
            f"start is {start!r:.60}; expected real, finite parameters of the family, one or more."
        )
    try:
        inspect.signature(family).bind(*parameters)
    except TypeError as error:
        raise InvalidInput(
            f"start holds {len(parameters)} parameters, which the family does not take: {error}."
        ) from None
    except ValueError:  # some built-in callables have no signature
        pass
    parameters = [t if t.is_floating_point() else t.double() for t in parameters]
    for t in parameters:
        t.requires_grad_()
    return (
        lambda: family(*parameters),
        lambda: family(*[t.detach().clone() for t in parameters]),
        parameters,
    )


def _first(make: Callable[[], AnyLaw], p: Law) -> AnyLaw:
    """Return the law to start from.

    Raises:
        InvalidInput: the family refuses it, or draws what p does not draw.
    """
    try:
        first = make()
    except ValueError as error:
        raise InvalidInput(f"the family refuses its start: {error}") from error
    same_space(p, law_of(first, what="what the family makes"), "the family")
    return first


def _size(values: Tensor) -> Tensor:
    if values.ndim != 1:
        raise InvalidInput(f"f gives values of shape {tuple(values.shape)}; adapt takes one a draw.")
    size = values.double().abs()
    if not size.isfinite().all() or math.isnan(float(size.sum())):
        raise InvalidInput("f returned NaN or infinite values; expected finite ones.")
    return size
