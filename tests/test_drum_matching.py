"""Encoders trained on recordings of drums."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import soundfile
import torch

from benchmarks.sound_matching import presets
from benchmarks.sound_matching.__main__ import main
from benchmarks.sound_matching.data import epoch_batches, synth_seeds
from benchmarks.sound_matching.drum_matching import data as drum_data
from benchmarks.sound_matching.drum_matching import report
from benchmarks.sound_matching.drum_matching.task import (
    DrumTask,
    Recordings,
    drum_experiment,
    identity_of,
    match_sounds,
)
from benchmarks.sound_matching.drum_sounds.sounds import load_sounds
from benchmarks.sound_matching.presets import PRESETS, Preset
from benchmarks.sound_matching.synths import DrumSynth
from benchmarks.sound_matching.theta_pi import compute_pi, spread_examples
from benchmarks.sound_matching.train import Experiment, checkpoint_path
from scrapl_jtfs import importance
from tests.support.tiny_preset import TINY as TEXTURES

RATE = 8000
TINY: Preset = replace(
    PRESETS["drums-small"],
    name="tiny-drums",
    sample_rate=RATE,
    n_samples=4096,
    octaves=6,
    hop=64,
    channels=4,
    embedding=128,
    n_blocks=3,
    pooling=((2, 2), (2, 3), (3, 3)),
    dropout=0.5,  # so that resuming must restore the random state
    J=8,
    T=512,
    J_fr=3,
    Q=(4, 1),
    fft_sizes=(512, 128),
    epochs=3,
    batch_size=4,
)


def write_drums(folder: Path, n: int = 20, seed: int = 0) -> Path:
    """Write sounds of the synthesizer itself, of two kinds."""
    theta = torch.rand(n, 14, generator=torch.Generator().manual_seed(seed))
    theta[:, 10:13] = 0.8  # all can be heard
    audio = DrumSynth(6000, RATE)(theta, list(range(n)))
    for k, sound in enumerate(audio):
        path = folder / ("Kicks" if k % 2 else "Snares") / f"{k}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound.numpy(), RATE, subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drums(tmp_path_factory.mktemp("sounds"))


@pytest.fixture(scope="module")
def experiment(folder: Path) -> Experiment:
    return drum_experiment(TINY, 3, folder)


def test_the_encoder_of_table_12_has_724_thousand_parameters() -> None:
    preset = PRESETS["drums-paper"]
    encoder = preset.build_encoder()
    # 9 * 128 + 128, four times 9 * 128^2 + 128; 128^2 + 128; 14 times 128 * 64 + 64 and 64 + 1; 5 + 1 + 14 slopes
    assert sum(p.numel() for p in encoder.parameters()) == 1280 + 4 * 147_584 + 16_512 + 14 * 8321 + 20 == 724_642
    frames = preset.n_samples // preset.hop + 1
    assert encoder(torch.rand(1, 1, preset.octaves * preset.bins_per_octave, frames)).shape == (1, 14)
    with pytest.raises(ValueError, match="at least 72 bins and 108 frames"):
        encoder(torch.rand(1, 1, 108, 107))


def test_the_paper_s_preset_is_table_12() -> None:
    preset = PRESETS["drums-paper"]
    assert preset.transform().n_paths == 483
    assert (preset.lr_factor(0), preset.lr_factor(preset.n_steps)) == (1.0, pytest.approx(0.1))
    assert PRESETS["drums-paper-meso"] == replace(preset, name="drums-paper-meso", max_shift=2048)
    small = PRESETS["drums-small"]
    assert PRESETS["drums-small-meso"] == replace(small, name="drums-small-meso", max_shift=1024)
    assert preset.max_shift == small.max_shift == 0
    assert 2 * small.sample_rate == preset.sample_rate  # so that 1024 samples are as long there


def test_sets_are_disjoint_and_hold_the_recordings(experiment: Experiment, folder: Path) -> None:
    sounds = load_sounds(folder, TINY.n_samples, RATE)
    parts = [experiment.train, experiment.val, experiment.test]
    names = []
    for part in parts:
        assert isinstance(part, Recordings)
        assert len(part) == len(part.audio) == len(part.spectrograms) > 0
        assert part.theta.shape == (len(part), 14)
        assert part.theta.isnan().all()
        for name, kind, audio in zip(part.names, part.kinds, part.audio, strict=True):
            assert torch.equal(audio, sounds.audio[sounds.names.index(name)])
            assert kind == ("bass drum" if name.startswith("Kicks") else "snare")
        assert torch.equal(part.targets(torch.tensor([1, 0])), part.audio[[1, 0]])
        names += part.names
    assert sorted(names) == sorted(sounds.names)
    assert [len(part) for part in parts] == [
        experiment.preset.n_train,
        experiment.preset.n_val,
        experiment.preset.n_test,
    ]


def test_identity_is_that_of_names_and_samples(folder: Path, tmp_path: Path) -> None:
    sounds = load_sounds(folder, TINY.n_samples, RATE)
    same = load_sounds(write_drums(tmp_path), TINY.n_samples, RATE)
    assert identity_of(sounds) == identity_of(same)
    audio = sounds.audio.clone()
    audio[-1, -1] += 1e-6
    others = [
        sounds._replace(audio=audio),
        sounds._replace(names=("a", *sounds.names[1:])),
        sounds._replace(kinds=("a", *sounds.kinds[1:])),
        sounds.subset(range(19)),
        sounds.subset([1, 0, *range(2, 20)]),
    ]
    assert len({identity_of(other) for other in [sounds, *others]}) == 6


def test_matches_have_no_shift_and_always_the_same_noise(experiment: Experiment, folder: Path) -> None:
    shifted = drum_experiment(replace(TINY, max_shift=500), 3, folder)
    found = []
    for one in (experiment, shifted):
        trainer, test = one.trainer("mss"), one.test
        assert isinstance(test, Recordings)
        matches = match_sounds(trainer, test)
        assert matches.shape == test.audio.shape
        assert torch.equal(matches, match_sounds(trainer, test))
        found.append(matches)
    assert torch.equal(*found)
    theta = torch.full((2, 14), 0.6)
    # In training they are shifted, about targets that come later, of which nothing is lost.
    train, val = shifted.train, shifted.val
    assert isinstance(train, Recordings)
    assert isinstance(val, Recordings)
    target = train.targets(torch.tensor([0]))[0]
    assert torch.equal(target[500:], train.audio[0, :-500])
    assert not target[:500].any()
    assert torch.equal(val.targets(torch.tensor([0])), val.audio[:1])
    assert not torch.equal(shifted.synth(theta, [1, 2]), experiment.synth(theta, [1, 2]))


def test_score_is_the_mean_spectrogram_distance_of_matches(experiment: Experiment) -> None:
    trainer, test = experiment.trainer("mss"), experiment.test
    assert isinstance(test, Recordings)
    assert isinstance(experiment.task, DrumTask)
    score = experiment.task.score(trainer.encoder, test)
    assert set(score) == {"mean", "bass drum", "snare"}
    x, y = match_sounds(trainer, test), test.audio
    terms = []
    for size in TINY.fft_sizes:
        options = {"hop_length": size // 4, "window": torch.hann_window(size), "return_complex": True}
        a, b = (torch.stft(sound, size, **options).abs().clamp(min=1e-4) for sound in (x, y))
        terms.append((a - b).abs().mean() + (a.log() - b.log()).abs().mean())
    assert score["mean"] == pytest.approx(float(torch.stack(terms).mean()), rel=1e-4)
    counts = {kind: test.kinds.count(kind) for kind in ("bass drum", "snare")}
    assert score["mean"] == pytest.approx(sum(score[kind] * n for kind, n in counts.items()) / len(test))


@pytest.mark.parametrize("name", ["scrapl", "mss"])
def test_a_resumed_run_equals_an_uninterrupted_one(experiment: Experiment, tmp_path: Path, name: str) -> None:
    whole = experiment.trainer(name)
    whole.run(tmp_path / "whole", quiet=True)
    parts = experiment.trainer(name)
    parts.run_epoch()
    parts.save(checkpoint_path(tmp_path / "parts", name))
    parts.step(next(epoch_batches(experiment.preset, 3, 1)))
    resumed = experiment.trainer(name)
    resumed.run(tmp_path / "parts", quiet=True)
    weights = (trainer.encoder.state_dict().values() for trainer in (whole, resumed))
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))
    assert [record["val"] for record in resumed.history] == [record["val"] for record in whole.history]


def test_training_brings_matches_closer(folder: Path) -> None:
    experiment = drum_experiment(replace(TINY, epochs=12, channels=8, dropout=0.0, lr_mss=1e-2), 0, folder)
    trainer = experiment.trainer("mss")
    before = experiment.task.score(trainer.encoder, experiment.train)["mean"]
    while not trainer.finished:
        trainer.run_epoch()
    assert experiment.task.score(trainer.encoder, experiment.train)["mean"] < 0.8 * before


def test_other_sounds_cannot_continue_a_checkpoint(experiment: Experiment, tmp_path: Path) -> None:
    path = checkpoint_path(tmp_path / "run", "mss")
    experiment.trainer("mss").save(path)
    other = drum_experiment(TINY, 3, write_drums(tmp_path / "others", seed=1))
    with pytest.raises(ValueError, match="choose another --out"):
        other.trainer("mss").load(path)


def test_too_few_sounds_for_a_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="5 usable sounds, 3 of them for training; expected 4 or more"):
        drum_experiment(TINY, 0, write_drums(tmp_path, n=5))


@pytest.fixture
def _tiny_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(presets.PRESETS, "tiny-drums", replace(TINY, epochs=2))


def run(out: Path, *extra: str | Path) -> int:
    return main(["--preset", "tiny-drums", "--out", str(out), *map(str, extra)])


@pytest.mark.usefixtures("_tiny_preset")
def test_a_run_from_the_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "sounds", tmp_path / "run"
    shutil.copytree(folder, data)
    shutil.copy(data / "Kicks/1.wav", data / "Kicks/copy.wav")
    soundfile.write(data / "silent.wav", torch.zeros(4000).numpy(), RATE)
    assert run(out, "--data", data) == 0
    printed = capsys.readouterr().out
    assert "20 recordings" in printed
    assert "10 bass drum, 10 snare" in printed
    assert "left out: Kicks/copy.wav: the same file as Kicks/1.wav" in printed
    assert "left out: silent.wav" in printed
    results = json.loads((out / "results.json").read_text())
    assert list(results["losses"]) == ["scrapl", "mss"]  # by default, as nobody knows the controls
    for loss in results["losses"].values():
        assert loss["steps"] == 2 * (results["configuration"]["n_train"] // 4)
        assert set(loss["test"]) == set(results["untrained"]) == {"mean", "bass drum", "snare"}
        assert f"{loss['test']['mean']:.3f}" in printed
    assert results["configuration"]["data"]["n_sounds"] == 20
    check_judgements(results, out, data, capsys)
    assert run(out, "--data", data, "--losses", "mss") == 0
    assert "finished before, skipped" in capsys.readouterr().out
    again = json.loads((out / "results.json").read_text())
    assert [loss["test"] for loss in again["losses"].values()] == [
        loss["test"] for loss in results["losses"].values()
    ]
    (data / "Kicks/1.wav").rename(data / "Kicks/another.wav")
    assert run(out, "--data", data, "--losses", "mss") == 2
    assert "expected no results of another configuration (data:" in capsys.readouterr().err


def check_judgements(results: dict[str, Any], out: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The distance that all metrics begin with is the score, and the page can be written anew."""
    judged = results["judged"]
    assert list(judged) == ["scrapl", "mss", "untrained"]
    scores = {
        **{name: loss["test"] for name, loss in results["losses"].items()},
        "untrained": results["untrained"],
    }
    for name, score in scores.items():
        assert judged[name]["test"]["mss"]["all"] == pytest.approx(score["mean"], rel=1e-5)
        assert judged[name]["test"]["mss"]["snare"] == pytest.approx(score["snare"], rel=1e-5)
        assert len(judged[name]["sounds"]["theta"]) == results["configuration"]["n_test"]
    page = out / "report.html"
    before = page.read_text()
    players = re.findall(r'<audio[^>]*src="([^"]+)"', before)
    assert players
    assert all((out / player).exists() for player in players)
    page.unlink()
    assert report.main([str(out), "--data", str(data)]) == 0
    assert page.read_text() == before
    assert report.main([str(out), "--data", str(data / "Kicks")]) == 2
    assert report.main([str(data)]) == 2
    errors = capsys.readouterr().err
    assert "whose sounds are not those of the run" in errors
    assert "No such file" in errors


