"""python -m benchmarks.studies.storage [--arms storage control saga] [--seeds 5] [--parallel 2] [--quick]"""

import argparse
import json
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.harness.style import write_picture
from benchmarks.sound_matching.presets import Preset, configuration
from benchmarks.sound_matching.train import checkpoint_path
from benchmarks.studies.storage.arms import ARMS, GROUPS, PRESET, QUICK, REFERENCE, run_configuration, run_hash
from benchmarks.studies.storage.parallel import Job, RunError, run_jobs
from benchmarks.studies.storage.plots import draw_figure
from benchmarks.studies.storage.rounding import Rounding, study_rounding
from benchmarks.studies.storage.runs import finished_result, run_folder
from benchmarks.studies.storage.summary import rounding_table, summarize_arms, training_table
from scrapl_jtfs.commands.files import write_text
from scrapl_jtfs.commands.provenance import machine, versions
from scrapl_optim.checkpoint import load_checkpoint

__all__ = ["main"]

_COMMITTED = Path("benchmarks/results")
_ROUNDING = "rounding.json"


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.storage",
        description=(
            "Measure what compact optimizer states cost in accuracy. Interrupt it at any time: the same command "
            "continues, and runs that are finished are never repeated."
        ),
    )
    parser.add_argument(
        "--arms",
        nargs="+",
        default=["storage"],
        choices=list(GROUPS),
        help="groups of arms to train (default: storage); the report has every run that is finished",
    )
    parser.add_argument("--seeds", type=int, default=5, help="trains seeds 0 to SEEDS - 1 (default: 5)")
    parser.add_argument("--parallel", type=int, default=2, help="runs at a time, one thread each (default: 2)")
    parser.add_argument("--runs", type=Path, help="folder of runs (default: runs/storage, runs/storage-quick)")
    parser.add_argument(
        "--out",
        type=Path,
        help=f"folder of storage.json and storage.png (default: {_COMMITTED}; with --quick: --runs)",
    )
    parser.add_argument("--quick", action="store_true", help="two steps a run, few visits: to see that it works")
    return parser.parse_args(argv)


def jobs_left(folder: Path, preset: Preset, names: Sequence[str], n_seeds: int) -> list[Job]:
    """Seed by seed, so that an early look compares whole seeds."""
    jobs = []
    for seed in range(n_seeds):
        for name in names:
            place = run_folder(folder, seed, ARMS[name])
            if finished_result(place, run_configuration(preset, seed, ARMS[name])) is None:
                checkpoint = checkpoint_path(place, "scrapl")
                done = load_checkpoint(checkpoint)["epoch"] if checkpoint.exists() else 0
                jobs.append(Job(name, seed, preset.epochs - done))
    return jobs


def train(jobs: Sequence[Job], folder: Path, n_parallel: int, is_quick: bool) -> None:
    lock = threading.Lock()
    total = sum(job.epochs for job in jobs)
    with tqdm(total=total, unit="epoch", desc=f"{len(jobs)} runs", disable=None) as bar:

        def advance(job: Job, record: dict[str, Any]) -> None:
            with lock:
                bar.set_postfix_str(f"{job.arm}, seed {job.seed}: {record['val']['mean']:.0f} per mille", False)
                bar.update()

        run_jobs(jobs, folder, advance, n_parallel=n_parallel, is_quick=is_quick)


def measure_rounding(folder: Path, is_quick: bool) -> list[dict[str, Any]]:
    """Once: the result is kept beside the runs."""
    path = folder / _ROUNDING
    studies = [Rounding(), Rounding(halving=2000)]
    if is_quick:
        studies = [replace(study, visits=(10, 30)) for study in studies]
    wanted = [repr(study) for study in studies]
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["studies"] == wanted:
            return found["rows"]
    rows = [row for study in studies for row in tqdm(study_rounding(study), desc=study.label, disable=None)]
    write_text(path, json.dumps({"studies": wanted, "rows": rows}) + "\n")
    return rows


def collect(folder: Path, preset: Preset, n_seeds: int, is_quick: bool) -> dict[str, Any]:
    """The content of storage.json: every finished run of these seeds, whichever groups were asked for."""
    runs = [
        found
        for name, arm in ARMS.items()
        for seed in range(n_seeds)
        if (found := finished_result(run_folder(folder, seed, arm), run_configuration(preset, seed, arm)))
    ]
    return {
        "unit": "mean absolute error of theta in [0, 1], per mille, at the last step; chance 250",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "quick": is_quick,
        "preset": preset.name,
        "reference": REFERENCE,
        "configuration": configuration(preset, 0),
        "hash": run_hash(configuration(preset, 0)),
        "optimizer_sources": sorted({run["optimizer_sources"] for run in runs}),
        "machine": machine(torch.device("cpu")),
        "versions": versions(["torch", "numpy", "scrapl-jtfs"]),
        "arms": summarize_arms(runs, REFERENCE),
        "rounding": measure_rounding(folder, is_quick),
    }


def run(arguments: argparse.Namespace) -> None:
    if min(arguments.seeds, arguments.parallel) < 1:
        raise ValueError(f"--seeds {arguments.seeds}, --parallel {arguments.parallel}: both must be at least 1")
    preset = QUICK if arguments.quick else PRESET
    folder: Path = arguments.runs or Path("runs/storage-quick" if arguments.quick else "runs/storage")
    out: Path = arguments.out or (folder if arguments.quick else _COMMITTED)
    names = list(dict.fromkeys(name for group in arguments.arms for name in GROUPS[group]))
    train(jobs_left(folder, preset, names, arguments.seeds), folder, arguments.parallel, arguments.quick)
    results = collect(folder, preset, arguments.seeds, arguments.quick)
    write_text(out / "storage.json", json.dumps(results, indent=1) + "\n")
    write_picture(out / "storage.json", draw_figure(results))
    if len(results["optimizer_sources"]) > 1:
        print(
            f"Note: the runs were made with different sources of the optimizer ({results['optimizer_sources']}); "
            f"delete {folder} to repeat them all",
            file=sys.stderr,
        )
    print(f"{training_table(results['arms'], REFERENCE)}\n\n{rounding_table(results['rounding'])}")
    print(f"\nFigures   {out / 'storage.json'}\nLook at   {out / 'storage.png'}")


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    torch.set_num_threads(1)
    try:
        run(arguments)
    except KeyboardInterrupt:
        print("\nInterrupted. Finished epochs are kept: the same command continues from there.", file=sys.stderr)
        return 130
    except (ValueError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
