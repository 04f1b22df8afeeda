"""A network for evaluation alone: weights prepared once, gradients with respect to the input alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeAlias, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from likely.errors import InvalidInput
from likely.flows.networks import MLP

Linear: TypeAlias = Callable[[Tensor], Tensor]


@final
class FrozenMLP(nn.Module):
    """An `MLP` whose weights are constants, held in `dtype` and in the layouts that its passes read.

    With `h_0 = x`, `h_i = relu(W_i h_{i-1} + b_i)` and a last layer without relu, the gradient of
    `<g, out>` with respect to x is `W_1^T D_1 ... W_n^T D_n W_out^T g`, `D_i` being the diagonal of
    `h_i > 0`. Both are worked out by hand, and nothing but the `h_i` is remembered. A batch goes
    through matrix products. A single row on a CPU is bound by reading the weights: there the passes
    read only the columns and rows that belong to active entries, `h_i > 0`, often a quarter of them;
    no other entry contributes.

    Args:
        network: what to freeze; later changes of its weights do not show.
        dtype: of weights and arithmetic; the result is in the dtype of x.

    Example:
        >>> network = MLP(2, 3, width=8, depth=2)
        >>> FrozenMLP(network, torch.float32)(torch.zeros(5, 2)).shape
        torch.Size([5, 3])
    """

    def __init__(self, network: MLP, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        layers = [*network.hidden, network.out]
        self._weights = [layer.weight.detach().to(dtype, copy=True) for layer in layers]
        self._biases = [layer.bias.detach().to(dtype, copy=True) for layer in layers]
        # A flow takes its precision and its device from its parameters: leave it one of both.
        self.like = nn.Parameter(network.out.bias.detach().new_empty(0), requires_grad=False)

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch outputs"]:
        """Return what the network would, in evaluation mode."""
        one = len(x) == 1 and x.device.type == "cpu"
        out: Tensor = (_OneRow if one else _Rows).apply(x, self)  # type: ignore[no-untyped-call]
        return out

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is prepared on first use, and cannot be pickled."""
        return {k: v for k, v in vars(self).items() if k not in ("up", "down", "columns", "rows")}

    @cached_property
    def up(self) -> list[Linear]:
        """The hidden layers, with relu, and the last one."""
        *hidden, last = zip(self._weights, self._biases, strict=True)
        return [*[_linear(w, b, "relu") for w, b in hidden], _linear(*last, "none")]

    @cached_property
    def down(self) -> list[Linear]:
        """The products with `W_i^T`, first layer first."""
        return [_linear(w.T.contiguous(), None, "none") for w in self._weights]

    @cached_property
    def columns(self) -> list[tuple[Tensor, Tensor]]:
        """The columns of each weight, to be read one by one, and its bias."""
        return [(w.T.contiguous(), b) for w, b in zip(self._weights, self._biases, strict=True)]

    @cached_property
    def rows(self) -> list[Tensor]:
        """The rows of each weight."""
        return [w.contiguous() for w in self._weights]


@final
class InPrecision(nn.Module):
    """Any network for evaluation alone, its weights and arithmetic in `dtype`, its result in that of x.

    Args:
        network: what to freeze; it is copied.
        dtype: of weights and arithmetic.

    Example:
        >>> network = InPrecision(nn.Linear(2, 3), torch.bfloat16)
        >>> network(torch.zeros(5, 2)).dtype
        torch.float32
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        # A flow takes its precision and its device from its first parameter.
        own = next(network.parameters()).detach()
        self.like = nn.Parameter(own.new_empty(0), requires_grad=False)
        self.network = copy.deepcopy(network).to(dtype).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the network would, in about that precision."""
        out: Tensor = self.network(x.to(self.dtype))
        return out.to(x.dtype)


@final
class _Rows(torch.autograd.Function):
    """The passes for a batch."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, network: FrozenMLP) -> Tensor:
        hidden = [x.to(network.dtype)]
        for layer in network.up:
            hidden.append(layer(hidden[-1]))
        ctx.save_for_backward(*hidden[1:-1])
        ctx.network = network  # type: ignore[attr-defined]
        return hidden[-1].to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        _first_only()
        first, *others = ctx.network.down
        g = grad.to(ctx.network.dtype)
        for layer, h in zip(reversed(others), reversed(ctx.saved_tensors), strict=True):
            g = torch.ops.aten.threshold_backward(layer(g), h, 0)
        return first(g).to(grad.dtype), None


@final
class _OneRow(torch.autograd.Function):
    """The passes for a single row: sums of the columns, and of the rows, of active entries."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, network: FrozenMLP) -> Tensor:
        h, active = x[0].to(network.dtype), _all(x.shape[1])
        indices = []
        for i, (columns, bias) in enumerate(network.columns):
            h = _weighted_sum(columns, active, h).add_(bias)
            if i + 1 < len(network.columns):
                active = h.relu_().nonzero()[:, 0].int()
                h = h.index_select(0, active)
                indices.append(active)
        ctx.indices, ctx.network = indices, network  # type: ignore[attr-defined]
        return h.to(x.dtype)[None]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        _first_only()
        *others, last = ctx.network.rows
        g = _weighted_sum(last, _all(grad.shape[1]), grad[0].to(ctx.network.dtype))
        for rows, active in zip(reversed(others), reversed(ctx.indices), strict=True):
            g = _weighted_sum(rows, active, g.index_select(0, active))
        return g.to(grad.dtype)[None], None


def _first_only() -> None:
    if torch.is_grad_enabled():
        raise InvalidInput(
            "frozen networks give first derivatives only; for higher ones use the flow itself, not "
            "flow.frozen()."
        )


def _all(entries: int) -> Tensor:
    return torch.arange(entries, dtype=torch.int32)


def _weighted_sum(table: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Return `sum_j weights_j table[index_j]`, each row of the table read once and never copied."""
    if table.dtype == torch.float64 or not len(index):
        return weights @ table.index_select(0, index)
    one_bag = torch.zeros(1, dtype=index.dtype)
    sums: Tensor = torch.embedding_bag(table, index, one_bag, False, 0, False, weights)[0]
    return sums[0]


def _linear(weight: Tensor, bias: Tensor | None, after: str) -> Linear:
    """Return `x -> weight x + bias`, then relu or nothing, the weight laid out for the processor."""
    kinds = (torch.float32, torch.bfloat16)
    here = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if here and weight.device.type == "cpu" and weight.dtype in kinds:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight)
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, after, [], "")
    act = torch.relu_ if after == "relu" else lambda x: x
    return lambda x: act(F.linear(x, weight, bias))
