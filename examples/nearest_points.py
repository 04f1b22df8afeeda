"""Projecting in turn does not find the nearest point
==================================================

Two half-planes, and a point outside of both. Projecting onto one after the other ends in their
intersection, but not at its nearest point; Dykstra's algorithm, which remembers the normals, does.
:doc:`The theory </theory_projections>` says why it matters for projected gradients.
"""

import matplotlib.pyplot as plt
import torch

from likely import sets

y = torch.tensor([[1.5, 1.0]], dtype=torch.float64)
low = sets.Halfspace(torch.tensor([0.0, 1.0]), 0.0)  # x_2 <= 0
slanted = sets.Halfspace(torch.ones(2), 1.0)  # x_1 + x_2 <= 1
first = low.project(y)
in_turn = slanted.project(first)
nearest = (low & slanted).project(y)
for name, x in (("in turn", in_turn), ("nearest", nearest)):
    print(f"{name}: {x[0].round(decimals=9).tolist()}, at distance {(x - y).norm():.4f}")
    assert (low & slanted).violation(x).item() < 1e-9
assert (nearest - y).norm() < (in_turn - y).norm()

# %%

figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
axis.fill([-0.5, 1.0, 2.5, -0.5], [0.0, 0.0, -1.5, -1.5], color="#dddddd", lw=0)
axis.text(0.1, -0.6, "allowed")
for name, color, points in (
    ("in turn", "#1b6ca8", [y, first, in_turn]),
    ("nearest", "#d95f02", [y, nearest]),
):
    axis.plot(*torch.cat(points).T, "o-", color=color, label=name)
axis.annotate("y", y[0], xytext=(6, 4), textcoords="offset points")
axis.set(xlim=(-0.5, 2.2), ylim=(-1.1, 1.3), aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
axis.legend(frameon=False, loc="upper left")
plt.show()
