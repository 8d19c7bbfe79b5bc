"""The figure: cost by path, length and batch, peak memory, bundles, the full tree."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib.axes import Axes
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
    new_figure,
    plain_log,
    shared_legend,
)
from benchmarks.sound_matching.presets import PAPER
from benchmarks.speed.cases import PAPER_SETTINGS
from scrapl_jtfs._transform.filterbank import wavelet_bank

_LOOKS = {
    "exact": Look("this package, exact", BLUE, "o"),
    "compact": Look("this package, compact", SKY, "s"),
    "even": Look("this package, even", ORANGE, "P"),
    "even-compact": Look("this package, even and compact", GREEN, "X"),
    "scrapl-loss": Look("scrapl-loss 0.1.0", VERMILION, "^"),
    "mss": Look("MSS log + linear", BLACK, "D"),
    "kymatio": Look("kymatio", PURPLE, "v"),
}
_DRAWN = ("exact", "compact", "even", "even-compact")  # of ours


def draw_figure(results: dict[str, Any]) -> Figure:
    """Six panels from the content of a result file; a panel stays empty where nothing was measured."""
    figure = new_figure(12.5)
    panels = figure.subplots(3, 2)
    timings, memory = Records(results["timings"]), Records(results["memory"])
    settings = results["configuration"]
    paper, rates = settings["n_samples"], _rates(settings)
    _draw_paths(panels[0, 0], timings.where(kind="step", threads=1, n_samples=paper, batch=4), rates)
    _draw_memory(panels[0, 1], memory.where(kind="step"), rates)
    sizes = timings.where(section="sizes", kind="step")
    _draw_growth(panels[1, 0], sizes.where(batch=4), "n_samples", "N (samples)", "length (batch 4)")
    _draw_growth(panels[1, 1], sizes.where(n_samples=paper), "batch", "batch", f"batch (N = {paper})")
    _draw_bundles(panels[2, 0], timings.where(section="bundles", kind="step"), rates)
    _draw_tree(panels[2, 1], timings.where(section="tree"), memory.where(kind="tree"))
    shared_legend(figure, (panels[1, 0], *panels.ravel()), columns=3)
    title = f"Forward and backward on one thread, {results['machine']['cpu']}, {results['date'][:10]}"
    add_title(figure, title, results)
    return figure


def _rates(settings: dict[str, Any]) -> dict[int, float]:
    """Centre frequency in Hz of each wavelet n2 of the second layer, at the paper's sample rate."""
    settings = {**asdict(PAPER_SETTINGS), **settings}
    bank = wavelet_bank(settings["J"], settings["Q"][1])
    return {n2: wavelet.xi * PAPER.sample_rate for n2, wavelet in enumerate(bank)}


def _draw_paths(axes: Axes, steps: Records, rates: dict[int, float]) -> None:
    """All paths of ours from the section of bundles, the others' from the representative ones."""
    singles = steps.where(n_paths=1)
    for name in ("scrapl-loss", *_DRAWN):
        mine = singles.where(contender=name)
        every = mine.where(section="bundles").records
        found = every or mine.where(section="paths").records
        if not found:
            continue
        x = [rates[record["n2"]] for record in found]
        ms = [1000 * record["seconds"]["median"] for record in found]
        axes.plot(x, ms, **_LOOKS[name].line(ms=2.5 if every else 5, ls=""))
    mss = steps.where(contender="mss", section="paths").mean("contender")
    if mss is not None:
        axes.axhline(
            1000 * mss, color=_LOOKS["mss"].color, ls="--", lw=1.2, label=f"{_LOOKS['mss'].label}, no paths"
        )
    axes.set(xscale="log", xlabel="rate of the path (Hz)", ylabel="ms per step", yscale="log")
    _finish(axes, "A step by path (N = 32768, batch 4)")


