"""python -m benchmarks.studies.does_it_help [--groups ablation ...] [--seeds 5] [--parallel 2] [--quick]"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness.program import Program
from benchmarks.harness.provenance import provenance
from benchmarks.harness.runs import MAX_SEEDS, Job, by_arm, finished_results, train
from benchmarks.sound_matching.presets import Preset, configuration
from benchmarks.studies.does_it_help import rates
from benchmarks.studies.does_it_help.arms import ARMS, REFERENCE
from benchmarks.studies.does_it_help.distributions import Distribution, load_distribution
from benchmarks.studies.does_it_help.pi import FOLDER
from benchmarks.studies.does_it_help.plots import draw_figure
from benchmarks.studies.does_it_help.problems import (
    CHIRPLETS,
    GROUPS,
    PROBLEMS,
    VARIANTS,
    arms_by_problem,
    lr_problem,
    preset_of,
    quick,
)
from benchmarks.studies.does_it_help.runs import make_job, run
from benchmarks.studies.does_it_help.summary import over_problems, summarize
from benchmarks.studies.does_it_help.tables import table
from scrapl_jtfs.commands.command_line import say

_VOTING = "theta-is, memory and clocks by pi"
_POOLED = (
    ("theta-is", REFERENCE),
    ("predicted", REFERENCE),
    (_VOTING, REFERENCE),
    (_VOTING, "theta-is"),
    ("predicted", _VOTING),
)
"""Arms that are compared over all chirplets, and with which."""


class Plan(NamedTuple):
    """What is to be trained.

    Attributes:
        folder: of the runs.
        presets: by the names of problems.
        arms: names of the arms of each problem.
        references: the arm of each problem that the others are compared with.
        distributions: pi, by problem and arm.
    """

    folder: Path
    presets: dict[str, Preset]
    arms: dict[str, list[str]]
    references: dict[str, str]
    distributions: dict[tuple[str, str], Distribution | None]

    def job(self, problem: str, name: str, seed: int, lr: float) -> Job:
        """Return one run."""
        distribution = self.distributions[problem, name]
        pi = None if distribution is None else distribution.pi
        return make_job(self.folder, self.presets[problem], seed, ARMS[name], lr, pi)

    def grid(self) -> dict[tuple[str, str], list[Job]]:
        """Return the runs that decide learning rates, by problem and arm."""
        wanted = dict.fromkeys(
            (lr_problem(problem), arm) for problem, names in self.arms.items() for arm in rates.needs_grid(names)
        )
        return {cell: [self.job(*cell, rates.SEED, lr) for lr in rates.GRID] for cell in wanted}


def make_plan(options: argparse.Namespace) -> Plan:
    """Read the options.

    Raises:
        ValueError: the pi of an arm is missing.
    """
    cells = {
        problem: found
        for problem, found in arms_by_problem(options.groups).items()
        if not options.problems or problem in options.problems
    }
    arms = {problem: _with_files(options.pi, problem, names) for problem, (names, _) in cells.items()}
    presets = {problem: preset_of(problem) for problem in [*arms, *map(lr_problem, arms)]}
    distributions = {
        (problem, name): load_distribution(options.pi, problem, ARMS[name], preset.transform().n_paths)
        for problem, preset in presets.items()
        for name in _with_rates(arms.get(problem, []), [n for p, n in arms.items() if lr_problem(p) == problem])
    }
    if options.quick:
        presets = {problem: quick(preset) for problem, preset in presets.items()}
    references = {problem: reference for problem, (_, reference) in cells.items()}
    return Plan(options.runs, presets, arms, references, distributions)


def _with_files(folder: Path, problem: str, names: Sequence[str]) -> list[str]:
    """Leave out the arm of the released pi where its file, which is not ours to ship, is not there."""
    there = (folder / problem / "released.json").exists()
    if not there and any(ARMS[name].pi == "released" for name in names):
        say(f"{problem}: no released pi in {folder}; its arm is left out", sys.stderr)
    return [name for name in names if there or ARMS[name].pi != "released"]


def _with_rates(own: Sequence[str], others: Sequence[Sequence[str]]) -> list[str]:
    """Return arms of a problem, and those whose learning rates are chosen on it."""
    return list(dict.fromkeys([*own, *(arm for names in others for arm in rates.needs_grid(names))]))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--groups", nargs="+", default=list(GROUPS), choices=list(GROUPS), help="default: all")
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, help="only these, of the groups' problems")
    parser.add_argument(
        "--pi",
        type=Path,
        default=FOLDER,
        help="folder of distributions (default: %(default)s)",
    )


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Choose learning rates, train every arm on every seed, and summarise what is finished."""
    if options.seeds > MAX_SEEDS:
        raise ValueError(f"Invalid --seeds: {options.seeds}; expected 1 to {MAX_SEEDS}")
    plan = make_plan(options)
    grid = plan.grid()
    if not options.collect:
        train(run, [job for jobs in grid.values() for job in jobs], options.parallel)
    chosen = {cell: rates.choose(runs) for cell, jobs in grid.items() if (runs := finished_results(jobs))}
    # Seed by seed, so that an early look compares whole seeds.
    jobs: dict[str, list[Job]] = {problem: [] for problem in plan.arms}
    order: list[Job] = []
    for seed in range(options.seeds):
        for problem, names in plan.arms.items():
            for name in names:
                choice = chosen.get((lr_problem(problem), ARMS[name].lr_of or name))
                if choice is not None:
                    job = plan.job(problem, name, seed, choice["lr"])
                    jobs[problem].append(job)
                    order.append(job)
    if not options.collect:
        train(run, order, options.parallel)
    return _results(options, plan, chosen, jobs)


