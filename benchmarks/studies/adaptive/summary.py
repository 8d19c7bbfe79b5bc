"""The runs of all seeds together, with a verdict for each arm, and a table of it for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.harness.records import format_table, mean_error, plus_minus
from benchmarks.harness.runs import by_arm, interval95, paired, verdict

Runs = Sequence[dict[str, Any]]

_MEASURED = ("test", "last_val", "best_val", "steps", "seconds", "entropy", "effective_paths")


def compared(runs: Runs, reference: Runs, measure: str) -> dict[str, Any]:
    """Differences of test errors from the reference, seed by seed, with what they amount to."""
    differences = paired(runs, reference, measure)
    interval = interval95(differences)
    return {**differences, "interval95": interval, "verdict": verdict(interval)}


def _mean_pi(runs: Runs) -> list[float]:
    return [sum(column) / len(runs) for column in zip(*(run["pi"] for run in runs), strict=True)]


def _brief(run: dict[str, Any]) -> dict[str, Any]:
    """A run as it is reported: without what all have in common, and rounded."""
    history = {
        "step": [record["step"] for record in run["history"]],
        **{
            f"val_{measure}": [round(record["val"][measure], 2) for record in run["history"]]
            for measure in run["test"]
        },
    }
    found = run["importance"]
    if found is not None:
        found = {key: value for key, value in found.items() if key not in ("pi", "curvature")}
    pi = [round(p, 6) for p in run["pi"]]
    return {
        **{key: run[key] for key in ("seed", "hash", "date", *_MEASURED)},
        "importance": found,
        "history": history,
        "pi": pi,
        "path_counts": run["path_counts"],
    }


def summarize(runs: Runs, controls: Sequence[str], reference: str) -> dict[str, Any]:
    """For each arm of one synthesizer: spread of its errors, differences from the reference, its distribution."""
    arms = by_arm(runs)
    measures = ("mean", *controls)
    summaries: dict[str, Any] = {}
    for name, mine in arms.items():
        summaries[name] = {
            "test": {measure: mean_error([run["test"][measure] for run in mine]) for measure in measures},
            "best_val": mean_error([run["best_val"]["mean"] for run in mine]),
            "effective_paths": mean_error([run["effective_paths"] for run in mine]),
            "entropy": mean_error([run["entropy"] for run in mine]),
            "median_seconds": median(run["seconds"] for run in mine),
            "pi": [round(p, 6) for p in _mean_pi(mine)],
            "runs": [_brief(run) for run in mine],
        }
        if name != reference:
            differences = {measure: compared(mine, arms.get(reference, []), measure) for measure in measures}
            summaries[name] |= {"minus_reference": differences, "verdict": differences["mean"]["verdict"]}
    return summaries


def _lines(arms: dict[str, Any], controls: Sequence[str]) -> list[list[str]]:
    lines = []
    for name, arm in arms.items():
        errors = [plus_minus(arm["test"][measure], "std") for measure in ("mean", *controls)]
        line = [name, str(arm["test"]["mean"]["n"]), *errors, plus_minus(arm["best_val"], "std")]
        line.append(f"{arm['effective_paths']['mean']:.0f}")
        if "minus_reference" not in arm:
            lines.append([*line, "", "", ""])
            continue
        difference = arm["minus_reference"]["mean"]
        interval = difference["interval95"]
        line.append(plus_minus(difference, "standard_error", "+"))
        line.append("-" if interval is None else f"{interval[0]:+.1f} to {interval[1]:+.1f}")
        lines.append([*line, arm["verdict"]])
    return lines


def table(results: dict[str, Any]) -> str:
    """One table for each synthesizer: errors with their standard deviations, differences with standard errors."""
    parts = ["Parameter error on unseen sounds, per mille (chance 250): mean ± standard deviation over seeds"]
    for name, synth in results["synths"].items():
        reference = results["reference"]
        columns = ["mean", *synth["controls"], "best val", "eff. paths", f"minus {reference}", "95%", "verdict"]
        rows = _lines(synth["arms"], synth["controls"])
        parts.append(f"{name.upper()}\n{format_table([['arm', 'seeds', *columns], *rows])}")
    n_verdicts = sum("verdict" in arm for synth in results["synths"].values() for arm in synth["arms"].values())
    if n_verdicts:
        luck = 1 - math.pow(0.95, n_verdicts)
        parts.append(
            "Differences: paired over seeds, ± standard error. Each interval stands for itself: among "
            f"{n_verdicts} arms without any effect, one or more would be told better or worse with probability "
            f"{luck:.0%} or so."
        )
    return "\n\n".join(parts)
