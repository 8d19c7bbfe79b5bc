"""python -m benchmarks.studies.drums [--groups paper ...] [--settings micro meso] [--seeds 5] [--parallel 2]"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.harness.program import Program
from benchmarks.harness.provenance import provenance
from benchmarks.harness.runs import MAX_SEEDS, Job, by_arm, finished_results, train
from benchmarks.sound_matching.drum_matching.levels import levels_of, summarize_levels
from benchmarks.sound_matching.drum_matching.paper import REFERENCE, SETTINGS
from benchmarks.sound_matching.drum_matching.summary import agreement, summarize
from benchmarks.sound_matching.drum_matching.tables import table
from benchmarks.sound_matching.drum_matching.task import DrumTask
from benchmarks.sound_matching.drum_matching.winners import metrics_of, sentences
from benchmarks.sound_matching.drum_sounds.fetch import DEFAULT_FOLDER, require_sounds
from benchmarks.sound_matching.metrics import load_embeddings
from benchmarks.sound_matching.metrics.decay_by_level import Band
from benchmarks.sound_matching.presets import PRESETS, Preset, configuration
from benchmarks.studies.drums.arms import ARMS, GROUPS, Arm
from benchmarks.studies.drums.objectives import build_arm
from benchmarks.studies.drums.pi import PAPER_EXAMPLES, about, find_distribution
from benchmarks.studies.drums.plots import draw_figure
from benchmarks.studies.drums.runs import load_drums, make_job, quick_preset, run, told

# Losses that need a package of their own.
_OF_PACKAGES = ("aisfx", "crepe")
_PRESETS = {"micro": "drums-small", "meso": "drums-small-meso"}


class Plan(NamedTuple):
    """What there is to train.

    Attributes:
        tasks: of each seed, by setting.
        jobs: runs of all arms, in the order in which they begin.
        distributions: pi of theta-importance, by setting.
    """

    tasks: dict[str, list[DrumTask]]
    jobs: list[Job]
    distributions: dict[str, dict[str, Any]]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, help=f"folder of drum sounds (default: {DEFAULT_FOLDER}, which the fetch step makes)"
    )
    parser.add_argument(
        "--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS, help="to train (default: both)"
    )
    parser.add_argument(
        "--groups", nargs="+", default=list(GROUPS), choices=list(GROUPS), help="of arms, to train (default: all)"
    )
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), metavar="ARM", help="only these, of all groups")
    parser.add_argument(
        "--examples",
        type=int,
        help=f"drums from which theta-importance is computed (default: as before, at first {PAPER_EXAMPLES})",
    )


def make_plan(options: argparse.Namespace, wanted: Sequence[str]) -> Plan:
    """List the runs of all arms, finished or not, and compute the pi of those that are wanted.

    Raises:
        OSError: a folder cannot be listed.
        ValueError: an option is out of range, or there are too few sounds.
    """
    if options.seeds > MAX_SEEDS:
        raise ValueError(f"Invalid --seeds: {options.seeds}; expected 1 to {MAX_SEEDS}")
    if options.examples is not None and options.examples < 2:
        raise ValueError(f"Invalid --examples: {options.examples}; expected 2 or more; 16 are the paper's")
    data = require_sounds() if options.data is None else options.data
    tasks = {setting: _tasks(setting, data, options) for setting in SETTINGS}
    distributions: dict[str, dict[str, Any]] = {}
    for setting in SETTINGS:
        is_wanted = setting in options.settings and any(ARMS[arm].pi == "theta" for arm in wanted)
        place, compute = options.runs / "pi" / f"{setting}.json", is_wanted and not options.collect
        found = find_distribution(place, tasks[setting][0], options.examples, compute=compute)
        if found is not None:
            distributions[setting] = found
    # Arms of one group and seed together, so that an early look compares whole seeds.
    order = (
        (setting, seed, arm)
        for names in GROUPS.values()
        for seed in range(options.seeds)
        for setting in SETTINGS
        for arm in map(ARMS.__getitem__, names)
    )
    jobs = [
        make_job(options.runs, setting, tasks[setting][seed], arm, data, _pi(arm, distributions.get(setting)))
        for setting, seed, arm in order
        if arm.pi == "uniform" or setting in distributions
    ]
    return Plan(tasks, jobs, distributions)


def _tasks(setting: str, data: Path, options: argparse.Namespace) -> list[DrumTask]:
    """Return the task of each seed."""
    preset = PRESETS[_PRESETS[setting]]
    preset = quick_preset(preset) if options.quick else preset
    sounds = load_drums(data, preset)
    return [DrumTask(sounds, preset, seed) for seed in range(options.seeds)]


def _pi(arm: Arm, distribution: dict[str, Any] | None) -> list[float] | None:
    return distribution["pi"] if arm.pi == "theta" and distribution is not None else None


def _missing(preset: Preset, name: str) -> str | None:
    """Return a sentence if an arm cannot be trained as its package is not installed."""
    if ARMS[name].loss not in _OF_PACKAGES:
        return None
    try:
        build_arm(preset, 0, ARMS[name])
    except ValueError as error:
        return f"No arm {name!r}: {error}"
    return None


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train the arms asked for on every seed, and summarise what is finished of all arms."""
    names = options.arms or [name for group in options.groups for name in GROUPS[group]]
    plan, left_out = make_plan(options, names), list(load_embeddings().left_out)
    if not options.collect:
        found = {name: _missing(plan.tasks[SETTINGS[0]][0].preset, name) for name in names}
        left_out = [sentence for sentence in found.values() if sentence] + left_out
        cells = {(setting, name) for setting in options.settings for name in names if not found[name]}
        jobs = [job for job in plan.jobs if (job.arguments[0], job.arguments[3].name) in cells]
        train(run, jobs, options.parallel, told)
    runs = finished_results(plan.jobs)
    settings = {setting: _results(plan, setting, runs) for setting in SETTINGS}
    used = dict.fromkeys(arm for of in settings.values() for arm in of["arms"])
    return {
        "unit": "distances on unseen drums at the last step, lower is better; loudness in dB",
        "quick": options.quick,
        "reference": REFERENCE,
        **provenance(),
        "arms": {name: ARMS[name].description for name in used},
        "left_out": left_out,
        "settings": settings,
    }


