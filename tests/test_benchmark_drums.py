"""The study of drums: its arms, what their steps do, resuming, draws, a run from start to table."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import soundfile
import torch
from torch import Tensor

from benchmarks.sound_matching.data import synth_seeds
from benchmarks.sound_matching.distances import REVISITED_LENGTHS, RevisitedSpectrograms, Spectrograms
from benchmarks.sound_matching.drum_matching.levels import levels_of
from benchmarks.sound_matching.drum_matching.paper import LABELS, REFERENCE, UNTRAINED
from benchmarks.sound_matching.drum_matching.report import choose_drums
from benchmarks.sound_matching.drum_matching.task import DrumTask
from benchmarks.sound_matching.drum_sounds.sounds import load_sounds
from benchmarks.sound_matching.losses import OBJECTIVES, Scrapl
from benchmarks.sound_matching.synths import DrumSynth
from benchmarks.sound_matching.train import Experiment, Trainer
from benchmarks.studies.drums import __main__ as program
from benchmarks.studies.drums import pi, report
from benchmarks.studies.drums import runs as study_runs
from benchmarks.studies.drums.arms import ARMS, GROUPS, Arm
from benchmarks.studies.drums.objectives import PathObjective, build_arm, distribution, favoured_paths
from benchmarks.studies.drums.runs import make_job, run
from tests.test_drum_matching import TINY, write_drums

QUICK = replace(TINY, J=7, J_fr=2, epochs=2, dropout=0.0)
SHOWN = (REFERENCE, "mss", UNTRAINED)
N_PATHS = QUICK.transform().n_paths


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drums(tmp_path_factory.mktemp("sounds"), n=16)


@pytest.fixture(scope="module")
def experiment(folder: Path) -> Experiment:
    task = DrumTask(load_sounds(folder, QUICK.n_samples, QUICK.sample_rate), QUICK, 0)
    return Experiment(task.preset, 0, task=task)


def trained(experiment: Experiment, arm: Arm, pi: list[float] | None = None) -> Trainer:
    trainer = Trainer(experiment, arm.name, build_arm(experiment.preset, 0, arm, pi))
    trainer.run_epoch()
    return trainer


def total(encoder: torch.nn.Module) -> float:
    return sum(float(p.detach().double().sum()) for p in encoder.parameters())


def weights(trainer: Trainer) -> Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.encoder.parameters()])


def test_arms_differ_and_are_named_as_the_losses_of_the_benchmark_and_the_paper() -> None:
    decisions = [json.dumps(arm.decisions(), sort_keys=True) for arm in ARMS.values()]
    assert len(set(decisions)) == len(ARMS)
    assert ARMS[REFERENCE].decisions() == {}
    assert set(LABELS) <= set(ARMS)
    assert {arm.loss for arm in ARMS.values()} <= {*OBJECTIVES, "none"}
    assert [name for names in GROUPS.values() for name in names] == list(ARMS)
    assert list(ARMS)[-1] == "full_tree"


def test_decisions_of_arms_come_back_from_their_files() -> None:
    for arm in ARMS.values():
        assert json.loads(json.dumps(arm.decisions())) == arm.decisions()


def test_reference_arm_is_scrapl_of_the_sound_matching_benchmark(experiment: Experiment) -> None:
    ours = trained(experiment, ARMS[REFERENCE])
    theirs = Trainer(experiment, "scrapl", Scrapl(experiment.preset, 0, torch.device("cpu")))
    start = weights(theirs)
    theirs.run_epoch()
    assert not torch.equal(weights(theirs), start)
    assert torch.equal(weights(ours), weights(theirs))


def test_draws_of_each_arm() -> None:
    jtfs = QUICK.transform()
    given = np.arange(1.0, 1 + N_PATHS)
    given /= given.sum()
    rates = sorted({path.rate for path in jtfs.paths})
    slow = [path.index for path in jtfs.paths if path.rate in rates[: round(len(rates) / 3)]]
    assert favoured_paths(ARMS["slow"], jtfs) == slow
    probs = distribution(ARMS["slow"], jtfs, None)
    assert probs[slow].sum() == pytest.approx(0.5 + 0.5 * len(slow) / N_PATHS)
    assert np.ptp(np.delete(probs, slow)) == 0
    floored = distribution(ARMS["theta_is_floor"], jtfs, given.tolist())
    np.testing.assert_allclose(floored, 0.5 * given + 0.5 / N_PATHS)
    both = distribution(ARMS["theta_is_slow"], jtfs, given.tolist())
    expected = 0.5 * given
    expected[slow] += 0.5 / len(slow)
    np.testing.assert_allclose(both, expected)
    with_first = QUICK.transform(orders=(1, 2))
    first = [path.index for path in with_first.paths if path.order == 1]
    share = distribution(ARMS["order_1"], with_first, None)[first].sum()
    assert share == pytest.approx(0.25 + 0.75 * len(first) / with_first.n_paths)
    assert all(distribution(arm, QUICK.transform(orders=arm.orders), None).sum() == pytest.approx(1.0)
               for arm in ARMS.values())  # fmt: skip


def sounds(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(2, QUICK.n_samples, generator=generator)


def loss_of(objective: Any, step: int, renderings: list[Tensor]) -> Tensor:
    left = iter(renderings)
    empty = torch.empty(0)
    return objective.loss(empty, empty, lambda: next(left), lambda: sounds(9), step)


def test_losses_of_a_step() -> None:
    x, y, goal = sounds(0), sounds(1), sounds(9)
    distance = QUICK.path_loss(QUICK.transform())
    objective = PathObjective(QUICK, 0, ARMS["rates"])
    rates = {p: path.rate for p, path in enumerate(objective.jtfs.paths)}
    assert sorted(p for unit in objective.units for p in unit) == list(range(N_PATHS))
    assert all(len({rates[p] for p in unit}) == 1 for unit in objective.units)
    unit = objective.units[int(objective.sampler(5))]
    of_rate = torch.stack([distance(x, goal, p) for p in unit]).mean()
    torch.testing.assert_close(loss_of(objective, 5, [x]), of_rate)
    objective = PathObjective(QUICK, 0, ARMS["with_some_mss"])
    of_path = distance(x, goal, objective.sampler(5))
    of_spectra = Spectrograms(QUICK.fft_sizes, log=True)(x, goal)
    torch.testing.assert_close(loss_of(objective, 5, [x]), of_path.log() + 0.25 * of_spectra.log())
    objective = PathObjective(QUICK, 0, ARMS["with_revisited"])
    of_spectra = RevisitedSpectrograms()(x, goal)
    torch.testing.assert_close(loss_of(objective, 5, [x]), of_path.log() + of_spectra.log())
    check_one_window(x, goal)
    objective = PathObjective(QUICK, 0, ARMS["two_renderings"])
    squared = replace(QUICK, squared=True).path_loss(QUICK.transform())
    torch.testing.assert_close(loss_of(objective, 5, [x, y]), squared([x, y], goal, objective.sampler(5)))
    objective = PathObjective(QUICK, 0, ARMS["fine_log"])
    fine = replace(QUICK, log1p_eps=1e-6).path_loss(QUICK.transform())
    torch.testing.assert_close(loss_of(objective, 5, [x]), fine(x, goal, objective.sampler(5)))
    assert not torch.isclose(fine(x, goal, 3), distance(x, goal, 3))
    with pytest.raises(ValueError, match="at a weight of 0"):
        PathObjective(QUICK, 0, replace(ARMS["with_revisited"], spectrograms=0.0))
    with pytest.raises(ValueError, match="at a weight of 0"):
        PathObjective(QUICK, 0, replace(ARMS["with_one_mss"], spectrograms=0.0))
    with pytest.raises(ValueError, match="has no logarithm"):
        PathObjective(QUICK, 0, replace(ARMS["with_mss"], renderings=2))


def check_one_window(x: Tensor, goal: Tensor) -> None:
    for name, sizes, distance in (
        ("with_one_mss", QUICK.fft_sizes, lambda size: Spectrograms((size,), log=True)),
        ("with_one_revisited", REVISITED_LENGTHS, lambda size: RevisitedSpectrograms((size,))),
    ):
        objective = PathObjective(QUICK, 0, ARMS[name])
        assert objective.spectrograms is not None
        drawn = [objective.spectrograms.sampler(step) for step in range(200)]
        assert set(drawn) == set(range(len(sizes)))
        assert abs(np.corrcoef(drawn, [objective.sampler(step) for step in range(200)])[0, 1]) < 0.25
        for step in range(3):
            of_path = QUICK.path_loss(objective.jtfs)(x, goal, objective.sampler(step))
            of_spectra = distance(sizes[drawn[step]])(x, goal)
            torch.testing.assert_close(loss_of(objective, step, [x]), of_path.log() + of_spectra.log())


def test_by_pi_reaches_the_optimizer(experiment: Experiment) -> None:
    probs = [0.0] * N_PATHS
    probs[3], probs[7] = 0.25, 0.75
    trainer = trained(experiment, ARMS["theta_is_by_pi"], probs)
    group = trainer.optimizer.param_groups[0]
    assert [group["probs"][p] for p in (3, 7)] == [0.25, 0.75]
    assert (group["memory_by_probs"], group["clocks_by_probs"]) == (True, True)
    visited = trainer.optimizer.state[group["params"][0]]["step"].nonzero().flatten().tolist()
    assert set(visited) <= {3, 7}


def test_pi_is_computed_once_and_belongs_to_its_settings(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, place, asked = experiment.task, tmp_path / "pi" / "micro.json", []
    assert isinstance(task, DrumTask)

    def compute(experiment: Experiment, n: int, **options: Any) -> dict[str, Any]:
        asked.append((experiment.seed, n))
        return {"pi": [1 / N_PATHS] * N_PATHS, "halves_apart": 0.1}

    monkeypatch.setattr(pi, "compute_pi", compute)
    assert pi.find_distribution(place, task, 4, compute=False) is None
    found = pi.find_distribution(place, task, 4, compute=True)
    assert found == pi.find_distribution(place, task, 4, compute=True)
    assert found == pi.find_distribution(place, task, None, compute=False)
    assert asked == [(0, 4)]
    assert found is not None
    assert pi.about(found) == {"hash": found["hash"], "n_examples": 4, "halves_apart": 0.1}
    with pytest.raises(ValueError, match="is of other settings, sounds or examples"):
        pi.find_distribution(place, task, 8, compute=True)


def test_an_interrupted_run_ends_where_an_unbroken_one_does(
    experiment: Experiment, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_runs, "_CHECKPOINT_EVERY", 1)
    monkeypatch.setattr(
        study_runs, "Judge", lambda experiment: lambda encoder: {"test": {}, "sum": total(encoder)}
    )
    task = experiment.task
    assert isinstance(task, DrumTask)
    jobs = [make_job(tmp_path / name, "micro", task, ARMS[REFERENCE], folder) for name in ("a", "b")]
    unbroken = run(jobs[0])
    run_epoch, calls = Trainer.run_epoch, []

    def breaks(self: Trainer, *args: Any) -> Any:
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        return run_epoch(self, *args)

    monkeypatch.setattr(Trainer, "run_epoch", breaks)
    with pytest.raises(KeyboardInterrupt):
        run(jobs[1])
    monkeypatch.setattr(Trainer, "run_epoch", run_epoch)
    resumed = run(jobs[1])
    assert resumed["sum"] == unbroken["sum"]
    assert resumed["history"] == unbroken["history"]
    assert not list(tmp_path.rglob("checkpoint.pt"))


def test_a_run_from_sounds_to_tables(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two arms and the encoder before training, two seeds; then the same results without training."""
    presets = {"drums-small": QUICK, "drums-small-meso": replace(QUICK, name="tiny-meso", max_shift=100)}
    monkeypatch.setattr(program, "PRESETS", presets)
    monkeypatch.setattr(program, "quick_preset", lambda preset: replace(preset, epochs=1))
    arguments = ["--quick", "--data", str(folder), "--runs", str(tmp_path), "--seeds", "2", "--parallel", "1"]
    chosen = ["--arms", *SHOWN, "--settings", "micro"]
    assert program.main([*arguments, *chosen]) == 0
    results = json.loads((tmp_path / "drums.json").read_text())
    arms = results["settings"]["micro"]["arms"]
    assert tuple(arms) == SHOWN
    assert results["settings"]["meso"]["arms"] == {}
    for arm in arms.values():
        for metric, groups in arm["test"].items():
            values = [run["test"][metric]["all"] for run in arm["runs"]]
            assert groups["all"]["mean"] == pytest.approx(np.mean(values), rel=1e-3)
            # A Frechet distance is of two sounds or more, and there where its package is installed.
            assert metric.startswith("frechet") or {"bass drum", "snare"} <= set(groups)
    assert arms[UNTRAINED]["steps"] == 0 < arms["mss"]["steps"]
    assert set(results["settings"]["micro"]["closest"]) == set(arms["mss"]["test"])
    kept = json.loads((tmp_path / "micro/seed1/mss/result.json").read_text())
    assert len(kept["sounds"]["theta"]) == len(kept["sounds"]["names"]) == len(kept["sounds"]["distances"]["mss"])
    mean = np.mean(kept["sounds"]["distances"]["mss"])
    assert kept["test"]["mss"]["all"] == pytest.approx(mean, rel=1e-4)
    assert (tmp_path / "drums.png").exists()
    for arm in arms.values():
        assert sum(band["share"] for band in arm["decay_by_level"].values()) == pytest.approx(1)
    task = DrumTask(study_runs.load_drums(folder, QUICK), QUICK, 1)
    levels = levels_of(task, task.render(torch.tensor(kept["sounds"]["theta"]))).values()
    decay = np.mean(kept["sounds"]["distances"]["decay_loudness"])
    assert sum(band.share * band.error for band in levels if band.share) == pytest.approx(decay, abs=1e-3)
    printed = capsys.readouterr().out
    assert "Table 9: decays" in printed
    assert "Decay by level of the target" in printed
    check_pages(tmp_path, folder, capsys)
    monkeypatch.setattr(program, "train", None)
    assert program.main([*arguments, "--collect"]) == 0
    assert json.loads((tmp_path / "drums.json").read_text())["settings"] == results["settings"]


