"""Where a digit is ambiguous, its completions differ
===================================================

What is orange was not measured. A model of the missing pixels given the measured ones draws
completions; their mean is the best single guess, and the width of their 90% intervals says where it is
good.
"""

import matplotlib.pyplot as plt
import torch

import likely
from likely import data
from likely.restore import psnr

flow = likely.load("digits-complete")
truth = data.digits().test[[11, 3, 25, 40, 62]] / 16
observed = torch.ones(8, 8, dtype=torch.bool)
observed[:4] = False  # the upper half is missing

c = likely.complete(flow, truth, observed, n=64, seed=0)
assert torch.equal(c.samples[..., observed], truth[..., observed].expand(64, -1, -1, -1))
missing = ~observed.expand(truth.shape)
print("mean of 64:    ", f"{psnr(c.mean, truth, missing).mean():.2f} dB")
print("one completion:", f"{psnr(c.samples[0], truth, missing).mean():.2f} dB")

# %%
# Draw them: the width of the intervals is nought where the measured half decides what is missing.

width = c.quantile(0.95) - c.quantile(0.05)
damaged = truth.masked_fill(missing, torch.nan)
kinds = {"original": truth, "measured": damaged, "mean of 64": c.mean}
kinds |= {f"completion {i + 1}": c.samples[i] for i in range(5)}
figure, axes = plt.subplots(len(truth), len(kinds) + 1, figsize=(9.4, 5.4), layout="constrained")
for j, (name, pictures) in enumerate(kinds.items()):
    axes[0, j].set_title(name, fontsize=9)
    for axis, picture in zip(axes[:, j], pictures, strict=True):
        axis.set_facecolor("#d95f02")
        axis.imshow(picture[0].numpy(), cmap="gray", vmin=0, vmax=1)
axes[0, -1].set_title("90% width", fontsize=9)
for axis, picture in zip(axes[:, -1], width, strict=True):
    axis.imshow(picture[0].numpy(), cmap="magma", vmin=0, vmax=1)
for axis in axes.flat:
    axis.set_xticks([])
    axis.set_yticks([])
plt.show()
