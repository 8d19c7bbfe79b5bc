"""The picture of the study: each metric of each arm relative to SCRAPL's, aligned and shifted."""

from __future__ import annotations

from collections.abc import Mapping
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


def draw_figure(results: Mapping[str, Any]) -> Figure:
    """Draw a panel for each metric: settings from left to right, arms in each, their intervals as bars."""
    settings = {name: found["arms"] for name, found in results["settings"].items() if found["arms"]}
    metrics = list(dict.fromkeys(metric for arms in settings.values() for metric in metrics_of(arms)))
    arms = dict.fromkeys(arm for found in settings.values() for arm in found if arm != REFERENCE)
    n_rows = max(1, -(-len(metrics) // 2))
    figure = new_figure(1.4 + 2.2 * n_rows)
    panels = figure.subplots(n_rows, 2, squeeze=False, sharex=True).ravel()
    for axes, metric in zip(panels, metrics, strict=False):
        _draw(axes, settings, metric, looks(arms))
    for axes in panels[len(metrics) :]:
        axes.remove()
    shared_legend(figure, panels[: len(metrics)], columns=4)
    add_title(figure, f"Drums: distances over those of {REFERENCE}, {results['date'][:10]}", dict(results))
    return figure


def _draw(axes: Axes, settings: Mapping[str, Any], metric: str, styles: Mapping[str, Look]) -> None:
    """Draw the ratio of each mean to the reference's, on a logarithmic axis."""
    width = 0.8 / max(1, len(styles))
    for s, arms in enumerate(settings.values()):
        reference = mean_of(arms, REFERENCE, metric)
        for k, (arm, look) in enumerate(styles.items()):
            if not reference or mean_of(arms, arm, metric) is None:
                continue
            found = arms[arm]["test"][metric][ALL]
            low, high = found["interval95"] or (found["mean"], found["mean"])
            place, middle = s + (k + 0.5) * width - 0.4, found["mean"] / reference
            bar = [[middle - max(low, _LOWEST * found["mean"]) / reference], [high / reference - middle]]
            style: dict[str, Any] = {"fmt": look.marker, "color": look.color, "ms": 4, "capsize": 2, "lw": 1}
            style["fillstyle"] = "full" if look.dashes == "-" else "none"
            axes.errorbar([place], [middle], yerr=bar, **style)
            axes.plot([], [], **look.line())  # for the legend, which tells arms of one colour by their dashes
    axes.axhline(1.0, color="0.6", lw=0.8)
    axes.set_yscale("log")
    axes.set_xlim(-0.5, len(settings) - 0.5)
    axes.set_xticks(range(len(settings)), list(settings))
    axes.yaxis.set_major_locator(FixedLocator(_TICKS))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    finish(axes, metric_label(metric))
