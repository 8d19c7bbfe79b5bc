"""The study of storage policies: its moments against closed forms, its statistics, and a run of two steps."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.harness.runs import Job, configuration_hash, finished_result, train
from benchmarks.studies.storage import __main__ as program
from benchmarks.studies.storage.arms import ARMS, GROUPS, QUICK, ArmObjective, make_job, run, state_bytes
from benchmarks.studies.storage.rounding import (
    STORAGES,
    Moments,
    Rounding,
    errors,
    exact_moments,
    gradients,
    study_rounding,
)
from benchmarks.studies.storage.summary import rounding_table, summarize_arms, training_table
from scrapl_optim import PathAdamSAGA
from scrapl_optim.experimental import nearest

TINY = replace(QUICK, name="tiny", n_train=16, batch_size=8, n_samples=2048, J=7, Q=(4, 1), epochs=2, dropout=0.5)
SHORT = Rounding(shape=(16, 256), visits=(1, 20, 60))


pytestmark = pytest.mark.study


def test_exact_moments_are_weighted_means_of_all_gradients() -> None:
    seen = torch.stack([g.double() for g in gradients(SHORT)])
    for visits, found in zip(SHORT.visits, exact_moments(SHORT), strict=True):
        ages = torch.arange(visits - 1, -1, -1, dtype=torch.float64)
        weights1, weights2 = 0.9**ages, 0.999**ages
        mean = torch.tensordot(weights1 / weights1.sum(), seen[:visits], 1)
        rms = torch.tensordot(weights2 / weights2.sum(), seen[:visits].square(), 1).sqrt()
        torch.testing.assert_close(found.rms, rms, rtol=1e-12, atol=0)
        torch.testing.assert_close(found.update, mean / rms, rtol=1e-11, atol=1e-13)


def test_gradients_fall_as_told() -> None:
    steady, falling = (list(gradients(replace(SHORT, halving=halving))) for halving in (None, 30))
    torch.testing.assert_close(falling[30], steady[30] / 2)
    torch.testing.assert_close(falling[59] / steady[59], torch.full(SHORT.shape, 2 ** (-59 / 30)))


def test_errors_are_relative_and_signed() -> None:
    exact = Moments(torch.tensor([1.0, -1.0]).double(), torch.tensor([2.0, 4.0]).double())
    found = Moments(torch.tensor([0.9, -0.7]).double(), torch.tensor([2.2, 4.0]).double())
    result = errors(found, exact)
    assert result["rms_bias"] == pytest.approx(0.05)
    assert result["rms_median"] == pytest.approx(0.0)  # torch's median of two is the lower
    assert result["update_bias"] == pytest.approx(-0.2)
    assert result["update_error"] == pytest.approx(math.sqrt((0.01 + 0.09) / 2))


def test_every_storage_keeps_moments_to_its_accuracy() -> None:
    """After one visit the root is |g| and the update the sign: what is left is one rounding."""
    bounds = {"float32": 1e-6, "bfloat16": 2**-7, "int8": 2**-4}
    rows = list(study_rounding(SHORT))
    assert [row["storage"] for row in rows[::3]] == list(STORAGES)
    for row in rows:
        bound = bounds[row["storage"].removesuffix("-nearest")]
        if row["visits"] == 1:
            assert row["rms_p99"] <= bound
            assert row["update_error"] <= bound
        assert row["rms_p99"] < 6 * bound
    table = rounding_table(rows)
    assert len(table.splitlines()) == 2 + len(STORAGES)
    assert "int8-nearest" in table


def test_stochastic_rounding_follows_falling_gradients_and_rounding_to_nearest_does_not() -> None:
    """Weights 1 - beta2 far below half a spacing: rounding to nearest keeps the root where it was."""
    study = Rounding(shape=(16, 256), visits=(1000,), halving=100)
    bias = {row["storage"]: row["rms_bias"] for row in study_rounding(study, ("int8", nearest("int8")))}
    assert abs(bias["int8"]) < 0.1
    assert bias["int8-nearest"] > 0.3


def test_tables_show_each_arm() -> None:
    def run(arm: str, seed: int, error: float) -> dict[str, Any]:
        test = {"mean": error, "density": error, "slope": error}
        return {"arm": arm, "seed": seed, "test": test, "seconds": 1.0, "state_bytes_per_parameter": 4.0}

    found = summarize_arms(
        [run(a, s, 60 + s + d) for a, d in (("float32", 0), ("int8", 2)) for s in (0, 1)], "float32"
    )
    assert found["int8"]["minus_reference"]["slope"]["mean"] == 2.0
    lines = training_table(found, "float32").splitlines()
    assert lines[-1].split()[:4] == ["int8", "2", "62.5", "±"]
    assert "+2.0 ± 0.0" in lines[-1]


def test_arms_differ_in_what_they_say_alone(tmp_path: Path) -> None:
    for group in GROUPS.values():
        assert group[0] == "float32"
    weights = {}
    for name, arm in ARMS.items():
        torch.manual_seed(0)
        layer = torch.nn.Linear(70, 64)
        objective = ArmObjective(TINY, 0, arm)
        optimizer = objective.optimizer(layer.parameters())
        assert isinstance(optimizer, PathAdamSAGA)
        defaults = dict(optimizer.defaults)
        assert (defaults["storage"], defaults["saga"]) == (arm.storage, arm.saga)
        assert (defaults["n_paths"], defaults["lr"]) == (objective.jtfs.n_paths, TINY.lr_scrapl)
        weights[name] = layer.weight.detach().clone()
    nudged = weights.pop("float32-nudged")
    assert all(torch.equal(weight, weights["float32"]) for weight in weights.values())
    change = (nudged / weights["float32"] - 1).abs()
    assert 0 < change.max() < 1e-5
    jobs = [make_job(tmp_path, TINY, seed, arm) for arm in ARMS.values() for seed in (0, 1)]
    hashes = {configuration_hash(job.configuration) for job in jobs}
    assert len(hashes) == 2 * len(ARMS)


def test_bytes_are_those_of_the_state() -> None:
    """Two rows of two drawn paths and the sum, in float32; clocks and units of eight paths, in 64 bits."""
    weight = torch.nn.Parameter(torch.ones(64, 64))
    optimizer = PathAdamSAGA([weight], n_paths=8)
    for path in (3, 5, 3):
        weight.grad = torch.ones_like(weight)
        optimizer.step(path_idx=path)
    assert state_bytes(optimizer) == 4 * 4096 * 5 + 2 * 8 * 8


def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, parts = (make_job(tmp_path / name, TINY, 1, ARMS["int8"]) for name in ("whole", "parts"))
    train(run, [whole], 1)

    def interrupted(job: Job) -> dict[str, Any]:
        def stop(record: object) -> None:
            raise KeyboardInterrupt

        return run(job, stop)

    with pytest.raises(KeyboardInterrupt):
        train(interrupted, [parts], 1)
    assert finished_result(parts) is None
    epochs: list[int] = []
    train(lambda job: run(job, lambda record: epochs.append(record["epoch"])), [parts], 1)
    assert epochs == [2]
    again, expected = finished_result(parts), finished_result(whole)
    assert again is not None
    assert expected is not None
    assert again["test"] == expected["test"]
    assert [r["loss"] for r in again["history"]] == [r["loss"] for r in expected["history"]]
    assert again["steps"] == 4
    assert again["best_val"]["mean"] == min(r["val"]["mean"] for r in expected["history"])


def test_the_program_runs_reports_and_does_not_repeat(tmp_path: Path, monkeypatch, capsys) -> None:
    """Two processes of two steps each, then the report from what they left."""
    monkeypatch.setitem(GROUPS, "saga", ("float32", "saga-0"))
    monkeypatch.setattr(program, "study_rounding", lambda study: study_rounding(replace(study, shape=(16, 256))))
    arguments = ["--quick", "--seeds", "1", "--arms", "saga", "--runs", str(tmp_path)]
    assert program.main(arguments) == 0
    assert "saga-0" in capsys.readouterr().out
    results = json.loads((tmp_path / "storage.json").read_text())
    assert set(results["arms"]) == {"float32", "saga-0"}
    (run,) = results["arms"]["saga-0"]["runs"]
    difference = run["test"]["mean"] - results["arms"]["float32"]["runs"][0]["test"]["mean"]
    assert results["arms"]["saga-0"]["minus_reference"]["mean"]["mean"] == difference
    assert run["steps"] == 2
    assert {"machine", "versions", "date", "hash"} <= set(results)
    assert (tmp_path / "storage.png").stat().st_size > 10_000

    monkeypatch.setattr(program, "run", None)  # nothing is left to do
    assert program.main(arguments) == 0
