"""How fast a picture is restored, side by side with plain PyTorch, for a full-size NICE on MNIST.

    likely train --data mnist --model nice --dropout 0.2 --weight-decay 0.3 --steps 10000 -o NICE
    LIKELY_DATA=... python benchmarks/inpainting.py --model NICE

Each round runs, in turn and whole, with all its set-up:

- newcomer: the plain recipe as tutorials write it: eager float32, `loss.backward()`;
- careful: the same with the parameters frozen, so that no gradient is worked out for them;
- ours: `likely.inpaint` by the same recipe, in bfloat16 passes, and in float32 ones;
- race: `likely.inpaint` with sixteen steps of Adam, to pass the log p at which the plain recipe ends;
- default: `likely.inpaint` with its default method, to see how far it comes in that time.

Ratios are medians over the rounds, each of two runs of the same round.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from report import Cell, Report
from torch import Tensor

import likely
from likely import data
from likely.flows import Flow
from likely.restore import psnr
from likely.solvers import ProjectedAdam, ProjectedGradient

BF16 = torch.bfloat16
RACE = ProjectedAdam(lr=1.0, betas=(0.5, 0.9), steps=16)


def by_hand(flow: Flow, damaged: Tensor, observed: Tensor, steps: int, frozen: bool) -> Tensor:
    flow.requires_grad_(not frozen).zero_grad()
    x = damaged.clone()
    for _ in range(steps):
        x.requires_grad_()
        loss = -flow.log_prob(x).sum()
        loss.backward()
        with torch.no_grad():
            x = x - 1e-3 * x.grad
            x = torch.where(observed, damaged, x).clamp(0.0, 1.0)
    return x


def ways(flow: Flow, damaged: Tensor, observed: Tensor, steps: int) -> dict[str, Callable[[], Tensor]]:
    def ours(method: object, precision: torch.dtype) -> Callable[[], Tensor]:
        return lambda: likely.inpaint(flow, damaged, observed, method=method, precision=precision).image

    return {
        "newcomer": lambda: by_hand(flow, damaged, observed, steps, frozen=False),
        "careful": lambda: by_hand(flow, damaged, observed, steps, frozen=True),
        "ours, float32": ours(ProjectedGradient(steps=steps), torch.float32),
        "ours, bfloat16": ours(ProjectedGradient(steps=steps), BF16),
        "race": ours(RACE, BF16),
        "default": ours(ProjectedAdam(steps=steps), BF16),
    }


def compare(flow: Flow, truth: Tensor, missing: Tensor, steps: int, rounds: int) -> list[list[Cell]]:
    """Return a row for each way: seconds, times faster than both loops by hand, log p, PSNR."""
    missing = missing.expand(truth.shape)
    damaged = truth.masked_fill(missing, 1.0)
    runs = ways(flow, damaged, ~missing, steps)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    images = {}
    for i in range(rounds):
        for name, run in runs.items():
            begin = time.process_time()
            images[name] = run()
            seconds[name].append(time.process_time() - begin)
            print(
                f"\r{len(truth)} images, round {i + 1}: {name:16}", end="", file=sys.stderr, flush=True
            )
    print("\r" + " " * 50 + "\r", end="", file=sys.stderr)
    with torch.no_grad():
        log_p = {name: flow.log_prob(image).mean().item() for name, image in images.items()}
    rows = []
    for name in runs:
        faster = {
            than: round(median(a / b for a, b in zip(seconds[than], seconds[name], strict=True)), 2)
            for than in ("newcomer", "careful")
        }
        quality = psnr(images[name], truth, missing).mean().item()
        rows.append([name, median(seconds[name]), *faster.values(), log_p[name], quality])
    return rows


def scaling(
    flow: Flow, truth: Tensor, missing: Tensor, sizes: list[int], steps: int
) -> list[list[Cell]]:
    """Return a row for each number of images: milliseconds an image and step, peak MiB."""
    rows: list[list[Cell]] = []
    method = ProjectedAdam(steps=steps)
    for number in sizes:
        images = truth.repeat(-(-number // len(truth)), 1, 1, 1)[:number]
        damaged = images.masked_fill(missing, 1.0)
        begin = time.process_time()
        likely.inpaint(flow, damaged, ~missing, method=method, precision=BF16)
        seconds = time.process_time() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append([number, 1e3 * seconds / number / steps, round(peak)])
    return rows


def masks() -> dict[str, Tensor]:
    hole, half, dots = (torch.zeros(28, 28, dtype=torch.bool) for _ in range(3))
    hole[5:12, 5:20] = True
    half[:, :14] = True
    dots = torch.rand(28, 28, generator=torch.Generator().manual_seed(0)) < 0.75
    return {"rows 5..11, columns 5..19": hole, "left half": half, "75% at random": dots}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True, help="a name, such as mnist-nice, or a file")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--numbers", type=int, nargs="*", default=[1, 64], help="of images")
    parser.add_argument("--sizes", type=int, nargs="*", default=[64, 256, 1024, 4096])
    parser.add_argument("--all-masks", action="store_true", help="not the 7x15 hole alone")
    options, report = Report.begin(parser)
    torch.set_num_threads(options.threads)

    flow = likely.load(options.model)
    truth = data.mnist().test / 255
    chosen = masks() if options.all_masks else dict([next(iter(masks().items()))])
    for name, missing in chosen.items():
        for number in options.numbers:
            # Image 6 is the one of the plain recipe.
            images = truth[6:7] if number == 1 else truth[:number]
            rounds = options.rounds * (3 if number == 1 else 1)
            report.table(
                f"{name.split()[0].strip('%').lower()}-{number}",
                f"{number} picture{'s' * (number > 1)}, {name} missing",
                ["way", "seconds", "x newcomer", "x careful", "log p", "PSNR"],
                compare(flow, images, missing, options.steps, rounds),
                f"{options.model}, {options.steps} steps, {options.threads} thread(s), processor time, "
                f"medians of {rounds} round(s).",
            )
    report.table(
        "sizes",
        "The default method in bfloat16, 20 steps, chunks of 512",
        ["pictures", "ms a picture and step", "peak MiB"],
        scaling(flow, truth[:64], masks()["left half"], options.sizes, 20),
    )


if __name__ == "__main__":
    main()
