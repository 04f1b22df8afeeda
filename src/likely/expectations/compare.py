"""Which gradient estimator is best here: variance, cost and their product, for each parameter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from jaxtyping import Float
from torch import Tensor

from likely.checks import kind, whole
from likely.errors import InvalidInput, InvalidType
from likely.expectations.adapter import law_of
from likely.expectations.cost import evaluations, seconds
from likely.expectations.gradient import Gradient
from likely.expectations.law import AnyLaw
from likely.expectations.names import gradient_of, root_of
from likely.expectations.problem import Function, Problem
from likely.expectations.sampling import Independent, Sampling
from likely.expectations.spread import arguments_from, parameter_spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@final
@dataclass(frozen=True, eq=False)
class Row:
    """What was measured of one estimator and one parameter."""

    estimator: str
    parameter: str
    #: the mean gradient
    gradient: Float[torch.Tensor, "*parameter"]
    #: n times the variance of the gradient from n draws: for plain sums, the variance of one draw
    variance: Float[Tensor, "*parameter"]
    #: evaluations of f for this parameter's gradient, from one draw
    evaluations: int
    #: processor seconds for one estimate of n draws and its gradient
    seconds: float

    @property
    def product(self) -> Float[Tensor, "*parameter"]:
        """Variance times evaluations: what a given precision costs."""
        return self.variance * self.evaluations


@final
@dataclass(frozen=True)
class Comparison:
    """A table of estimators by parameters; `print` it, `plot` it, or read its `rows`.

    Example:
        >>> mu = torch.tensor(0.5, requires_grad=True)
        >>> p = torch.distributions.Normal(mu, 1.0)
        >>> found = compare(lambda x: x.square(), p, ["score", "path"], parameters={"mu": mu}, seed=0)
        >>> found.best("mu").estimator
        'path'
    """

    rows: tuple[Row, ...]

    def best(self, parameter: str) -> Row:
        """Return the row with the least product, summed over the entries of the parameter."""
        rows = [row for row in self.rows if row.parameter == parameter]
        if not rows:
            known = sorted({row.parameter for row in self.rows})
            raise InvalidInput(f"parameter is {parameter!r}; expected one of {known}.")
        return min(rows, key=lambda row: float(row.product.sum()))

    def row(self, estimator: str, parameter: str) -> Row:
        """Return one row."""
        for row in self.rows:
            if (row.estimator, row.parameter) == (estimator, parameter):
                return row
        known = sorted({(row.estimator, row.parameter) for row in self.rows})
        raise InvalidInput(f"there is no row ({estimator!r}, {parameter!r}); expected one of {known}.")

    def __str__(self) -> str:
        heads = ("parameter", "estimator", "gradient", "variance", "evaluations", "product", "ms")
        table = [heads]
        for row in sorted(self.rows, key=lambda row: row.parameter):
            best = self.best(row.parameter) is row
            table.append(
                (
                    row.parameter,
                    row.estimator + (" *" if best else ""),
                    f"{float(row.gradient.mean()):.4g}",
                    f"{float(row.variance.mean()):.4g}",
                    str(row.evaluations),
                    f"{float(row.product.mean()):.4g}",
                    f"{1000 * row.seconds:.2f}",
                )
            )
        widths = [max(len(line[k]) for line in table) for k in range(len(heads))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if k < 2 else cell.rjust(width)
                for k, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in table
        )

    def plot(self) -> Figure:
        """Return a figure of bars: variance and variance times cost, on log scales, by parameter."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        names = list(dict.fromkeys(row.parameter for row in self.rows))
        figure = Figure(figsize=(4.2 * len(names), 3.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, len(names), squeeze=False)[0]
        for axis, name in zip(axes, names, strict=True):
            rows = [row for row in self.rows if row.parameter == name]
            where = range(len(rows))
            values = [float(row.variance.mean()) for row in rows]
            products = [float(row.product.mean()) for row in rows]
            axis.barh([k + 0.2 for k in where], values, height=0.4, label="variance of one draw")
            axis.barh([k - 0.2 for k in where], products, height=0.4, label="times evaluations of f")
            axis.set_yticks(list(where), [row.estimator for row in rows])
            axis.set_title(name)
            if min(values) > 0:
                axis.set_xscale("log")
        axes[0].legend(fontsize="small")
        return figure


def compare(
    f: Function,
    p: AnyLaw,
    estimators: Sequence[str | Gradient] | Mapping[str, str | Gradient],
    parameters: Sequence[Tensor] | Mapping[str, Tensor],
    *,
    n: int = 16,
    repeats: int = 1000,
    seed: int | None = None,
    sampling: Sampling | None = None,
    batched: bool = False,
) -> Comparison:
    """Measure the gradients of `E_p[f]` by several estimators: `variance x cost`, for each parameter.

    Each estimator makes `repeats` estimates of n draws; `n Var` is given, which for plain sums is the
    variance of one draw. Laws of known families are copied into one batch; others are run in turn.

    Args:
        f: from draws `(n, *event)` to values `(n,)`.
        p: the law, computed from `parameters`.
        estimators: names or values; a mapping gives them names of its own.
        parameters: the leaf tensors to differentiate by; a mapping gives them names.
        n: draws of one estimate.
        repeats: how many estimates; the relative error of a variance is about `sqrt(2 / repeats)`.
        seed: of the draws; all estimators get the same.
        sampling: as in `expect`.
        batched: as in `expect`.

    Raises:
        InvalidInput: an estimator does not apply, or a parameter requires no gradient.

    Example:
        >>> mu = torch.tensor(1.0, requires_grad=True)
        >>> p = torch.distributions.Normal(mu, 0.5)
        >>> table = compare(lambda x: x.square(), p, ["score", "path", "weak"], {"mu": mu}, seed=0)
        >>> table.best("mu").estimator
        'path'
    """
    whole("n", n)
    whole("repeats", repeats, 2)
    for what, given in (("estimators", estimators), ("parameters", parameters)):
        if isinstance(given, str) or not isinstance(given, Iterable) or isinstance(given, torch.Tensor):
            raise InvalidType(
                f"{what} is {kind(given)}; expected a list or a mapping, such as ['score'] and [mu]."
            )
    named = _named_estimators(estimators)
    leaves = (
        dict(parameters)
        if isinstance(parameters, Mapping)
        else {f"parameter {k}": t for k, t in enumerate(parameters)}
    )
    bad = [
        k for k, t in leaves.items() if not (isinstance(t, Tensor) and t.requires_grad and t.is_leaf)
    ]
    if bad or not leaves or not named:
        raise InvalidInput(
            f"parameters {bad or list(leaves)}, {len(named)} estimators; expected leaf tensors with "
            "requires_grad=True, and one estimator or more."
        )
    problem = Problem(f, law_of(p, batched), None, sampling or Independent())
    root = root_of(seed)
    rows = []
    for name, how in named.items():
        time = seconds(how, problem, n, root, list(leaves.values()))
        spread = parameter_spread(how, problem, n, repeats, root, leaves)
        for key in leaves:
            gradient = spread.gradients[key].double().mean(0)
            cost = evaluations(how, problem, arguments_from(problem, leaves[key]))
            rows.append(Row(name, key, gradient, spread.variance(key), cost, time))
    return Comparison(tuple(rows))


def _named_estimators(
    given: Sequence[str | Gradient] | Mapping[str, str | Gradient],
) -> dict[str, Gradient]:
    if isinstance(given, Mapping):
        return {name: gradient_of(how) for name, how in given.items()}
    return {how if isinstance(how, str) else str(how): gradient_of(how) for how in given}
