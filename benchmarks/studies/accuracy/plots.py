"""The figure: compact transforms above, smoothing below them, training at the bottom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.style import (
    BLUE,
    Look,
    add_title,
    finish,
    legend_below,
    looks,
    new_figure,
    plain_log,
    shared_legend,
)

Rows = Sequence[dict[str, Any]]

_FLOOR = 3e-9
# Distances are drawn from here on.
_LEAST = 1e-6


def draw_figure(results: dict[str, Any]) -> Figure:
    """Six panels from the content of a result file."""
    figure = new_figure(12.5)
    rows = np.ravel(figure.subfigures(3, 1, height_ratios=[4, 4, 4.4]))  # type: ignore[arg-type]
    sounds = looks(row["sound"] for row in (*results["compact"], *results["smoothing"]))
    _draw_compact(rows[0], results["compact"], sounds)
    _draw_smoothing(rows[1], results["smoothing"], sounds)
    left, right = rows[2].subplots(1, 2)
    _draw_histories(left, results["training"])
    _draw_finals(right, results["training"])
    title = f"Accuracy of compact and smoothed transforms, {results['date'][:10]}"
    add_title(figure, title, results)
    return figure


def _draw_compact(part: Any, rows: Rows, sounds: dict[str, Look]) -> None:
    compact = [row for row in rows if isinstance(row["variant"], float)]
    panels = part.subplots(1, 2)
    _draw_lines(panels[0], compact, sounds, "variant", "coefficients", "Compact against exact: coefficients")
    _draw_lines(panels[1], compact, sounds, "variant", "gradient", "Compact against exact: gradients")
    for axes in panels:
        axes.set_xlabel("samples per bandwidth")
    _legend(part, panels[0])


def _draw_smoothing(part: Any, rows: Rows, sounds: dict[str, Look]) -> None:
    panels = part.subplots(1, 2)
    rounding = [row for row in rows if row["against"] == "float64"]
    change = [row for row in rows if row["against"] == "eps = 0"]
    _draw_lines(panels[0], rounding, sounds, "smoothing", "gradient", "Gradients, float32 against float64")
    _draw_lines(panels[1], change, sounds, "smoothing", "coefficients", "Coefficients against eps = 0")
    for axes in panels:
        axes.set_xscale("symlog", linthresh=1e-7, linscale=0.5)
        axes.set_xlim(-1e-8, 2e-2)
        axes.set_xlabel("smoothing eps (signal's RMS)")
    _legend(part, panels[0])


def _legend(part: Any, axes: Axes) -> None:
    """One for both panels, below them."""
    handles, labels = axes.get_legend_handles_labels()
    part.legend(
        handles, labels, loc="outside lower center", ncols=max(len(labels), 1), fontsize=8, columnspacing=1.2
    )


def _draw_lines(axes: Axes, rows: Rows, sounds: dict[str, Look], across: str, what: str, title: str) -> None:
    """One line for each sound: median over paths, and thin dots for the largest."""
    for sound in dict.fromkeys(row["sound"] for row in rows):
        mine = [row for row in rows if row["sound"] == sound]
        x = [row[across] for row in mine]
        for key, look in (
            ("median", {"lw": 1.6}),
            ("largest", {"lw": 0.9, "ms": 2, "ls": ":", "label": None}),
        ):
            axes.plot(x, [max(row[what][key], _FLOOR) for row in mine], **sounds[sound].line(**look))
    axes.set(yscale="log", ylabel="relative error\n(median path; dots: largest)")
    plain_log(axes.yaxis, subs=(1,))
    finish(axes, title)


def _draw_histories(axes: Axes, rows: Rows) -> None:
    styles = looks(row["arm"] for row in rows)
    for number, row in enumerate(rows, 1):
        line = styles[row["arm"]].line(marker="", label=f"{number}: {row['arm']}")
        axes.plot(5 * np.arange(len(row["history"])), 1000 * np.array(row["history"]), **line)
    axes.set(xlabel="steps, one random path each", ylabel=r"mean $\theta$ L1 ($\times 10^{-3}$)", ylim=(0, None))
    finish(axes, "Chirplets fitted to clean, shifted chirplets")
    legend_below(axes, 1)


def _draw_finals(axes: Axes, rows: Rows) -> None:
    """Every start: its final error in each arm, joined by a line."""
    finals = 1000 * np.array([row["final"] for row in rows])
    axes.plot(range(1, len(rows) + 1), finals, color="0.6", lw=0.7, marker="o", ms=3, mfc=BLUE, mec="none")
    axes.set_xticks(range(1, len(rows) + 1))
    axes.set(yscale="log", xlabel="arm, as numbered on the left", ylabel=r"final $\theta$ L1 ($\times 10^{-3}$)")
    plain_log(axes.yaxis)
    finish(axes, "The same starts in every arm, one line a start")


def draw_boundary(results: dict[str, Any]) -> Figure:
    """Two panels: the even boundary by frame, and beside it what else changes at the ends."""
    figure = new_figure(5.2)
    local = [row for row in results["boundary"] if row["T"] != "global" and row["against"] == "kymatio"]
    left, right = figure.subplots(1, 2)
    even = [row for row in local if row["variant"] == "even"]
    sounds = looks(row["sound"] for row in even)
    for row in even:
        frames = np.arange(len(row["frames"]))
        left.plot(frames, np.maximum(row["frames"], _LEAST), **sounds[row["sound"]].line())
    left.set(yscale="log", xlabel="frame", ylabel="distance over RMS frame (median path)")
    plain_log(left.yaxis, subs=(1,))
    finish(left, "Even against kymatio, by frame")
    names = ["even", "2", "ends repeated", "one sample earlier", "zeros", "going on"]
    for name, mine in ((s, [r for r in local if r["sound"] == s]) for s in sounds):
        medians = {row["variant"]: row["coefficients"]["median"] for row in mine}
        right.plot(
            [max(medians[n], _LEAST) for n in names], range(len(names)), **sounds[name].line(ls="", label=None)
        )
    right.set_yticks(range(len(names)), names)
    right.invert_yaxis()
    right.set(xscale="log", xlabel="distance of coefficients (median path)")
    plain_log(right.xaxis, subs=(1,))
    finish(right, "What else changes them")
    shared_legend(figure, [left], 4)
    add_title(figure, f"The ends of signals, {results['date'][:10]}", results)
    return figure
