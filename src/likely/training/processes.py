"""Several processes that train one model: each takes its part of a batch, and all decide as one."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, distributed

from likely.errors import InvalidInput


@final
@dataclass(frozen=True)
class Processes:
    """This process among those that share a run; alone, unless said otherwise.

    Example:
        >>> Processes(rank=1, count=2).part(torch.arange(6)).tolist()
        [3, 4, 5]
    """

    rank: int = 0
    count: int = 1

    def part(self, rows: Tensor) -> Tensor:
        """Return this process's part of the rows, whose number `count` divides."""
        return rows.chunk(self.count)[self.rank]

    def sum_(self, values: Tensor) -> Tensor:
        """Replace values by their sum over all processes."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def mean_(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over all processes, in one exchange."""
        if self.count > 1:
            flat = self.sum_(torch.cat([t.flatten() for t in tensors])) / self.count
            parts = torch.split(flat, [t.numel() for t in tensors])
            torch._foreach_copy_(tensors, [p.view_as(t) for p, t in zip(parts, tensors, strict=True)])

    def any(self, asked: bool, device: torch.device) -> bool:
        """Return whether one of the processes was asked."""
        return asked if self.count == 1 else bool(self.sum_(torch.tensor(float(asked), device=device)))

    def as_first_(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes the tensors of the first."""
        if self.count > 1:
            for t in tensors:
                distributed.broadcast(t, 0)


def process_group() -> Processes:
    """Return the process group that torch.distributed runs, or this process alone.

    Raises:
        InvalidInput: several processes were launched, and nobody has made them a group.
    """
    if distributed.is_available() and distributed.is_initialized():
        return Processes(distributed.get_rank(), distributed.get_world_size())
    if _launched() > 1:
        raise InvalidInput(
            f"{_launched()} processes were launched (WORLD_SIZE), and torch.distributed has no process "
            "group; call torch.distributed.init_process_group() before fit."
        )
    return Processes()


@contextmanager
def launched(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
    """Join the processes that torchrun has launched, if it has; yield them and this one's device.

    They meet over NCCL where the device is a graphics card, each with its own, else over gloo.
    """
    if _launched() == 1:
        yield Processes(), device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    # Its functions have the group of all processes as a default argument, and torch imports it in the
    # first step of an optimizer. Imported after the group is made, they would keep it alive: its
    # threads would outlast the run, and now and then abort the process at its end.
    importlib.import_module("torch.distributed.nn.functional")
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield process_group(), device
    finally:
        distributed.destroy_process_group()


def _launched() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))
