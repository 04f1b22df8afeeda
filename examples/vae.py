"""Autoencoders with discrete latents
==================================

Variational autoencoders whose latents are bits, which reparameterisation cannot train::

    python examples/vae.py                          # the digits of scikit-learn, under a minute
    python examples/vae.py --data mnist --steps 3000 --latents 64 --width 400

Bernoulli latents are trained by the score function, with the leave-one-out baseline and without one;
Gaussian latents along the path, and by sticking the landing. All four through `likely.elbo`, on black
and white pixels, with the same networks, steps and learning rate. Prints the test bound in nats and the
variance of the gradient, and draws both.
"""

from __future__ import annotations

import argparse
import math
import time

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal
from torch.nn import functional as F

import likely
from likely.seeds import borrowed_global_state, seed_borrowed

WAYS = {
    "Bernoulli, score, no baseline": ("score", "none"),
    "Bernoulli, score, leave-one-out": ("score", "loo"),
    "Gaussian, path": ("path", None),
    "Gaussian, sticking the landing": ("stl", None),
}


class VAE(nn.Module):
    """An encoder to the parameters of q(z | x), a decoder to the logits of p(x | z)."""

    def __init__(self, pixels: int, latents: int, width: int, discrete: bool) -> None:
        super().__init__()
        self.discrete = discrete
        outputs = latents if discrete else 2 * latents
        self.encoder = nn.Sequential(nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, outputs))
        self.decoder = nn.Sequential(nn.Linear(latents, width), nn.ReLU(), nn.Linear(width, pixels))
        self.latents = latents

    def q(self, x: Tensor) -> Distribution:
        """The law of z for each picture."""
        h = self.encoder(2 * x - 1)
        if self.discrete:
            return Independent(Bernoulli(logits=h), 1)
        mean, raw = h.chunk(2, dim=-1)
        return Independent(Normal(mean, F.softplus(raw) + 1e-3), 1)

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        """`log p(x | z) + log p(z)`, with fair coins or standard normal latents."""
        if self.discrete:
            prior = torch.full(z.shape[:-1], -self.latents * math.log(2))
        else:
            prior = -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)
        logits = self.decoder(z)
        return prior + (x * logits - F.softplus(logits)).sum(-1)

    def bound(self, x: Tensor, n: int, grad: str | None, baseline: str | None, seed: int) -> Tensor:
        """The evidence lower bound of each picture, from n draws."""
        q, how = self.q(x), {"baseline": baseline, "seed": seed, "batched": True}
        return likely.elbo(lambda z: self.log_joint(x, z), q, n, grad, **how).mean


def spread(model: VAE, x: Tensor, n: int, grad: str, baseline: str | None) -> float:
    """The variance of the encoder's gradient on one batch, summed over its entries."""
    found = []
    for seed in range(24):
        model.zero_grad()
        model.bound(x, n, grad, baseline, seed).mean().backward()
        found.append(torch.cat([p.grad.flatten() for p in model.encoder.parameters()]))
    return float(torch.stack(found).var(0).sum())


def train(options: argparse.Namespace, train_x: Tensor, test_x: Tensor, way: str) -> dict[str, list]:
    """Train one model, and keep its test bound and gradient variance along the way."""
    grad, baseline = WAYS[way]
    with borrowed_global_state():
        seed_borrowed(0)
        model = VAE(train_x.shape[1], options.latents, options.width, way.startswith("Bernoulli"))
    optimiser = torch.optim.Adam(model.parameters(), lr=options.lr)
    order = torch.Generator().manual_seed(0)
    curve: dict[str, list] = {"step": [], "bound": [], "variance": []}
    for step in range(options.steps + 1):
        if step % max(1, options.steps // 10) == 0:
            with torch.no_grad():
                bound = model.bound(test_x, 4, None, None, step).mean().item()
            curve["step"].append(step)
            curve["bound"].append(bound)
            curve["variance"].append(spread(model, train_x[:64], options.n, grad, baseline))
        x = train_x[torch.randint(len(train_x), (options.batch,), generator=order)]
        optimiser.zero_grad()
        (-model.bound(x, options.n, grad, baseline, step).mean()).backward()
        optimiser.step()
    return curve


def draw(curves: dict[str, dict[str, list]], path: str) -> None:
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for name, curve in curves.items():
        left.plot(curve["step"], curve["bound"], marker=".", label=name)
        right.plot(curve["step"], curve["variance"], marker=".", label=name)
    left.set_ylabel("test bound, nats a picture")
    # The start, of unlearned pixels, would flatten all that follows.
    later = [b for curve in curves.values() for b in curve["bound"][1:]]
    left.set_ylim(min(later) - 1, max(later) + 1)
    right.set_ylabel("variance of the encoder's gradient")
    right.set_yscale("log")
    for axis in (left, right):
        axis.set_xlabel("step")
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize="small")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="digits", choices=["digits", "mnist"])
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--latents", type=int, default=24)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--n", type=int, default=4, help="draws of z for each picture")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("-o", "--output", default="vae.png")
    options = parser.parse_args()
    data = likely.data.load_data(options.data)
    train_x, test_x = ((2 * x.flatten(1).int() >= data.levels).float() for x in (data.train, data.test))
    curves = {}
    for name in WAYS:
        begin = time.perf_counter()
        curves[name] = train(options, train_x, test_x, name)
        print(
            f"{name:32} test bound {curves[name]['bound'][-1]:8.2f} nats, gradient variance at the end "
            f"{curves[name]['variance'][-1]:9.4g}, {time.perf_counter() - begin:.0f} s",
            flush=True,
        )
    draw(curves, options.output)


if __name__ == "__main__":
    main()
