"""Runs of arms by seeds: each in a folder of its own, several at a time, and finished ones are never repeated."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.harness.files import read_json, write_json
from benchmarks.harness.provenance import provenance
from benchmarks.harness.records import BenchmarkError, mean_error
from scrapl_jtfs.commands.command_line import say
from scrapl_jtfs.commands.provenance import CONFIGURATION, check_configuration

_RESULT = "result.json"
Result = dict[str, Any]

# Two-sided 95% quantiles of Student's t for 1, 2, ... degrees of freedom: one less than there are seeds.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
MAX_SEEDS = len(_T95) + 1


class Job(NamedTuple):
    """One run: one arm with one seed.

    Attributes:
        label: for people.
        folder: of this run alone.
        configuration: everything that determines the run, JSON-like.
        arguments: what the study's `work` needs of it; they are sent to another process.
    """

    label: str
    folder: Path
    configuration: dict[str, Any]
    arguments: tuple[Any, ...]


def configuration_hash(configuration: dict[str, Any]) -> str:
    """Name a configuration by 16 digits."""
    return hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()[:16]


def finished_result(job: Job) -> Result | None:
    """Read the result of a run, None if it is not finished.

    Raises:
        ValueError: the folder belongs to another configuration.
    """
    check_configuration(job.folder, job.configuration)
    path = job.folder / _RESULT
    return read_json(path) if path.exists() else None


def finished_results(jobs: Iterable[Job]) -> list[Result]:
    """Read the results of those runs that are finished."""
    return [result for job in jobs if (result := finished_result(job)) is not None]


def claim_folder(job: Job) -> None:
    """Write down whose folder it is."""
    write_json(job.folder / CONFIGURATION, job.configuration)


def keep_result(job: Job, result: Result) -> Result:
    """Finish a run: add where its result comes from, write it, and return it."""
    result = {**result, "hash": configuration_hash(job.configuration), **provenance()}
    write_json(job.folder / _RESULT, result)
    return result


def parameter_error(result: Result) -> str:
    """Return what to tell of a finished run whose "test" is the error of controls."""
    return f"{result['test']['mean']:.1f} per mille"


def train(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    n_parallel: int,
    told: Callable[[Result], str] = parameter_error,
) -> None:
    """Do the runs that are not finished, on one thread each, and tell of each on standard error.

    Args:
        work: does a run, whose folder is its own by then, and ends with `keep_result`. A function of a module, as
            other processes must find it.
        jobs: in the order in which they begin.
        n_parallel: processes; with one the runs are done in this very process.
        told: makes of a result what to tell of it.

    Raises:
        BenchmarkError: a run failed; the others are stopped.
        ValueError: a folder belongs to another configuration.
    """
    left, started = [job for job in jobs if finished_result(job) is None], time.perf_counter()
    for number, (job, result) in enumerate(_results(partial(_do, work), left, n_parallel), 1):
        minutes = (time.perf_counter() - started) / 60
        say(f"{number}/{len(left)} after {minutes:.1f} min  {job.label}: {told(result)}", sys.stderr)


def _results(do: Callable[[Job], Result], jobs: Sequence[Job], n_parallel: int) -> Iterator[tuple[Job, Result]]:
    if n_parallel == 1:
        yield from ((job, do(job)) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the state of torch's threads
    with ProcessPoolExecutor(n_parallel, context, initializer=_begin_process) as pool:
        futures = {pool.submit(do, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _begin_process() -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program, which stops its processes
    threading.Thread(target=_end_with_the_program, daemon=True).start()


def _end_with_the_program() -> None:
    """End this process once the program is gone, perhaps killed, before another program takes its folders."""
    program = multiprocessing.parent_process()
    if program is not None:
        program.join()
        os._exit(1)


def _do(work: Callable[[Job], Result], job: Job) -> Result:
    claim_folder(job)
    try:
        return work(job)
    except Exception as error:
        traceback.print_exc()
        what = f"{type(error).__name__}: {error}"
        raise BenchmarkError(f"{job.label} failed ({what}); the same command goes on from what is kept") from error


def epoch_teller(job: Job, every: int = 4) -> Callable[[Any], None]:
    """Return a function that tells of every fourth record of a training's history."""

    def tell(record: Any) -> None:
        if record["epoch"] % every == 0:
            error, when = (
                f"{record['val']['mean']:.0f} per mille",
                f"{record['step']} steps, {record['seconds']:.0f} s",
            )
            say(f"  {job.label}: {error} after {when}", sys.stderr)

    return tell


def by_arm(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Sort runs into their arms, there by seed."""
    arms: dict[str, list[Result]] = {}
    for result in sorted(results, key=lambda result: result["seed"]):
        arms.setdefault(result["arm"], []).append(result)
    return arms


def paired(results: Sequence[Result], reference: Sequence[Result], measure: str) -> dict[str, Any]:
    """Summarise differences of test errors, seed by seed, over the seeds that both have."""
    of_reference = {result["seed"]: result["test"][measure] for result in reference}
    differences = {
        str(result["seed"]): result["test"][measure] - of_reference[result["seed"]]
        for result in sorted(results, key=lambda result: result["seed"])
        if result["seed"] in of_reference
    }
    if not differences:
        return {"n": 0, "differences": {}}
    return {**mean_error(list(differences.values())), "differences": differences}


def interval95(summary: dict[str, Any]) -> list[float] | None:
    """Return the 95% interval of a mean that `mean_error` summarises; None for fewer than two values."""
    if summary["n"] < 2:
        return None
    reach = _T95[summary["n"] - 2] * summary["standard_error"]
    return [summary["mean"] - reach, summary["mean"] + reach]


def verdict(interval: Sequence[float] | None) -> str:
    """Judge an arm whose error differs from the reference's by something in this interval."""
    if interval is None:
        return "too few seeds"
    low, high = interval
    if high < 0:
        return "better"
    return "worse" if low > 0 else "no difference seen"
