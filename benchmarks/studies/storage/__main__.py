"""python -m benchmarks.studies.storage [--arms storage control saga] [--seeds 5] [--parallel 2] [--quick]"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.harness.files import read_json, write_json
from benchmarks.harness.program import Program
from benchmarks.harness.provenance import provenance
from benchmarks.harness.runs import configuration_hash, finished_results, train
from benchmarks.sound_matching.presets import configuration
from benchmarks.studies.storage.arms import ARMS, GROUPS, PRESET, QUICK, REFERENCE, make_job, run
from benchmarks.studies.storage.plots import draw_figure
from benchmarks.studies.storage.rounding import Rounding, study_rounding
from benchmarks.studies.storage.summary import rounding_table, summarize_arms, training_table
from scrapl_jtfs.commands.command_line import say


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--arms",
        nargs="+",
        default=["storage"],
        choices=list(GROUPS),
        help="groups of arms to train (default: storage); the report has every run that is finished",
    )


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train the arms asked for; the results are of every finished run of these seeds, whichever arm's."""
    preset, seeds = QUICK if options.quick else PRESET, range(options.seeds)
    # Seed by seed, so that an early look compares whole seeds.
    jobs = [make_job(options.runs, preset, seed, arm) for seed in seeds for arm in ARMS.values()]
    asked = {name for group in options.arms for name in GROUPS[group]}
    if not options.collect:
        train(run, [job for job in jobs if job.configuration["arm"]["name"] in asked], options.parallel)
    runs = finished_results(jobs)
    sources = sorted({result["optimizer_sources"] for result in runs})
    if len(sources) > 1:
        say(f"Note: sources of the optimizer differ ({sources}); delete {options.runs} to repeat all", sys.stderr)
    return {
        "unit": "mean absolute error of theta in [0, 1], per mille, at the last step; chance 250",
        "quick": options.quick,
        "preset": preset.name,
        "reference": REFERENCE,
        "configuration": configuration(preset, 0),
        "hash": configuration_hash(configuration(preset, 0)),
        "optimizer_sources": sources,
        **provenance(),
        "arms": summarize_arms(runs, REFERENCE),
        "rounding": measure_rounding(options.runs, options.quick),
    }


def measure_rounding(folder: Path, is_quick: bool) -> list[dict[str, Any]]:
    """Study rounding once: the result is kept beside the runs."""
    path = folder / "rounding.json"
    studies = [Rounding(), Rounding(halving=2000)]
    if is_quick:
        studies = [replace(study, visits=(10, 30)) for study in studies]
    names = [repr(study) for study in studies]
    if not path.exists() or read_json(path)["studies"] != names:
        rows = [row for study in studies for row in tqdm(study_rounding(study), desc=study.label, disable=None)]
        write_json(path, {"studies": names, "rows": rows})
    return read_json(path)["rows"]


main = Program(
    "benchmarks.studies.storage",
    "Measure what compact optimizer states cost in accuracy. Interrupt it at any time: the same command "
    "continues, and runs that are finished are never repeated.",
    measure,
    lambda results: f"{training_table(results['arms'], REFERENCE)}\n\n{rounding_table(results['rounding'])}",
    draw_figure,
    quick="two steps a run, few visits: to see that it works",
    n_seeds=5,
    n_parallel=2,
    add_options=add_options,
)

if __name__ == "__main__":
    sys.exit(main())
