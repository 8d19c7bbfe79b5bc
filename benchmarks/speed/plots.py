"""The figure: cost by path, length and batch, peak memory, bundles, the full tree."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator

from .summary import Records

__all__ = ["draw_figure"]

_LABELS = {
    "exact": "this package, exact",
    "compact": "this package, compact",
    "compact-3": "this package, compact (3)",
    "scrapl-loss": "scrapl-loss 0.1.0",
    "mss": "MSS log + linear",
    "kymatio": "kymatio",
}
# Okabe and Ito's colours, distinguishable with any colour vision, and markers for print
_COLORS = {
    "exact": "#0072B2",
    "compact": "#56B4E9",
    "compact-3": "#009E73",
    "scrapl-loss": "#D55E00",
    "mss": "#000000",
    "kymatio": "#CC79A7",
}
_MARKERS = {"exact": "o", "compact": "s", "compact-3": "P", "scrapl-loss": "^", "mss": "D", "kymatio": "v"}


def draw_figure(results: dict[str, Any]) -> Figure:
    """Six panels from the content of a result file; a panel stays empty where nothing was measured."""
    figure = Figure(figsize=(16, 9.4), layout="constrained", dpi=110)
    panels = figure.subplots(2, 3)
    timings, memory = Records(results["timings"]), Records(results["memory"])
    paper = results["configuration"]["n_samples"]
    _draw_paths(panels[0, 0], timings.where(kind="step", threads=1, n_samples=paper, batch=4))
    sizes = timings.where(section="sizes", kind="step")
    _draw_growth(panels[0, 1], sizes.where(batch=4), "n_samples", "N (samples)")
    panels[0, 1].set_title("Cost of a step against length (batch 4)", fontsize=11)
    _draw_growth(panels[0, 2], sizes.where(n_samples=paper), "batch", "batch")
    panels[0, 2].set_title(f"Cost of a step against batch (N = {paper})", fontsize=11)
    _draw_memory(panels[1, 0], memory.where(kind="step"))
    _draw_bundles(panels[1, 1], timings.where(section="bundles", kind="step"))
    _draw_tree(panels[1, 2], timings.where(section="tree"), memory.where(kind="tree"))
    title = f"Forward and backward on one thread, {results['machine']['cpu']}, {results['date'][:10]}"
    figure.suptitle(title + (" (quick selection)" if results["quick"] else ""), fontsize=12)
    return figure


def _style(name: str) -> dict[str, Any]:
    return {"color": _COLORS[name], "marker": _MARKERS[name], "ms": 5, "lw": 1.4, "label": _LABELS[name]}


def _draw_paths(axes: Axes, steps: Records) -> None:
    """All paths of ours from the section of bundles, the others' from the representative ones."""
    singles = steps.where(n_paths=1)
    for name in ("scrapl-loss", "exact", "compact"):
        every = singles.where(contender=name, section="bundles").values("path")
        costs = every or singles.where(contender=name, section="paths").values("path")
        if costs:
            style = {**_style(name), "ms": 2 if every else 6, "lw": 0.8 if every else 0}
            axes.plot(list(costs), 1000 * np.array(list(costs.values())), **style)
    mss = steps.where(contender="mss", section="paths").mean("contender")
    if mss is not None:
        axes.axhline(1000 * mss, color=_COLORS["mss"], ls="--", lw=1.2, label=_LABELS["mss"])
    axes.set(xlabel="path index (n2 major, n_fr minor)", ylabel="ms per step", yscale="log")
    axes.set_title("Cost by path (N = 32768, batch 4)", fontsize=11)
    _finish(axes)