def _draw_growth(axes: Axes, steps: Records, key: str, label: str, against: str) -> None:
    """Mean over paths of the medians, with the mean quartiles as bars; the dashes are N log N, or proportional."""
    ticks: set[float] = set()
    for name in ("scrapl-loss", *_DRAWN, "mss"):
        mine = steps.where(contender=name)
        costs = mine.values(key)
        if not costs:
            continue
        x, y = np.array(list(costs), dtype=float), 1000 * np.array(list(costs.values()))
        ticks |= set(x.tolist())
        axes.errorbar(x, y, yerr=_quartile_bars(mine, key), capsize=2, **_LOOKS[name].line())
        if name == "exact":
            growth = x * np.log2(x) if key == "n_samples" else x
            axes.plot(x, y[0] * growth / growth[0], ":", color="0.5", lw=1.2, label="as N log N, as the batch")
    axes.set(xscale="log", yscale="log", xlabel=label, ylabel="ms per step, mean over paths")
    if ticks:
        axes.xaxis.set_major_locator(FixedLocator(sorted(ticks)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _finish(axes, f"A step against {against}")


def _quartile_bars(records: Records, key: str) -> np.ndarray:
    """(2, sizes): from the median down to the first and up to the third quartile, in ms."""
    bars = []
    for value in records.values(key):
        seconds = [record["seconds"] for record in records.where(**{key: value}).records]
        below = float(np.mean([s["median"] - s["q1"] for s in seconds]))
        above = float(np.mean([s["q3"] - s["median"] for s in seconds]))
        bars.append((1000 * below, 1000 * above))
    return np.array(bars).T


def _draw_memory(axes: Axes, memory: Records, rates: dict[int, float]) -> None:
    for name in ("scrapl-loss", *_DRAWN):
        sizes = memory.where(contender=name, n_paths=1).values("n2")
        if sizes:
            axes.plot([rates[n2] for n2 in sizes], np.array(list(sizes.values())) / 2**20, **_LOOKS[name].line())
    mss = memory.where(contender="mss").mean("contender")
    if mss is not None:
        axes.axhline(mss / 2**20, color=_LOOKS["mss"].color, ls="--", lw=1.2)
    axes.set(xscale="log", xlabel="rate of the path (Hz)", ylabel="MiB above the baseline", yscale="log")
    _finish(axes, "Peak memory of that step, fresh process")


def _draw_bundles(axes: Axes, steps: Records, rates: dict[int, float]) -> None:
    for name in _DRAWN:
        mine = steps.where(contender=name)
        single = mine.where(n_paths=1).values("n2")
        together = Records([record for record in mine.records if record["n_paths"] > 1]).values("n2")
        if together:
            ratios = [cost / single[n2] for n2, cost in together.items()]
            axes.plot([rates[n2] for n2 in together], ratios, **_LOOKS[name].line())
    axes.axhline(1, color="0.5", lw=1)
    axes.axhline(15, color="0.5", lw=1, ls=":")
    _note(axes, "15 paths one by one", 15)
    axes.set(xscale="log", xlabel="rate (Hz)", ylabel="cost of 15 paths / cost of one", ylim=(0, 16))
    _finish(axes, "A bundle: all paths of one rate in one call")


def _note(axes: Axes, text: str, y: float) -> None:
    """Below a horizontal line, at its left end."""
    axes.annotate(
        text, (0.02, y), xycoords=("axes fraction", "data"), xytext=(0, -11), textcoords="offset points",
        fontsize=8, color="0.35",
    )  # fmt: skip


def _draw_tree(axes: Axes, timings: Records, memory: Records) -> None:
    """Points side by side with their values on them: seconds on the left, GiB on the right."""
    for place, (records, unit, scale) in enumerate(((timings, "s", 1.0), (memory, "GiB", 2.0**-30))):
        for i, name in enumerate(("kymatio", *_DRAWN)):
            value = records.where(contender=name).mean("contender")
            if value is None:
                continue
            at = place + 0.17 * (i - 2), scale * value
            axes.plot(*([number] for number in at), **_LOOKS[name].line(ls="", ms=8))
            axes.annotate(
                f"{at[1]:.3g} {unit}", at, xytext=(0, 7), textcoords="offset points", rotation=90, ha="center",
                fontsize=8,
            )  # fmt: skip
    axes.set_xticks([0, 1], ["time (s)", "peak memory (GiB)"])
    axes.set(yscale="log", xlim=(-0.5, 1.5))
    axes.margins(y=0.3)
    _finish(axes, "Full tree, forward and backward (batch 1)")


def _finish(axes: Axes, title: str) -> None:
    finish(axes, title)
    if not axes.has_data():
        return
    if axes.get_xscale() == "log" and not isinstance(axes.xaxis.get_major_locator(), FixedLocator):
        plain_log(axes.xaxis, subs=(1,))
    if axes.get_yscale() == "log":
        plain_log(axes.yaxis)
