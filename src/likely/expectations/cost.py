"""What one gradient estimate costs: evaluations of f, counted, and seconds, measured."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from likely.expectations.arguments import arguments_of
from likely.expectations.gradient import Gradient
from likely.expectations.leaves import leaves_of
from likely.expectations.mixed import Mixed
from likely.expectations.problem import Problem
from likely.expectations.torch_law import TorchLaw, entries
from likely.expectations.weak import Weak
from likely.seeds import derived

#: estimates that are timed, of which the quickest counts: whatever else runs only adds
TIMED = 7


def evaluations(how: Gradient, problem: Problem, names: Collection[str] | None = None) -> int:
    """Return how often f is evaluated for the gradient of one draw.

    Args:
        how: the estimator; all but weak derivatives evaluate f once for all parameters.
        problem: what is estimated.
        names: the arguments of the law that are differentiated; None for all.
    """
    if not isinstance(problem.law, TorchLaw):
        return 1
    wanted = [
        name
        for name, t in arguments_of(problem.law).items()
        if t.requires_grad and (names is None or name in names)
    ]
    if isinstance(how, Mixed):
        weak = [name for name in wanted if isinstance(how.parts[name], Weak)]
        return (len(weak) < len(wanted)) + 2 * entries(problem.law)[1] * len(weak)
    return 2 * entries(problem.law)[1] * len(wanted) if isinstance(how, Weak) else 1


def seconds(
    how: Gradient, problem: Problem, n: int, seed: int, leaves: Sequence[Tensor] | None = None
) -> float:
    """Return the processor time of one estimate of n draws with its gradient.

    Args:
        how: the estimator.
        problem: what is estimated.
        n: draws.
        seed: of the draws.
        leaves: what to differentiate by; None for the arguments of the law, or else all leaves.
    """
    wanted = list(leaves or [t for t in arguments_of(problem.law).values() if t.requires_grad])
    cuda = problem.law.device.type == "cuda"
    best = float("inf")
    with torch.enable_grad():
        for k in range(TIMED):
            begin = _clock(cuda)
            block = how.prepare(problem, n, derived(seed, k))
            mean = problem.estimate(block(n, derived(seed, k)), n).mean.sum()
            wanted = wanted or leaves_of(mean)
            torch.autograd.grad(mean, wanted, retain_graph=True, allow_unused=True)
            best = min(best, _clock(cuda) - begin)
    return best


def _clock(cuda: bool) -> float:
    """Seconds of this process, which others do not lengthen; on a GPU, of the wall."""
    if not cuda:
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()