def check_pages(runs: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Players are there, targets are the recordings, and matches what the synthesizer makes of the guesses."""
    arguments = ["--runs", str(runs), "--data", str(data)]
    assert report.main(arguments) == 0
    place = runs / "report/micro"
    assert str(place / "report.html") in capsys.readouterr().out
    page = (place / "report.html").read_text()
    players = re.findall(r'<audio[^>]*src="([^"]+)"', page)
    kept = json.loads((runs / "micro/seed0/mss/result.json").read_text())["sounds"]
    index = choose_drums(kept["names"], kept["kinds"])
    assert players == [f"wav/drum{k + 1}_{name}.wav" for k in range(len(index)) for name in ("target", *SHOWN)]
    assert page.count("data:image/svg+xml;base64,") == len(players)
    assert "<caption>Table 9: decays</caption>" in page
    assert "http" not in page
    assert "loudness of the decay (dB): " in page
    assert "in parentheses by how much matches are too loud; seed 0</caption>" in page
    n = len(kept["names"])
    seeds = synth_seeds(0, "report", 0, n)
    matches = DrumSynth(QUICK.n_samples, QUICK.sample_rate)(torch.tensor(kept["theta"]), seeds)
    for k, place_in_set in enumerate(index):
        heard = [soundfile.read(place / f"wav/drum{k + 1}_{name}.wav")[0] for name in ("target", "mss")]
        recorded, rate = soundfile.read(data / kept["names"][place_in_set])
        assert rate == QUICK.sample_rate
        expected = [recorded, matches[place_in_set].numpy()]
        for one, other in zip(heard, expected, strict=True):
            assert largest_correlation(one, other) > 0.999
    assert report.main([*arguments, "--seed", "9"]) == 2
    assert "without finished runs of seed 9" in capsys.readouterr().err


def largest_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """The largest cosine over shifts: a recording is cut at its onset, and has a gain."""
    n = min(len(x), len(y))
    products = scipy.signal.correlate(x[:n], y, method="fft")
    energies = scipy.signal.correlate(np.ones(n), y**2, method="fft")
    return float((products / np.sqrt((x[:n] ** 2).sum() * energies.clip(1e-12))).max())


def test_drums_that_are_shown_are_two_of_each_kind() -> None:
    names = ["d", "c", "b", "a", "x", "y", "z", "e"]
    kinds = ["tom", "tom", "tom", "snare", "hi-hat", "hi-hat", "bass drum", "other"]
    assert choose_drums(names, kinds) == [6, 4, 5, 3, 2, 1]
    assert choose_drums(["a"], ["tom"]) == [0]


def test_bad_options(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = ["--quick", "--runs", str(tmp_path / "runs")]
    assert program.main([*runs, "--seeds", "11"]) == 2
    assert "Invalid --seeds: 11; expected 1 to 10" in capsys.readouterr().err
    assert program.main([*runs, "--examples", "1"]) == 2
    assert "Invalid --examples: 1; expected 2 or more" in capsys.readouterr().err
    assert program.main([*runs, "--data", str(tmp_path / "none")]) == 2
    assert "Invalid data folder" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
