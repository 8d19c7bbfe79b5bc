"""The figure: a step over the number of parameters and of paths, bytes over drawn paths, drift over steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from benchmarks.harness.records import Records
from benchmarks.harness.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    Look,
    add_title,
    finish,
    legend_below,
    new_figure,
    plain_log,
    shared_legend,
)
from benchmarks.optimizer.contenders import CONTENDERS, PEER

_LOOKS = {
    "adam": Look("Adam", BLACK, "D"),
    "adamw": Look("AdamW", "#7F7F7F", "d", "--"),
    "sgd": Look("SGD, momentum", "#BFBFBF", "x"),
    "float32": Look("PathAdamSAGA", BLUE, "o"),
    "bfloat16": Look("PathAdamSAGA, bfloat16 rows", SKY, "s"),
    "int8": Look("PathAdamSAGA, int8 rows", GREEN, "P"),
    "saga=0": Look("PathAdamSAGA, saga=0", PURPLE, "v", "--"),
    "path_adam=False": Look("PathAdamSAGA, path_adam=False", ORANGE, "<", ":"),
    PEER: Look("scrapl-loss 0.1.0", VERMILION, "^"),
}


def draw_figure(results: dict[str, Any]) -> Figure:
    """Four panels from the content of a result file; a panel stays empty where nothing was measured."""
    figure = new_figure(9.5)
    panels = figure.subplots(2, 2)
    steps = Records(results["timings"]).where(kind="steady", threads=1, allocator="retaining")
    typical, model = _most_common(steps, "n_paths", 315), _most_common(steps, "model", "0.6M")
    _draw_steps(panels[0, 0], steps.where(n_paths=typical), "n_parameters", f"P = {typical}")
    _mark_ratios(panels[0, 0], steps.where(n_paths=typical))
    _draw_steps(panels[0, 1], steps.where(model=model), "n_paths", f"{model} parameters")
    _draw_state(panels[1, 0], results["state"])
    _draw_drift(panels[1, 1], results["drift"])
    shared_legend(figure, (panels[0, 0], panels[0, 1], panels[1, 0]), columns=3)
    title = f"One thread on {results['machine']['cpu']}, {results['date'][:10]}; bars: 10th to 90th percentile"
    add_title(figure, title, results)
    return figure


def _most_common(records: Records, key: str, wanted: Any) -> Any:
    """Return what is wanted if it was measured, else the last there is."""
    found = [record[key] for record in records.records]
    return wanted if wanted in found or not found else found[-1]


def _draw_steps(axes: Axes, steps: Records, key: str, title: str) -> None:
    ticks: set[float] = set()
    for name in CONTENDERS:
        found = sorted(steps.where(contender=name).records, key=lambda record: record[key])
        if found:
            x = [record[key] for record in found]
            ms = 1000 * np.array([[r["seconds"][q] for q in ("p10", "median", "p90")] for r in found])
            bars = np.abs(ms[:, [0, 2]] - ms[:, [1]]).T
            axes.errorbar(x, ms[:, 1], yerr=bars, capsize=2, **_LOOKS[name].line())
            ticks |= set(x)
    label = {"n_parameters": "number of parameters", "n_paths": "number of paths P"}[key]
    axes.set(xscale="log", yscale="log", xlabel=label, ylabel="ms per step")
    plain_log(axes.yaxis, subs=(1,))
    if ticks:
        axes.xaxis.set_major_locator(FixedLocator(sorted(ticks)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: _number(value))
    finish(axes, f"A step, {title}")


def _number(value: float) -> str:
    return f"{value:g}" if value < 1e4 else f"{value / 1e6:.2g}M"


def _mark_ratios(axes: Axes, steps: Records) -> None:
    """Ours over Adam's time, below the number of parameters."""
    adam, ours = (steps.where(contender=name).values("n_parameters") for name in ("adam", "float32"))
    ratios = {n: f"{seconds / adam[n]:.2f}" for n, seconds in ours.items() if n in adam}
    if ratios:
        axes.xaxis.set_major_formatter(lambda value, _: f"{_number(value)}\n{ratios.get(value, '')}")
        axes.set_xlabel("parameters; below: PathAdamSAGA / Adam")


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
            axes.plot(x, y, **_LOOKS[name].line())
    axes.set_xscale("symlog", linthresh=1)
    axes.set_yscale("symlog", linthresh=1)
    axes.xaxis.set_major_locator(FixedLocator(sorted({record["drawn"] for record in state})))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set(xlabel="paths drawn", ylabel="bytes of state per parameter", ylim=(0, None), xlim=(0, None))
    paths = {record["n_paths"] for record in state}
    finish(axes, f"State, P = {', '.join(map(str, sorted(paths)))}")


def _draw_drift(axes: Axes, drift: list[dict[str, Any]]) -> None:
    """Shades of one scale, since P is ordered and the colours of the other panels are taken."""
    numbers = sorted({record["n_paths"] for record in drift})
    shades = colormaps["viridis"](np.linspace(0.0, 0.88, max(len(numbers), 1)))
    for shade, n_paths in zip(shades, numbers, strict=False):
        for on in (True, False):
            found = [r for r in drift if (r["n_paths"], r["path_adam"]) == (n_paths, on)]
            if found:
                axes.plot(
                    [r["steps"] for r in found], [r["sum"] for r in found], "-" if on else ":", marker="o", ms=3.5,
                    color=to_hex(shade), label=f"P = {n_paths}" if on else None,
                )  # fmt: skip
    if drift:
        axes.axhline(1e-6, color="0.5", lw=1, ls="--", label="wanted at most")
        axes.plot([], [], ":", color="0.3", label="path_adam=False")
    axes.set(xscale="log", yscale="log", xlabel="steps", ylabel="relative distance from the sum of the rows")
    if drift:
        plain_log(axes.xaxis, subs=(1,))
        legend_below(axes, 3)
    finish(axes, "Drift of the running sum of P-SAGA")
