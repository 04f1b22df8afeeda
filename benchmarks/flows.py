"""Flows side by side with nflows, normflows, FrEIA and zuko, where they have the layer.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python benchmarks/flows.py --json flows.json

Contestants take turns. A figure is the median of the milliseconds of processor time, and in brackets
the median of the ratios to the first contestant, turn by turn. Peers that are not installed take no
part.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import ModuleType

import torch
from report import Report
from torch import Tensor, nn

from likely import flows

SHAPES = [(48, 8, 64), (192, 8, 16), (512, 4, 16), (12, 14, 64)]
Run = Callable[[], object]


def take_turns(runs: dict[str, Run], turns: int) -> dict[str, str]:
    """Return the medians, as they are shown."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(turns):
        for name, run in runs.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    first = next(iter(seconds.values()))
    found = {}
    for name, values in seconds.items():
        ratio = median(a / b for a, b in zip(values, first, strict=True))
        found[name] = f"{1e3 * median(values):.2f} ({ratio:.2f})"
    print(found, file=sys.stderr, flush=True)
    return found


def as_rows(found: dict[str, dict[str, str]]) -> tuple[list[str], list[list[str | None]]]:
    """Return the columns and rows of a table: a case a row, a contestant a column."""
    names = list(dict.fromkeys(name for case in found.values() for name in case))
    return names, [[case, *(cells.get(name) for name in names)] for case, cells in found.items()]


