"""likely descend: the ends lie in the basins that the exact objective has."""

import json
import math
from pathlib import Path

import pytest

from likely.cli import main
from likely.cli.descend import POINTS


def test_descents_end_near_the_minima(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["descend", "-n", "256", "--steps", "150", "--json", "-q"])
    assert not stop.value.code
    found = json.loads(capsys.readouterr().out)["descents"]
    assert Path("descend.png").stat().st_size > 5000 and len(found) == 12
    for d in found:
        # The basins of gradient descent: with 256 draws a step the noise decides nothing.
        wanted = {0.0: "local minimum", 1.0: "local minimum", 2.0: "global minimum"}[d["start"][0]]
        wanted = "global minimum" if d["start"][1] > 2 else wanted
        assert d["nearest"] == wanted and d["distance"] < 0.4, d
        assert math.dist((d["mu"], d["sigma"]), POINTS[wanted]) == pytest.approx(d["distance"])


def test_the_table_and_bad_input(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["descend", "--steps", "5", "-q"])
    assert not stop.value.code and "nearest" in capsys.readouterr().out
    for bad in (["-o", "x.xyz"], ["--rate", "0"]):
        with pytest.raises(SystemExit) as stop:
            main(["descend", *bad])
        assert stop.value.code == 2
        assert bad[-1] in capsys.readouterr().err
