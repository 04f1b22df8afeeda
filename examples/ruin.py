"""One in a million, with an error bar
===================================

A gambler has 100, plays red at roulette, and leaves at 200, when broke, or after 600 games. The
chance to leave with 200 is 2.4 in a million: of 3,000 walks of the game itself none gets there.
Walks of another law do, and the ratio of the two likelihoods, taken up to where the walk stops,
corrects for it. :doc:`The theory </theory_walks>` proves it, and says which errors an error bar
cannot see.
"""

import matplotlib.pyplot as plt
from torch import Tensor

import likely

walk = likely.Walk(p=18 / 37, start=100, low=0, high=200, horizon=600)
event = walk.hits(200)
truth = likely.exact(event, walk).item()


def too_early(t: int, x: Tensor) -> Tensor:
    """The chance to win that would take a fortune to 200 by game 400: it aims too early."""
    return (0.5 + (200 - x) / (2 * max(400 - t, 1))).clamp(0.02, 0.98)


# %%
# The same 3,000 walks' worth of work under each law. `relative_variance` is exact and needs no draws:
# it shows what the last law's own error bar does not. That law misses most of the event, its estimate
# is a seventieth of the truth, and nothing in its sample says so.

laws = {
    "the game itself": None,
    "a tilt, 0.55": walk.tilt(0.55),
    "the best tilt, 0.588": walk.tilt(0.58807),
    "bridge": walk.bridge(200),
    "aiming too early": walk.feedback(too_early),
}
print(f"{'exact':22} {truth:.4g}")
for name, law in laws.items():
    e = likely.expect(event, walk, n=3000, via=law, seed=0)
    true_error = (walk.relative_variance(event, law) / 3000).sqrt().item()
    own = f"{e.mean:.4g} +- {e.stderr / e.mean:.2%}" if e.hits else f"at most {e.interval(0.95)[1]:.2g}"
    print(f"{name:22} {own:22} true error {true_error:.2g} of the chance, {int(e.hits):5} hits")
    if name == "bridge":
        low, high = e.interval(0.999999)
        assert low < truth < high

# %%
# Walks that miss are grey. Under the bridge nearly all arrive, and all weigh nearly the same: that is
# why its error bar is small.

shown = {"the game itself": walk, "a tilt, 0.55": laws["a tilt, 0.55"], "bridge": laws["bridge"]}
figure, axes = plt.subplots(1, 3, figsize=(9, 3.4), sharey=True, layout="constrained")
for axis, (name, law) in zip(axes, shown.items(), strict=True):
    x = law.sample(60, seed=1)
    for path, arrived in zip(x, event(x).bool(), strict=True):
        stop = int((path != path[-1]).nonzero().max()) + 2
        axis.plot(
            path[:stop].numpy(),
            color="C0" if arrived else "#bbbbbb",
            lw=0.7,
            alpha=0.8,
            zorder=2 if arrived else 1,
        )
    for level in (0, 200):
        axis.axhline(level, color="#d95f02", lw=1.2)
    axis.set_title(f"{name}: {int(event(x).sum())} of 60 arrive", fontsize="medium")
    axis.set_xlabel("games")
axes[0].set_ylabel("fortune")
plt.show()
