"""The tables of the study, for the terminal and for the page."""

from __future__ import annotations

from typing import Any

from benchmarks.harness.records import format_table
from benchmarks.studies.does_it_help.tables import with_interval


def table(results: dict[str, Any]) -> str:
    """Format errors and costs, a row for each arm."""
    head = [
        "arm",
        "lr",
        "seeds",
        "mean",
        *results["controls"],
        "minus scrapl",
        "",
        "ms a step",
        "at scrapl's cost",
    ]
    rows = [head]
    for name, arm in results["arms"].items():
        errors = [with_interval(arm["test"][measure]) for measure in ("mean", *results["controls"])]
        same_cost = arm["val_at_the_cost_of_scrapl"]
        rows.append(
            [
                name,
                f"{arm['lr']:g}",
                str(arm["test"]["mean"]["n"]),
                *errors,
                *_change(arm),
                f"{1000 * arm['seconds_per_step']:.1f}",
                "-" if same_cost is None else f"{same_cost:.0f}",
            ]
        )
    return (
        f"Error on unseen textures, per mille (chance 250): mean over seeds ± half of the 95% interval\n"
        f"{format_table(rows)}"
    )


def page_rows(results: dict[str, Any]) -> list[str]:
    """Return the rows of the documentation's table, in Markdown."""
    rows = []
    for name, arm in results["arms"].items():
        errors = [with_interval(arm["test"][measure], 0) for measure in results["controls"]]
        same_cost = arm["val_at_the_cost_of_scrapl"]
        cells = [
            name,
            f"{arm['lr']:g}",
            *errors,
            ", ".join(filter(None, _change(arm, 0))),
            f"{1000 * arm['seconds_per_step']:.1f}",
            "" if same_cost is None else f"{same_cost:.0f}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _change(arm: dict[str, Any], digits: int = 1) -> list[str]:
    """Return the difference of the mean error from the reference's, and what it says."""
    difference = arm.get("minus_reference", {}).get("mean", {"n": 0})
    return [with_interval(difference, digits), difference["verdict"]] if difference["n"] else ["", ""]
