"""Runs of arms by seeds: several at a time, finished ones not repeated, failures told."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness.records import BenchmarkError
from benchmarks.harness.runs import (
    Job,
    by_arm,
    configuration_hash,
    finished_result,
    finished_results,
    keep_result,
    paired,
    train,
)


def make_job(folder: Path, arm: str, seed: int) -> Job:
    return Job(f"{arm}, seed {seed}", folder / arm / str(seed), {"arm": arm, "seed": seed}, (arm, seed))


def work(job: Job) -> dict[str, Any]:
    arm, seed = job.arguments
    if arm == "bad":
        raise RuntimeError("no such luck")
    return keep_result(job, {"arm": arm, "seed": seed, "test": {"mean": 10.0 * seed}})


def no_work(job: Job) -> dict[str, Any]:
    raise AssertionError(job)


@pytest.mark.parametrize("n_parallel", [1, 2])
def test_runs_are_done_once(n_parallel: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [make_job(tmp_path, arm, seed) for seed in (0, 1) for arm in ("a", "b")]
    train(work, jobs[:1], 1)
    train(work, jobs, n_parallel)
    assert "3/3 after" in capsys.readouterr().err
    results = finished_results([*jobs, make_job(tmp_path, "c", 0)])
    assert [(result["arm"], result["seed"]) for result in results] == [job.arguments for job in jobs]
    assert results[0]["hash"] == configuration_hash(jobs[0].configuration)
    assert {"date", "machine", "versions"} < set(results[0])
    train(no_work, jobs, n_parallel)


@pytest.mark.parametrize("n_parallel", [1, 2])
def test_a_failure_is_told_and_what_was_finished_is_kept(n_parallel: int, tmp_path: Path) -> None:
    good, bad = make_job(tmp_path, "good", 0), make_job(tmp_path, "bad", 3)
    with pytest.raises(BenchmarkError, match=r"bad, seed 3 failed \(RuntimeError: no such luck\)"):
        train(work, [good, bad] if n_parallel == 1 else [bad], n_parallel)
    assert finished_result(bad) is None
    assert (finished_result(good) is not None) == (n_parallel == 1)


def long_work(job: Job) -> dict[str, Any]:
    (job.folder / "process").write_text(str(os.getpid()))
    time.sleep(120)
    raise AssertionError(job)


def is_running(process: str) -> bool:
    """Whether there is a process of this number that has not ended, waited for by anybody or not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_runs_end_when_their_program_is_killed(tmp_path: Path) -> None:
    jobs = [make_job(tmp_path, arm, 0) for arm in ("a", "b")]
    files = [job.folder / "process" for job in jobs]
    program = multiprocessing.get_context("spawn").Process(target=train, args=(long_work, jobs, 2))
    program.start()
    try:
        wait_for(lambda: all(file.exists() and file.read_text() for file in files), seconds=100)
        processes = [file.read_text() for file in files]
        assert all(map(is_running, processes))
    finally:
        program.kill()
        program.join()
    wait_for(lambda: not any(map(is_running, processes)), seconds=20)


@pytest.mark.parametrize("read", [finished_result, lambda job: train(no_work, [job], 1)])
def test_a_folder_of_another_configuration_is_refused(read: Callable[[Job], object], tmp_path: Path) -> None:
    train(work, [make_job(tmp_path, "a", 0)], 1)
    with pytest.raises(ValueError, match="another configuration"):
        read(make_job(tmp_path, "a", 0)._replace(configuration={"arm": "a", "seed": 1}))


def test_differences_are_paired_by_seed() -> None:
    reference = [{"seed": s, "test": {"mean": 10.0 * s}} for s in (0, 1, 2)]
    arm = [{"seed": s, "test": {"mean": 10.0 * s + d}} for s, d in ((2, 3.0), (0, 1.0), (7, 100.0))]
    found = paired(arm, reference, "mean")
    assert found["differences"] == {"0": 1.0, "2": 3.0}
    assert (found["n"], found["mean"], found["standard_error"]) == (2, 2.0, 1.0)
    assert paired(arm[2:], reference, "mean") == {"n": 0, "differences": {}}


def test_arms_are_sorted_by_seed() -> None:
    runs = [{"arm": arm, "seed": seed} for arm, seed in (("b", 1), ("a", 2), ("b", 0))]
    assert by_arm(runs) == {"b": [runs[2], runs[0]], "a": [runs[1]]}