@pytest.mark.usefixtures("_tiny_preset")
def test_arms_of_random_paths_train(folder: Path, tmp_path: Path) -> None:
    """pi takes a second for two sounds on a part of the paths; it is computed once, and kept."""
    pi = torch.rand(TINY.transform().n_paths, dtype=torch.float64).softmax(0).tolist()
    told = {"pi": pi, "seconds": 1.0, "n_effective": 3.0, "from_uniform": 0.1}
    computes = mock.patch("benchmarks.sound_matching.theta_pi.compute_pi", return_value=told)
    with computes as compute, mock.patch("benchmarks.sound_matching.__main__._judge"):
        arms = ("p_adam", "adam", "theta_is", "theta_is_by_pi")
        assert run(tmp_path, "--data", folder, "--losses", *arms) == 0
        assert run(tmp_path, "--data", folder, "--losses", "mss_linear", "theta_is") == 0
        assert compute.call_count == 1
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results["losses"]) == {*arms, "mss_linear"}
    assert len({loss["test"]["mean"] for loss in results["losses"].values()}) == 5


@pytest.mark.usefixtures("_tiny_preset")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--losses", "mss", "p_loss"], "nobody knows true controls of recordings"),
        (["--data", "EMPTY"], "it holds none"),
        (["--data", "MISSING"], "expected a folder"),
        (["--data", "ONE"], "expected three or more"),
        (["--losses", "clap", "--clap-weights", "MISSING"], "Invalid weights of clap"),
        (["--preset", "quick", "--data", "ONE"], "expected a preset of drums"),
    ],
)
def test_what_cannot_be_run_is_a_sentence_and_leaves_nothing(
    arguments: list[str], said: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "ONE").mkdir()
    shutil.copy(folder / "Kicks/1.wav", tmp_path / "ONE")
    arguments = [str(tmp_path / word) if word.isupper() else word for word in arguments]
    assert run(tmp_path / "run", *(["--data", folder] if "--data" not in arguments else []), *arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_sounds_are_fetched_where_there_is_no_folder_of_one_s_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "drum_sounds"
    monkeypatch.setattr(drum_data, "DEFAULT_FOLDER", place)
    fetch = mock.Mock(side_effect=lambda to, *rest: shutil.copytree(folder, to, dirs_exist_ok=True))
    monkeypatch.setattr(drum_data, "fetch_sounds", fetch)
    task = drum_data.find_task(TINY, 0, torch.device("cpu"))
    assert len(task.sounds.names) == 20
    assert fetch.call_args.args[0] == place


def test_a_checkpoint_belongs_to_the_weights_of_its_embedding(experiment: Experiment, tmp_path: Path) -> None:
    files = [tmp_path / "a.pth", tmp_path / "b.pth"]
    for file in files:
        file.write_bytes(file.name.encode())
    path = tmp_path / "checkpoint.pt"
    for file in files:
        experiment = Experiment(experiment.preset, 3, weights={"mss": file}, task=experiment.task)
        if not path.exists():
            experiment.trainer("mss").save(path)
            experiment.trainer("mss").load(path)
    with pytest.raises(ValueError, match=r"Invalid --mss-weights: SHA-256 .*; expected the file that"):
        experiment.trainer("mss").load(path)


def test_theta_importance_is_of_the_encoder_that_training_starts_from() -> None:
    """With two controls it takes a second; with the 14 of drums minutes."""
    preset = replace(TEXTURES, n_samples=2048, n_grains=2, grain_samples=512, J=6, Q=(2, 1), J_fr=2, T=256)
    experiment = Experiment(preset, 0)
    fresh = experiment.fresh_encoder().state_dict()
    found = compute_pi(experiment, 2)
    assert sum(found["pi"]) == pytest.approx(1.0)
    assert len(found["pi"]) == preset.transform().n_paths
    assert found["unconverged"] == 0
    assert found["examples"] == [6, 18]
    trainer = experiment.trainer("mss")
    assert all(
        torch.equal(a, b) for a, b in zip(trainer.encoder.state_dict().values(), fresh.values(), strict=True)
    )
    data = experiment.train
    other = importance(
        experiment.fresh_encoder(),
        lambda theta: experiment.synth(theta, synth_seeds(0, "report", 0, 2)),
        preset.path_loss(preset.transform()),
        data.spectrograms[[6, 18]],
        targets=data.targets(torch.tensor([6, 18])),
        halves=False,
    )
    # One is with the compact transform, and with a larger tolerance.
    assert sum(abs(a - b) for a, b in zip(found["pi"], other.probs.tolist(), strict=True)) / 2 < 0.02


def test_examples_of_theta_importance_are_spread() -> None:
    assert spread_examples(12, 4).tolist() == [1, 4, 7, 10]
    assert spread_examples(3, 4).tolist() == [0, 1, 2]
