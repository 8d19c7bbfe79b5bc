"""The study of adaptive distributions: what its arms tell samplers, its statistics, and a whole quick run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.harness.runs import configuration_hash
from benchmarks.sound_matching.data import build_synth
from benchmarks.sound_matching.losses import Scrapl
from benchmarks.sound_matching.synths.chirplets import draw_shifts
from benchmarks.sound_matching.train import Experiment, Trainer
from benchmarks.studies.adaptive import __main__ as program
from benchmarks.studies.adaptive import runs
from benchmarks.studies.adaptive.arms import ARMS, PathObjective, run_configuration
from benchmarks.studies.adaptive.problems import PROBLEMS, quick
from benchmarks.studies.adaptive.runs import entropy, make_job, make_sampler, run
from benchmarks.studies.adaptive.summary import compared, summarize, table, verdict
from scrapl_jtfs import JTFSPath
from scrapl_optim.experimental import AdaptivePathSampler

pytestmark = pytest.mark.study
GRANULAR, CHIRPLET = (quick(problem) for problem in PROBLEMS.values())


@pytest.fixture(scope="module")
def jtfs() -> JTFSPath:
    return CHIRPLET.transform()


@pytest.fixture(scope="module")
def chirplets() -> Experiment:
    return Experiment(CHIRPLET, seed=1)


class Recording(AdaptivePathSampler):
    """Keeps what it is asked and told."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.asked: list[tuple[int, int]] = []
        self.told: list[tuple[int, list[float]]] = []

    def __call__(self, step: Any) -> int:
        path = super().__call__(step)
        self.asked.append((int(step), path))
        return path

    def update(self, path_idx: Any, values: Any) -> None:
        assert len(self.told) == len(self.asked) - 1
        self.told.append((int(path_idx), list(values)))
        super().update(path_idx, values)


def trained(name: str, experiment: Experiment, jtfs: JTFSPath, **kwargs: Any) -> tuple[Recording, PathObjective]:
    n_values = 2 if ARMS[name].source == "slopes" else 1
    sampler = Recording(jtfs.n_paths, n_values=n_values, seed=1, **kwargs)
    objective = PathObjective(experiment.preset, jtfs, ARMS[name], sampler)
    trainer = Trainer(experiment, name, objective)
    steps: list[dict[str, Any]] = []
    step = trainer.optimizer.step

    def recorded(**arguments: Any) -> None:
        weight = sampler.weight(arguments["path_idx"])
        grads = [p.grad.clone() for p in trainer.encoder.parameters() if p.grad is not None]
        steps.append(
            {**arguments, "sampler_weight": weight, "norm": torch.cat([g.flatten() for g in grads]).norm()}
        )
        step(**arguments)

    trainer.optimizer.step = recorded  # type: ignore[method-assign]
    while not trainer.finished:
        trainer.run_epoch()
    assert [step for step, _ in sampler.asked] == list(range(experiment.preset.n_steps))
    paths = [path for _, path in sampler.asked]
    assert [path for path, _ in sampler.told] == paths == [step["path_idx"] for step in steps]
    assert objective.path_counts == [paths.count(path) for path in range(jtfs.n_paths)]
    for (_, values), made in zip(sampler.told, steps, strict=True):
        if ARMS[name].source == "norm":
            assert values == pytest.approx([made["norm"].item()], rel=1e-5)
        assert made["weight"] == (made["sampler_weight"] if ARMS[name].unbiased else None)
    return sampler, objective


def test_slopes_are_told_once_a_step_of_the_path_drawn(chirplets: Experiment, jtfs: JTFSPath) -> None:
    sampler, _ = trained("adaptive-slopes", chirplets, jtfs)
    assert all(len(values) == 2 and min(values) > 0 for _, values in sampler.told)


def test_norms_are_told_once_a_step_and_weights_are_those_of_the_draw(
    chirplets: Experiment, jtfs: JTFSPath
) -> None:
    """Without covering paths first, weights differ from one as soon as two paths have been seen."""
    sampler, _ = trained("adaptive-norm-unbiased", chirplets, jtfs, cover_first=False, rate=1.0)
    assert len(sampler.told) == 4


