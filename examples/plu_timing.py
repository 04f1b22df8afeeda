"""A determinant that costs nothing
================================

A matrix kept as ``A = P L (U + diag(s))`` has ``log|det A| = sum log|s_i|``: n logarithms. The
dense determinant needs a factorisation, about 2/3 n^3 operations, and its gradient an inverse.
Measured here, on one thread: log|det| with its gradient, forming A from its factors, and applying A
to 256 pixels. Where pixels are few and channels many, forming A is what remains; :doc:`the theory
</theory_glow>` counts it.
"""

import time
from collections.abc import Callable

import matplotlib.pyplot as plt
import torch

from likely import flows

threads = torch.get_num_threads()
torch.set_num_threads(1)


def seconds(run: Callable[[], object]) -> float:
    """The median time of one run, processor time, of at least five and for at least 0.05 s."""
    times: list[float] = []
    run()
    while len(times) < 5 or sum(times) < 0.05:
        begin = time.process_time()
        run()
        times.append(time.process_time() - begin)
    return sorted(times)[len(times) // 2]


sizes = [4, 8, 16, 32, 64, 128, 256, 512]
rows: dict[str, list[float]] = {
    "log|det|, PLU": [],
    "log|det|, dense": [],
    "form A": [],
    "A X, dense": [],
}
for n in sizes:
    generator = torch.Generator().manual_seed(n)
    A = torch.linalg.qr(torch.randn(n, n, generator=generator)).Q
    P, L, U, s = flows.plu_factor(A)
    s.requires_grad_()
    dense = A.clone().requires_grad_()
    X = torch.randn(n, 256, generator=generator)
    # Both are the same number.
    assert (s.abs().log().sum() - torch.linalg.slogdet(dense)[1]).abs() < 1e-5 * n
    rows["log|det|, PLU"].append(seconds(lambda s=s: torch.autograd.grad(s.abs().log().sum(), s)))
    rows["log|det|, dense"].append(
        seconds(lambda a=dense: torch.autograd.grad(torch.linalg.slogdet(a)[1], a))
    )
    with torch.no_grad():
        rows["form A"].append(seconds(lambda f=(P, L, U, s): flows.plu_compose(*f)))
        rows["A X, dense"].append(seconds(lambda a=A, x=X: a @ x))
torch.set_num_threads(threads)

# %%

print(f"{'n':>4} " + " ".join(f"{name:>16}" for name in rows) + "   microseconds")
for k, n in enumerate(sizes):
    print(f"{n:4} " + " ".join(f"{1e6 * times[k]:16.1f}" for times in rows.values()))

figure, axis = plt.subplots(figsize=(7, 3.8), layout="constrained")
for name, times in rows.items():
    axis.loglog(sizes, times, "o-", ms=4, label=name, ls="-" if name.startswith("log") else ":")
axis.set(xlabel="channels n", ylabel="seconds")
axis.set_xticks(sizes, sizes)
axis.legend(frameon=False)
plt.show()
