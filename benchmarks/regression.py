"""The rival of benchmarks/restoration.py: a masked U-Net that predicts missing pixels by least squares.

    OMP_NUM_THREADS=1 python benchmarks/regression.py --minutes 60 -o regression.pt

The network, the masks, the batches and the optimizer are those of `likely train --model masked`; only
the loss differs, the mean squared error over the missing pixels of each image, which the conditional
mean minimises. So it is about the best that such a network can do for the PSNR, and all it can do.
The budget is processor time; `--resume` goes on from the state beside the output.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from likely import data, flows

LR, BATCH, DECAY = 2e-3, 64, 0.01


def network() -> nn.Module:
    return flows.UNet(2, 1, (28, 28), width=64, depth=(1, 4, 2))


def predict(net: nn.Module, x: Tensor, observed: Tensor) -> Tensor:
    return net(torch.cat([x.masked_fill(~observed, 0), observed.to(x.dtype)], 1))


def fit(minutes: float, out: Path, resume: bool, begin_with: Path | None, peak: float) -> None:
    rows = data.mnist()
    torch.manual_seed(0 if begin_with is None else 1)
    net = network()
    before = torch.load(begin_with, weights_only=True) if begin_with else {"minutes": 0.0, "steps": 0}
    if begin_with:
        net.load_state_dict(before["net"])
    parameters = [p.detach() for p in net.parameters()]
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=DECAY, fused=True
    )
    average, step, spent = [p.clone() for p in parameters], 0, 0.0
    state_file = out.with_name(out.name + ".state")
    if resume:
        saved = torch.load(state_file, weights_only=True)
        net.load_state_dict(saved["net"])
        optimizer.load_state_dict(saved["optimizer"])
        average, step, spent = saved["average"], saved["step"], saved["spent"]
        torch.manual_seed(step)
    begin = time.process_time() - spent
    shown = spent
    while (part := (spent := time.process_time() - begin) / 60 / minutes) < 1:
        falling = 0.5 * (1 + math.cos(math.pi * max(part - 0.1, 0) / 0.9))
        lr = peak * min(1.0, part / 0.1 + 0.001) * falling
        for group in optimizer.param_groups:
            group["lr"] = lr
        x = rows.train[torch.randint(len(rows.train), (BATCH,))] / 255
        observed = ~flows.random_missing(BATCH, 28, 28)[:, None]
        with torch.autocast("cpu", torch.bfloat16):
            error = (predict(net, x, observed).float() - x).square() * ~observed
        loss = (error.flatten(1).sum(1) / (~observed).flatten(1).sum(1)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        step += 1
        torch._foreach_lerp_(average, parameters, 1 - min(0.998, step / (step + 10.0)))
        if spent - shown > 60:
            shown = spent
            print(f"{part:.1%}: step {step:,}, loss {loss.item():.4f}", flush=True)
            state = {"net": net.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state | {"average": average, "step": step, "spent": spent}, state_file)
    torch._foreach_copy_(parameters, average)
    spent_before, steps_before = before["minutes"], before["steps"]
    done = {"minutes": spent_before + minutes, "steps": steps_before + step}
    torch.save({"net": net.state_dict()} | done, out)
    state_file.unlink(missing_ok=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--out", "-o", type=Path, required=True)
    parser.add_argument("--begin", type=Path, help="begin with what an earlier run has written")
    parser.add_argument("--lr", type=float, default=LR)
    parser.add_argument("--resume", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    fit(chosen.minutes, chosen.out, chosen.resume, chosen.begin, chosen.lr)
