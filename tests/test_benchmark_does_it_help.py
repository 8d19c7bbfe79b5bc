"""The study of every part of the method: its arms, what a step does, resuming, its statistics, a quick run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.harness.runs import interval95
from benchmarks.sound_matching.data import as_textures, epoch_batches, synth_seeds
from benchmarks.sound_matching.presets import PRESETS
from benchmarks.sound_matching.train import Experiment, Trainer
from benchmarks.studies.does_it_help import __main__ as program
from benchmarks.studies.does_it_help import noise, pi, rates, summary, update_sizes
from benchmarks.studies.does_it_help.arms import ARMS, REFERENCE, Arm
from benchmarks.studies.does_it_help.distributions import MissingDistribution, load_distribution
from benchmarks.studies.does_it_help.problems import GROUPS, quick
from benchmarks.studies.does_it_help.runs import ArmObjective, ArmTrainer, make_job, run
from scrapl_optim import PathAdamSAGA

pytestmark = pytest.mark.study
GRANULAR = quick(PRESETS["scaled"])
N_PATHS = 225


@pytest.fixture(scope="module")
def textures() -> Experiment:
    return Experiment(GRANULAR, seed=1)


def trained(experiment: Experiment, arm: Arm, lr: float = 1e-3, pi: list[float] | None = None) -> ArmTrainer:
    trainer = ArmTrainer(experiment, ArmObjective(experiment.preset, experiment.seed, arm, lr, pi))
    while not trainer.finished:
        trainer.run_epoch()
    return trainer


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.encoder.parameters()])


def test_every_arm_differs_from_every_other_and_those_of_groups_exist() -> None:
    decisions = [json.dumps(arm.decisions(), sort_keys=True) for arm in ARMS.values()]
    assert len(set(decisions)) == len(ARMS)
    assert ARMS[REFERENCE].decisions() == {}
    for group in (group for groups in GROUPS.values() for group in groups):
        assert group.reference in group.arms
        assert set(group.arms) <= set(ARMS)
        assert all((ARMS[arm].lr_of or REFERENCE) in ARMS for arm in group.arms)


@pytest.mark.parametrize(
    ("arm", "loss"),
    [
        (REFERENCE, "scrapl"),
        ("mss linear", "mss_linear"),
        ("mss random", "mss_random"),
        ("mss revisited", "mss_revisited"),
        ("with one mss", "with_one_mss"),
    ],
)
def test_an_arm_is_a_loss_of_the_sound_matching_benchmark(textures: Experiment, arm: str, loss: str) -> None:
    preset = textures.preset
    ours = trained(textures, ARMS[arm], lr=preset.lr_mss if loss.startswith("mss") else preset.lr_scrapl)
    theirs = textures.trainer(loss)
    start = weights(theirs)
    while not theirs.finished:
        theirs.run_epoch()
    assert not torch.equal(weights(theirs), start)
    assert torch.equal(weights(ours), weights(theirs))


@pytest.mark.parametrize("name", ["adam", "two renderings", "four paths", "rates", "mss", "controls", "warm-up"])
def test_an_arm_is_reproducible_and_its_own(textures: Experiment, name: str) -> None:
    once = weights(trained(textures, ARMS[name]))
    assert torch.equal(once, weights(trained(textures, ARMS[name])))
    assert not torch.equal(once, weights(trained(textures, ARMS[REFERENCE])))


@pytest.mark.parametrize("change", [{"loss": "full"}, {"renderings": 2}])
def test_spectrograms_stand_beside_the_loss_of_a_path_alone(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected the loss of a path and one rendering"):
        ArmObjective(GRANULAR, 1, replace(ARMS["with one mss"], **change), 1e-3, None)


def test_pi_decides_the_paths_and_reaches_the_optimizer(textures: Experiment) -> None:
    pi = [0.0] * N_PATHS
    pi[7], pi[100] = 0.25, 0.75
    arm = ARMS["theta-is, memory and clocks by pi"]
    trainer = trained(textures, arm, pi=pi)
    group = trainer.optimizer.param_groups[0]
    assert [group["probs"][p] for p in (7, 100)] == [0.25, 0.75]
    assert (group["memory_by_probs"], group["clocks_by_probs"]) == (True, True)
    visited = trainer.optimizer.state[group["params"][0]]["step"].nonzero().flatten().tolist()
    assert set(visited) <= {7, 100}
    floored = ArmObjective(GRANULAR, 1, ARMS["theta-is, floor"], 1e-3, pi).sampler.probs
    assert floored[7] == pytest.approx(0.25 / 2 + 0.75 * 0.25)


def test_four_paths_share_a_batch_and_two_renderings_no_seed(textures: Experiment) -> None:
    four = ArmObjective(GRANULAR, 1, ARMS["four paths"], 1e-3, None)
    assert [len(set(four.draws(step))) for step in range(5)] == [4] * 5
    trainer = ArmTrainer(
        textures, ArmObjective(GRANULAR, 1, replace(ARMS["two renderings"], paths_per_step=2), 1e-3, None)
    )
    rows = [
        seeds
        for batch in _batches()
        for part in trainer._seeds(batch, 2)
        for rendering in part
        for seeds in rendering
    ]
    assert len(rows) == len(set(rows)) == 2 * 8 * 4
    assert not set(rows) & {
        seed for part in (textures.train, textures.val, textures.test) for seed in as_textures(part).seeds
    }


def _batches() -> list[Any]:
    return [batch for epoch in range(2) for batch in epoch_batches(GRANULAR, 1, epoch)]


def test_rates_are_bundles_of_all_paths() -> None:
    objective = ArmObjective(GRANULAR, 1, ARMS["rates"], 1e-3, None)
    bundles = [objective.paths_of(unit) for unit in range(len(objective.rates))]
    assert sorted(p for bundle in bundles for p in bundle) == list(range(N_PATHS))
    assert objective.sampler.n_paths == len(bundles) == 15


def test_warm_up_and_decay_of_the_learning_rate(textures: Experiment) -> None:
    arm = replace(ARMS[REFERENCE], warmup=2, final_lr=0.5)
    trainer = ArmTrainer(textures, ArmObjective(GRANULAR, 1, arm, 1.0, None))
    rates = []
    for batch in _batches():
        trainer.step(batch)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([(step + 1) / 450 * (1 - 0.5 * step / 4) for step in range(4)])


def test_strength_of_saga_falls_to_nothing_over_training(textures: Experiment) -> None:
    trainer = ArmTrainer(textures, ArmObjective(GRANULAR, 1, ARMS["decayed saga"], 1e-3, None))
    strengths = []
    for batch in _batches():
        trainer.step(batch)
        strengths.append(trainer.optimizer.param_groups[0]["saga"])
    assert strengths == [1.0, 0.75, 0.5, 0.25]


def test_memory_of_a_first_visit_is_an_update_of_signs_and_votes_by_its_weight() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = PathAdamSAGA([weight], n_paths=4, lr=1e-3)
    for path, gradient in ((0, [2.0, -3.0, 5.0]), (1, [1.0, 1.0, 1.0]), (1, [-1.0, -1.0, -1.0])):
        weight.grad = torch.tensor(gradient)
        optimizer.step(path_idx=path)
    kept = optimizer.state[weight]["update.1"]
    memory = update_sizes.read_memory(optimizer, [0, 1, 1], None)
    assert memory.visits.tolist() == [1, 2, 0, 0]
    assert memory.sizes.tolist() == pytest.approx([1.0, float(kept.square().mean().sqrt()), 0.0, 0.0])
    assert memory.weights.tolist() == [0.5, 0.5, 0.0, 0.0]
    rows = update_sizes.by_visits(memory, torch.tensor([0.25, 0.5, 0.25, 0.0], dtype=torch.float64))
    assert (rows["once"]["paths"], rows["once"]["pi"]) == (1, 0.25)
    assert rows["once"]["vote"] == pytest.approx(1 / (1 + float(memory.sizes[1])))
    pi_weighted = update_sizes.read_memory(optimizer, [0, 1, 1], torch.tensor([0.25, 0.5, 0.25, 0.0]))
    assert update_sizes.by_visits(pi_weighted, pi_weighted.weights)["once"]["vote"] == pytest.approx(
        0.25 / (0.25 + 0.5 * float(memory.sizes[1]))
    )


def test_an_interrupted_run_ends_where_an_unbroken_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.studies.does_it_help.runs._CHECKPOINT_EVERY", 1)
    jobs = [make_job(tmp_path / name, GRANULAR, 3, ARMS[REFERENCE], 1e-3, None) for name in ("a", "b")]
    for job in jobs:
        job.folder.mkdir(parents=True)
    unbroken = run(jobs[0])
    run_epoch, calls = ArmTrainer.run_epoch, []

    def breaks(self: ArmTrainer, *args: Any) -> Any:
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        return run_epoch(self, *args)

    monkeypatch.setattr(ArmTrainer, "run_epoch", breaks)
    with pytest.raises(KeyboardInterrupt):
        run(jobs[1])
    monkeypatch.setattr(ArmTrainer, "run_epoch", run_epoch)
    resumed = run(jobs[1])
    assert resumed["test"] == unbroken["test"]
    assert [r["val"] for r in resumed["history"]] == [r["val"] for r in unbroken["history"]]
    assert not list(jobs[1].folder.rglob("checkpoint.pt"))


def _run(seed: int, errors: list[float], test: float, arm: str = "a") -> dict[str, Any]:
    history = [{"step": 10 * (k + 1), "val": {"mean": e, "x": e, "y": 2 * e}} for k, e in enumerate(errors)]
    result = {
        "test": {"mean": test, "x": test, "y": 250.0},
        "history": history,
        "seed": seed,
        "arm": arm,
        "lr": 1e-3,
    }
    return {**result, "hash": "", "date": "", "steps": 10 * len(errors), "seconds": 1.0}


def test_summaries_by_hand() -> None:
    mine = [_run(0, [200, 90, 110], 100.0), _run(1, [250, 240, 230], 140.0)]
    others = [_run(0, [120, 60, 60], 80.0, "b"), _run(1, [220, 110, 99], 110.0, "b")]
    assert summary.total_variation(mine[0]) == pytest.approx(0.13)
    assert summary.convergence(mine, "mean")["share"] == 0.5
    assert [summary.steps_to_converge(run) for run in (*mine, *others)] == [20, None, 20, 30]
    found = summary.summarize([*mine, *others], ("x", "y"), "b")
    assert found["a"]["at_chance"] == {"x": 0, "y": 2}
    difference = found["a"]["minus_reference"]["mean"]
    # Differences of 20 and 30: mean 25, standard error 5, one degree of freedom.
    assert difference["differences"] == {"0": 20.0, "1": 30.0}
    assert difference["interval95"] == pytest.approx([25 - 12.706 * 5, 25 + 12.706 * 5])
    assert found["a"]["minus_reference"]["steps"]["n"] == 1
    assert "minus_reference" not in found["b"]
    assert interval95({"n": 1, "mean": 3.0, "standard_error": None}) is None


def test_pooled_differences_by_hand() -> None:
    def runs(*errors: float) -> dict[str, Any]:
        return {"runs": [{"seed": seed, "test": {"mean": error}} for seed, error in enumerate(errors)]}

    problems = {
        "a": {"arms": {"x": runs(10.0, 20.0, 90.0), "y": runs(20.0, 40.0)}},
        "b": {"arms": {"x": runs(30.0), "y": runs(20.0)}},
        "c": {"arms": {"x": runs(0.0)}},
    }
    pooled = summary.over_problems(problems, "x", "y")
    assert pooled == {"problems": 2, "pairs": 3, "lower": 2, "mean": (-15.0 + 10.0) / 2}
    assert summary.over_problems(problems, "x", "z")["mean"] is None


def test_learning_rate_is_that_of_the_smallest_late_error() -> None:
    runs = [{**_run(100, [50, 50, 50, e], e), "lr": lr} for lr, e in ((3e-3, 40), (3e-4, 30), (1e-3, 35))]
    assert rates.choose(runs) == {"lr": 3e-4, "errors": {"0.0003": 30, "0.001": 35, "0.003": 40}}


def test_distributions_are_read_checked_and_carried_over(tmp_path: Path) -> None:
    arm = ARMS["theta-is"]
    assert load_distribution(tmp_path, "p", ARMS[REFERENCE], 4) is None
    with pytest.raises(MissingDistribution, match="expected one for the arm 'theta-is'"):
        load_distribution(tmp_path, "p", arm, 4)
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "theta.json").write_text(json.dumps({"pi": [0.5, 0.25, 0.25, 0.0], "examples": 16}))
    found = load_distribution(tmp_path, "p", arm, 4)
    assert found is not None
    assert found.pi == [0.5, 0.25, 0.25, 0.0]
    assert found.about == {"examples": 16}
    with pytest.raises(ValueError, match="Invalid"):
        load_distribution(tmp_path, "p", arm, 5)


def test_quick_run_writes_a_table_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--quick",
        "--groups",
        "full",
        "--seeds",
        "2",
        "--parallel",
        "1",
        "--runs",
        str(tmp_path / "runs"),
    ]
    assert program.main([*arguments, "--out", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "does_it_help.json").read_text())
    arms = results["problems"]["scaled-short"]["arms"]
    assert list(arms) == ["full tree", "scrapl", "controls"]
    assert arms["full tree"]["minus_reference"]["mean"]["n"] == 2
    assert "minus scrapl" in capsys.readouterr().out
    assert (tmp_path / "does_it_help.png").exists()


def test_noise_of_a_step_by_hand() -> None:
    gradients = torch.tensor([[[3.0, 0.0]], [[-1.0, 0.0]]])
    voted = noise.equal_vote(gradients)
    torch.testing.assert_close(voted, torch.tensor([[[3.0, 0.0]], [[-1.0, 0.0]]]) / 5**0.5)
    # A mean of 1 / sqrt(5), and a variance of 1 - 1 / 5.
    assert noise.noise_to_signal(voted[:, 0], voted.mean((0, 1))) == pytest.approx(4.0)


def test_parts_of_a_batch_have_the_gradient_of_the_whole() -> None:
    parts = noise.part_gradients(GRANULAR, 0, 1)
    assert parts.shape[:3] == (1, 4, N_PATHS)
    experiment = Experiment(GRANULAR, 0)
    torch.manual_seed(0)
    encoder = GRANULAR.build_encoder()
    theta_hat = encoder(experiment.train.spectrograms[:8])
    target = experiment.synth(experiment.train.theta[:8], as_textures(experiment.train).seeds[:8])
    match = experiment.synth(theta_hat, synth_seeds(0, "match", 0, 8))
    loss = GRANULAR.path_loss(GRANULAR.transform())(match, target, 50)
    found = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(encoder.parameters()))])
    torch.testing.assert_close(parts[0, :, 50].mean(0), found, rtol=1e-3, atol=1e-3 * float(found.abs().max()))


def test_distributions_are_computed_once_and_the_released_ones_carried_over(tmp_path: Path) -> None:
    released = tmp_path / "released"
    released.mkdir()
    full, scaled = PRESETS["paper"].transform(), PRESETS["scaled"].transform()
    rates_of_all = [float(p.rate) for p in full.paths]
    (released / "granular.json").write_text(json.dumps({"pi": rates_of_all}))
    preset = replace(GRANULAR, name="scaled")
    sources = ["theta", "theta-squared", "rms", "predicted", "released"]
    assert pi.write_distributions(tmp_path / "scaled", preset, released, 2, 12) == sources
    assert pi.write_distributions(tmp_path / "scaled", preset, released, 2, 12) == []
    for name in ("theta-is", "theta-is of squares", "rms slopes", "predicted", "released"):
        found = load_distribution(tmp_path, "scaled", ARMS[name], N_PATHS)
        assert found is not None
        assert sum(found.pi) == pytest.approx(1.0)
    rate = torch.tensor([p.rate for p in scaled.paths], dtype=torch.float64)
    torch.testing.assert_close(torch.tensor(found.pi, dtype=torch.float64), rate / rate.sum(), rtol=1e-5, atol=0)
