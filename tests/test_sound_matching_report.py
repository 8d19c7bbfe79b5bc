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
from benchmarks.sound_matching import presets, report
from benchmarks.sound_matching.presets import PRESETS, USUAL
from benchmarks.sound_matching.report import format_table, verdict
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
    assert list(results["examples"]["theta"]) == ["target", *LOSSES]
    assert np.shape(list(results["examples"]["theta"].values())) == (4, 4, 2)
    assert verdict(results) in printed
    assert re.search(r"chance \(always 0\.5\) +250\.0 +250\.0 +250\.0", printed)
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
    assert "of the error of chance" in page
    assert page.count("<details>") == 1
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


def test_a_verdict_orders_losses_by_their_error() -> None:
    losses = {
        name: {"label": label, "test": {"mean": mean, "density": mean, "slope": mean}}
        for name, label, mean in [("scrapl", "SCRAPL", 60.0), ("mss", "MSS", 220.0), ("p_loss", "P-loss", 25.0)]
    }
    assert verdict({"losses": losses, "chance": 250.0}) == (
        "P-loss leaves 10% of the error of chance; SCRAPL leaves 24% of the error of chance; "
        "MSS leaves 88% of the error of chance."
    )
    for loss in losses.values():
        loss.update(steps=10, seconds=2.0, ms_per_step=200.0)
    header, *rows, chance = format_table({"losses": losses, "chance": 250.0}).splitlines()
    assert "theta L1 (per mille)" in header
    assert [row.split()[1] for row in rows] == ["60.0", "220.0", "25.0"]
    assert chance.split()[-3:] == ["250.0"] * 3


def test_a_failing_picture_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def no_figure(*_: object) -> None:
        seen.append({path.name for path in tmp_path.iterdir()})
        raise RuntimeError("no fonts,\nno figure")

    assert run(tmp_path, "--losses", "p_loss") == 0
    results = (tmp_path / "results.json").read_text()
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(report, "draw_report", no_figure)
        assert run(tmp_path, "--losses", "p_loss") == 1
    assert seen[0] >= {"results.json", "wav"}
    assert json.loads((tmp_path / "results.json").read_text())["losses"] == json.loads(results)["losses"]
    assert not (tmp_path / "report.png").exists()  # the earlier one would pass for this run's
    page = (tmp_path / "report.html").read_text()
    assert "report.png could not be drawn" in page
    assert len(re.findall("<audio", page)) == 8
    printed = capsys.readouterr()
    assert "per mille (chance 250)" in printed.out
    assert (
        "report.png could not be drawn (RuntimeError: no fonts, no figure); everything else is in" in printed.err
    )
    assert run(tmp_path, "--losses", "p_loss") == 0  # trained before: draws alone
    check_page_is_whole(tmp_path)


def check_page_is_whole(folder: Path) -> None:
    assert (folder / "report.png").exists()
    assert "data:image/png;base64," in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--threads=-2"], "Invalid --threads: -2; expected 1 to"),
        (["--threads=0"], "Invalid --threads: 0; expected 1 to"),
        (["--threads=99999999"], "Invalid --threads: 99999999; expected 1 to"),
        (["--device=tpu"], "Invalid --device: tpu; expected cpu or cuda"),
        (["--device=meta"], "Invalid --device: meta; expected cpu or cuda"),
        (["--seed=-1"], "got -1: choose another seed"),
        ([f"--seed={10**12}"], "choose another seed"),
    ],
)
def test_options_out_of_range(
    tmp_path: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "run", *options) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_wrong_choices_are_told_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, "--losses", "mse")
    message = capsys.readouterr().err
    assert message.startswith("error: argument --losses: invalid choice: 'mse'")
    assert message.count("\n") == 1


def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert run(tmp_path / "file" / "run") == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_a_loss_that_diverges_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Trainer, "step", lambda self, batch: torch.tensor(float("inf")))
    assert run(tmp_path, "--losses", "p_loss") == 1
    message = capsys.readouterr().err
    assert "error: the p_loss loss became inf in epoch 1" in message


def test_steps_of_small_presets_take_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that wait for each other on a busy machine cost a factor of ten, and gain nothing on a quiet one."""
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setitem(presets.USUAL, "tiny", USUAL["quick"])
    monkeypatch.setattr(command, "run", lambda *_: None)
    assert run(tmp_path) == run(tmp_path, "--threads", "2") == 0
    assert asked == [1, 2]
    assert set(USUAL) - {"tiny"} == set(PRESETS) - {"tiny"}


def test_the_quick_preset_asks_the_same_question() -> None:
    quick, small = PRESETS["quick"], PRESETS["small"]
    for name in ("sample_rate", "octaves", "bins_per_octave", "n_blocks", "dropout", "weight_decay"):
        assert getattr(quick, name) == getattr(small, name)
    cost = [preset.n_steps * preset.batch_size * preset.n_samples for preset in (quick, small)]
    assert cost[0] < cost[1] / 3
