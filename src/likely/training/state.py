"""The state of a run: all that it takes to go on as if nothing had happened."""

from __future__ import annotations

import hashlib
import io
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from likely.errors import CheckpointError
from likely.files import write_whole
from likely.training.recipe import Recipe


@final
@dataclass
class State:
    """Where a run stands. Random draws depend on the step alone, so no generator is part of it."""

    #: steps done
    step: int = 0
    #: the exponential average of the parameters, in their order
    average: list[Tensor] = field(default_factory=list)
    #: the averaged parameters with the best held-out likelihood so far, the start before any
    best: list[Tensor] = field(default_factory=list)
    #: evaluations: step, running training and held-out log-likelihood in nats
    history: list[dict[str, int | float]] = field(default_factory=list)
    #: sum and number of the training log-likelihoods since the last evaluation
    running: tuple[float, int] = (0.0, 0)

    @property
    def best_valid(self) -> float:
        """The best held-out log-likelihood in nats, minus infinity before the first evaluation."""
        return max((h["valid"] for h in self.history), default=float("-inf"))

    @property
    def since_best(self) -> int:
        """Evaluations since the best one."""
        values = [h["valid"] for h in self.history]
        return len(values) - 1 - values.index(max(values)) if values else 0


def save_state(
    path: Path, state: State, model: nn.Module, optimizer: torch.optim.Optimizer, run: dict[str, Any]
) -> None:
    """Write state, model and optimizer to `path`, whole or not at all."""
    content = io.BytesIO()
    torch.save(
        {
            "run": run,
            "state": asdict(state),
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
        },
        content,
    )
    write_whole(path, content.getvalue())


def load_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, run: dict[str, Any]
) -> State:
    """Read `path` into model and optimizer, and return the state.

    Raises:
        CheckpointError: there is no such file, it is damaged, or belongs to another run.
    """
    if not path.is_file():
        raise CheckpointError(f"nothing to resume: {path} does not exist. Start without resuming.")
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # damaged bytes make the reader raise almost anything
        raise CheckpointError(f"{path} is damaged and cannot be resumed: {error}") from error
    if not isinstance(saved, dict) or not isinstance(saved.get("run"), dict):
        raise CheckpointError(f"{path} does not hold the state of a run; start without resuming.")
    try:
        then = saved["run"]
        changed = [
            f"{k} was {then.get(k)!r}, now {run.get(k)!r}"
            for k in {**then, **run}
            if then.get(k) != run.get(k)
        ]
        if changed:
            raise CheckpointError(
                f"{path} belongs to a run with other settings ({'; '.join(changed)}); "
                "resume with the same ones, or start anew."
            )
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        return State(**saved["state"])
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is damaged and cannot be resumed: {error}") from error


def settings(
    recipe: Recipe, dtype: torch.dtype, config: Any, levels: int, *rows: Tensor
) -> dict[str, Any]:
    """Return what must agree between a run and the state it resumes."""
    return {
        **{k: list(v) if isinstance(v, tuple) else v for k, v in asdict(recipe).items()},
        "precision": str(dtype),
        "model": repr(config),
        "levels": levels,
        "data": hashlib.sha256(b"".join(_bytes(r) for r in rows)).hexdigest(),
    }


def _bytes(rows: Tensor) -> bytes:
    return rows.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
