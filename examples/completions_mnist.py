"""Completions of MNIST digits
===========================

Test images with parts missing, and what the model that ships draws for them: ``LIKELY_DATA=... python
examples/completions_mnist.py completions.png``
"""

from __future__ import annotations

import sys

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import likely
from likely import data


def masks() -> dict[str, tuple[int, torch.Tensor]]:
    """Which test image, and its mask (28, 28), True where pixels are measured."""
    generator = torch.Generator().manual_seed(0)
    observed = {
        name: torch.ones(28, 28, dtype=torch.bool) for name in ("top", "left", "middle", "hole")
    }
    observed["top"][:14] = False
    observed["left"][:, :14] = False
    observed["middle"][9:19] = False
    observed["hole"][5:12, 5:20] = False
    observed["90%"] = torch.rand(28, 28, generator=generator) >= 0.9
    return dict(zip(observed, zip((8, 61, 7, 6, 4), observed.values(), strict=True), strict=True))


def main() -> None:
    flow = likely.load("mnist-complete")
    test = data.mnist().test / 255
    kinds = masks()
    titles = [
        "original",
        "measured",
        "mean of 64",
        "90% width",
        *[f"completion {i}" for i in range(1, 6)],
    ]
    figure = Figure(figsize=(9.6, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(kinds), len(titles))
    for row, (name, (which, observed)) in zip(axes, kinds.items(), strict=True):
        image = test[which : which + 1]
        c = likely.complete(flow, image, observed, n=64, seed=0)
        width = c.quantile(0.95) - c.quantile(0.05)
        shown = [image, image.masked_fill(~observed, torch.nan), c.mean, width, *c.samples[:5]]
        for axis, picture, title in zip(row, shown, titles, strict=True):
            axis.set_facecolor("#d95f02")
            colours = "magma" if title == "90% width" else "gray"
            axis.imshow(picture[0, 0].numpy(), cmap=colours, vmin=0, vmax=1, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(name)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    figure.savefig(sys.argv[1], dpi=100)


if __name__ == "__main__":
    main()
