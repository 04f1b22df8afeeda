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
from regression import network, predict
from report import Report
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


def classifier(train: Tensor, labels: Tensor, epochs: int = 3) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 32, 5, 2, 2), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(64 * 49, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10),
    )  # fmt: skip
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--conditional", default="mnist-complete")
    parser.add_argument("--regression", type=Path)
    parser.add_argument("--only", nargs="+", help="some of the ways, by the names in the tables")
    parser.add_argument("--quick", action="store_true", help="32 images, 16 draws, fast ways only")
    options, report = Report.begin(parser)
    torch.set_num_threads(1)
    count, draws = (32, 16) if options.quick else (options.images, DRAWS)
    rows = data.mnist()
    train, levels = rows.train / 255, rows.test[:count]
    truth = levels / 255
    ink = (rows.train != rows.train[:1]).any(0)
    labels = read_idx(data.datasets._mnist_file("t10k-labels-idx1-ubyte"))[:count].long()
    of_training = read_idx(data.datasets._mnist_file("train-labels-idx1-ubyte"))[:-5000].long()
    classify = classifier(train, of_training, 1 if options.quick else 3)
    saved = options.regression and torch.load(options.regression, weights_only=True)
    rival = network() if saved else None
    if saved:
        rival.load_state_dict(saved["net"])
    exact = likely.load(options.conditional).requires_grad_(False)
    flow = exact.frozen(torch.bfloat16)
    ways = Ways(train, exact, likely.load("mnist-nice"), rival)
    noise = torch.rand(truth.shape, generator=torch.Generator().manual_seed(1))

    def right(x: Tensor) -> float:
        with torch.no_grad():
            return (classify(x).argmax(1) == labels[: len(x)]).float().mean().item()

    def of_levels(x: Tensor, observed: Tensor) -> float:
        written = (x[:100] * 255).round().clamp(0, 255) / 255
        return exact.log_prob_given(written, observed[:100]).mean().item()

    psnrs: dict[str, list[float | None]] = {}
    details = []
    for mask, observed in masks(count).items():

        def note(
            way: str, x: Tensor, seconds: float, cover: float | None = None, nats: float | None = None
        ) -> None:
            few = len(x)
            t, o = truth[:few], observed[:few]
            value = psnr(x, t, ~o).mean().item()
            psnrs.setdefault(way, []).append(value)
            if nats is None:
                nats = of_levels(x, o)
            details.append([mask, way, value, ssim(x, t), nats, cover, right(x), 1000 * seconds / few])

        for way, restore in ways.named().items():
            if (options.quick and way.endswith("*")) or (options.only and way not in options.only):
                continue
            few = min(FEW, count) if way.endswith("*") else count
            begin = time.process_time()
            restored = restore(truth[:few].masked_fill(~observed[:few], 0), observed[:few])
            note(way, restored, time.process_time() - begin)
        if not options.only or "completions" in options.only:
            begin = time.process_time()
            c = likely.complete(flow, truth, observed, n=draws, seed=0)
            seconds = time.process_time() - begin
            where = ~observed & ink
            dequantised = (levels + noise) / 256
            inside = (c.quantile(0.05) <= dequantised) & (dequantised <= c.quantile(0.95))
            cover = inside[where].float().mean().item()
            note(f"mean of {draws} completions", c.mean, seconds, cover)
            nats = c.log_prob[:, :100].mean().item()
            note("one completion", c.samples[0], seconds / draws, None, nats)
        details.append(
            [mask, "the original", None, 1.0, of_levels(truth, observed), None, right(truth), None]
        )
        print(f"{mask}: " + ", ".join(f"{way} {v[-1]:.2f}" for way, v in psnrs.items()), flush=True)

    few = f"ways that end in * see the first {min(FEW, count)} of {count} images"
    names = ["rows 5..11", "top", "left", "rows 9..18", "75%", "90%"]
    report.table(
        "psnr",
        "PSNR over the missing pixels, dB, mean over images",
        ["way", *names],
        [[way, *values] for way, values in psnrs.items()],
        few,
    )
    report.table(
        "details",
        "Each mask, each way",
        ["missing", "way", "PSNR", "SSIM", "log p", "coverage", "accuracy", "ms an image"],
        details,
        few + "; log p is of the first 100",
    )
    if saved:
        report.table(
            "rival",
            "The regression",
            ["processor minutes", "steps"],
            [[float(saved["minutes"]), int(saved["steps"])]],
        )


if __name__ == "__main__":
    main()
