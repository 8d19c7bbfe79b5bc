"""The figure: validation errors while training, for each problem, and differences of test errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from benchmarks.harness.style import (
    add_title,
    draw_differences,
    draw_histories,
    finish,
    looks,
    new_figure,
    shared_legend,
)

# Arms from which on lines of single seeds hide each other.
_MOST_ARMS_WITH_SEEDS = 2


def draw_figure(results: dict[str, Any]) -> Figure:
    """Draw two panels for each problem, from the content of a result file."""
    problems = {name: problem for name, problem in results["problems"].items() if problem["arms"]}
    styles = looks(results["arms"])
    figure = new_figure(1.0 + 1.9 * max(1, len(problems)))
    panels = figure.subplots(max(1, len(problems)), 2, squeeze=False, width_ratios=[3, 2])
    for (left, right), (name, problem) in zip(panels, problems.items(), strict=False):
        histories: dict[str, tuple[Sequence[float], Sequence[Sequence[float]]]] = {
            arm: (found["runs"][0]["history"]["step"], [run["history"]["mean"] for run in found["runs"]])
            for arm, found in problem["arms"].items()
        }
        few = len(histories) <= _MOST_ARMS_WITH_SEEDS
        draw_histories(left, histories, styles, each_seed=few)
        finish(left, f"{name}: mean over seeds" + (", thin: each seed" if few else ""))
        shown = {arm: found for arm, found in problem["arms"].items() if "minus_reference" in found}
        differences = {arm: found["minus_reference"]["mean"] for arm, found in shown.items()}
        reaches = {arm: d["interval95"] and d["interval95"][1] - d["mean"] for arm, d in differences.items()}
        draw_differences(right, differences, reaches, styles)
        right.set_xticks([])
        right.set_ylabel(f"test error minus {problem['reference']}")
        finish(right, "The same seeds: dots; mean, 95% interval")
    shared_legend(figure, panels[:, 0], columns=4)
    add_title(figure, f"Does it help? {results['date'][:10]}", results)
    return figure