def peer(name: str) -> ModuleType | None:
    """Return a package, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


class Turned(nn.Module):
    """Peers' layers, all as `x -> (z, log_det)`."""

    def __init__(self, layers: list[nn.Module], call: Callable[..., tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.layers, self.call = nn.ModuleList(layers), call

    def forward_and_log_det(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the layers in turn."""
        total = x.new_zeros(len(x))
        for layer in self.layers:
            x, log_det = self.call(layer, x)
            total = total + log_det
        return x, total


def both_ways(layer: nn.Module, x: Tensor, g: Tensor) -> Run:
    """Forward and backward, the log-determinant included."""

    def run() -> None:
        layer.zero_grad()
        z, log_det = layer.forward_and_log_det(x.detach().requires_grad_())
        # A fixed matrix has a constant log-determinant.
        ((z * g).sum() + log_det.sum()).backward()

    return run


def convolutions(report: Report, turns: int) -> None:
    """PLU 1x1 convolutions: forward and backward, and the inverse of frozen weights."""
    there: dict[str, dict[str, str]] = {}
    back: dict[str, dict[str, str]] = {}
    normflows, nflows, freia = peer("normflows"), peer("nflows.transforms"), peer("FrEIA.modules")
    for channels, side, batch in SHAPES:
        x, g = torch.randn(2, batch, channels, side, side)
        dense, ours = nn.Conv2d(channels, channels, 1, bias=False), flows.PLUConv(channels)

        def plain(dense: nn.Module = dense, x: Tensor = x, g: Tensor = g) -> None:
            dense.zero_grad()
            (dense(x.detach().requires_grad_()) * g).sum().backward()

        layers: dict[str, nn.Module] = {"likely": ours}
        inverses: dict[str, Run] = {}
        if normflows:
            theirs = normflows.flows.Invertible1x1Conv(channels, use_lu=True)
            layers["normflows"] = Turned([theirs], lambda layer, x: layer.inverse(x))
            inverses["normflows"] = lambda layer=theirs, x=x: layer.forward(x)
        if nflows:
            other = nflows.OneByOneConvolution(channels)
            layers["nflows"] = Turned([other], lambda layer, x: layer(x))
            inverses["nflows"] = lambda layer=other, x=x: layer.inverse(x)
        if freia:
            # FrEIA has no learned PLU convolution; its 1x1 convolution is a fixed orthogonal matrix.
            fixed = freia.Fixed1x1Conv([(channels, side, side)], M=torch.eye(channels))
            layers["FrEIA (fixed)"] = Turned(
                [fixed], lambda layer, x: (lambda z, j: (z[0], x.new_zeros(len(x)) + j))(*layer([x]))
            )
        title = f"{channels} channels, {side}x{side}, batch {batch}"
        runs = {name: both_ways(layer, x, g) for name, layer in layers.items()}
        there[title] = take_turns({"dense conv2d": plain} | runs, turns)
        ours.eval()
        inverses = {"likely": lambda layer=ours, x=x: layer.inverse(x)} | inverses
        with torch.no_grad():
            back[title] = take_turns(inverses, turns)
    note = f"Milliseconds of processor time, medians of {turns} turns; in brackets the ratio to "
    for name, title, found, first in [
        (
            "convolutions",
            "PLU convolutions, forward and backward",
            there,
            "dense conv2d",
        ),
        ("inverses", "Their inverses, weights frozen", back, "likely"),
    ]:
        columns, rows = as_rows(found)
        report.table(name, title, ["case", *columns], rows, f"{note}{first}.")


def our_glow(blocks: int, channels: int, width: int, reversible: bool = False) -> flows.Chain:
    """Blocks of ActNorm, PLU convolution and affine coupling."""
    half = channels // 2
    parts: list[flows.Bijection] = []
    for _ in range(blocks):
        network = flows.ConvNet(half, channels, width)
        split = flows.channel_halves(channels, 1)
        parts += [flows.ActNorm(channels), flows.PLUConv(channels)]
        parts.append(flows.Coupling(split, flows.Affine(), network))
    return flows.Chain(parts, reversible=reversible)


def training_step(chain: nn.Module, x: Tensor, dtype: torch.dtype = torch.float32) -> Run:
    """A step of Adam on the likelihood under a normal law; networks pass in bfloat16 where dtype is."""
    optimizer = torch.optim.Adam(chain.parameters(), 1e-4)

    def run() -> None:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            z, log_det = chain.forward_and_log_det(x)
        optimizer.zero_grad()
        ((0.5 * z.square().sum() - log_det.sum()) / len(x)).backward()
        optimizer.step()

    return run


class Compiled(nn.Module):
    """A chain compiled as one graph."""

    def __init__(self, chain: flows.Chain, x: Tensor) -> None:
        super().__init__()
        self.chain = chain
        chain(x)  # chooses the scales of ActNorm, which is not part of the graph
        self.forward_and_log_det = torch.compile(chain.forward_and_log_det, fullgraph=True)


def glow_steps(report: Report, turns: int) -> None:
    """A Glow training step, 8 blocks, 12 channels, 14x14, hidden 128, batch 64."""
    x = torch.randn(64, 12, 14, 14)
    runs = {"likely": training_step(our_glow(8, 12, 128), x)}
    if shutil.which("c++"):
        runs["likely, compiled"] = training_step(Compiled(our_glow(8, 12, 128), x), x)
    runs["likely, bfloat16"] = training_step(our_glow(8, 12, 128), x, torch.bfloat16)
    normflows, freia = peer("normflows"), peer("FrEIA")
    if normflows:
        for name, dtype in {"": torch.float32, ", bfloat16": torch.bfloat16}.items():
            blocks = [normflows.flows.GlowBlock(12, 128, split_mode="channel") for _ in range(8)]
            theirs = Turned(blocks, lambda layer, x: layer.inverse(x))
            runs["normflows" + name] = training_step(theirs, x, dtype)
    if freia:
        # Its GLOW coupling moves both halves, each by a network: half as many blocks have as many.
        modules = peer("FrEIA.modules")
        framework = peer("FrEIA.framework").SequenceINN(12, 14, 14)
        for _ in range(4):
            framework.append(modules.ActNorm)
            framework.append(modules.GLOWCouplingBlock, subnet_constructor=_freia_network)
        runs["FrEIA"] = training_step(Turned([framework], lambda layer, x: layer(x)), x)
    runs["likely, reversible"] = training_step(our_glow(8, 12, 128, reversible=True), x)
    runs["its convolutions alone"] = convolutions_alone(8, x)
    report.table(
        "glow",
        "A Glow training step",
        ["who", "ms (ratio)"],
        [*take_turns(runs, turns).items()],
        f"8 blocks, 12 channels, 14x14, hidden 128, batch 64, float32 where nothing else is said; "
        f"processor time, medians of {turns} turns. zuko and nflows have no Glow.",
    )


def convolutions_alone(blocks: int, x: Tensor) -> Run:
    """The three convolutions of each block, forward and backward, channels last: a step's floor."""
    layers = [*flows.ConvNet(x.shape[1] // 2, x.shape[1], 128).children()]
    inputs = [torch.randn(len(x), layer.in_channels, *x.shape[2:]) for layer in layers]
    inputs = [h.contiguous(memory_format=torch.channels_last).requires_grad_() for h in inputs]
    gradients = [torch.ones_like(layer(h)) for layer, h in zip(layers, inputs, strict=True)]

    def run() -> None:
        for _ in range(blocks):
            for layer, h, g in zip(layers, inputs, gradients, strict=True):
                torch.autograd.grad(layer(h), [h, *layer.parameters()], g)

    return run


def _freia_network(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, 128, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(128, 128, 1),
        nn.ReLU(),
        nn.Conv2d(128, outputs, 3, padding=1),
    )


def memory(report: Report) -> None:
    """Peak memory of a training step of 8 and 64 blocks, each in a process of its own."""
    # What is freed goes back to the system at once, so that gaps in the heap do not count as in use.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    rows = []
    for reversible in (False, True):
        peaks = []
        for blocks in (8, 64):
            arguments = [sys.executable, __file__, "--peak", str(blocks), str(int(reversible))]
            done = subprocess.run(arguments, capture_output=True, check=True, env=environment)
            peaks.append(float(done.stdout))
        rows.append(["reversible" if reversible else "ordinary", *map(round, peaks)])
    report.table(
        "memory", "Peak memory of a training step, MB", ["chain", "8 blocks", "64 blocks"], rows
    )


def peak(blocks: int, reversible: bool) -> None:
    """Print by how many MB a step with a small network and large images raises the memory in use."""
    chain = our_glow(blocks, 12, 32, reversible)
    # One step before: buffers of the optimizer exist, libraries are loaded.
    training_step(chain, torch.randn(2, 12, 8, 8))()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is in use
    base = _memory("VmRSS")
    training_step(chain, torch.randn(64, 12, 32, 32))()
    print(_memory("VmHWM") - base)


def _memory(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--only", choices=["convolutions", "steps", "memory"], help="one part of it")
    parser.add_argument("--peak", type=int, nargs=2, help=argparse.SUPPRESS)
    options, report = Report.begin(parser)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if options.peak:
        peak(options.peak[0], bool(options.peak[1]))
        return
    if options.only in (None, "convolutions"):
        convolutions(report, options.turns)
    if options.only in (None, "steps"):
        glow_steps(report, max(options.turns // 3, 1))
    if options.only in (None, "memory"):
        memory(report)


if __name__ == "__main__":
    main()
