"""The one adapter that makes a law of whatever p is."""

from __future__ import annotations

from torch.distributions import Distribution

from likely.density import Samplable
from likely.errors import InvalidInput, InvalidType
from likely.expectations.law import AnyLaw, Law
from likely.expectations.object_law import PlainLaw, Reparameterised, ReparameterisedLaw
from likely.expectations.torch_law import TorchLaw


def law_of(p: AnyLaw, batched: bool = False, what: str = "p") -> Law:
    """Return the adapter for whatever `p` is.

    Args:
        p: a `torch.distributions` law, a flow, anything with `sample` and `log_prob`, or a `Law`.
        batched: read the batch shape of a `torch.distributions` law as separate problems, not as part
            of the event.
        what: the name of p in messages.

    Raises:
        InvalidType: p is none of these.
        InvalidInput: `batched` is asked of something without a batch shape.

    Example:
        >>> import torch
        >>> law_of(torch.distributions.Normal(torch.zeros(3), 1.0)).log_prob(torch.zeros(5, 3)).shape
        torch.Size([5])
    """
    if isinstance(p, Law):
        return p
    if isinstance(p, Distribution):
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
