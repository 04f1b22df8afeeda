"""What tests of commands share: a way to run one, and a folder to work in."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from likely import data
from likely.cli import main


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys):
    def call(*arguments: object) -> Outcome:
        code = 0
        try:
            main([str(a) for a in arguments])
        except SystemExit as stop:
            code = stop.code or 0
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder to work in, with a damaged digit and its mask, white where pixels are missing."""
    monkeypatch.chdir(tmp_path)
    missing = np.zeros((8, 8), np.uint8)
    missing[2:5, 2:6] = 255
    truth = (data.digits().test[3, 0].numpy() * 255.0 / 16).round().astype(np.uint8)
    Image.fromarray(np.where(missing > 0, 255, truth).astype(np.uint8)).save("image.png")
    Image.fromarray(missing).save("mask.png")
    return tmp_path
