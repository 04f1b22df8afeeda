"""How to train: every setting of a run, as one value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch

from likely.checks import described, number, positive, whole
from likely.errors import InvalidInput, InvalidType


@final
@dataclass(frozen=True)
class Recipe:
    """Settings of a training run. The defaults suit MNIST; docs/training.md says what else was used.

    Args:
        steps: optimizer steps in all.
        batch: rows a step.
        lr: peak learning rate; it rises linearly over the first `warmup` of the steps and falls to
            zero along a half cosine.
        warmup: fraction of the steps.
        scaling_lr: factor on the learning rate of the scalings, which must travel several e-folds.
        weight_decay: AdamW's, on weight matrices only.
        betas: AdamW's.
        clip: largest norm of the gradient of the loss in nats per entry; larger ones are shortened.
        average: the weights that are evaluated and kept are an exponential average with this decay a
            step; 0 for none.
        evaluations: how often, in all, the held-out likelihood is measured.
        patience: stop after this many evaluations without a better one.
        precision: "bfloat16" or "float32" network passes; "auto" takes bfloat16 where the processor
            has instructions for it.
        seed: of the order of the data, the dequantisation and the dropout.

    Raises:
        InvalidType: a size or count is no whole number, or a rate or decay no number.
        InvalidInput: a setting is out of range.

    Reference: Loshchilov, Hutter 2019 (AdamW); Polyak, Juditsky 1992 (averaging).

    Example:
        >>> Recipe(steps=100).learning_rate(99) < Recipe(steps=100).learning_rate(50)
        True
    """

    steps: int = 14_000
    batch: int = 256
    lr: float = 1e-3
    warmup: float = 0.1
    scaling_lr: float = 10.0
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    average: float = 0.998
    evaluations: int = 56
    patience: int = 10
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "evaluations", "patience"):
            whole(name, getattr(self, name))
        for name in ("lr", "scaling_lr"):
            positive(name, getattr(self, name))
        for name in ("warmup", "weight_decay", "average"):
            number(name, getattr(self, name))
        if self.clip != math.inf:
            number("clip", self.clip)
        if not isinstance(self.betas, tuple | list):
            raise InvalidType(f"betas is {described(self.betas)}; expected two decays.")
        for i, beta in enumerate(self.betas):
            number(f"betas[{i}]", beta)
        for name, fine, expected in (
            ("warmup", 0 <= self.warmup <= 1, "a fraction from 0 to 1"),
            ("weight_decay", self.weight_decay >= 0, "0 or a positive number"),
            ("betas", [0 <= b < 1 for b in self.betas] == [True] * 2, "two decays from 0 to below 1"),
            ("clip", self.clip > 0, "a positive number"),
            ("average", 0 <= self.average < 1, "a decay from 0 to below 1"),
            ("seed", isinstance(self.seed, int) and 0 <= self.seed < 2**63, "0 to below 2^63"),
            ("precision", self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
        ):
            if not fine:
                raise InvalidInput(f"{name} is {getattr(self, name)}; expected {expected}.")

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        rising = self.warmup * self.steps
        if step < rising:
            return self.lr * (step + 1) / (rising + 1)
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - rising) / (self.steps - rising)))

    def dtype(self, device: torch.device) -> torch.dtype:
        """Return the precision of network passes on a device."""
        if self.precision == "float32":
            return torch.float32
        return (
            torch.bfloat16 if self.precision == "bfloat16" or _has_bfloat16(device) else torch.float32
        )


PRECISIONS = ("auto", "bfloat16", "float32")


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has = torch.cpu.get_capabilities()
    return device.type == "cpu" and bool(has.get("avx512_bf16") or has.get("amx_bf16"))
