"""likely demo ruin: one rare event, drawn in seven ways."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

from rich.console import Console
from rich.table import Table
from torch import Tensor

from likely.cli.common import Messages, check_picture, print_json
from likely.cli.ruin import best_tilt
from likely.cli.walk_picture import draw
from likely.expectations import exact, expect
from likely.walks import Walk

N = 3000


@dataclass(frozen=True)
class Row:
    """How one way did: relative standard errors, as the sample has it and as it is; a 95% interval."""

    way: str
    hits: int
    mean: float
    low: float
    high: float
    error: float
    true_error: float
    seconds: float


def too_early(t: int, x: Tensor) -> Tensor:
    """Return the chance to win that would take a fortune to 200 by game 400, not 600."""
    return (0.5 + (200 - x) / (2 * max(400 - t, 1))).clamp(0.02, 0.98)


def tell(out: Path, seed: int, messages: Messages, as_json: bool) -> None:
    """Estimate the gambler's chance in several ways; write a picture, print a table."""
    check_picture(out)
    w = Walk(p=Fraction(18, 37), start=100, low=0, high=200, horizon=600)
    event, u = w.hits(200), w.unstopped()
    best = best_tilt(w, event)
    truth = float(exact(event, w))
    ways = {
        "p itself": (w, w),
        "0.55, weights of all games": (u, u.tilt(0.55)),
        "0.55": (w, w.tilt(0.55)),
        f"best tilt, {best:.4f}": (w, w.tilt(best)),
        "bridge": (w, w.bridge(200)),
        "doob": (w, w.doob(200)),
        "aiming too early": (w, w.feedback(too_early)),
    }
    rows = []
    for name, (law, via) in ways.items():
        messages.say(f"{name}: {N:,} walks")
        begin = time.perf_counter()
        e = expect(law.hits(200), law, N, via=None if via is law else via, seed=seed)
        seconds = time.perf_counter() - begin
        low, high = (float(bound) for bound in e.interval(0.95))
        true_error = float(law.relative_variance(law.hits(200), via) / N) ** 0.5
        error = float(e.stderr / e.mean)
        rows.append(Row(name, int(e.hits), float(e.mean), low, high, error, true_error, seconds))
    draw(out, w, event, {k: via for k, (law, via) in ways.items() if law is w}, seed)
    if as_json:
        print_json(out=str(out), n=N, seed=seed, exact=truth, ways=[asdict(row) for row in rows])
        return
    title = f"{N:,} walks each; the chance is {truth:.6g}"
    table = Table("drawn from", title=title)
    for heading in ("hits", "estimate", "its error", "true error", "seconds"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.way,
            f"{row.hits:,}",
            f"{row.mean:.4g}" if row.hits else f"at most {row.high:.2g}",
            f"{row.error:.2%}" if row.hits else "",
            f"{row.true_error:.2%}" if row.true_error < 100 else f"{100 * row.true_error:.0e}%",
            f"{row.seconds:.3f}",
        )
    Console(highlight=False).print(table)
    messages.say(f"wrote {out}")
