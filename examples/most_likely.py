"""The most likely point, the mean, and the typical ones
=====================================================

What ``likely.inpaint`` returns is where the density given the measured values is highest. That is
neither the mean of what may be missing nor a typical case of it. Both differences are seen in laws
that are known exactly; :doc:`the theory </theory_restoration>` proves them.
"""

import math

import matplotlib.pyplot as plt
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

import likely
from likely import solvers

# %%
# One missing value. Given what was measured, it comes from a narrow peak with probability 0.3 and
# from a broad hill with probability 0.7. The most likely value is in the narrow peak, and a search
# finds it only if it starts near. The mean has the least squared error, and lies where the density
# is low.

law = MixtureSameFamily(
    Categorical(torch.tensor([0.3, 0.7])),
    Normal(torch.tensor([0.2, 0.7]), torch.tensor([0.02, 0.1])),
)


def density(x: torch.Tensor) -> torch.Tensor:
    """Log p of (measured, missing): the measured value is uniform, and tells nothing."""
    return law.log_prob(x[:, 1])


start = torch.tensor([[0.5, 0.1], [0.5, 0.9]])
search = solvers.ProjectedGradient(lr=2e-4, steps=500)  # short steps: each search stays on its hill
found = likely.inpaint(density, start, torch.tensor([True, False]), method=search)
best = found.image[found.log_prob.argmax(), 1].item()
mean = likely.expect(lambda x: x, law, n=100_000, seed=0)
print(f"ends of two searches: {found.image[:, 1].tolist()}, log p {found.log_prob.tolist()}")
print(f"most likely {best:.3f}, mean {mean.mean:.3f} +- {mean.stderr:.3f}, exact mean {law.mean:.3f}")
for name, x in (("most likely", torch.tensor(best)), ("mean", law.mean)):
    error = likely.expect(lambda y, x=x: (y - x).square(), law, n=100_000, seed=1)
    print(f"mean squared error of the {name}: {error.mean:.4f} +- {error.stderr:.4f}")

# %%
# Many missing values. Of a standard normal law in d dimensions the most likely point is 0, and
# draws are at a distance of about sqrt(d) from it: their log p is lower by d/2, give or take
# sqrt(d/2). No draw looks like the most likely point, which has none of the noise that all draws
# have.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
x = torch.linspace(0, 1, 500)
left.plot(x, law.log_prob(x).exp(), color="black")
left.axvline(best, color="#d95f02", label="most likely")
left.axvline(law.mean, color="#1b6ca8", label="mean")
left.set(title="one missing value", xlabel="x", ylabel="density given what was measured")
left.legend(frameon=False)

generator = torch.Generator().manual_seed(0)
for k, d in enumerate((10, 100, 1000)):
    draws = torch.randn(5000, d, generator=generator)
    below = draws.square().sum(1) / 2  # log p of the mode less log p of the draw
    right.hist(below / d, bins=60, density=True, histtype="step", color=f"C{k}", label=f"d = {d}")
    print(f"d = {d:4}: draws lie {below.mean():6.1f} nats below the mode, d/2 = {d / 2}")
    assert abs(below.mean() - d / 2) < 4.8916 * math.sqrt(d / 2 / len(draws))
right.set(title="d missing values", xlabel="nats below the most likely point, over d", ylabel="density")
right.set_xlim(0, 1.5)
right.legend(frameon=False)
plt.show()
