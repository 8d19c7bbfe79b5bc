"""The modes of the transform in training: SCRAPL as `make match` trains it, by boundary and rates of sub-bands.

Run it as python -m benchmarks.studies.modes; 20 runs of three minutes, two at a time.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from statistics import median
from typing import Any

from benchmarks.harness.program import Program
from benchmarks.harness.provenance import provenance
from benchmarks.harness.records import format_table, mean_error, plus_minus
from benchmarks.harness.runs import (
    Job,
    by_arm,
    epoch_teller,
    finished_results,
    interval95,
    keep_result,
    paired,
    train,
    verdict,
)
from benchmarks.sound_matching.presets import PRESETS, Preset, configuration
from benchmarks.sound_matching.train import Experiment, checkpoint_path

PRESET = PRESETS["small"]
REFERENCE = "exact"
MODES: dict[str, dict[str, Any]] = {
    REFERENCE: {},
    "compact": {"samples_per_bandwidth": 2.0},
    "even": {"boundary": "even"},
    "even-compact": {"boundary": "even", "samples_per_bandwidth": 2.0},
}
"""Settings of the preset that differ from its own, by mode."""
_MEASURES = ("mean", *PRESET.controls)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--modes", nargs="+", default=list(MODES), choices=list(MODES), help="to train (default: all)"
    )


def make_job(options: argparse.Namespace, mode: str, seed: int) -> Job:
    """Return one run; a quick one takes two steps."""
    preset = replace(PRESET, **MODES[mode])
    if options.quick:
        preset = replace(preset, name="small-quick", n_train=32, n_val=8, n_test=8, epochs=1)
    folder = options.runs / f"seed{seed}" / mode
    return Job(f"{mode}, seed {seed}", folder, configuration(preset, seed), (preset, mode, seed))


def run(job: Job) -> dict[str, Any]:
    """Train one encoder to the end, from its last checkpoint if there is one."""
    preset, mode, seed = job.arguments
    trainer = Experiment(preset, seed).trainer("scrapl")
    checkpoint, tell = checkpoint_path(job.folder, "scrapl"), epoch_teller(job)
    if checkpoint.exists():
        trainer.load(checkpoint)
    while not trainer.finished:
        tell(trainer.run_epoch())
        trainer.save(checkpoint)
    return keep_result(job, {"arm": mode, "seed": seed, **trainer.summary()})


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train the modes asked for on every seed, and summarise what is finished of all modes."""
    jobs = [make_job(options, mode, seed) for seed in range(options.seeds) for mode in MODES]
    if not options.collect:
        train(run, [job for job in jobs if job.arguments[1] in options.modes], options.parallel)
    arms = by_arm(finished_results(jobs))
    reference = arms.get(REFERENCE, [])
    return {
        "unit": "mean absolute error of the controls in [0, 1], per mille, at the last step; chance 250",
        "quick": options.quick,
        "reference": REFERENCE,
        "modes": MODES,
        "configuration": configuration(_preset_of(jobs[0]), 0),
        **provenance(),
        "arms": {mode: _summary(runs, reference) for mode, runs in arms.items()},
    }


def _preset_of(job: Job) -> Preset:
    return job.arguments[0]


def _summary(runs: list[dict[str, Any]], reference: list[dict[str, Any]]) -> dict[str, Any]:
    differences = {measure: paired(runs, reference, measure) for measure in _MEASURES}
    interval = interval95(differences["mean"]) if differences["mean"]["n"] else None
    return {
        "test": {measure: mean_error([run["test"][measure] for run in runs]) for measure in _MEASURES},
        "minus_reference": differences,
        "interval95": interval,
        "verdict": verdict(interval) if runs[0]["arm"] != REFERENCE else None,
        "median_seconds": median(run["seconds"] for run in runs),
        "runs": [{key: run[key] for key in ("seed", "hash", "date", "seconds", "steps", "test")} for run in runs],
    }


def table(results: dict[str, Any]) -> str:
    """Format the errors of every mode, and their differences from the reference."""
    head = ["mode", "seeds", *_MEASURES, f"minus {results['reference']}: mean", "95% interval", ""]
    lines = [head]
    for mode, arm in results["arms"].items():
        low, high = arm["interval95"] or (float("nan"), float("nan"))
        against = [plus_minus(arm["minus_reference"]["mean"], "standard_error", "+"), f"{low:+.1f} to {high:+.1f}"]
        lines.append(
            [
                mode,
                str(arm["test"]["mean"]["n"]),
                *(plus_minus(arm["test"][measure], "standard_error") for measure in _MEASURES),
                *(["", "", ""] if mode == results["reference"] else [*against, arm["verdict"]]),
            ]
        )
    return f"Error on unseen textures, per mille (chance 250): mean and standard error\n{format_table(lines)}"


main = Program(
    "benchmarks.studies.modes",
    "Train SCRAPL of make match in each mode. Interrupt it at any time: the same command continues.",
    measure,
    table,
    quick="two steps a run: to see that it works",
    n_seeds=5,
    n_parallel=2,
    add_options=add_options,
)

if __name__ == "__main__":
    sys.exit(main())
