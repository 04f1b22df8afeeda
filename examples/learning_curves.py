"""Draw the learning curves that checkpoints carry.

python examples/learning_curves.py curves.png mnist full.safetensors
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from likely.checkpoints import read_card


def main() -> None:
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    lowest = float("inf")
    for i, name in enumerate(sys.argv[2:]):
        card = read_card(name)
        curve = card["learning_curve"]
        steps = [h["step"] for h in curve]
        axis.plot(
            steps, [h["valid"] for h in curve], color=f"C{i}", label=f"{Path(name).stem}, held out"
        )
        axis.plot(
            steps, [h["train"] for h in curve], color=f"C{i}", ls=":", label="training, with dropout"
        )
        axis.axhline(card["test_nats"], color=f"C{i}", lw=0.7)
        axis.annotate(
            f"test {card['test_nats']:.1f}",
            (steps[0], card["test_nats"]),
            color=f"C{i}",
            va="bottom",
        )
        lowest = min(lowest, card["test_nats"])
    axis.set_ylim(lowest - 420, lowest + 220)
    axis.set_xlabel("step")
    axis.set_ylabel("log-likelihood, nats")
    axis.legend(fontsize=8, loc="lower right")
    figure.savefig(sys.argv[1], dpi=110)


if __name__ == "__main__":
    main()
