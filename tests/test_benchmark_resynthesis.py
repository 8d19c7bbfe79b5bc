"""The benchmark of resynthesis: it runs, and the page quotes its file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import resynthesis
from tests.support.pages import ROOT, text


def test_the_program_writes_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resynthesis, "_SHORT", 1)
    monkeypatch.setattr(resynthesis, "_LONG", 3)
    assert resynthesis.main(["--seconds", "0.01", "--seeds", "1", "--length", "0.25", "--out", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "resynthesis.json").read_text())
    assert {average["T"] for average in results["averages"].values()} == {1024, "global"}
    for average in results["averages"].values():
        assert set(average["arms"]) == set(resynthesis.ARMS)
        assert all(0 < arm["mean"] < 2 for arm in average["arms"].values())
    assert "Relative error after 0.01 s, 1 seeds" in capsys.readouterr().out


def test_the_page_is_the_result_file() -> None:
    results = json.loads((ROOT / "benchmarks/results/resynthesis.json").read_text())
    page = text("resynthesis")
    for arm, label in (
        ("lbfgs", '`method="lbfgs"`'),
        ("paths", '`method="paths"`'),
        ("pathwise", "P-Adam and P-SAGA, uniform paths"),
    ):
        found = [results["averages"][name]["arms"][arm] for name in ("global", "local")]
        cells = [f"{one['mean']:.2g} ± {one['std']:.1g}" for one in found]
        assert f"| {label} | {' | '.join(cells)} |" in page
        cells = [
            f"{np.mean([run[measure] for run in one['runs']]):.2g}"
            for measure in ("autocorrelation_error", "kurtosis")
            for one in found
        ]
        assert f"| {label} | {' | '.join(cells)} |" in page
    runs = [
        run for average in results["averages"].values() for arm in average["arms"].values() for run in arm["runs"]
    ]
    assert len(runs) == 6 * results["seeds"] == 18
    low, high = (find(run["seconds"] for run in runs) for find in (min, max))
    assert f"{low:.0f} to {high:.0f} seconds" in page
    assert 0.75 * results["seconds"] < low < high < 1.25 * results["seconds"]
