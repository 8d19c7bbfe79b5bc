"""python -m benchmarks.studies.image_textures [--arms ...] [--seeds 5] [--parallel 2] [--quick]"""

from __future__ import annotations

import argparse
import sys
from statistics import mean, median
from typing import Any

from benchmarks.harness.files import read_json
from benchmarks.harness.program import Program
from benchmarks.harness.provenance import provenance
from benchmarks.harness.runs import MAX_SEEDS, Job, by_arm, finished_results, train
from benchmarks.studies.does_it_help.rates import choose
from benchmarks.studies.does_it_help.summary import summarize
from benchmarks.studies.image_textures.arms import ARMS, REFERENCE
from benchmarks.studies.image_textures.importance import N_EXAMPLES, PROBS_FILE, write_probs
from benchmarks.studies.image_textures.plots import draw_figure
from benchmarks.studies.image_textures.tables import table
from benchmarks.studies.image_textures.textures import CONTROLS
from benchmarks.studies.image_textures.training import QUICK, Plan, make_job, run

GRID = (1e-3, 2e-3, 4e-3)
GRID_SEED = 100

Run = dict[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS), help="default: all")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Choose learning rates, train the arms asked for on every seed, and summarise what is finished of all."""
    if options.seeds > MAX_SEEDS:
        raise ValueError(f"Invalid --seeds: {options.seeds}; expected 1 to {MAX_SEEDS}")
    plan = QUICK if options.quick else Plan()

    def job(arm: str, lr: float, seed: int) -> Job:
        return make_job(options.runs, plan, arm, lr, seed)

    grid = {arm: [job(arm, lr, GRID_SEED) for lr in GRID] for arm in ARMS}
    if not options.collect:
        if any(ARMS[arm].pi == "theta" for arm in options.arms):
            write_probs(options.runs / PROBS_FILE, N_EXAMPLES if not options.quick else 2)
        train(run, [one for arm in options.arms for one in grid[arm]], options.parallel)
    finished = {arm: finished_results(jobs) for arm, jobs in grid.items()}
    chosen = {arm: choose(runs) for arm, runs in finished.items() if len(runs) == len(GRID)}
    # Seed by seed, so that an early look compares whole seeds.
    jobs = [job(arm, choice["lr"], seed) for seed in range(options.seeds) for arm, choice in chosen.items()]
    if not options.collect:
        train(run, [one for one in jobs if one.arguments[1] in options.arms], options.parallel)
    return _results(options, plan, chosen, finished_results(jobs))


def _results(options: argparse.Namespace, plan: Plan, chosen: dict[str, Any], runs: list[Run]) -> dict[str, Any]:
    named = by_arm(runs)
    ordered = [one for arm in ARMS for one in named.get(arm, [])]
    arms = summarize(ordered, CONTROLS, REFERENCE)
    budget = median(one["seconds"] for one in named[REFERENCE]) if REFERENCE in named else None
    for arm, summary in arms.items():
        summary["val_at_the_cost_of_scrapl"] = None if budget is None else _error_at(named[arm], budget)
    return {
        "unit": "mean absolute error of the controls, per mille of their ranges, at the last step, on unseen "
        "textures; chance 250",
        "quick": options.quick,
        **provenance(),
        "theta_importance": read_json(probs_file) if (probs_file := options.runs / PROBS_FILE).exists() else None,
        "plan": plan._asdict(),
        "descriptions": {name: ARMS[name].description for name in arms},
        "learning_rates": {
            "grid": list(GRID),
            "seed": GRID_SEED,
            "decided by": "mean validation error over the last quarter of the steps",
            **chosen,
        },
        "controls": list(CONTROLS),
        "reference": REFERENCE,
        "arms": arms,
    }


def _error_at(runs: list[Run], seconds: float) -> float | None:
    """Return the mean over seeds of the last validation error within some seconds of the processor."""
    reached = [
        [record["val"]["mean"] for record in one["history"] if record["seconds"] <= seconds] for one in runs
    ]
    return mean(errors[-1] for errors in reached) if all(reached) else None


main = Program(
    "benchmarks.studies.image_textures",
    "Train an encoder of image textures with one path of a scattering transform a step, and with other losses.",
    measure,
    table,
    draw_figure,
    quick="two steps a run: to see that it works",
    n_seeds=5,
    n_parallel=2,
    add_options=add_options,
)

if __name__ == "__main__":
    sys.exit(main())
