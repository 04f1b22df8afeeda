"""How well what is missing of MNIST digits is restored: six masks, 500 test images, ten ways.

    python benchmarks/regression.py --minutes M -o regression.pt  # the time on the model's card
    LIKELY_DATA=... python benchmarks/restoration.py --regression regression.pt

PSNR is over missing pixels only, the mean of that of each image; SSIM is over whole images; log p is
`log p(missing | measured)` in nats under the conditional model, of draws that of the draws themselves,
else of what a way wrote as 8-bit values; coverage is the share of missing ink pixels (those that differ
within the training set) whose value lies in the 90% interval of 64 completions, values and draws
dequantised alike; accuracy is that of a classifier of clean digits. Milliseconds are of processor time
for each image, one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from joblib import Parallel, delayed
from regression import network, predict
from report import Cell, Report
from torch import Tensor, nn
from torch.nn import functional as F

import likely
from likely import data
from likely.data.idx import read_idx
from likely.restore import psnr
from likely.solvers import ProjectedGradient

DRAWS = 64
#: slow ways see the first so many images
FEW = 64


def masks(count: int) -> dict[str, Tensor]:
    """True where measured, `(count, 1, 28, 28)`, and how each is called."""
    at = torch.arange(28)
    rows, columns = at[:, None].expand(28, 28), at.expand(28, 28)
    drawn = torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(0))

    def of(missing: Tensor) -> Tensor:
        return (~missing).expand(count, 1, 28, 28)

    return {
        "rows 5..11, columns 5..19": of((rows >= 5) & (rows < 12) & (columns >= 5) & (columns < 20)),
        "top half": of(rows < 14),
        "left half": of(columns < 14),
        "middle rows 9..18": of((rows >= 9) & (rows < 19)),
        "75% at random": drawn >= 0.75,
        "90% at random": drawn >= 0.9,
    }


class Ways(NamedTuple):
    """What the ways of restoring are made from."""

    train: Tensor
    conditional: likely.flows.MaskedFlow
    nice: likely.flows.Flow
    regression: nn.Module | None

    def named(self) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
        """From damaged images and masks to restored images; those that end in * see few images."""
        mean = self.train.mean(0)
        ways: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "zeros": lambda x, o: x.masked_fill(~o, 0),
            "training mean": lambda x, o: torch.where(o, x, mean),
            "biharmonic*": _biharmonic,
            "Telea": _telea,
            "10 nearest": lambda x, o: torch.where(o, x, _nearest(self.train, x, o)),
            "plain recipe*": lambda x, o: (
                likely.inpaint(self.nice, x.masked_fill(~o, 1), o, method=ProjectedGradient()).image
            ),
            "most likely*": lambda x, o: likely.inpaint(self.nice, x.masked_fill(~o, 1), o).image,
        }
        if self.regression is not None:
            ways["U-Net regression"] = lambda x, o: torch.where(o, x, self._regress(x, o))
        return ways

    @torch.no_grad()
    def _regress(self, x: Tensor, o: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            parts = [
                predict(self.regression, a, b) for a, b in zip(x.split(100), o.split(100), strict=True)
            ]
        return torch.cat(parts).float().clamp(0, 1)


def _biharmonic(x: Tensor, observed: Tensor) -> Tensor:
    from skimage.restoration import inpaint_biharmonic

    filled = [
        inpaint_biharmonic(a.numpy(), ~b.numpy()) for a, b in zip(x[:, 0], observed[:, 0], strict=True)
    ]
    return torch.from_numpy(np.stack(filled))[:, None].float().clamp(0, 1)


def _telea(x: Tensor, observed: Tensor) -> Tensor:
    import cv2

    bytes_ = (x[:, 0] * 255).round().byte().numpy()
    missing = (~observed[:, 0]).byte().numpy()
    filled = [cv2.inpaint(a, b, 3, cv2.INPAINT_TELEA) for a, b in zip(bytes_, missing, strict=True)]
    return torch.where(observed, x, torch.from_numpy(np.stack(filled))[:, None] / 255)


def _nearest(train: Tensor, x: Tensor, observed: Tensor, k: int = 10) -> Tensor:
    """The mean of the k training images nearest in the measured pixels."""
    flat, result = train.flatten(1), []
    for a, o in zip(x.flatten(1).split(50), observed.flatten(1).float().split(50), strict=True):
        # |o (a - t)|^2 = |o a|^2 - 2 <o a, t> + <o, t^2>, as o is 0 or 1.
        distance = o @ flat.square().T - 2 * (o * a) @ flat.T
        result.append(flat[distance.topk(k, largest=False).indices].mean(1))
    return torch.cat(result).view_as(x)


def classifier(
    train: Tensor, labels: Tensor, epochs: int, weights: dict[str, Tensor] | None
) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 32, 5, 2, 2), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(64 * 49, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10),
    )  # fmt: skip
    if weights is not None:
        net.load_state_dict(weights)
        return net.eval()
    steps = epochs * (len(train) // 128)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
    for step in range(steps):
        if step % (len(train) // 128) == 0:
            order = torch.randperm(len(train))
        rows = order[(step * 128) % (len(train) - 127) :][:128]
        loss = F.cross_entropy(net(train[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def ssim(a: Tensor, b: Tensor) -> float:
    from skimage.metrics import structural_similarity

    pairs = zip(a[:, 0].numpy(), b[:, 0].numpy(), strict=True)
    return float(np.mean([structural_similarity(p, q, data_range=1.0) for p, q in pairs]))


class Bench:
    """The images, the models and the judge, as each process has them."""

    def __init__(self, options: argparse.Namespace, judge: dict[str, Tensor] | None) -> None:
        torch.set_num_threads(1)
        self.only, self.quick = options.only, options.quick
        self.count, self.draws = (32, 16) if options.quick else (options.images, DRAWS)
        rows = data.mnist()
        train, self.levels = rows.train / 255, rows.test[: self.count]
        self.truth = self.levels / 255
        self.ink = (rows.train != rows.train[:1]).any(0)
        self.labels = _labels("t10k")[: self.count]
        self.classify = classifier(train, _labels("train")[:-5000], 1 if options.quick else 3, judge)
        saved = options.regression and torch.load(options.regression, weights_only=True)
        rival = network() if saved else None
        if saved:
            rival.load_state_dict(saved["net"])
        self.rival = [float(saved["minutes"]), int(saved["steps"])] if saved else None
        self.exact = likely.load(options.conditional).requires_grad_(False)
        self.flow = self.exact.frozen(torch.bfloat16)
        self.ways = Ways(train, self.exact, likely.load("mnist-nice"), rival)
        self.masks = masks(self.count)

    def measure(self, mask: str) -> list[list[Cell]]:
        """A row for each way: the mask, the way, PSNR, SSIM, log p, coverage, accuracy, time."""
        observed, found = self.masks[mask], []

        def note(
            way: str, x: Tensor, seconds: float, cover: float | None = None, nats: float | None = None
        ) -> None:
            few = len(x)
            t, o = self.truth[:few], observed[:few]
            value = psnr(x, t, ~o).mean().item()
            nats = self._nats(x, o) if nats is None else nats
            time_each = 1000 * seconds / few
            found.append([mask, way, value, ssim(x, t), nats, cover, self._right(x), time_each])
            print(f"{mask}: {way} {value:.2f} dB", flush=True)

        for way, restore in self.ways.named().items():
            if (self.quick and way.endswith("*")) or (self.only and way not in self.only):
                continue
            few = min(FEW, self.count) if way.endswith("*") else self.count
            begin = time.process_time()
            restored = restore(self.truth[:few].masked_fill(~observed[:few], 0), observed[:few])
            note(way, restored, time.process_time() - begin)
        if not self.only or "completions" in self.only:
            begin = time.process_time()
            c = likely.complete(self.flow, self.truth, observed, n=self.draws, seed=0)
            seconds = time.process_time() - begin
            noise = torch.rand(self.truth.shape, generator=torch.Generator().manual_seed(1))
            values = (self.levels + noise) / 256
            inside = (c.quantile(0.05) <= values) & (values <= c.quantile(0.95))
            cover = inside[~observed & self.ink].float().mean().item()
            note(f"mean of {self.draws} completions", c.mean, seconds, cover)
            nats = c.log_prob[:, :100].mean().item()
            note("one completion", c.samples[0], seconds / self.draws, None, nats)
        x = self.truth
        found.append(
            [mask, "the original", None, 1.0, self._nats(x, observed), None, self._right(x), None]
        )
        return found

    @torch.no_grad()
    def _right(self, x: Tensor) -> float:
        return (self.classify(x).argmax(1) == self.labels[: len(x)]).float().mean().item()

    def _nats(self, x: Tensor, observed: Tensor) -> float:
        written = (x[:100] * 255).round().clamp(0, 255) / 255
        return self.exact.log_prob_given(written, observed[:100]).mean().item()


def _labels(part: str) -> Tensor:
    return read_idx(data.datasets._mnist_file(f"{part}-labels-idx1-ubyte")).long()


def measured(options: argparse.Namespace, judge: dict[str, Tensor], mask: str) -> list[list[Cell]]:
    return Bench(options, judge).measure(mask)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--conditional", default="mnist-complete")
    parser.add_argument("--regression", type=Path)
    parser.add_argument("--only", nargs="+", help="some of the ways, by the names in the tables")
    parser.add_argument("--quick", action="store_true", help="32 images, 16 draws, fast ways only")
    parser.add_argument("--processes", type=int, default=1, help="masks measured at once")
    options, report = Report.begin(parser)
    bench = Bench(options, None)
    judge = bench.classify.state_dict()
    jobs = (delayed(measured)(options, judge, mask) for mask in bench.masks)
    found = [row for rows in Parallel(options.processes)(jobs) for row in rows]
    few = f"ways that end in * see the first {min(FEW, bench.count)} of {bench.count} images"
    names = ["rows 5..11", "top", "left", "rows 9..18", "75%", "90%"]
    ways = dict.fromkeys(row[1] for row in found if row[2] is not None)
    report.table(
        "psnr",
        "PSNR over the missing pixels, dB, mean over images",
        ["way", *names],
        [[way, *(row[2] for row in found if row[1] == way)] for way in ways],
        few,
    )
    report.table(
        "details",
        "Each mask, each way",
        ["missing", "way", "PSNR", "SSIM", "log p", "coverage", "accuracy", "ms an image"],
        found,
        few + "; log p is of the first 100",
    )
    if bench.rival:
        report.table("rival", "The regression", ["processor minutes", "steps"], [bench.rival])


if __name__ == "__main__":
    main()