def test_slopes_are_means_over_examples_of_their_sizes(jtfs: JTFSPath) -> None:
    """Slopes of opposite sign must not cancel."""
    sampler = Recording(jtfs.n_paths, n_values=2)
    objective = PathObjective(CHIRPLET, jtfs, ARMS["adaptive-slopes"], sampler)
    objective.distance = lambda match, target, path: match.mean(0).sum()  # type: ignore[assignment]
    weight = torch.nn.Parameter(torch.ones(4, 2))
    optimizer = objective.optimizer([weight])
    theta_hat = weight * 1.0
    slopes = torch.tensor([[1.0, 2.0], [-1.0, 2.0], [3.0, -2.0], [-3.0, -4.0]])
    objective.loss(theta_hat, theta_hat, lambda: slopes * theta_hat, lambda: slopes, 0).backward()
    objective.update(optimizer, 0)
    assert sampler.told == [(sampler.asked[0][1], [2.0, 2.5])]
    with pytest.raises(RuntimeError, match="call of loss before it"):
        objective.update(optimizer, 1)


def test_uniform_arm_is_the_scrapl_of_the_sound_matching_benchmark(tmp_path: Path) -> None:
    experiment = Experiment(GRANULAR, seed=2)
    trainer = Trainer(experiment, "scrapl", Scrapl(GRANULAR, 2, torch.device("cpu")))
    wanted = [trainer.run_epoch() for _ in range(2)]
    found = run(make_job(tmp_path, GRANULAR, 2, ARMS["uniform"]))
    assert [record["loss"] for record in found["history"]] == [record["loss"] for record in wanted]
    assert [record["val"]["slope"] for record in found["history"]] == [record["val"]["slope"] for record in wanted]
    assert found["effective_paths"] == pytest.approx(len(found["pi"]))
    assert sum(found["path_counts"]) == found["steps"] == GRANULAR.n_steps


