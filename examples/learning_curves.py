"""Learning curves
===============

Every checkpoint carries its learning curve; these are of the models that ship. NICE is trained under
dropout, so its line of training may lie below the held-out one. For others, give their names or files:
``python examples/learning_curves.py mnist full.safetensors``
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt

from likely.checkpoints import read_card

names = sys.argv[1:] or ["digits", "mnist", "mnist-nice"]
figure, axes = plt.subplots(
    1, len(names), figsize=(4.5 * len(names), 3.4), layout="constrained", squeeze=False
)
for axis, name in zip(axes[0], names, strict=True):
    card = read_card(name)
    curve = card["learning_curve"]
    steps = [h["step"] for h in curve]
    valid = [h["valid"] for h in curve]
    axis.plot(steps, valid, color="C0", label="held out")
    axis.plot(steps, [h["train"] for h in curve], color="C0", ls=":", label="training")
    axis.axhline(
        card["test_nats"], color="#d95f02", lw=0.8, label=f"test: {card['test_nats']:.1f} nats"
    )
    # The first steps fall far below; what is of interest is the end.
    middle = sorted(valid)[len(valid) // 4]
    axis.set_ylim(middle - (max(valid) - middle), max(card["train_nats"], max(valid)) + 5)
    axis.set(title=Path(name).stem, xlabel="step", ylabel="log-likelihood, nats")
    axis.legend(fontsize=8, loc="lower right", frameon=False)
plt.show()
