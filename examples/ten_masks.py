"""Ten kinds of damage, ten digits each
====================================

The masks of the NICE paper (Dinh, Krueger, Bengio 2015, figure 6) on 8x8 digits that the model
never saw: what is orange was not measured.
"""

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import ListedColormap

import likely
from likely import data
from likely.restore import psnr

observed = {name: torch.ones(8, 8, dtype=torch.bool) for name in ("top", "bottom", "left", "right")}
observed["top"][:4] = False
observed["bottom"][4:] = False
observed["left"][:, :4] = False
observed["right"][:, 4:] = False
pixels = torch.arange(64).reshape(8, 8)
observed["odd pixels"] = pixels % 2 == 0
observed["even pixels"] = pixels % 2 == 1
observed["middle rows"] = ((pixels // 8) - 3.5).abs() > 1.5
observed["middle columns"] = ((pixels % 8) - 3.5).abs() > 1.5
generator = torch.Generator().manual_seed(0)
for percent in (75, 90):
    observed[f"{percent}%"] = torch.rand(8, 8, generator=generator) >= percent / 100

# %%
# Restore, and measure how far the missing pixels are from the truth, in dB, over 50 digits.

flow = likely.load("digits")
truth = data.digits().test[:50] / 16
rows = []
for name, mask in observed.items():
    # The missing pixels start from grey: nothing of the truth is known there.
    damaged = torch.where(mask, truth, 0.5)
    result = likely.inpaint(flow, damaged, mask)
    assert torch.equal(result.image[:, :, mask], truth[:, :, mask])  # bit by bit
    missing = (~mask).expand(truth.shape)
    print(f"{name:15} {psnr(result.image, truth, missing).mean():5.2f} dB")
    rows.append((name, torch.where(mask, truth, torch.nan), result.image))

# %%
# One row a mask; left what was measured, right what was restored.


def sheet(images: list[torch.Tensor]) -> torch.Tensor:
    """Ten digits side by side, a row of them for each mask, with grey lines between."""
    framed = [torch.nn.functional.pad(i[:10, 0], (0, 1, 0, 1), value=0.4) for i in images]
    return torch.cat([torch.cat(list(i), dim=1) for i in framed])


grey = ListedColormap(plt.get_cmap("gray")(range(256)))
grey.set_bad("#d95f02")
figure, axes = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained", sharey=True)
for axis, k, title in zip(axes, (1, 2), ("measured", "restored"), strict=True):
    axis.imshow(sheet([row[k] for row in rows]).numpy(), cmap=grey, vmin=0, vmax=1)
    axis.set(title=title, xticks=[])
axes[0].set_yticks([9 * k + 4 for k in range(len(rows))], [row[0] for row in rows])
plt.show()
