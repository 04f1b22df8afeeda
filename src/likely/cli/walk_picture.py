"""Walks under several laws side by side, coloured by weight."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from likely.files import write_whole
from likely.walks import Functional, Walk

WALKS = 150


def draw(out: Path, p: Walk, event: Functional, laws: Mapping[str, Walk], seed: int) -> None:
    """Write a picture, a panel a law: walks that miss in grey, others in the colour of w = p / q."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    columns = min(3, len(laws))
    rows = -(-len(laws) // columns)
    figure = Figure(figsize=(4.5 * columns, 3.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    colours = colormaps["viridis"]
    for axis, (name, law) in zip(axes.flat, laws.items(), strict=False):
        x = law.sample(WALKS, seed=seed)
        log10 = (p.log_prob(x) - law.log_prob(x)).detach() / torch.tensor(10.0).log()
        hit = event(x).bool()
        seen = log10[hit] if hit.any() else log10.new_zeros(1)
        scale = Normalize(float(seen.min()) - 0.05, float(seen.max()) + 0.05)
        for path, value, counts in zip(_until_stop(x), log10.tolist(), hit.tolist(), strict=True):
            colour = colours(scale(value)) if counts else "#c8c8c8"
            axis.plot(path.numpy(), lw=0.7, color=colour, alpha=0.8, zorder=2 if counts else 1)
        for level in (p.geometry.low, p.geometry.high):
            if level is not None:
                axis.axhline(level, color="#d95f02", lw=1.2)
        axis.set_title(f"{name}: {int(hit.sum())} of {WALKS} reach the target", fontsize="medium")
        if hit.any():
            figure.colorbar(ScalarMappable(scale, colours), ax=axis, pad=0.01, label="log10 weight")
    for axis in axes.flat[len(laws) :]:
        axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("games")
    for axis in axes[:, 0]:
        axis.set_ylabel("fortune")
    content = io.BytesIO()
    figure.savefig(content, format=out.suffix[1:].lower(), dpi=110)
    write_whole(out, content.getvalue())


def _until_stop(x: Tensor) -> list[Tensor]:
    """Return the states of each path up to its stop, after which it only repeats itself."""
    ends = [int((path != path[-1]).nonzero().max()) + 2 for path in x]
    return [path[:end] for path, end in zip(x, ends, strict=True)]
