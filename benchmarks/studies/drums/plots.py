"""The picture of the study: each metric of each arm relative to SCRAPL's, aligned and shifted."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from benchmarks.harness.style import Look, add_title, finish, looks, new_figure, shared_legend
from benchmarks.sound_matching.drum_matching.paper import REFERENCE
from benchmarks.sound_matching.drum_matching.summary import mean_of
from benchmarks.sound_matching.drum_matching.winners import metric_label, metrics_of
from benchmarks.sound_matching.metrics import ALL

_TICKS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
# The lower end of an interval is drawn no further below the mean than this share of it.
_LOWEST = 1 / 3
_COLUMNS = 5
# Characters in a line of a panel's title.
_TITLE_WIDTH = 20


def draw_figure(results: Mapping[str, Any]) -> Figure:
    """Draw a panel for each metric: a row for each arm, its mean and interval in each setting."""
    settings = {name: found["arms"] for name, found in results["settings"].items() if found["arms"]}
    metrics = list(dict.fromkeys(metric for arms in settings.values() for metric in metrics_of(arms)))
    arms = list(dict.fromkeys(arm for found in settings.values() for arm in found if arm != REFERENCE))
    n_rows = max(1, -(-len(metrics) // _COLUMNS))
    figure = new_figure(1.2 + n_rows * (0.8 + 0.19 * len(arms)))
    grid = figure.subplots(n_rows, _COLUMNS, squeeze=False, sharey=True)
    panels = grid.ravel()
    for axes, metric in zip(panels, metrics, strict=False):
        _draw(axes, settings, metric, arms, looks(settings))
    for axes in panels[len(metrics) :]:
        axes.remove()
    shared_legend(figure, panels[: len(metrics)], columns=len(settings))
    add_title(figure, f"Drums: distances over those of {REFERENCE}, {results['date'][:10]}", dict(results))
    return figure


def _draw(
    axes: Axes, settings: Mapping[str, Any], metric: str, arms: Sequence[str], styles: Mapping[str, Look]
) -> None:
    """Draw the ratio of each mean to the reference's, on a logarithmic axis; hollow where there is no interval."""
    height = 0.6 / max(1, len(settings))
    for s, (setting, found) in enumerate(settings.items()):
        reference, look = mean_of(found, REFERENCE, metric), styles[setting]
        for k, arm in enumerate(arms):
            if not reference or mean_of(found, arm, metric) is None:
                continue
            summary = found[arm]["test"][metric][ALL]
            mean = summary["mean"]
            low, high = summary["interval95"] or (mean, mean)
            bar = [[(mean - max(low, _LOWEST * mean)) / reference], [(high - mean) / reference]]
            style: dict[str, Any] = {"fmt": look.marker, "color": look.color, "ms": 4, "capsize": 0, "lw": 1}
            style["fillstyle"] = "full" if summary["interval95"] else "none"
            place = k + (s - (len(settings) - 1) / 2) * height
            axes.errorbar([mean / reference], [place], xerr=bar, **style)
        axes.plot([], [], look.marker, color=look.color, ms=4, label=setting)
    axes.axvline(1.0, color="0.6", lw=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(arms)), arms, fontsize=8)
    axes.set_ylim(max(len(arms), 1) - 0.5, -0.5)
    axes.xaxis.set_major_locator(FixedLocator(_TICKS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", labelsize=8)
    finish(axes, textwrap.fill(metric_label(metric), _TITLE_WIDTH))
    axes.title.set_fontsize(9)
