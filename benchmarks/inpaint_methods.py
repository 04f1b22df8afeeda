"""Which method restores best: log p, hole-only PSNR and seconds, on MNIST test images.

    LIKELY_DATA=... python benchmarks/inpaint_methods.py --model mnist --number 64

The hole is rows 5..11, columns 5..19. Every method starts from the same damaged images, set to 1.0 in
the hole, and the seconds are of one run in turn on this machine.
"""

from __future__ import annotations

import argparse
import time

import torch

import likely
from likely import data
from likely.restore import psnr
from likely.solvers import Annealed, ProjectedAdam, ProjectedGradient


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="mnist")
    parser.add_argument("--number", type=int, default=64)
    parser.add_argument(
        "--lr", type=float, nargs="*", default=[0.01, 0.03, 0.1], help="of ProjectedAdam"
    )
    parser.add_argument("--steps", type=int, nargs="*", default=[100, 300], help="of ProjectedAdam")
    parser.add_argument("--paper-steps", type=int, default=2000, help="of Annealed; 0 to leave it out")
    options = parser.parse_args()

    flow = likely.load(options.model)
    truth = data.mnist().test[: options.number] / 255
    observed = torch.ones(28, 28, dtype=torch.bool)
    observed[5:12, 5:20] = False
    missing = (~observed).expand(truth.shape)
    damaged = truth.masked_fill(missing, 1.0)

    runs = {"plain recipe": (ProjectedGradient(), "given")}
    if options.paper_steps:
        runs["paper's recipe"] = (Annealed(steps=options.paper_steps), "uniform")
    for lr in options.lr:
        for steps in options.steps:
            runs[f"adam lr={lr:g} steps={steps}"] = (ProjectedAdam(lr=lr, steps=steps), "given")
    with torch.no_grad():
        print(f"mean log p of the originals {flow.log_prob(truth).mean():.1f} nats")
    print(f"{'method':28} {'log p':>8} {'PSNR':>6} {'seconds':>8} {'stationarity, median':>20}")
    for name, (method, start) in runs.items():
        begin = time.perf_counter()
        result = likely.inpaint(flow, damaged, observed, method=method, start=start, seed=0)
        seconds = time.perf_counter() - begin
        quality = psnr(result.image, truth, missing).mean()
        print(
            f"{name:28} {result.log_prob.mean():8.1f} {quality:6.2f} {seconds:8.1f} "
            f"{result.stationarity.median():20.3g}",
            flush=True,
        )


if __name__ == "__main__":
    main()
