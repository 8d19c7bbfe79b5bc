"""Data, objectives, training and its interruption."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import Tensor

from benchmarks.harness.runs import configuration_hash
from benchmarks.sound_matching.__main__ import main
from benchmarks.sound_matching.data import as_textures, epoch_batches, match_seeds, synth_seeds
from benchmarks.sound_matching.distances import REVISITED_LENGTHS, RevisitedSpectrograms, Spectrograms
from benchmarks.sound_matching.examples import preset_of
from benchmarks.sound_matching.losses import Scrapl, build_objective
from benchmarks.sound_matching.presets import PRESETS, check_run_folder, configuration
from benchmarks.sound_matching.task import parameter_error
from benchmarks.sound_matching.train import Experiment, Trainer, checkpoint_path
from scrapl_optim import PathSampler
from tests.support.tiny_preset import TINY


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return Experiment(TINY, seed=3)


def test_splits_are_disjoint_and_reproducible(experiment: Experiment) -> None:
    seeds = [
        seed for part in (experiment.train, experiment.val, experiment.test) for seed in as_textures(part).seeds
    ]
    assert len(set(seeds)) == 40
    matches = [seed for step in range(9) for r in (0, 1) for seed in match_seeds(TINY, 3, step, r)]
    assert len(set(matches)) == 144
    assert not set(matches) & {*seeds, *synth_seeds(3, "report", 0, 2**10)}
    again, other = Experiment(TINY, seed=3), Experiment(TINY, seed=4)
    assert torch.equal(again.train.spectrograms, experiment.train.spectrograms)
    assert torch.equal(again.test.theta, experiment.test.theta)
    assert not torch.equal(other.test.theta, experiment.test.theta)
    assert not set(as_textures(other.train).seeds) & set(seeds)
    with pytest.raises(ValueError, match="choose another seed"):
        synth_seeds(2**20, "target", 0, 1)


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    first, again, next_epoch = (list(epoch_batches(TINY, 3, epoch)) for epoch in (1, 1, 2))
    assert [batch.step for batch in first] == [3, 4, 5]
    assert sorted(torch.cat([batch.index for batch in first]).tolist()) == list(range(24))
    assert all(torch.equal(a.index, b.index) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a.index, b.index) for a, b in zip(first, next_epoch, strict=True))


def test_error_of_always_answering_a_half_is_chance(experiment: Experiment) -> None:
    class Half(torch.nn.Module):
        def forward(self, spectrogram: Tensor) -> Tensor:
            return torch.full((spectrogram.shape[0], 2), 0.5)

    error = parameter_error(Half(), experiment.val, TINY.controls)
    expected = 1000 * (experiment.val.theta - 0.5).abs().mean(0)
    assert [error["density"], error["slope"]] == pytest.approx(expected.tolist(), rel=1e-5)
    assert error["mean"] == pytest.approx(float(expected.mean()), rel=1e-5)


@pytest.mark.parametrize("name", ["p_loss", "mss", "scrapl", "scrapl_two", "with_mss", "with_revisited"])
def test_every_objective_gives_a_gradient_and_an_update(experiment: Experiment, name: str) -> None:
    trainer = experiment.trainer(name)
    before = [p.detach().clone() for p in trainer.encoder.parameters()]
    loss = trainer.step(next(epoch_batches(TINY, 3, 0)))
    assert loss.isfinite()
    assert not loss.requires_grad
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for p in trainer.encoder.get_submodule("output").parameters()
    )
    after = trainer.encoder.parameters()
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_two_renderings_have_seeds_of_their_own_and_a_distance_without_variance(experiment: Experiment) -> None:
    trainer, rendered = experiment.trainer("scrapl_two"), []
    synth = experiment.synth.forward
    with mock.patch.object(experiment.synth, "forward", lambda t, s: rendered.append(list(s)) or synth(t, s)):
        loss = trainer.step(next(epoch_batches(TINY, 3, 0)))
    assert rendered[:2] == [match_seeds(TINY, 3, 0, rendering) for rendering in (0, 1)]
    assert len(rendered) == 3
    assert not set(rendered[2]) & {*rendered[0], *rendered[1]}
    assert loss.isfinite()
    objective = build_objective("scrapl_two", replace(TINY, squared=False), 5, torch.device("cpu"))
    assert isinstance(objective, Scrapl)
    x1, x2, y = torch.randn(3, 2, TINY.n_samples, generator=torch.Generator().manual_seed(0))
    sounds, p = iter([x1, x2]), objective.sampler(7)
    a, b, c = (objective.jtfs(sound, p) for sound in (x1, x2, y))
    expected = ((a - c) * (b - c)).sum((-2, -1)).mean() * (objective.jtfs.n_paths if TINY.path_scale else 1)
    found = objective.loss(torch.zeros(2, 2), torch.zeros(2, 2), lambda: next(sounds), lambda: y, 7)
    torch.testing.assert_close(found, expected)


def _sizes_of_step(name: str, step: int) -> tuple[int, ...]:
    sizes = REVISITED_LENGTHS if "revisited" in name else TINY.fft_sizes
    draws = PathSampler(n_paths=len(sizes), seed=5 + 2**32)
    return (sizes[draws(step)],) if "_one_" in name else sizes


@pytest.mark.parametrize("name", ["with_mss", "with_one_mss", "with_revisited", "with_one_revisited"])
def test_a_sum_with_spectrograms_is_one_of_logarithms(name: str) -> None:
    x, y = torch.randn(2, 2, TINY.n_samples, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    both, path = (build_objective(loss, TINY, 5, torch.device("cpu")) for loss in (name, "scrapl"))
    for step in range(4):
        sizes = _sizes_of_step(name, step)
        spectrograms = RevisitedSpectrograms(sizes) if "revisited" in name else Spectrograms(sizes, log=True)
        expected = path.loss(x, x, lambda: x, lambda: y, step).log() + spectrograms(x, y).log()
        found = both.loss(x, x, lambda: x, lambda: y, step)
        torch.testing.assert_close(found, expected)
        gradients = [torch.autograd.grad(value, x)[0] for value in (found, expected)]
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("name", ["one_mss", "with_mss", "with_one_mss", "with_revisited", "with_one_revisited"])
@pytest.mark.parametrize("level", [0.0, 1e-20, 0.1])
def test_sums_of_equal_sounds_have_a_finite_gradient(name: str, level: float, *, squared: bool) -> None:
    objective = build_objective(name, replace(TINY, squared=squared), 5, torch.device("cpu"))
    y = level * torch.randn(2, TINY.n_samples, generator=torch.Generator().manual_seed(0))
    for x in (y.clone(), y + 1e-20):
        x.requires_grad_()
        loss = objective.loss(x, x, lambda x=x: x, lambda: y, 7)
        assert loss.isfinite()
        assert torch.autograd.grad(loss, x)[0].isfinite().all()


def test_multi_resolution_distance_is_zero_for_equal_sounds(experiment: Experiment) -> None:
    objective = build_objective("mss", TINY, 0, torch.device("cpu"))
    theta = experiment.train.theta[:2]
    audio = experiment.synth(theta, [1, 2])
    other = experiment.synth(theta, [3, 4])
    assert objective.loss(theta, theta, lambda: audio, lambda: audio, 0) == 0
    assert objective.loss(theta, theta, lambda: audio, lambda: other, 0) > 0.1


def test_an_unknown_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown loss 'mse': choose among scrapl, mss, p_loss, scrapl_two"):
        build_objective("mse", TINY, 0, torch.device("cpu"))


def final_state(trainer: Trainer) -> list[Tensor]:
    return [value.clone() for value in trainer.encoder.state_dict().values()]


@pytest.mark.parametrize(
    "name", ["p_loss", "mss", "scrapl", "scrapl_two", "mss_random", "one_mss", "with_one_revisited"]
)
def test_a_resumed_run_equals_an_uninterrupted_one(experiment: Experiment, tmp_path: Path, name: str) -> None:
    whole = experiment.trainer(name)
    whole.run(tmp_path / "whole", quiet=True)

    interrupted = experiment.trainer(name)
    interrupted.run_epoch()
    interrupted.save(checkpoint_path(tmp_path / "parts", name))
    interrupted.step(next(epoch_batches(TINY, 3, 1)))  # and then ctrl-C, in the middle of the second epoch
    torch.rand(7)
    resumed = experiment.trainer(name)
    resumed.run(tmp_path / "parts", quiet=True)

    assert all(torch.equal(a, b) for a, b in zip(final_state(whole), final_state(resumed), strict=True))
    assert [r["val"] for r in resumed.history] == [r["val"] for r in whole.history]
    assert [r["loss"] for r in resumed.history] == [r["loss"] for r in whole.history]

    finished = experiment.trainer(name)
    finished.run(tmp_path / "parts", quiet=True)  # nothing left to do
    assert finished.history == resumed.history


def test_a_run_folder_of_another_configuration_is_refused(experiment: Experiment, tmp_path: Path) -> None:
    check_run_folder(tmp_path, TINY, 3)
    check_run_folder(tmp_path, TINY, 3)
    with pytest.raises(
        ValueError, match=r"batch_size: 8 there, 16 now; seed: 3 there, 4 now.*choose another --out"
    ):
        check_run_folder(tmp_path, replace(TINY, batch_size=16), 4)
    path = checkpoint_path(tmp_path, "p_loss")
    experiment.trainer("p_loss").save(path)
    other = Experiment(replace(TINY, weight_decay=0.5), 3)
    with pytest.raises(ValueError, match=r"choose another --out"):
        other.trainer("p_loss").load(path)


def test_a_loss_that_is_not_finite_stops_the_run(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = experiment.trainer("p_loss")
    monkeypatch.setattr(Trainer, "step", lambda self, batch: torch.tensor(float("nan")))
    with pytest.raises(RuntimeError, match="lower its learning rate"):
        trainer.run_epoch()


def test_p_loss_learns() -> None:
    shape = replace(TINY, n_grains=16, channels=12, dropout=0.0)
    preset = replace(shape, n_train=192, n_val=64, epochs=20, batch_size=16, lr_p_loss=2e-3)
    experiment = Experiment(preset, seed=0)
    trainer = experiment.trainer("p_loss")
    while not trainer.finished:
        trainer.run_epoch()
    val = trainer.history[-1]["val"]
    assert max(val["density"], val["slope"]) < 170  # chance is 250


def test_learning_rate_falls_linearly_and_the_papers_does_not(experiment: Experiment) -> None:
    trainer = experiment.trainer("p_loss")
    first = trainer.optimizer.param_groups[0]["lr"]
    trainer.run_epoch()
    # Step 2 of 9: two ninths of the way from 1 to a tenth.
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(first * (1 - 0.9 * 2 / 9))
    assert PRESETS["paper"].lr_factor(19_199) == 1.0


def test_learning_rate_warms_up_linearly() -> None:
    preset = replace(TINY, warmup_steps=4, final_lr=1.0)
    assert [preset.lr_factor(step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    falling = replace(TINY, warmup_steps=4)
    assert falling.lr_factor(1) == 0.5 * TINY.lr_factor(1)
    assert falling.lr_factor(7) == TINY.lr_factor(7)


SHORT = {"n_train": 8, "n_val": 4, "n_test": 4, "batch_size": 4, "epochs": 2, "channels": 4, "dropout": 0.5}


@pytest.mark.parametrize("name", ["scaled", "scaled-chirplet-hi-med"])
def test_scaled_presets_train_and_resume_exactly(name: str, tmp_path: Path) -> None:
    experiment = Experiment(replace(PRESETS[name], **SHORT), seed=1)
    whole = experiment.trainer("scrapl")
    objective = whole.objective
    assert isinstance(objective, Scrapl)
    assert objective.jtfs.n_paths == 225
    whole.run(tmp_path / "whole", quiet=True)
    assert set(whole.history[-1]["val"]) == {"mean", *PRESETS[name].controls}
    parts = experiment.trainer("scrapl")
    parts.run_epoch()
    parts.save(checkpoint_path(tmp_path / "parts", "scrapl"))
    resumed = experiment.trainer("scrapl")
    resumed.run(tmp_path / "parts", quiet=True)
    assert all(torch.equal(a, b) for a, b in zip(final_state(whole), final_state(resumed), strict=True))
    assert whole.summary()["test"] == resumed.summary()["test"]


@pytest.mark.parametrize("name", ["small", "scaled"])
def test_the_distance_is_the_preset_s(name: str) -> None:
    """P times the square, as the paper writes it, or the norm, as its authors trained."""
    preset = PRESETS[name]
    jtfs = replace(preset, n_samples=2048, J=7, T=256, Q=(4, 1), J_fr=2).transform()
    x, y = torch.randn(2, 1, 2048, generator=torch.Generator().manual_seed(0)).unbind()
    distance = (jtfs(x, 3) - jtfs(y, 3)).square().sum()
    expected = distance * jtfs.n_paths if name == "small" else distance.sqrt()
    torch.testing.assert_close(preset.path_loss(jtfs)(x, y, 3), expected)


def test_scaled_presets_are_the_paper_s_shrunk_in_time() -> None:
    for name, paper in PRESETS.items():
        if not name.startswith("paper"):
            continue
        scaled = PRESETS[name.replace("paper", "scaled")]
        for key in ("n_samples", "grain_samples", "max_shift", "T"):
            long, short = getattr(paper, key), getattr(scaled, key)
            assert (long, short) == (None, None) or long == 8 * short
        for key in ("am", "fm"):
            slow, fast = getattr(paper, key), getattr(scaled, key)
            assert (slow, fast) == (None, None) or fast == tuple(8 * rate for rate in slow)
        assert scaled.J == paper.J - 3
        for key in ("synth", "sample_rate", "n_grains", "min_pitch", "max_pitch", "Q", "J_fr", "Q_fr", "F"):
            assert getattr(scaled, key) == getattr(paper, key)
        for key in ("squared", "path_scale", "final_lr", "betas", "weight_decay", "octaves", "bins_per_octave"):
            assert getattr(scaled, key) == getattr(paper, key)
        assert paper.n_steps == (19200 if name == "paper" else 4800)


def test_settings_that_came_later_leave_configurations_as_they_were() -> None:
    """Checkpoints, run folders and results of before must be recognised."""
    for name, expected in (("small", "a90544a35a2b7bf3"), ("quick", "20d158d3fe2e4047")):
        assert configuration_hash(configuration(PRESETS[name], 0)) == expected
    recorded = json.loads(Path("benchmarks/results/sound_matching_small.json").read_text())
    assert preset_of(recorded) == (PRESETS["small"], recorded["configuration"]["seed"])
    for preset in PRESETS.values():
        assert preset_of({"configuration": configuration(preset, 3)}) == (preset, 3)


def test_a_damaged_checkpoint_is_named(experiment: Experiment, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"checkpoint\.pt cannot be read.* delete it"):
        experiment.trainer("p_loss").load(path)


@pytest.mark.parametrize("arguments", [["--seed", "-1"], ["--device", "cuda"]])
def test_bad_arguments_leave_no_folder(arguments: list[str], tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    folder = tmp_path / "run"
    assert main([*arguments, "--out", str(folder)]) == 2
    assert arguments[1] in capsys.readouterr().err
    assert not folder.exists()
