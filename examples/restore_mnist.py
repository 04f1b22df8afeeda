"""Six kinds of damage, one model
==============================

MNIST test images restored by the default method: ``LIKELY_DATA=... python examples/restore_mnist.py
mnist.png``
"""

from __future__ import annotations

import sys

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import likely
from likely import data
from likely.restore import psnr


def masks() -> dict[str, torch.Tensor]:
    """Six masks (28, 28), True where pixels are measured."""
    generator = torch.Generator().manual_seed(0)
    observed = {
        name: torch.ones(28, 28, dtype=torch.bool) for name in ("hole", "top", "left", "middle")
    }
    observed["hole"][5:12, 5:20] = False
    observed["top"][:14] = False
    observed["left"][:, :14] = False
    observed["middle"][9:19] = False
    for percent in (75, 90):
        observed[f"{percent}%"] = torch.rand(28, 28, generator=generator) >= percent / 100
    return observed


def main() -> None:
    flow = likely.load("mnist-nice")
    truth = data.mnist().test[:6] / 255
    kinds = masks()
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 6)
    axes[0, 0].set_ylabel("original")
    axes[1, 0].set_ylabel("measured")
    axes[2, 0].set_ylabel("restored")
    for column, (name, observed) in enumerate(kinds.items()):
        image = truth[column : column + 1]
        # Missing pixels start from grey; only measured ones are looked at.
        damaged = torch.where(observed, image, torch.full_like(image, 0.5))
        result = likely.inpaint(flow, damaged, observed)
        quality = psnr(result.image, image, ~observed.expand(image.shape)).item()
        print(f"{name:8} log p {result.log_prob.item():8.1f} nats, hole-only PSNR {quality:5.2f} dB")
        shown = torch.where(observed, image, torch.full_like(image, torch.nan))
        for row, picture in enumerate((image, shown, result.image)):
            axis = axes[row, column]
            axis.set_facecolor("#d95f02")
            axis.imshow(picture[0, 0].numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
        axes[0, column].set_title(name, fontsize=10)
    figure.savefig(sys.argv[1], dpi=110)


if __name__ == "__main__":
    main()