def _results(plan: Plan, setting: str, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Summarise what is finished of a setting."""
    mine = [result for result in runs if result["setting"] == setting]
    found = summarize(mine, REFERENCE)
    arms = {name: found[name] for name in ARMS if name in found}
    for name, of_arm in by_arm(mine).items():
        levels = [_levels(plan.tasks[setting][run["seed"]], run) for run in of_arm]
        arms[name]["decay_by_level"] = summarize_levels(levels)
    task = plan.tasks[setting][0]
    pi = plan.distributions.get(setting)
    return {
        "configuration": configuration(task.preset, 0, task.identity),
        "n_paths": task.preset.transform().n_paths,
        "theta_importance": None if pi is None else about(pi),
        "arms": arms,
        "order": {metric: agreement(arms, setting, metric) for metric in metrics_of(arms)},
        "closest": sentences(arms),
    }


def _levels(task: DrumTask, run: dict[str, Any]) -> dict[str, Band]:
    """Render the matches of a run anew, and tell at which levels their decays are off."""
    return levels_of(task, task.render(torch.tensor(run["sounds"]["theta"])))


main = Program(
    "benchmarks.studies.drums",
    "Train every loss on recorded drums, aligned and shifted, and compare by the paper's metrics. Interrupt it at "
    "any time: the same command goes on from what is finished, and from the last checkpoints.",
    measure,
    table,
    draw_figure,
    quick="a few steps a run on a few sounds: to see that it works",
    n_seeds=5,
    n_parallel=2,
    add_options=add_options,
)

if __name__ == "__main__":
    sys.exit(main())