def test_chirplets_have_one_level_and_onsets_of_their_seeds() -> None:
    synth = build_synth(CHIRPLET)
    theta = torch.tensor([[0.2, 0.7]] * 3, requires_grad=True)
    sounds = synth(theta, [5, 6, 5])
    assert sounds.dtype == torch.float32
    torch.testing.assert_close(sounds.square().mean(-1).sqrt(), torch.full((3,), 0.1))
    assert torch.equal(sounds[0], sounds[2])
    assert not torch.equal(sounds[0], sounds[1])
    shifts = draw_shifts(range(2000), CHIRPLET.n_samples // 16)
    assert (shifts.min(), shifts.max()) == (-128, 128)
    assert torch.equal(shifts, shifts.round())
    assert isinstance(build_synth(GRANULAR)(theta, [5, 6, 5]), torch.Tensor)


def test_entropy_counts_paths() -> None:
    assert math.exp(entropy([0.25, 0.25, 0.0, 0.5])) == pytest.approx(2**1.5)


def test_samplers_are_told_what_their_arm_needs() -> None:
    pi = make_sampler(ARMS["theta-is"], 4, 2, 0, [0.5, 0.25, 0.125, 0.125]).probs
    assert pi.tolist() == [0.4375, 0.25, 0.15625, 0.15625]
    slopes, norm = (make_sampler(ARMS[name], 4, 2, 0) for name in ("adaptive-slopes", "adaptive-norm-unbiased"))
    assert isinstance(slopes, AdaptivePathSampler)
    assert isinstance(norm, AdaptivePathSampler)
    slopes.update(1, [1.0, 2.0])
    norm.update(1, 1.0)
    with pytest.raises(ValueError, match="needs pi"):
        make_sampler(ARMS["theta-is"], 4, 2, 0)
    runs_of = [(p, s, a) for p in (GRANULAR, CHIRPLET) for s in (0, 1) for a in ARMS.values()]
    hashes = {configuration_hash(run_configuration(*run_of)) for run_of in runs_of}
    assert len(hashes) == 4 * len(ARMS)


@pytest.mark.parametrize(
    ("interval", "wanted"),
    [
        ((-3.0, -0.1), "better"),
        ((0.1, 3.0), "worse"),
        ((-0.1, 3.0), "no difference seen"),
        ((0.0, 0.0), "no difference seen"),
        (None, "too few seeds"),
    ],
)
def test_verdicts(interval: tuple[float, float] | None, wanted: str) -> None:
    assert verdict(interval) == wanted


def a_run(arm: str, seed: int, error: float) -> dict[str, Any]:
    errors = {"mean": error, "am": error - 1, "fm": error + 1}
    run: dict[str, Any] = {"arm": arm, "seed": seed, "steps": 4, "seconds": 1.0 + seed, "hash": "", "date": ""}
    run |= {"test": errors, "last_val": errors, "best_val": errors, "history": [{"step": 4, "val": errors}]}
    run |= {"entropy": 0.0, "effective_paths": 1.0, "importance": None, "path_counts": [4, 0]}
    return {**run, "pi": [0.5 + seed / 10, 0.5 - seed / 10]}


def test_summary_agrees_with_a_hand_computation() -> None:
    """Differences -1, -2, -3: mean -2, standard error 1 / sqrt(3), t(2) = 4.303, interval -2 +- 2.484."""
    reference = [a_run("uniform", seed, 50.0 + seed) for seed in range(3)]
    arm = [a_run("theta-is", seed, 50.0 + seed - (seed + 1)) for seed in (2, 0, 1)]
    found = summarize([*reference, *arm], ("am", "fm"), "uniform")
    difference = found["theta-is"]["minus_reference"]["mean"]
    assert difference["differences"] == {"0": -1.0, "1": -2.0, "2": -3.0}
    assert difference["standard_error"] == pytest.approx(1 / math.sqrt(3))
    assert difference["interval95"] == pytest.approx([-4.4843, 0.4843], abs=1e-3)
    assert found["theta-is"]["verdict"] == "no difference seen"
    assert found["uniform"]["test"]["mean"] == pytest.approx(
        {"n": 3, "mean": 51.0, "std": 1.0, "standard_error": 1 / math.sqrt(3)}
    )
    assert found["uniform"]["pi"] == [0.6, 0.4]
    assert "verdict" not in found["uniform"]
    larger = [a_run("theta-is", seed, 50.0 + seed - 10 * (seed + 5)) for seed in range(3)]
    assert compared(larger, reference, "fm")["verdict"] == "better"
    assert compared(reference, larger, "fm")["verdict"] == "worse"
    assert compared(reference[:1], larger, "fm")["verdict"] == "too few seeds"
    synth = {"controls": ["am", "fm"], "arms": found}
    lines = table({"reference": "uniform", "synths": {"chirplet": synth}}).splitlines()
    assert any(line.endswith("-2.0 ± 0.6  -4.5 to +0.5  no difference seen") for line in lines)
    assert sum(line.startswith("uniform") for line in lines) == 1


def few_paths(*args: Any, **kwargs: Any) -> Any:
    """theta-importance of one path, whose values stand for all: the whole takes ten seconds."""
    found = THETA_IMPORTANCE(*args, **kwargs, paths=(0,))
    curvature = found.importance[:, :1].repeat(1, found.importance.shape[1])
    return type(found)(curvature, found.residual, found.n_products, found.tolerance, found.method)


THETA_IMPORTANCE = runs.theta_importance


def test_quick_program_from_the_command_line_to_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runs, "theta_importance", few_paths)
    arguments = ["--quick", "--synths", "chirplet", "--seeds", "2", "--runs", str(tmp_path)]
    assert program.main(arguments) == 0
    first = capsys.readouterr()
    assert "10/10 after" in first.err
    assert "CHIRPLET" in first.out
    results = json.loads((tmp_path / "adaptive.json").read_text())
    assert (tmp_path / "adaptive.png").stat().st_size > 10_000
    found = results["synths"]["chirplet"]["arms"]
    assert list(found) == list(ARMS)
    for name, arm in found.items():
        assert arm["test"]["mean"]["n"] == 2
        assert sum(arm["pi"]) == pytest.approx(1, abs=1e-4)
        assert len(arm["runs"][0]["history"]["val_am"]) == 2
        assert (name == "uniform") == ("verdict" not in arm)
    assert found["theta-is"]["runs"][0]["importance"]["seconds"] > 0

    monkeypatch.setattr(program, "run", None)  # nothing is left to do
    assert program.main(arguments) == 0
    assert program.main(["--seeds", "11"]) == 2
