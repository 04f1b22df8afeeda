"""likely ruin: the gambler who leaves the casino with more than chance allows, estimated and exact."""

from __future__ import annotations

import math
import time
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize_scalar

from likely.cli import INTERRUPTED
from likely.cli.common import Json, Messages, Quiet, Seed, check_picture, print_json
from likely.cli.walk_picture import draw
from likely.errors import InvalidInput
from likely.expectations import Estimate, Mixture, expect, rel
from likely.walks import Functional, ImpossibleEvent, Walk, split
from likely.walks.programme import slices
from likely.walks.reach import lattice

#: seconds that the dynamic programme may take, by what a game and a state cost it, to be run unasked
PATIENCE, GAME, STATE = 5.0, 3e-4, 2e-7
#: seconds between two words on how far it has come
WORD = 5.0
#: larger numbers would take more memory than there is
MOST = 10_000_000
#: walks where nothing else is said
PATHS = 3000
#: splitting repeats this many runs, of paths / RUNS paths each
RUNS = 20


def ruin(
    start: Annotated[int, typer.Option(help="What the gambler has.")] = 100,
    target: Annotated[int, typer.Option(help="What to leave with; the other end is 0.")] = 200,
    p: Annotated[str, typer.Option(help="The chance to win a game: 18/37, or 0.4865.")] = "18/37",
    games: Annotated[int, typer.Option(help="Games at most.")] = 600,
    paths: Annotated[
        int | None, typer.Option(help="Walks to draw: 3000, or with --until as many as it takes.")
    ] = None,
    via: Annotated[
        str,
        typer.Option(
            help="How to draw: a chance to win such as 0.55, best (of these), bridge, doob, "
            "splitting, or p."
        ),
    ] = "bridge",
    until: Annotated[
        float | None, typer.Option(help="Draw until the error is this share of the estimate.")
    ] = None,
    only_exact: Annotated[bool, typer.Option("--exact", help="The exact answer alone.")] = False,
    plot: Annotated[Path | None, typer.Option(help="A picture of the walks to write.")] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Estimate the chance to leave a casino with the target, and compute it exactly.

    A game wins 1 with probability p and loses 1 otherwise; the gambler stops at 0, at the target, or
    when the games are over.
    """
    messages = Messages(quiet)
    chance = _number("--p", p)
    if not 0 < start < target <= MOST or not 1 <= games <= MOST:
        raise InvalidInput(
            f"--start is {start}, --target {target}, --games {games}; expected 0 < start < target and "
            f"at least one game, none of them above {MOST:,}."
        )
    walk = Walk(p=chance, start=start, low=0, high=target, horizon=games)
    if until is not None and not 0 < until < math.inf:
        raise InvalidInput(f"--until is {until}; expected a positive share, such as 0.01.")
    if paths is not None and paths < 2 * RUNS:
        raise InvalidInput(f"--paths is {paths}; expected {2 * RUNS} or more.")
    if plot is not None:
        check_picture(plot)
    given = {"start": start, "target": target, "p": str(chance), "games": games}
    given |= {"via": via, "seed": seed}
    event, why = event_of(walk, target)
    if why is not None:
        messages.say(why)
        if as_json:
            print_json(**given, exact=0.0, impossible=True)
        else:
            print("exactly 0")
        return
    truth, tiny = None, ""
    seconds = games * (GAME + STATE * min(target, 2 * games))
    if only_exact or seconds <= PATIENCE:
        if seconds > PATIENCE:
            messages.say(f"the exact answer takes about {_duration(seconds)}")
        truth, tiny = truth_of(walk, event, messages)
    else:
        messages.say(f"the exact answer would take about {_duration(seconds)}; ask for it with --exact")
    if only_exact:
        if as_json:
            print_json(**given, exact=truth)
        else:
            print(tiny or f"{truth:.12g}")
        return
    begin = time.perf_counter()
    law = None if via == "splitting" else proposal_of(walk, event, via, target)
    if law is None:
        if until is not None:
            raise InvalidInput("--until is for walks with weights; splitting takes --paths alone.")
        e = split(walk, target, n=(paths or PATHS) // RUNS, repeats=RUNS, seed=seed)
    else:
        if until is None:
            paths = paths or PATHS
        stop = None if until is None else rel(until)
        e = expect(event, walk, paths, via=None if law is walk else law, until=stop, seed=seed)
    seconds = time.perf_counter() - begin
    if plot is not None:
        draw(plot, walk, event, {"under p": walk} | ({f"via {via}": law} if law else {}), seed)
        messages.say(f"wrote {plot}")
    low, high = (float(bound) for bound in e.interval(0.95))
    if as_json:
        print_json(
            **given,
            mean=float(e.mean),
            log_mean=float(e.log_mean),
            stderr=float(e.stderr),
            interval=[low, high],
            n=e.n,
            hits=int(e.hits),
            ess=float(e.ess),
            khat=float(e.khat),
            warnings=list(e.warnings),
            partial=e.partial,
            exact=truth,
            seconds=seconds,
        )
    else:
        _print(e, low, high, truth, tiny, seconds, runs=law is None)
    if e.partial:
        raise typer.Exit(INTERRUPTED)


def event_of(walk: Walk, target: int) -> tuple[Functional, str | None]:
    """Return the event that the walk reaches the target, and why it cannot, or None."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ImpossibleEvent)
        event = walk.hits(target)
    return event, str(caught[0].message) if caught else None


def truth_of(walk: Walk, event: Functional, messages: Messages) -> tuple[float, str]:
    """Return the exact chance, as a power of ten too where it is too small; say how far it has come."""
    end, said = walk.geometry.end, time.monotonic()
    for piece in slices(event, lattice(walk.steps, "the exact answer")):
        if time.monotonic() - said > WORD:
            said = time.monotonic()
            messages.say(f"{end - piece.time:,} of {end:,} games")
    truth, log = float(piece.value.value[0]), float(piece.value.log[0])
    return truth, "" if truth else f"10^{log / math.log(10):.6f}"


def proposal_of(walk: Walk, event: Functional, via: str, target: int) -> Walk:
    """Return the walk to draw.

    Raises:
        InvalidInput: `via` is none of the names and no chance.
    """
    match via:
        case "p":
            return walk
        case "bridge":
            return walk.bridge(target)
        case "doob":
            return walk.doob(target)
        case "best":
            return walk.tilt(best_tilt(walk, event))
    return walk.tilt(_number("--via", via, " best, bridge, doob, splitting, p, or"))


def best_tilt(walk: Walk, event: Functional) -> float:
    """Return the constant chance to win with the least variance, which is convex in its log-odds."""
    # As a mixture of one: its recursion is the faster one.
    found = minimize_scalar(
        lambda q: float(walk.relative_variance(event, Mixture([walk.tilt(q)])).log1p()),
        bounds=(1e-3, 1 - 1e-3),
        method="bounded",
        options={"xatol": 1e-5},
    )
    return float(found.x)


def _number(option: str, text: str, others: str = "") -> Fraction:
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise InvalidInput(
            f"{option} is {text!r}; expected{others} a chance such as 18/37 or 0.55."
        ) from None
    if not 0 < value < 1:
        raise InvalidInput(f"{option} is {text}; expected a chance strictly between 0 and 1.")
    return value


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _print(
    e: Estimate,
    low: float,
    high: float,
    truth: float | None,
    tiny: str,
    seconds: float,
    runs: bool,
) -> None:
    table = Table(show_header=False, box=None)
    if int(e.hits) == 0:
        table.add_row("estimate", f"no event seen; at most {high:.4g} (95%)")
    else:
        if float(e.mean) > 0:
            table.add_row("estimate", f"{float(e.mean):.6g} +- {float(e.stderr / e.mean):.2%}")
            table.add_row("95% interval", f"{low:.6g} to {high:.6g}")
        else:
            table.add_row("estimate", f"10^{float(e.log_mean) / math.log(10):.4f}")
    if truth is not None:
        table.add_row("exact", tiny or f"{truth:.10g}")
    what = "runs" if runs else "walks"
    table.add_row(what, f"{e.n:,}, of which {int(e.hits):,} reach the target")
    table.add_row("effective sample size", f"{float(e.ess):,.0f} of f w")
    table.add_row("seconds", f"{seconds:.2f}")
    for warning in e.warnings:
        table.add_row("warning", warning)
    Console(highlight=False).print(table)
