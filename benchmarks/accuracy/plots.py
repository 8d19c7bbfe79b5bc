"""The figure: compact transforms above, smoothing and training below."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["draw_figure"]

Rows = Sequence[dict[str, Any]]

# Okabe and Ito's colours, distinguishable with any colour vision, and markers for print
_STYLES = [
    {"color": color, "marker": marker}
    for color, marker in zip(
        ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"), "os^DvPX", strict=True
    )
]
_FLOOR = 3e-9


def draw_figure(results: dict[str, Any]) -> Figure:
    """Six panels from the content of a result file."""
    figure = Figure(figsize=(16, 9.4), layout="constrained", dpi=110)
    panels = figure.subplots(2, 3)
    compact = [row for row in results["compact"] if isinstance(row["variant"], float)]
    _draw_lines(panels[0, 0], compact, "variant", "coefficients", "Compact: coefficients against exact")
    _draw_lines(panels[0, 1], compact, "variant", "gradient", "Compact: gradients of path losses against exact")
    for axes in panels[0, :2]:
        axes.set_xlabel("oversampling")
    rounding = [row for row in results["smoothing"] if row["against"] == "float64"]
    change = [row for row in results["smoothing"] if row["against"] == "eps = 0"]
    _draw_lines(panels[0, 2], rounding, "smoothing", "gradient", "Gradients in float32 against float64, same eps")
    _draw_lines(panels[1, 0], change, "smoothing", "coefficients", "Coefficients against eps = 0")
    for axes in (panels[0, 2], panels[1, 0]):
        axes.set_xscale("symlog", linthresh=1e-7, linscale=0.5)
        axes.set_xlim(-1e-8, 2e-2)
        axes.set_xlabel("smoothing eps (signal's RMS)")
    _draw_histories(panels[1, 1], results["training"])
    _draw_finals(panels[1, 2], results["training"])
    title = f"Accuracy of compact and smoothed transforms, {results['date'][:10]}"
    figure.suptitle(title + (" (quick selection)" if results["quick"] else ""), fontsize=12)
    return figure


def _draw_lines(axes: Axes, rows: Rows, across: str, what: str, title: str) -> None:
    """One line for each sound: median over paths, and thin dots for the largest."""
    for style, sound in zip(_STYLES, dict.fromkeys(row["sound"] for row in rows), strict=False):
        mine = [row for row in rows if row["sound"] == sound]
        x = [row[across] for row in mine]
        for key, look in (
            ("median", {"lw": 1.6, "ms": 5, "label": sound}),
            ("largest", {"lw": 0.7, "ms": 2, "ls": ":"}),
        ):
            axes.plot(x, [max(row[what][key], _FLOOR) for row in mine], **{**style, **look})
    axes.set(yscale="log", ylabel="relative error: median over paths, dots: largest")
    axes.set_title(title, fontsize=11)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)


def _draw_histories(axes: Axes, rows: Rows) -> None:
    for number, row in enumerate(rows):
        style, dashes = _STYLES[number % len(_STYLES)], "-" if number < len(_STYLES) else "--"
        steps = 5 * np.arange(len(row["history"]))
        axes.plot(steps, 1000 * np.array(row["history"]), dashes, color=style["color"], lw=1.4, label=row["arm"])
    axes.set(xlabel="steps, one random path each", ylabel=r"mean $\theta$ L1 ($\times 10^{-3}$)", ylim=(0, None))
    axes.set_title("Chirplets fitted to clean, shifted chirplets", fontsize=11)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)


def _draw_finals(axes: Axes, rows: Rows) -> None:
    """Every start: its final error in each arm, joined by a line."""
    finals = 1000 * np.array([row["final"] for row in rows])
    axes.plot(finals, color="0.6", lw=0.7, marker="o", ms=3, mfc="#0072B2", mec="none")
    axes.set_xticks(range(len(rows)), [row["arm"] for row in rows], fontsize=8)
    axes.tick_params(axis="x", labelrotation=30)
    for label in axes.get_xticklabels():
        label.set_horizontalalignment("right")
    axes.set(yscale="log", ylabel=r"final $\theta$ L1 ($\times 10^{-3}$), one line a start")
    axes.set_title("The same starts in every arm", fontsize=11)
    axes.grid(alpha=0.25)
