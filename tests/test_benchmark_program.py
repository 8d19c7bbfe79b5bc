"""What benchmarks with a peer share: results before pictures, errors as sentences."""

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from benchmarks.program import guarded, write_report

RESULTS = {"machine": {"cpu": "a processor"}, "date": "2026-11-25", "figures": [1, 2]}


def report(folder: Path, fails: bool) -> int:
    def draw(results: dict[str, Any]) -> Figure:
        if fails:
            raise KeyError("figures\nof another version")
        return Figure()

    return guarded("speed", "python", lambda: write_report(folder, "speed", RESULTS, draw, "the table"))


def test_a_failing_picture_loses_no_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(tmp_path, fails=False) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"speed.json", "speed.png"}
    assert f"Look at   {tmp_path / 'speed.png'}" in capsys.readouterr().out

    assert report(tmp_path, fails=True) == 1
    assert json.loads((tmp_path / "speed.json").read_text()) == RESULTS
    assert not (tmp_path / "speed.png").exists()  # the earlier one would pass for this run's
    printed = capsys.readouterr()
    assert "the table" in printed.out
    assert "Look at" not in printed.out
    assert "speed.png could not be drawn (KeyError: " in printed.err
    assert printed.err.count("\n") == 1
