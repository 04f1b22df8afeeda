"""Descending through randomness
=============================

The stochastic programme E[X sin X] + (mu - 1)^2 / 2 + sigma - log sigma, X normal with mean mu and
standard deviation sigma = e^tau, has a global minimum (star), a local one (dot) and a saddle
between them (cross). Stochastic gradient descent, 16 draws a step, from four starts: by the score
function and along the reparameterised path. :doc:`The theory </theory_programme>` gives the closed
form drawn here, and both variances.
"""

import math

import matplotlib.pyplot as plt
import torch
from torch.distributions import Normal

import likely


def wave(x: torch.Tensor) -> torch.Tensor:
    return x * x.sin()


def rest(mu: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
    """The part of the objective that needs no draws."""
    return (mu - 1).square() / 2 + tau.exp() - tau


def descend(grad: str, steps: int = 1000) -> torch.Tensor:
    """Return the paths of (mu, sigma) from four starts, worked on as a batch: (steps + 1, 2, 4)."""
    mu = torch.tensor([0.0, 1.0, 0.0, 2.0])
    tau = torch.tensor([1.0, 1.0, math.e, 1.0]).log()
    track = [torch.stack([mu, tau.exp()])]
    for k in range(steps):
        mu.requires_grad_()
        tau.requires_grad_()
        noisy = likely.expect(wave, Normal(mu, tau.exp()), 16, grad=grad, seed=k, batched=True).mean
        slopes = torch.autograd.grad((noisy + rest(mu, tau)).sum(), [mu, tau])
        rate = 0.1 / (1 + 9 * k / steps)  # falls to a tenth, so that the noise settles
        mu, tau = ((t - rate * g.clamp(-5, 5)).detach() for t, g in zip((mu, tau), slopes, strict=True))
        track.append(torch.stack([mu, tau.exp()]))
    return torch.stack(track)


paths = {"score function": descend("score"), "reparameterised path": descend("path")}
for name, path in paths.items():
    print(
        f"{name}: ends at (mu, sigma) =",
        [tuple(round(v, 2) for v in end) for end in path[-1].T.tolist()],
    )

# %%

mu, sigma = torch.meshgrid(torch.linspace(-0.6, 2.6, 200), torch.linspace(0.2, 3.2, 200), indexing="xy")
exact = (-(sigma**2) / 2).exp() * (mu * mu.sin() + sigma**2 * mu.cos()) + rest(mu, sigma.log())
points = {"global minimum": (1.3667, 1.9622, "*"), "local minimum": (0.4423, 0.6065, "o")}
points["saddle"] = (0.8630, 1.1743, "x")

figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained", sharey=True)
for axis, (name, path) in zip(axes, paths.items(), strict=True):
    axis.contour(mu, sigma, exact, levels=40, vmax=6, cmap="Greys_r", linewidths=0.6)
    for start in path.unbind(2):
        axis.plot(*start.T, color="#1b6ca8", lw=0.8, alpha=0.8)
        axis.plot(*start[0], ".", color="#1b6ca8", ms=8)
    for label, (x, y, marker) in points.items():
        axis.plot(x, y, marker, color="#d95f02", ms=9, zorder=3, label=label)
    axis.set(title=name, xlabel="mu", xlim=(-0.6, 2.6), ylim=(0.2, 3.2))
axes[0].set_ylabel("sigma")
axes[0].legend(loc="lower right", fontsize="small")
plt.show()
