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
from benchmarks.studies.does_it_help.arms import REFERENCE

# Arms from which on lines of single seeds hide each other.
_MOST_ARMS_WITH_SEEDS = 2
# More than these hide each other; tables have the others, which are rungs of the ladder.
_DRAWN = (
    REFERENCE,
    "theta-is",
    "theta-is, memory and clocks by pi",
    "predicted",
    "released",
    "rates",
    "adam",
    "p-adam",
    "full tree",
    "mss",
    "controls",
)


def draw_figure(results: dict[str, Any]) -> Figure:
    """Draw two panels for each problem, from the content of a result file: the arms that the page is about."""
    problems = {
        name: {**problem, "arms": {arm: found for arm, found in problem["arms"].items() if arm in _DRAWN}}
        for name, problem in results["problems"].items()
        if problem["arms"]
    }
    styles = looks(arm for arm in _DRAWN if any(arm in problem["arms"] for problem in problems.values()))
    figure = new_figure(1.0 + 1.6 * max(1, len(problems)))
    panels = figure.subplots(max(1, len(problems)), 2, squeeze=False, width_ratios=[3, 2])
    for (left, right), (name, problem) in zip(panels, problems.items(), strict=False):
        histories: dict[str, tuple[Sequence[float], Sequence[Sequence[float]]]] = {
            arm: (found["runs"][0]["history"]["step"], [run["history"]["mean"] for run in found["runs"]])
            for arm, found in problem["arms"].items()
        }
        few = len(histories) <= _MOST_ARMS_WITH_SEEDS
        draw_histories(left, histories, styles, each_seed=few)
        left.set_ylabel("validation, ‰")
        finish(left, f"{name}: mean over seeds" + (", thin: each seed" if few else ""))
        shown = {arm: found for arm, found in problem["arms"].items() if "minus_reference" in found}
        differences = {arm: found["minus_reference"]["mean"] for arm, found in shown.items()}
        reaches = {arm: d["interval95"] and d["interval95"][1] - d["mean"] for arm, d in differences.items()}
        draw_differences(right, differences, reaches, styles)
        right.set_xticks([])
        right.set_ylabel(f"minus {problem['reference']}, ‰")
        finish(right, "Test errors by seed; 95% interval")
    for ax in panels[:-1, 0]:
        ax.set_xlabel("")
    shared_legend(figure, panels[:, 0], columns=4)
    add_title(figure, f"Does it help? {results['date'][:10]}", results)
    return figure
