"""The figure: final errors and their differences above, rounding of stored moments below."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.harness.style import (
    Look,
    add_title,
    draw_differences,
    draw_histories,
    finish,
    looks,
    new_figure,
    plain_log,
)

_DASHES = ("-", "--", ":")


def draw_figure(results: dict[str, Any]) -> Figure:
    """Four panels from the content of a result file."""
    figure = new_figure(9.2)
    panels = figure.subplots(2, 2)
    names = dict.fromkeys([*results["arms"], *(row["storage"] for row in results["rounding"])])
    styles = looks(names)
    _draw_differences(panels[0, 0], results["arms"], styles, results["reference"])
    draw_histories(panels[0, 1], {name: _histories(arm) for name, arm in results["arms"].items()}, styles)
    finish(panels[0, 1], "Mean over seeds, thin: each seed")
    rounding = results["rounding"]
    _draw_rounding(panels[1, 0], rounding, styles, "rms_median", "root of the second moment")
    _draw_rounding(panels[1, 1], rounding, styles, "update_error", "update, in 2-norm")
    panels[1, 0].set_ylabel("median relative error against float64")
    handles = [Line2D([], [], **look.line()) for look in styles.values()]
    for dashes, gradients in zip(_DASHES, _kinds(rounding), strict=False):
        handles.append(Line2D([], [], color="0.3", ls=dashes, label=f"stored moments: {gradients}"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8)
    title = f"PathAdamSAGA, preset {results['preset']}: what compact states cost, {results['date'][:10]}"
    add_title(figure, title, results)
    return figure


def _kinds(rounding: list[dict[str, Any]]) -> list[str]:
    """Return the kinds of gradients that moments were rounded with."""
    return list(dict.fromkeys(row["gradients"] for row in rounding))


def _draw_differences(axes: Axes, arms: dict[str, Any], styles: dict[str, Look], reference: str) -> None:
    differences = {name: arm["minus_reference"]["mean"] for name, arm in arms.items()}
    reaches = {name: found.get("standard_error") for name, found in differences.items()}
    draw_differences(axes, differences, reaches, styles)
    axes.set_xticks(range(len(arms)), list(arms), fontsize=8, rotation=25, ha="right")
    axes.set(ylabel=rf"test $\theta$ L1 minus that of {reference} ($\times 10^{{-3}}$)")
    finish(axes, "The same seeds; mean and standard error")


def _histories(arm: dict[str, Any]) -> tuple[list[float], list[list[float]]]:
    """Steps, and errors of each seed at them."""
    runs = [run["history"] for run in arm["runs"]]
    return [record["step"] for record in runs[0]], [[record["val"]["mean"] for record in run] for run in runs]


def _draw_rounding(axes: Axes, rows: list[dict[str, Any]], styles: dict[str, Look], what: str, title: str) -> None:
    storages = list(dict.fromkeys(row["storage"] for row in rows))
    for dashes, gradients in zip(_DASHES, _kinds(rows), strict=False):
        for storage in storages:
            mine = [row for row in rows if (row["storage"], row["gradients"]) == (storage, gradients)]
            x, y = [row["visits"] for row in mine], [row[what] for row in mine]
            axes.plot(x, y, **styles[storage].line(ls=dashes, ms=4, lw=1.3, label=None))
    axes.set(xscale="log", yscale="log", xlabel="visits of the path", ylabel="relative error against float64")
    plain_log(axes.xaxis, subs=(1,))
    finish(axes, f"Stored moments: {title}")
