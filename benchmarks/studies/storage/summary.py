"""The runs of all seeds together, and tables of it for people."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.harness.records import format_table, mean_error, plus_minus
from benchmarks.harness.runs import by_arm, paired

MEASURES = ("mean", "density", "slope")

Runs = Sequence[dict[str, Any]]


def summarize_arms(runs: Runs, reference: str) -> dict[str, Any]:
    """For each arm: spread of its test errors, and its differences from the reference of the same seeds."""
    arms = by_arm(runs)
    return {
        name: {
            "test": {measure: mean_error([run["test"][measure] for run in mine]) for measure in MEASURES},
            "minus_reference": {m: paired(mine, arms.get(reference, []), m) for m in MEASURES},
            "median_seconds": median(run["seconds"] for run in mine),
            "state_bytes_per_parameter": mine[0]["state_bytes_per_parameter"],
            "runs": mine,
        }
        for name, mine in arms.items()
    }


def training_table(arms: dict[str, Any], reference: str) -> str:
    head = ["arm", "seeds", *MEASURES, f"minus {reference}: mean", "density", "slope", "bytes/parameter"]
    lines = [
        [
            name,
            str(arm["test"]["mean"]["n"]),
            *(plus_minus(arm["test"][measure], "standard_error") for measure in MEASURES),
            *(
                "" if name == reference else plus_minus(arm["minus_reference"][m], "standard_error", "+")
                for m in MEASURES
            ),
            f"{arm['state_bytes_per_parameter']:.1f}",
        ]
        for name, arm in arms.items()
    ]
    title = "TRAINING: parameter error on unseen textures, per mille (chance 250): mean and standard error"
    return f"{title}\n{format_table([head, *lines])}"


def rounding_table(rows: Sequence[dict[str, Any]]) -> str:
    """At the last number of visits of each study."""
    keys = ("rms_median", "rms_p99", "rms_bias", "update_error", "update_bias")
    last = {row["gradients"]: row["visits"] for row in rows}
    lines = [
        [row["storage"], row["gradients"], str(row["visits"]), *(f"{row[key]:.1e}" for key in keys)]
        for row in rows
        if row["visits"] == last[row["gradients"]]
    ]
    title = "ROUNDING: relative errors of stored moments against float64, after that many visits of the path"
    return f"{title}\n{format_table([['storage', 'gradients', 'visits', *keys], *lines])}"
