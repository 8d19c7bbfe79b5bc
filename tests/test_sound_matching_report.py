"""The command line and what a run leaves behind."""

import json
import re
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import soundfile
import torch

from benchmarks.sound_matching import __main__ as command
from benchmarks.sound_matching import presets
from benchmarks.sound_matching.train import Trainer
from tests.test_sound_matching_train import TINY

LOSSES = ["scrapl", "mss", "p_loss"]


@pytest.fixture(autouse=True)
def _tiny_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(presets.PRESETS, "tiny", replace(TINY, epochs=2))


def run(folder: Path, *extra: str) -> int:
    return command.main(["--preset", "tiny", "--out", str(folder), *extra])


def test_a_run_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--losses", *LOSSES) == 0
    printed = capsys.readouterr().out
    assert "per mille (chance 250)" in printed
    assert str(tmp_path / "report.html") in printed
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["losses"]) == LOSSES
    for entry in results["losses"].values():
        assert entry["steps"] == 6
        assert entry["ms_per_step"] == pytest.approx(1000 * entry["seconds"] / 6)
        assert set(entry["test"]) == {"mean", "density", "slope"}
        assert len(entry["history"]) == 2
    assert sum(results["losses"]["scrapl"]["path_counts"]) == 6
    assert results["configuration"]["n_samples"] == TINY.n_samples
    assert results["versions"]["torch"] == torch.__version__
    check_sounds(tmp_path)
    check_page(tmp_path)

    assert run(tmp_path, "--losses", "mss") == 0  # finished losses are skipped, and stay in the report
    assert "finished before, skipped" in capsys.readouterr().out
    assert json.loads((tmp_path / "results.json").read_text())["losses"] == results["losses"]


def check_sounds(folder: Path) -> None:
    for k in range(1, 5):
        peaks = []
        for name in ["target", *LOSSES]:
            samples, rate = soundfile.read(folder / "wav" / f"texture{k}_{name}.wav")
            assert (len(samples), rate) == (TINY.n_samples, TINY.sample_rate)
            peaks.append(np.abs(samples).max())
        assert max(peaks) == pytest.approx(0.9, abs=1e-3)


def check_page(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    players = re.findall(r'<audio[^>]*src="([^"]+)"', page)
    assert len(players) == 16
    assert all((folder / player).exists() for player in players)
    assert "data:image/png;base64," in page
    assert "http" not in page
    assert matplotlib.image.imread(folder / "report.png").shape[0] > 1000
    assert not [path for path in folder.rglob(".*")]


def test_interruption_tells_how_to_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Trainer, folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", interrupted)
        assert run(tmp_path, "--losses", "p_loss") == 130
    assert "the same command continues" in capsys.readouterr().err
    assert run(tmp_path, "--losses", "p_loss") == 0


def test_a_folder_of_another_seed_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--losses", "p_loss") == 0
    assert run(tmp_path, "--losses", "p_loss", "--seed", "1") == 2
    assert "seed: 0 there, 1 now" in capsys.readouterr().err