def _draw_growth(axes: Axes, steps: Records, key: str, label: str) -> None:
    """Mean over paths of the medians, with the mean quartiles as bars; the dashes are N log N, or proportional."""
    ticks: set[float] = set()
    for name in ("scrapl-loss", "exact", "compact", "mss"):
        mine = steps.where(contender=name)
        costs = mine.values(key)
        if not costs:
            continue
        x, y = np.array(list(costs), dtype=float), 1000 * np.array(list(costs.values()))
        ticks |= set(x.tolist())
        axes.errorbar(x, y, yerr=_quartile_bars(mine, key), capsize=2, **_style(name))
        if name == "exact":
            growth = x * np.log2(x) if key == "n_samples" else x
            axes.plot(
                x,
                y[0] * growth / growth[0],
                ":",
                color="0.5",
                lw=1.2,
                label="N log N" if key != "batch" else "batch",
            )
    axes.set(xscale="log", yscale="log", xlabel=label, ylabel="ms per step, mean over paths")
    if ticks:
        axes.xaxis.set_major_locator(FixedLocator(sorted(ticks)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _finish(axes)


def _quartile_bars(records: Records, key: str) -> np.ndarray:
    """(2, sizes): from the median down to the first and up to the third quartile, in ms."""
    bars = []
    for value in records.values(key):
        seconds = [record["seconds"] for record in records.where(**{key: value}).records]
        below = float(np.mean([s["median"] - s["q1"] for s in seconds]))
        above = float(np.mean([s["q3"] - s["median"] for s in seconds]))
        bars.append((1000 * below, 1000 * above))
    return np.array(bars).T


def _draw_memory(axes: Axes, memory: Records) -> None:
    for name in ("scrapl-loss", "exact", "compact"):
        sizes = memory.where(contender=name, n_paths=1).values("n2")
        if sizes:
            axes.plot(list(sizes), np.array(list(sizes.values())) / 2**20, **_style(name))
    mss = memory.where(contender="mss").mean("contender")
    if mss is not None:
        axes.axhline(mss / 2**20, color=_COLORS["mss"], ls="--", lw=1.2, label=_LABELS["mss"])
    axes.set(xlabel="n2 (fast to slow modulation)", ylabel="MiB above the baseline", yscale="log")
    axes.set_title("Peak memory of a step, fresh process (N = 32768, batch 4)", fontsize=11)
    _finish(axes)


def _draw_bundles(axes: Axes, steps: Records) -> None:
    for name in ("exact", "compact"):
        mine = steps.where(contender=name)
        single = mine.where(n_paths=1).values("n2")
        together = Records([record for record in mine.records if record["n_paths"] > 1]).values("n2")
        if together:
            ratios = [cost / single[n2] for n2, cost in together.items()]
            axes.plot(list(together), ratios, **_style(name))
    axes.axhline(1, color="0.5", lw=1)
    axes.axhline(15, color="0.5", lw=1, ls=":")
    axes.annotate(
        "15 paths one by one",
        (0.98, 15),
        xycoords=("axes fraction", "data"),
        xytext=(0, -11),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color="0.35",
    )
    axes.set(xlabel="n2 (fast to slow modulation)", ylabel="cost of 15 paths / cost of one", ylim=(0, 16))
    axes.set_title("A bundle: every n_fr of one n2 in one call", fontsize=11)
    _finish(axes)


def _draw_tree(axes: Axes, timings: Records, memory: Records) -> None:
    """Bars on a logarithmic axis, seconds and GiB side by side, with their values written on them."""
    names = [name for name in ("kymatio", "exact", "compact") if timings.where(contender=name).records]
    for place, (records, unit, scale) in enumerate(((timings, "s", 1.0), (memory, "GiB", 2.0**-30))):
        for k, name in enumerate(names):
            value = records.where(contender=name).mean("contender")
            if value is not None:
                position = place * (len(names) + 1) + k
                bar = axes.bar(
                    position, scale * value, color=_COLORS[name], label=_LABELS[name] if place == 0 else None
                )
                axes.bar_label(bar, [f"{scale * value:.3g} {unit}"], fontsize=8)
    middle = (len(names) - 1) / 2
    axes.set_xticks([middle, middle + len(names) + 1], ["time", "peak memory"])
    axes.set(yscale="log", ylabel="seconds, or GiB")
    axes.margins(y=0.15)
    axes.set_title("Full tree, forward and backward (batch 1)", fontsize=11)
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    if axes.get_yscale() == "log":
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
    else:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color="0.35")
