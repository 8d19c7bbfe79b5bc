"""The figure: final errors and their differences above, rounding of stored moments below."""

from statistics import mean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.harness.style import new_figure, not_measured, plain_log

__all__ = ["draw_figure"]

# Okabe and Ito's colours, distinguishable with any colour vision, and markers for print
_COLORS = ("#000000", "#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#009E73", "#CC79A7", "#999999")
_MARKERS = "osv^DPX*"
_DASHES = ("-", "--", ":")
Styles = dict[str, tuple[str, str]]


def draw_figure(results: dict[str, Any]) -> Figure:
    """Four panels from the content of a result file."""
    figure = new_figure(9.2)
    panels = figure.subplots(2, 2)
    names = dict.fromkeys([*results["arms"], *(row["storage"] for row in results["rounding"])])
    styles = {name: (_COLORS[k % len(_COLORS)], _MARKERS[k % len(_MARKERS)]) for k, name in enumerate(names)}
    _draw_differences(panels[0, 0], results["arms"], styles, results["reference"])
    _draw_histories(panels[0, 1], results["arms"], styles)
    rounding = results["rounding"]
    _draw_rounding(panels[1, 0], rounding, styles, "rms_median", "root of the second moment")
    _draw_rounding(panels[1, 1], rounding, styles, "update_error", "update, in 2-norm")
    panels[1, 0].set_ylabel("median relative error against float64")
    handles = [Line2D([], [], color=c, marker=m, ms=5, label=name) for name, (c, m) in styles.items()]
    for dashes, gradients in zip(_DASHES, _kinds(rounding), strict=False):
        handles.append(Line2D([], [], color="0.3", ls=dashes, label=f"stored moments: {gradients}"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8)
    title = f"PathAdamSAGA, preset {results['preset']}: what compact states cost, {results['date'][:10]}"
    figure.suptitle(title + (" (quick: two steps)" if results["quick"] else ""), fontsize=12)
    return figure


def _kinds(rounding: list[dict[str, Any]]) -> list[str]:
    """Of gradients that moments were rounded with."""
    return list(dict.fromkeys(row["gradients"] for row in rounding))


def _draw_differences(axes: Axes, arms: dict[str, Any], styles: Styles, reference: str) -> None:
    """A dot for each seed, a bar for the mean and its standard error."""
    for position, (name, arm) in enumerate(arms.items()):
        compared = arm["minus_reference"]["mean"]
        color, marker = styles[name]
        values = list(compared["differences"].values())
        axes.plot([position] * len(values), values, marker, ls="", color=color, ms=4, alpha=0.5)
        if values:
            error = compared["standard_error"] or 0.0
            axes.errorbar(position + 0.25, compared["mean"], error, fmt="_", color=color, ms=12, capsize=4)
    axes.axhline(0.0, color="0.6", lw=0.8)
    axes.set_xticks(range(len(arms)), list(arms), fontsize=8, rotation=25, ha="right")
    axes.set(ylabel=rf"test $\theta$ L1 minus that of {reference} ($\times 10^{{-3}}$)")
    axes.set_title("The same seeds; mean and standard error", fontsize=10)
    axes.grid(alpha=0.25, axis="y")
    if not arms:
        not_measured(axes)


def _draw_histories(axes: Axes, arms: dict[str, Any], styles: Styles) -> None:
    """Thin lines for seeds, a thick one for their mean where all are as long."""
    for name, arm in arms.items():
        color = styles[name][0]
        for run in arm["runs"]:
            axes.plot(*_history(run), color=color, lw=0.6, alpha=0.25)
        steps, _ = _history(arm["runs"][0])
        errors = [_history(run)[1] for run in arm["runs"]]
        axes.plot(steps, [mean(column) for column in zip(*errors, strict=True)], color=color, lw=1.8)
    axes.set(xlabel="steps, one random path each", ylabel=r"validation $\theta$ L1 ($\times 10^{-3}$)")
    axes.set_yscale("log")
    plain_log(axes.yaxis, subs=(1, 1.5, 2, 3, 4, 6, 8))
    axes.set_title("Mean over seeds, thin: each seed", fontsize=10)
    axes.grid(alpha=0.25)
    if not arms:
        not_measured(axes)


def _history(run: dict[str, Any]) -> tuple[list[int], list[float]]:
    return [record["step"] for record in run["history"]], [record["val"]["mean"] for record in run["history"]]


def _draw_rounding(axes: Axes, rows: list[dict[str, Any]], styles: Styles, what: str, title: str) -> None:
    storages = list(dict.fromkeys(row["storage"] for row in rows))
    for dashes, gradients in zip(_DASHES, _kinds(rows), strict=False):
        for storage in storages:
            mine = [row for row in rows if (row["storage"], row["gradients"]) == (storage, gradients)]
            color, marker = styles[storage]
            x, y = [row["visits"] for row in mine], [row[what] for row in mine]
            axes.plot(x, y, dashes, color=color, marker=marker, ms=4, lw=1.3)
    axes.set(xscale="log", yscale="log", xlabel="visits of the path", ylabel="relative error against float64")
    plain_log(axes.xaxis, subs=(1,))
    axes.set_title(f"Stored moments: {title}", fontsize=10)
    axes.grid(alpha=0.25)
    if not rows:
        not_measured(axes)
