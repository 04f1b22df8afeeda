"""The tensors a `torch.distributions` law is made of, and the same law made of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from torch import Tensor
from torch import distributions as d
from torch.distributions import Distribution, Independent

from likely.expectations.law import Law
from likely.expectations.torch_law import TorchLaw, base_of, made_of

#: the arguments of each family; of alternatives in one tuple, a law has the one it was made of
FAMILIES: Final[dict[type[Distribution], tuple[tuple[str, ...], ...]]] = {
    d.Normal: (("loc",), ("scale",)),
    d.Laplace: (("loc",), ("scale",)),
    d.Cauchy: (("loc",), ("scale",)),
    d.Uniform: (("low",), ("high",)),
    d.StudentT: (("df",), ("loc",), ("scale",)),
    d.Exponential: (("rate",),),
    d.Poisson: (("rate",),),
    d.Gamma: (("concentration",), ("rate",)),
    d.Bernoulli: (("logits", "probs"),),
    d.Geometric: (("logits", "probs"),),
    d.Categorical: (("logits", "probs"),),
    d.OneHotCategorical: (("logits", "probs"),),
    d.Dirichlet: (("concentration",),),
    d.MultivariateNormal: (("loc",), ("scale_tril", "covariance_matrix", "precision_matrix")),
}


def arguments_of(law: Law) -> dict[str, Tensor]:
    """Return the arguments of a law of a known family, by name; empty for any other.

    Each has the batch shape of the law first.

    Example:
        >>> from likely.expectations.adapter import law_of
        >>> list(arguments_of(law_of(d.Normal(0.0, 1.0))))
        ['loc', 'scale']
    """
    if not isinstance(law, TorchLaw):
        return {}
    base = base_of(law.distribution)
    found = {}
    for alternatives in FAMILIES.get(type(base), ()):
        name = made_of(base, alternatives)
        found[name] = getattr(base, name)
    return found


def with_arguments(law: Law, arguments: Mapping[str, Tensor]) -> TorchLaw:
    """Return the same law made of other arguments, whose batch shape may be larger in front."""
    law = cast(TorchLaw, law)  # it had arguments to replace
    make: dict[str, Any] = dict(arguments)

    def remade(old: Distribution) -> Distribution:
        if isinstance(old, Independent):
            return Independent(
                remade(old.base_dist), old.reinterpreted_batch_ndims, validate_args=False
            )
        return type(old)(**make, validate_args=False)

    return TorchLaw(remade(law.distribution), law.batched, law.rows)
