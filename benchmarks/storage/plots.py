"""The figure: final errors and their differences above, rounding of stored moments below."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["draw_figure"]

# Okabe and Ito's colours, distinguishable with any colour vision, and markers for print
_COLORS = ("#000000", "#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#009E73", "#CC79A7", "#999999")
_MARKERS = "osv^DPX*"


def draw_figure(results: dict[str, Any]) -> Figure:
    """Four panels from the content of a result file."""
    figure = Figure(figsize=(13, 9), layout="constrained", dpi=110)
    panels = figure.subplots(2, 2)
    _draw_differences(panels[0, 0], results["arms"], results["reference"])
    _draw_histories(panels[0, 1], results["arms"])
    _draw_rounding(panels[1, 0], results["rounding"], "rms_median", "root of the second moment: median |error|")
    _draw_rounding(panels[1, 1], results["rounding"], "update_error", "update: error in 2-norm")
    title = f"PathAdamSAGA, preset {results['preset']}: what compact states cost, {results['date'][:10]}"
    figure.suptitle(title + (" (quick: two steps)" if results["quick"] else ""), fontsize=12)
    return figure


def _draw_differences(axes: Axes, arms: dict[str, Any], reference: str) -> None:
    """A dot for each seed, a bar for the mean and its standard error."""
    for position, arm in enumerate(arms.values()):
        compared = arm["minus_reference"]["mean"]
        color = _COLORS[position % len(_COLORS)]
        values = list(compared["differences"].values())
        axes.plot([position] * len(values), values, "o", color=color, ms=4, alpha=0.5)
        if values:
            error = compared["standard_error"] or 0.0
            axes.errorbar(position + 0.2, compared["mean"], error, fmt="_", color=color, ms=14, capsize=4)
    axes.axhline(0.0, color="0.6", lw=0.8)
    axes.set_xticks(range(len(arms)), list(arms), fontsize=8, rotation=20, ha="right")
    axes.set(ylabel=rf"test $\theta$ L1 minus that of {reference} ($\times 10^{{-3}}$)")
    axes.set_title("The same seeds: dots; mean and standard error beside them", fontsize=11)
    axes.grid(alpha=0.25, axis="y")


def _draw_histories(axes: Axes, arms: dict[str, Any]) -> None:
    for position, (name, arm) in enumerate(arms.items()):
        for number, run in enumerate(arm["runs"]):
            steps = [record["step"] for record in run["history"]]
            errors = [record["val"]["mean"] for record in run["history"]]
            label = name if number == 0 else None
            axes.plot(steps, errors, color=_COLORS[position % len(_COLORS)], lw=0.9, alpha=0.7, label=label)
    axes.set(xlabel="steps, one random path each", ylabel=r"validation $\theta$ L1 ($\times 10^{-3}$)")
    axes.set_yscale("log")
    axes.set_title("One line a seed", fontsize=11)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)


def _draw_rounding(axes: Axes, rows: list[dict[str, Any]], what: str, title: str) -> None:
    storages = list(dict.fromkeys(row["storage"] for row in rows))
    for dashes, gradients in zip(("-", "--", ":"), dict.fromkeys(row["gradients"] for row in rows), strict=False):
        for position, storage in enumerate(storages):
            mine = [row for row in rows if (row["storage"], row["gradients"]) == (storage, gradients)]
            axes.plot(
                [row["visits"] for row in mine],
                [row[what] for row in mine],
                dashes,
                color=_COLORS[position],
                marker=_MARKERS[position],
                ms=4,
                lw=1.3,
                label=f"{storage}, {gradients}",
            )
    axes.set(xscale="log", yscale="log", xlabel="visits of the path", ylabel="relative error against float64")
    axes.set_title(f"Stored moments, {title}", fontsize=11)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7)