def _results(
    options: argparse.Namespace, plan: Plan, chosen: dict[tuple[str, str], Any], jobs: dict[str, list[Job]]
) -> dict[str, Any]:
    used = dict.fromkeys(arm for names in plan.arms.values() for arm in names)
    summaries: dict[str, Any] = {}
    for problem, names in plan.arms.items():
        runs, controls = finished_results(jobs[problem]), plan.presets[problem].controls
        by_name = by_arm(runs)
        ordered = [run for name in names for run in by_name.get(name, [])]
        found = {name: plan.distributions[problem, name] for name in names}
        summaries[problem] = {
            "controls": list(controls),
            "reference": plan.references[problem],
            "configuration": configuration(plan.presets[problem], 0),
            "pi": {name: distribution.about for name, distribution in found.items() if distribution is not None},
            "arms": summarize(ordered, controls, plan.references[problem]),
        }
    return {
        "unit": "mean absolute error of theta in [0, 1], per mille, at the last step, on the test set; chance 250",
        "quick": options.quick,
        **provenance(),
        "arms": {name: ARMS[name].description for name in used},
        "learning_rates": {
            "grid": list(rates.GRID),
            "seed": rates.SEED,
            "decided by": "mean validation error over the last quarter of the steps",
            **{f"{problem}: {arm}": choice for (problem, arm), choice in chosen.items()},
        },
        "problems": summaries,
        "over chirplets": {
            f"{arm} minus {reference}": over_problems(
                {name: summary for name, summary in summaries.items() if name in (*CHIRPLETS, *VARIANTS)},
                arm,
                reference,
            )
            for arm, reference in _POOLED
        },
    }


main = Program(
    "benchmarks.studies.does_it_help",
    "Train every part of the method on the authors' synthesizers, shrunk in time. Interrupt it at any time: the "
    "same command goes on from what is finished, and from the last checkpoints.",
    measure,
    table,
    draw_figure,
    quick="four steps a run: to see that it works",
    n_seeds=5,
    n_parallel=2,
    add_options=add_options,
)

if __name__ == "__main__":
    sys.exit(main())
