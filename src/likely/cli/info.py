"""likely info: which models there are, and where one comes from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

import likely
from likely.checkpoints import read_card, shipped
from likely.cli.common import Json, print_json


def info(
    model: Annotated[
        str | None, typer.Argument(help="A model that ships with likely, or a file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the models that ship with likely, or print the card of one."""
    if model is None:
        cards = {name: read_card(name) for name in shipped()}
        if as_json:
            print_json(models={name: _figures(card) for name, card in cards.items()})
            return
        for name, card in cards.items():
            typer.echo(
                f"{name}\t{card['parameters']:,} parameters\t{card['test_nats']:.1f} nats\t"
                f"{card['test_bits_per_dim']:.3f} bits/dim on the test set"
            )
        return
    flow = likely.load(model)
    card = read_card(model) or {"parameters": sum(p.numel() for p in flow.parameters())}
    if as_json:
        print_json(model=model, config=flow.config, card=card)
    else:
        typer.echo(card_text(model, flow.config or {}, card))


def card_text(name: str, config: dict[str, Any], card: dict[str, Any]) -> str:
    """Return a model card as Markdown, made from the header of a checkpoint."""
    lines = [f"# {name}", "", f"Model: `{config}`", ""]
    lines += [f"- {key}: {value}" for key, value in _figures(card).items()]
    if card.get("learning_curve"):
        kinds = {"dropout": "train, with dropout", "cells": "train, random masks"}
        train = next((kinds[name] for name in kinds if config.get(name)), "train")
        lines += ["", f"| step | {train} | held-out |", "|---|---|---|"]
        lines += [
            f"| {h['step']:,} | {h['train']:.1f} | {h['valid']:.1f} |" for h in card["learning_curve"]
        ]
    return "\n".join(lines)


def _figures(card: dict[str, Any]) -> dict[str, Any]:
    return {
        key: round(value, 3) if isinstance(value, float) else value
        for key, value in card.items()
        if key != "learning_curve"
    }
