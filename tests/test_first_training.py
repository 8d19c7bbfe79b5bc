"""The scripts of a first training run: they run, resume exactly, and the encoder learns."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scrapl_jtfs import SCRAPL
from tests.support.pages import text

FOLDER = Path(__file__).parents[1] / "notebooks"
MOST_LINES = 60


def run(script: str, *arguments: object, folder: Path) -> str:
    command = [sys.executable, str(FOLDER / script), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def last_step(said: str) -> list[float]:
    return [float(number) for number in re.findall(r"(?:rate|depth) ([0-9.]+)", said.splitlines()[-1])]


def test_the_plain_loop_learns_and_resumes_exactly(tmp_path: Path) -> None:
    """A hundred steps are not enough, but not chance either: the two errors were 0.38 in sum, with seed 1 0.34."""
    whole = run("first_training.py", "--steps", 100, "--out", tmp_path / "whole", folder=tmp_path)
    assert sum(last_step(whole)) < 0.42  # 0.5 by chance
    # cut after the checkpoint of step 50: the schedule is that of 100 steps in both
    cut = (
        FOLDER.joinpath("first_training.py").read_text().replace("scrapl.step < options.steps", "scrapl.step < 50")
    )
    (tmp_path / "cut.py").write_text(cut)
    (tmp_path / "vibrato.py").write_text(FOLDER.joinpath("vibrato.py").read_text())
    command = [sys.executable, "cut.py", "--steps", "100", "--out", "halves"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    again = run("first_training.py", "--steps", 100, "--out", tmp_path / "halves", folder=tmp_path)
    assert again.splitlines()[-1] == whole.splitlines()[-1]
    assert len(again.splitlines()) == 1


def test_the_lightning_script_runs(tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="needs lightning")
    assert "max_steps=4" in run("first_training_lightning.py", "--steps", 4, folder=tmp_path)


@pytest.mark.parametrize("script", ["first_training.py", "first_training_lightning.py"])
def test_they_are_short(script: str) -> None:
    assert len(FOLDER.joinpath(script).read_text().splitlines()) <= MOST_LINES


def test_the_study_over_seeds_reads_what_the_script_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm", reason="needs tqdm")
    from benchmarks import first_training

    monkeypatch.chdir(FOLDER.parent)
    assert first_training.main(["--seeds", "2", "--steps", "2", "--out", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert [run["seed"] for run in found["runs"]] == [0, 1]
    ends = [run["step_rate_depth"][-1] for run in found["runs"]]
    assert all(end[0] == 2 for end in ends)
    assert found["mean_error"]["rate"] == pytest.approx((ends[0][1] + ends[1][1]) / 2)
    assert found["largest_error"]["depth"] == max(ends[0][2], ends[1][2])


def test_pages_quote_the_committed_figures() -> None:
    found = json.loads((FOLDER.parent / "benchmarks/results/first_training.json").read_text())
    mean, worst = found["mean_error"], found["largest_error"]
    for quoted in (text("training"), text("benchmarks")):
        assert f"are {mean['rate']:.3f} and {mean['depth']:.3f} in the mean of five seeds" in quoted
        assert f"{worst['rate']:.3f} and {worst['depth']:.3f} at worst" in quoted
    assert len(found["runs"]) == 5
    assert all(run["step_rate_depth"][-1][0] == 750 for run in found["runs"])


def test_what_a_page_says_of_losses_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the paths of the run, before training: losses hundreds apart, gradients far below a clip at 1."""
    monkeypatch.syspath_prepend(str(FOLDER))
    from vibrato import (  # pyright: ignore[reportMissingImports]
        HEARING,
        N_SAMPLES,
        SAMPLE_RATE,
        Encoder,
        vibrato,
    )

    torch.manual_seed(0)
    encoder, generator = Encoder(), torch.Generator().manual_seed(0)
    scrapl = SCRAPL(N_SAMPLES, sample_rate=SAMPLE_RATE, samples_per_bandwidth=2, **{**HEARING, "unit": "path"})
    target = vibrato(torch.rand(16, 2, generator=generator), generator)
    losses, norms = [], []
    for path in scrapl.kept:
        encoder.zero_grad()
        loss = scrapl.unit_loss(vibrato(encoder(target), generator), target, path)
        loss.backward()
        losses.append(loss.item())
        norms.append(
            float(torch.nn.utils.get_total_norm([p.grad for p in encoder.parameters() if p.grad is not None]))
        )
    assert 200 < max(losses) / min(losses) < 1000
    assert (min(norms), max(norms)) == (pytest.approx(6e-5, rel=0.2), pytest.approx(0.03, rel=0.2))
    assert "norms from 6e-5 to 0.03" in text("training")
