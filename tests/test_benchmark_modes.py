"""The study of modes in training: what each one changes, and a run of two steps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.sound_matching.presets import PRESETS, configuration
from benchmarks.studies.modes import MODES, PRESET, REFERENCE, main

pytestmark = pytest.mark.study


def test_modes_are_those_of_the_transform_and_the_first_is_that_of_make_match() -> None:
    found = {}
    for mode, settings in MODES.items():
        jtfs = replace(PRESET, **settings).transform()
        found[mode] = jtfs.boundary, jtfs.samples_per_bandwidth
    assert found == {
        "exact": ("reflect", None),
        "compact": ("reflect", 2.0),
        "even": ("even", None),
        "even-compact": ("even", 2.0),
    }
    assert configuration(replace(PRESET, **MODES[REFERENCE]), 0) == configuration(PRESETS["small"], 0)


def test_a_quick_run_compares_every_mode_with_the_exact_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]
    assert main(["--quick", "--seeds", "2", "--parallel", "1", *folders]) == 0
    results = json.loads((tmp_path / "modes.json").read_text())
    assert list(results["arms"]) == list(MODES)
    for arm in results["arms"].values():
        errors = [run["test"]["mean"] for run in arm["runs"]]
        assert arm["test"]["mean"]["mean"] == pytest.approx(sum(errors) / 2)
        reference = [run["test"]["mean"] for run in results["arms"][REFERENCE]["runs"]]
        differences = [a - b for a, b in zip(errors, reference, strict=True)]
        assert list(arm["minus_reference"]["mean"]["differences"].values()) == pytest.approx(differences)
    assert len({run["hash"] for arm in results["arms"].values() for run in arm["runs"]}) == 8
    assert "even-compact" in capsys.readouterr().out
