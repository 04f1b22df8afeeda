"""The training loop."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import torch
from jaxtyping import Shaped
from torch import Tensor

from likely.errors import Diverged, InvalidInput
from likely.flows import DiagonalScaling, ExactDensity
from likely.seeds import borrowed_global_state, generator_for, seed_borrowed
from likely.training.evaluation import check_rows, continuous, log_likelihoods
from likely.training.interrupt import deferred_interrupt
from likely.training.processes import Processes, process_group
from likely.training.recipe import Recipe
from likely.training.state import State, load_state, save_state, settings

CHECKPOINT_SECONDS = 60.0
AVERAGE_EVERY = 4


@final
@dataclass(frozen=True)
class Progress:
    """What `fit` reports after each step; log-likelihoods in nats."""

    step: int
    steps: int
    #: log-likelihood of the step's batch, with dropout
    train: float
    #: the latest and the best held-out log-likelihood, None before the first evaluation
    valid: float | None
    best: float | None


@final
@dataclass(frozen=True)
class Fit:
    """How a run ended. The flow holds the best averaged weights, in evaluation mode."""

    history: list[dict[str, int | float]]
    step: int
    best: float
    stopped: Literal["finished", "early", "interrupted"]


def fit(
    flow: ExactDensity,
    train: Shaped[Tensor, "n *event"],
    valid: Shaped[Tensor, "m *event"],
    recipe: Recipe | None = None,
    *,
    levels: int = 256,
    state_file: Path | str | None = None,
    resume: bool = False,
    report: Callable[[Progress], None] | None = None,
) -> Fit:
    """Fit a flow by maximum likelihood, `max_theta mean_i log p_theta(x_i)`, with AdamW.

    Rows of bytes are levels and are dequantised afresh at every step; rows of floats are used as they
    are. Every random draw depends on the seed and the step alone, so that a resumed run gives the same
    weights as one that was never interrupted, and the global random state is left as it was found.

    Where torch.distributed runs, every process calls this with the same rows and settings. Each takes
    its part of every batch, gradients are averaged, and the run is that of one process up to rounding
    (dropout apart, which each process draws for itself). All start with the weights of the first
    process, which alone writes `state_file`; every process needs to read it to resume, in whatever
    number. A process that is interrupted interrupts all.

    Args:
        flow: what to train, in place.
        train: the training rows, uint8 levels or floats.
        valid: held-out rows that decide which weights are kept and when to stop.
        recipe: the settings; None for the defaults.
        levels: the number of levels of uint8 rows.
        state_file: where to keep the state of the run, every minute and when interrupted; None for
            nowhere. It is removed when the run ends.
        resume: go on from `state_file`.
        report: called after each step, in every process.

    Returns:
        The learning curve and how the run ended; `flow` holds the best weights on `valid`.

    Raises:
        InvalidInput: the rows do not fit the flow, are not finite, or hold a level of `levels` or more;
            the batch does not divide into the processes, or they are no process group.
        InvalidType: the rows are neither floats nor uint8 levels.
        CheckpointError: `state_file` cannot be resumed.
        Diverged: the loss was not finite; `flow` holds the last good weights.

    Example:
        >>> from likely import data, flows
        >>> digits = data.digits()
        >>> flow = flows.nice((1, 8, 8), width=16, depth=1)
        >>> fit(flow, digits.train, digits.valid, Recipe(steps=4), levels=17).stopped
        'finished'
    """
    recipe = recipe or Recipe()
    for name, rows in (("train", train), ("valid", valid)):
        check_rows(name, rows, flow, levels)
    if resume and state_file is None:
        raise InvalidInput("resume needs the state_file to go on from.")
    processes = process_group()
    if min(recipe.batch, len(train)) % processes.count:
        raise InvalidInput(
            f"batch is {min(recipe.batch, len(train))} rows, which {processes.count} processes cannot "
            f"share equally; choose a multiple of {processes.count}."
        )
    device = next(flow.parameters()).device
    dtype = recipe.dtype(device)
    processes.as_first_(t.detach() for t in (*flow.parameters(), *flow.buffers()))
    optimizer = _optimizer(flow, recipe)
    run = settings(recipe, dtype, flow.config, levels, train, valid)
    path = None if state_file is None else Path(state_file)
    writes = path if processes.rank == 0 else None
    parameters = [p.detach() for p in flow.parameters()]
    if resume and path is not None:
        state = load_state(path, flow, optimizer, run)
    else:
        state = State(average=[p.clone() for p in parameters], best=[p.clone() for p in parameters])
    state.average = [a.to(device) for a in state.average]
    every = max(recipe.steps // recipe.evaluations, 1)
    stopped: Literal["finished", "early", "interrupted"] = "finished"
    saved = time.monotonic()

    def put(weights: list[Tensor]) -> None:
        torch._foreach_copy_(parameters, [w.to(device) for w in weights])

    def check_finite(*values: float) -> None:
        if not all(math.isfinite(v) for v in values):
            put(state.best)
            flow.eval()
            raise Diverged(
                f"the log-likelihood or its gradient is not finite at step {state.step:,}; the last "
                f"good weights are kept (held-out log-likelihood {state.best_valid:.1f} nats). "
                f"Try a lower learning rate than {recipe.lr:g}."
            )

    with borrowed_global_state(device), deferred_interrupt() as interrupt:
        while state.step < recipe.steps:
            if processes.any(interrupt.is_set(), device):
                stopped = "interrupted"
                break
            flow.train()
            seed_borrowed(_mix(recipe.seed, state.step), device)
            batch = continuous(_batch(train, recipe, state.step).to(device), levels)
            if processes.count > 1:
                # All have drawn the noise of the whole batch; dropout is drawn by each.
                batch = processes.part(batch)
                seed_borrowed(_mix(_mix(recipe.seed, state.step), processes.rank), device)
            with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
                mean = flow(batch).mean()
            if state.step == 0:
                # Some layers choose their weights from the first batch.
                torch._foreach_copy_(state.average, parameters)
                state.best = [p.clone() for p in parameters]
            optimizer.zero_grad(set_to_none=True)
            (-mean / batch[0].numel()).backward()
            processes.mean_([mean.detach(), *(p.grad for p in flow.parameters() if p.grad is not None)])
            norm = torch.nn.utils.clip_grad_norm_(flow.parameters(), recipe.clip)
            value = mean.item()
            check_finite(value, norm.item())
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate(state.step) * group["factor"]
            optimizer.step()
            state.step += 1
            state.running = (state.running[0] + value, state.running[1] + 1)

            evaluating = state.step % every == 0 or state.step == recipe.steps
            if evaluating or state.step % AVERAGE_EVERY == 0:
                # Early on, the average reaches back no further than the steps there are.
                decay = min(recipe.average, state.step / (state.step + 10.0))
                since = min((state.step - 1) % n + 1 for n in (AVERAGE_EVERY, every))
                torch._foreach_lerp_(state.average, parameters, 1 - decay**since)
            if evaluating:
                current = [p.clone() for p in parameters]
                put(state.average)
                held_out = _evaluate(flow, valid, levels, dtype, recipe, processes)
                check_finite(held_out)
                if held_out > state.best_valid:
                    state.best = [a.clone() for a in state.average]
                total, count = state.running
                state.history.append({"step": state.step, "train": total / count, "valid": held_out})
                state.running = (0.0, 0)
                put(current)

            if report is not None:
                latest = state.history[-1]["valid"] if state.history else None
                best = state.best_valid if state.history else None
                report(Progress(state.step, recipe.steps, value, latest, best))
            if state.since_best >= recipe.patience:
                stopped = "early"
                break
            if writes is not None and time.monotonic() - saved > CHECKPOINT_SECONDS:
                save_state(writes, state, flow, optimizer, run)
                saved = time.monotonic()

    if writes is not None and stopped == "interrupted":
        save_state(writes, state, flow, optimizer, run)
    elif writes is not None:
        writes.unlink(missing_ok=True)
    processes.any(False, device)  # no process goes on before the file is there
    put(state.best)
    flow.eval()
    return Fit(state.history, state.step, state.best_valid, stopped)


def _evaluate(
    flow: ExactDensity,
    rows: Tensor,
    levels: int,
    dtype: torch.dtype,
    recipe: Recipe,
    processes: Processes,
) -> float:
    flow.eval()
    device = next(flow.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        return log_likelihoods(flow, rows, levels, recipe.seed, processes).mean().item()


def _batch(rows: Tensor, recipe: Recipe, step: int) -> Tensor:
    """The rows of a step: each epoch goes through a fresh permutation, its incomplete rest dropped."""
    size = min(recipe.batch, len(rows))
    epoch, position = divmod(step, len(rows) // size)
    order = _order(len(rows), recipe.seed, epoch)
    return rows[order[position * size : (position + 1) * size].to(rows.device)]


@functools.lru_cache(maxsize=1)
def _order(count: int, seed: int, epoch: int) -> Tensor:
    # Negative steps are taken by no step, so an epoch's draw is independent of those of the steps.
    return torch.randperm(count, generator=generator_for(_mix(seed, -1 - epoch)))


def _optimizer(flow: ExactDensity, recipe: Recipe) -> torch.optim.AdamW:
    scalings = {id(p) for m in flow.modules() if isinstance(m, DiagonalScaling) for p in m.parameters()}
    parameters = list(flow.parameters())
    groups = [
        {
            "params": [p for p in parameters if id(p) in scalings],
            "weight_decay": 0.0,
            "factor": recipe.scaling_lr,
        },
        {
            "params": [p for p in parameters if id(p) not in scalings and p.ndim < 2],
            "weight_decay": 0.0,
            "factor": 1.0,
        },
        {
            "params": [p for p in parameters if id(p) not in scalings and p.ndim >= 2],
            "weight_decay": recipe.weight_decay,
            "factor": 1.0,
        },
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=recipe.lr, betas=recipe.betas, fused=True
    )


def _mix(seed: int, step: int) -> int:
    return (seed * 1_000_003 + step) % 2**63
