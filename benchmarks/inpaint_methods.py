"""Which method restores best: log p, hole-only PSNR and seconds, on MNIST test images.

    LIKELY_DATA=... python benchmarks/inpaint_methods.py --model mnist-nice --number 64

The hole is rows 5..11, columns 5..19. Every method starts from the same damaged images, set to 1.0 in
the hole, and the seconds are those of the processor, of one run each.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch
from report import Report

import likely
from likely import data
from likely.restore import psnr
from likely.solvers import Annealed, ProjectedAdam, ProjectedGradient


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="mnist-nice")
    parser.add_argument("--number", type=int, default=64)
    parser.add_argument(
        "--lr", type=float, nargs="*", default=[0.01, 0.03, 0.1], help="of ProjectedAdam"
    )
    parser.add_argument("--steps", type=int, nargs="*", default=[100, 300], help="of ProjectedAdam")
    parser.add_argument("--paper-steps", type=int, default=2000, help="of Annealed; 0 to leave it out")
    options, report = Report.begin(parser)

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
    rows = []
    for name, (method, start) in runs.items():
        begin = time.process_time()
        result = likely.inpaint(flow, damaged, observed, method=method, start=start, seed=0)
        seconds = time.process_time() - begin
        quality = psnr(result.image, truth, missing).mean().item()
        found = [result.log_prob.mean().item(), quality, seconds, result.stationarity.median().item()]
        rows.append([name, *found])
        print(rows[-1], file=sys.stderr, flush=True)
    with torch.no_grad():
        originals = flow.log_prob(truth).mean().item()
    report.table(
        "methods",
        "Methods of restoration",
        ["method", "log p", "PSNR", "seconds", "stationarity, median"],
        rows,
        f"{options.model}, {options.number} MNIST test images, rows 5..11, columns 5..19 missing; mean "
        f"nats and dB, seconds of processor time. The originals have {originals:.1f} nats.",
    )


if __name__ == "__main__":
    main()
