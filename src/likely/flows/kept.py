"""What is computed from weights once, and kept until they change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar, final

import torch
from torch import Tensor, nn

T = TypeVar("T")


class Seen(NamedTuple):
    """A parameter as it was: its storage, which cannot come back while it is held, entries, version."""

    alias: Tensor
    entries: Tensor
    version: int

    def still(self, source: Tensor) -> bool:
        """Return whether it is unchanged."""
        return (
            self.alias.data_ptr() == source.data_ptr()
            and self.version == source._version
            and (source.device.type != "cpu" or torch.equal(self.entries, source))
        )


@final
class Kept(Generic[T]):
    """The last value computed from a parameter, valid until the parameter changes.

    On a CPU every change of its entries counts. On other devices, where looking would make the device
    wait, every write that autograd counts does (`load_state_dict`, `copy_`, most optimizers; fused ones
    do not, but the pass that led to their step forgot the value), and every change of storage (moves,
    `p.data = ...`). Copies of a module start with nothing kept.
    """

    def __init__(self) -> None:
        self._seen: Seen | None = None
        self._value: T | None = None

    def __deepcopy__(self, memo: Any) -> Kept[T]:
        return Kept()

    def __reduce__(self) -> tuple[type[Kept[T]], tuple[()]]:
        return Kept, ()

    def get(self, source: Tensor, training: bool, compute: Callable[[], T]) -> T | None:
        """Return the kept value, without a graph; None where source is to get a gradient or may change.

        Args:
            source: what the value is computed from.
            training: whether its module is in training mode, in which nothing is kept.
            compute: makes the value.
        """
        # A compiled graph holds no state, and torch.func puts other tensors in place of parameters.
        if (
            training
            or (source.requires_grad and torch.is_grad_enabled())
            or torch.compiler.is_compiling()
            or not isinstance(source, nn.Parameter)
            or source.is_inference()
        ):
            self._seen = self._value = None
            return None
        if self._seen is None or not self._seen.still(source):
            with torch.inference_mode(False), torch.no_grad():
                self._value = compute()
                self._seen = Seen(source.detach(), source.detach().clone(), source._version)
        return self._value
