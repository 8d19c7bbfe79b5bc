"""python -m benchmarks.studies.adaptive [--seeds 5] [--parallel 1] [--synths granular chirplet] [--quick]"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from benchmarks.harness.program import Program
from benchmarks.harness.provenance import provenance
from benchmarks.harness.runs import MAX_SEEDS, Job, finished_results, train
from benchmarks.sound_matching.presets import configuration
from benchmarks.studies.adaptive.arms import ARMS, REFERENCE
from benchmarks.studies.adaptive.plots import draw_figure
from benchmarks.studies.adaptive.problems import PROBLEMS, quick
from benchmarks.studies.adaptive.runs import make_job, run
from benchmarks.studies.adaptive.summary import summarize, table


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--synths", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS), help="problems (default: all)"
    )


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train every arm on the problems asked for; the results are of every finished run of these."""
    if options.seeds > MAX_SEEDS:
        raise ValueError(f"Invalid --seeds: {options.seeds}; expected 1 to {MAX_SEEDS}")
    problems = [PROBLEMS[name] for name in dict.fromkeys(options.synths)]
    if options.quick:
        problems = [quick(problem) for problem in problems]
    # Seed by seed, so that an early look compares whole seeds.
    jobs: dict[str, list[Job]] = {problem.synth: [] for problem in problems}
    order = [
        (problem, make_job(options.runs, problem, seed, arm))
        for seed in range(options.seeds)
        for problem in problems
        for arm in ARMS.values()
        if problem.synth in arm.synths
    ]
    for problem, job in order:
        jobs[problem.synth].append(job)
    if not options.collect:
        train(run, [job for _, job in order], options.parallel)
    return {
        "unit": "mean absolute error of theta in [0, 1], per mille, at the last step, on the test set; chance 250",
        "quick": options.quick,
        "reference": REFERENCE,
        **provenance(),
        "arms": {name: arm.description for name, arm in ARMS.items()},
        "synths": {
            problem.synth: {
                "controls": list(problem.controls),
                "smoothing": problem.smoothing,
                "configuration": configuration(problem, 0),
                "arms": summarize(finished_results(jobs[problem.synth]), problem.controls, REFERENCE),
            }
            for problem in problems
        },
    }


main = Program(
    "benchmarks.studies.adaptive",
    "Compare distributions of paths: uniform, theta-importance, and two that adapt. Interrupt it at any time: the "
    "same command continues with the runs that are not finished.",
    measure,
    table,
    draw_figure,
    quick="four steps a run: to see that it works",
    n_seeds=5,
    n_parallel=1,
    add_options=add_options,
)

if __name__ == "__main__":
    sys.exit(main())
