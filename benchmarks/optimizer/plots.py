"""The figure: a step over the number of parameters and of paths, bytes over drawn paths, drift over steps."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from ..speed.summary import Records
from .contenders import CONTENDERS, PEER

__all__ = ["draw_figure"]

_LABELS = {
    "adam": "Adam",
    "adamw": "AdamW",
    "sgd": "SGD, momentum",
    "float32": "PathAdamSAGA",
    "bfloat16": "PathAdamSAGA, bfloat16 rows",
    "int8": "PathAdamSAGA, int8 rows",
    "saga=0": "PathAdamSAGA, saga=0",
    "path_adam=False": "PathAdamSAGA, path_adam=False",
    PEER: "scrapl-loss 0.1.0",
}
# Okabe and Ito's colours, distinguishable with any colour vision, and markers for print
_COLORS = dict(zip(
    CONTENDERS,
    ("#000000", "#7F7F7F", "#BFBFBF", "#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#E69F00", "#D55E00"),
    strict=True,
))  # fmt: skip
_MARKERS = dict(zip(CONTENDERS, "DdxosPv<^", strict=True))


def draw_figure(results: dict[str, Any]) -> Figure:
    """Four panels from the content of a result file; a panel stays empty where nothing was measured."""
    figure = Figure(figsize=(14, 10), layout="constrained", dpi=110)
    panels = figure.subplots(2, 2)
    steps = Records(results["timings"]).where(kind="steady", threads=1, allocator="retaining")
    typical, model = _most_common(steps, "n_paths", 315), _most_common(steps, "model", "0.6M")
    _draw_steps(panels[0, 0], steps.where(n_paths=typical), "n_parameters", "number of parameters")
    _mark_ratios(panels[0, 0], steps.where(n_paths=typical))
    panels[0, 0].set_title(f"A step, P = {typical} (float32 / Adam as numbers)", fontsize=11)
    _draw_steps(panels[0, 1], steps.where(model=model), "n_paths", "number of paths P")
    panels[0, 1].set_title(f"A step, {model} parameters", fontsize=11)
    _draw_state(panels[1, 0], results["state"])
    _draw_drift(panels[1, 1], results["drift"])
    handles, labels = panels[0, 0].get_legend_handles_labels()
    if not handles:
        handles, labels = panels[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=9)
    if panels[1, 1].has_data():
        panels[1, 1].legend(fontsize=8)
    title = f"One thread on {results['machine']['cpu']}, {results['date'][:10]}; bars: 10th to 90th percentile"
    figure.suptitle(title + (" (quick selection)" if results["quick"] else ""), fontsize=12)
    return figure


def _most_common(records: Records, key: str, wanted: Any) -> Any:
    """What is wanted if it was measured, else the last there is."""
    found = [record[key] for record in records.records]
    return wanted if wanted in found or not found else found[-1]


def _style(name: str) -> dict[str, Any]:
    return {"color": _COLORS[name], "marker": _MARKERS[name], "ms": 5, "lw": 1.4, "label": _LABELS[name]}


def _draw_steps(axes: Axes, steps: Records, key: str, label: str) -> None:
    ticks: set[float] = set()
    for name in CONTENDERS:
        found = sorted(steps.where(contender=name).records, key=lambda record: record[key])
        if found:
            x = [record[key] for record in found]
            ms = 1000 * np.array([[r["seconds"][q] for q in ("p10", "median", "p90")] for r in found])
            bars = np.abs(ms[:, [0, 2]] - ms[:, [1]]).T
            axes.errorbar(x, ms[:, 1], yerr=bars, capsize=2, **_style(name))
            ticks |= set(x)
    axes.set(xscale="log", yscale="log", xlabel=label, ylabel="ms per step")
    if ticks:
        axes.xaxis.set_major_locator(FixedLocator(sorted(ticks)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if value < 1e4 else f"{value / 1e6:.2g}M")
    _finish(axes)


def _mark_ratios(axes: Axes, steps: Records) -> None:
    adam, ours = (steps.where(contender=name).values("n_parameters") for name in ("adam", "float32"))
    for n, seconds in ours.items():
        if n in adam:
            axes.annotate(
                f"{seconds / adam[n]:.2f}", (n, 1000 * seconds), xytext=(7, -12), textcoords="offset points",
                fontsize=9, color=_COLORS["float32"],
            )  # fmt: skip


def _draw_state(axes: Axes, state: list[dict[str, Any]]) -> None:
    """Those that know no paths as lines: their state is the same however many are drawn."""
    most = max((record["drawn"] for record in state), default=1)
    for name in CONTENDERS:
        found = [record for record in state if record["contender"] == name]
        if found:
            x = [record["drawn"] for record in found]
            y = [record["bytes_per_parameter"] for record in found]
            if x[-1] < most:
                x, y = [*x, most], [*y, y[-1]]
            axes.plot(x, y, **_style(name))
    axes.set_xscale("symlog", linthresh=1)
    axes.set_yscale("symlog", linthresh=1)
    axes.xaxis.set_major_locator(FixedLocator(sorted({record["drawn"] for record in state})))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set(xlabel="paths drawn", ylabel="bytes of state per parameter", ylim=(0, None), xlim=(0, None))
    paths = {record["n_paths"] for record in state}
    axes.set_title(f"State, P = {', '.join(map(str, sorted(paths)))}", fontsize=11)
    _finish(axes)


def _draw_drift(axes: Axes, drift: list[dict[str, Any]]) -> None:
    colors = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00")
    for i, n_paths in enumerate(sorted({record["n_paths"] for record in drift})):
        for on in (True, False):
            found = [r for r in drift if (r["n_paths"], r["path_adam"]) == (n_paths, on)]
            if found:
                axes.plot(
                    [r["steps"] for r in found], [r["sum"] for r in found], "-" if on else ":", marker="o", ms=4,
                    color=colors[i % len(colors)], label=f"P = {n_paths}" + ("" if on else ", path_adam=False"),
                )  # fmt: skip
    if drift:
        axes.axhline(1e-6, color="0.5", lw=1, ls="--", label="wanted at most")
    axes.set(xscale="log", yscale="log", xlabel="steps", ylabel="relative distance from the sum of the rows")
    axes.set_title("Drift of the running sum of P-SAGA", fontsize=11)
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    if not axes.has_data():
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color="0.35")
