"""What is most likely missing
===========================

Digits that the model never saw, with a hole; restored by the plain recipe, 300 gradient steps of
1e-3, and by the default method. Both keep every measured pixel, and the numbers below the pictures
are log p in nats. The most likely completion is *one* guess: sometimes it is another digit than the
one that was there.
"""

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import ListedColormap

import likely
from likely import data, solvers

flow = likely.load("digits")
truth = data.digits().test[:10] / 16
observed = torch.ones(8, 8, dtype=torch.bool)
observed[2:5, 2:6] = False
damaged = torch.where(observed, truth, 1.0)

plain = likely.inpaint(flow, damaged, observed, method=solvers.ProjectedGradient(lr=1e-3, steps=300))
found = likely.inpaint(flow, damaged, observed)
for result in (plain, found):
    assert torch.equal(result.image[:, :, observed], truth[:, :, observed])  # bit by bit
    assert ((result.image >= 0) & (result.image <= 1)).all()

# %%

grey = ListedColormap(plt.get_cmap("gray")(range(256)))
grey.set_bad("#d95f02")
rows = {
    "original": (truth, flow.log_prob(truth)),
    "measured": (torch.where(observed, truth, torch.nan), None),
    "plain recipe": (plain.image, plain.log_prob),
    "default": (found.image, found.log_prob),
}
figure, axes = plt.subplots(4, 10, figsize=(9, 4.4), layout="constrained")
for line, (name, (images, log_prob)) in zip(axes, rows.items(), strict=True):
    for k, axis in enumerate(line):
        axis.imshow(images[k, 0].numpy(), cmap=grey, vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
        if log_prob is not None:
            axis.set_xlabel(f"{log_prob[k]:.0f}", fontsize=8)
    line[0].set_ylabel(name)
plt.show()
