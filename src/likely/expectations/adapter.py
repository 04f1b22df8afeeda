"""The one adapter that makes a law of whatever p is."""

from __future__ import annotations

from torch.distributions import Distribution

from likely.density import Samplable
from likely.errors import InvalidInput, InvalidType
from likely.expectations.law import AnyLaw, Law
from likely.expectations.object_law import PlainLaw, Reparameterised, ReparameterisedLaw
from likely.expectations.torch_law import TorchLaw, discrete, refuse_nan


def law_of(p: AnyLaw, batched: bool = False, what: str = "p") -> Law:
    """Return the adapter for whatever `p` is.

    Args:
        p: a `torch.distributions` law, a flow, anything with `sample` and `log_prob`, or a `Law`.
        batched: read the batch shape of a `torch.distributions` law as separate problems, not as part
            of the event.
        what: the name of p in messages.

    Raises:
        InvalidType: p is none of these.
        InvalidInput: `batched` is asked of something without a batch shape, or a parameter is NaN.

    Example:
        >>> import torch
        >>> law_of(torch.distributions.Normal(torch.zeros(3), 1.0)).log_prob(torch.zeros(5, 3)).shape
        torch.Size([5])
    """
    if isinstance(p, Law):
        return p
    if isinstance(p, Distribution):
        refuse_nan(p, what)
        return TorchLaw(p, batched)
    if batched:
        raise InvalidInput(
            f"batched=True is for torch.distributions laws; {what} is a {type(p).__name__}."
        )
    if isinstance(p, type):
        raise InvalidType(
            f"{what} is the class {p.__name__}; expected a law, such as {p.__name__}(...)."
        )
    if isinstance(p, Reparameterised):
        return ReparameterisedLaw(p)
    if isinstance(p, Samplable):
        return PlainLaw(p)
    raise InvalidType(
        f"{what} is a {type(p).__name__}; expected a torch.distributions law, a flow, or an object "
        "with sample(n) and log_prob(x)."
    )


def same_space(p: Law, q: Law, what: str = "via") -> None:
    """Refuse draws of another kind: log_prob would broadcast them, or give them no weight."""
    if p.space is not None and q.space is not None and p.space != q.space:
        raise InvalidInput(f"{what} draws {q.space}; expected what p draws, {p.space}.")
    kinds = [discrete(p), discrete(q)]
    if None not in kinds and kinds[0] != kinds[1]:
        raise InvalidInput(
            f"one of {p.name} (p) and {q.name} ({what}) is discrete, and the other is not: there are "
            "no weights between masses and densities."
        )
