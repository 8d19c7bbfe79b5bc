"""python -m benchmarks.studies.adaptive [--seeds 5] [--parallel 1] [--synths granular chirplet] [--quick]"""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.harness.style import write_picture
from benchmarks.sound_matching.presets import configuration
from benchmarks.sound_matching.train import EpochRecord
from benchmarks.studies.adaptive.arms import ARMS, REFERENCE, run_configuration
from benchmarks.studies.adaptive.plots import draw_figure
from benchmarks.studies.adaptive.problems import PROBLEMS, Problem, quick
from benchmarks.studies.adaptive.runs import run_arm, run_folder
from benchmarks.studies.adaptive.summary import MAX_SEEDS, summarize, table
from benchmarks.studies.storage.runs import finished_result
from scrapl_jtfs.commands.files import write_text
from scrapl_jtfs.commands.provenance import machine, versions

__all__ = ["main"]

_COMMITTED = Path("benchmarks/results")


class Job(NamedTuple):
    """One run."""

    problem: Problem
    arm: str
    seed: int
    folder: Path


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.adaptive",
        description=(
            "Compare distributions of paths: uniform, theta-importance, and two that adapt. Interrupt it at any "
            "time: the same command continues with the runs that are not finished."
        ),
    )
    parser.add_argument(
        "--synths", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS), help="problems (default: all)"
    )
    parser.add_argument(
        "--seeds", type=int, default=5, help=f"trains seeds 0 to SEEDS - 1, 1 to {MAX_SEEDS} (default: 5)"
    )
    parser.add_argument("--parallel", type=int, default=1, help="runs at a time, one thread each (default: 1)")
    parser.add_argument("--runs", type=Path, help="folder of runs (default: runs/adaptive, runs/adaptive-quick)")
    parser.add_argument(
        "--out", type=Path, help=f"folder of adaptive.json and .png (default: {_COMMITTED}; with --quick: --runs)"
    )
    parser.add_argument("--collect", action="store_true", help="train nothing, report what is finished")
    parser.add_argument("--quick", action="store_true", help="four steps a run: to see that it works")
    return parser.parse_args(argv)


def jobs_left(problems: Sequence[Problem], n_seeds: int, folder: Path) -> list[Job]:
    """Seed by seed, so that an early look compares whole seeds."""
    return [
        Job(problem, name, seed, folder)
        for seed in range(n_seeds)
        for problem in problems
        for name, arm in ARMS.items()
        if problem.name in arm.synths
        and not finished_result(run_folder(folder, seed, problem, arm), run_configuration(problem, seed, arm))
    ]


def work(job: Job) -> dict[str, Any]:
    """Train one run on one thread, with a line to stderr every fourth epoch."""
    torch.set_num_threads(1)

    def tell(record: EpochRecord) -> None:
        if record["epoch"] % 4 == 0:
            error = (
                f"{record['val']['mean']:.0f} per mille after {record['step']} steps, {record['seconds']:.0f} s"
            )
            print(f"  {job.problem.name}, {job.arm}, seed {job.seed}: {error}", file=sys.stderr, flush=True)

    return run_arm(job.problem, ARMS[job.arm], job.seed, job.folder, tell)


def train(jobs: Sequence[Job], n_parallel: int) -> None:
    """With one at a time in this very process; finished runs are kept whatever happens."""
    started = time.perf_counter()

    def tell(number: int, result: dict[str, Any]) -> None:
        what = f"{result['synth']}, {result['arm']}, seed {result['seed']}: {result['test']['mean']:.1f} per mille"
        minutes = (time.perf_counter() - started) / 60
        print(f"{number}/{len(jobs)} after {minutes:.1f} min  {what}", file=sys.stderr, flush=True)

    if n_parallel == 1:
        for number, job in enumerate(jobs, 1):
            tell(number, work(job))
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the state of torch's threads
    with ProcessPoolExecutor(n_parallel, context) as pool:
        futures = [pool.submit(work, job) for job in jobs]
        try:
            for number, future in enumerate(as_completed(futures), 1):
                tell(number, future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def collect(problems: Sequence[Problem], n_seeds: int, folder: Path, is_quick: bool) -> dict[str, Any]:
    """The content of adaptive.json: every finished run of these problems and seeds."""
    found: dict[str, list[dict[str, Any]]] = {problem.name: [] for problem in problems}
    for problem in problems:
        for arm in ARMS.values():
            for seed in range(n_seeds):
                place = run_folder(folder, seed, problem, arm)
                result = finished_result(place, run_configuration(problem, seed, arm))
                if result is not None:
                    found[problem.name].append(result)
    return {
        "unit": "mean absolute error of theta in [0, 1], per mille, at the last step, on the test set; chance 250",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "quick": is_quick,
        "reference": REFERENCE,
        "machine": machine(torch.device("cpu")),
        "versions": versions(["torch", "numpy", "scrapl-jtfs"]),
        "arms": {name: arm.description for name, arm in ARMS.items()},
        "synths": {
            problem.name: {
                "controls": list(problem.controls),
                "smoothing": problem.smoothing,
                "configuration": configuration(problem.preset, 0),
                "arms": summarize(found[problem.name], problem.controls, REFERENCE),
            }
            for problem in problems
        },
    }


def run(arguments: argparse.Namespace) -> None:
    if not 1 <= arguments.seeds <= MAX_SEEDS or arguments.parallel < 1:
        raise ValueError(f"--seeds {arguments.seeds} must be 1 to {MAX_SEEDS}, --parallel at least 1")
    problems = [PROBLEMS[name] for name in dict.fromkeys(arguments.synths)]
    if arguments.quick:
        problems = [quick(problem) for problem in problems]
    folder: Path = arguments.runs or Path("runs/adaptive-quick" if arguments.quick else "runs/adaptive")
    out: Path = arguments.out or (folder if arguments.quick else _COMMITTED)
    if not arguments.collect:
        train(jobs_left(problems, arguments.seeds, folder), arguments.parallel)
    results = collect(problems, arguments.seeds, folder, arguments.quick)
    write_text(out / "adaptive.json", json.dumps(results, indent=1) + "\n")
    write_picture(out / "adaptive.json", draw_figure(results))
    print(f"{table(results)}\n\nFigures   {out / 'adaptive.json'}\nLook at   {out / 'adaptive.png'}")


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    torch.set_num_threads(1)
    try:
        run(arguments)
    except KeyboardInterrupt:
        print("\nInterrupted. Finished runs are kept: the same command continues from there.", file=sys.stderr)
        return 130
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
