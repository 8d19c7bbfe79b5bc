"""The figure: pi over the plane of AM and FM rates, as Figure 6 of the paper."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from benchmarks.harness.style import add_title, new_figure, not_measured, plain_log
from benchmarks.importance.summary import Place, distribution, inside, mass_ratio
from scrapl_jtfs import draw_distribution

_OCTAVES = 3  # colours reach from 1/8 to 8 times uniform, with a neutral grey at 1


def draw_figure(results: dict[str, Any]) -> Figure:
    """A panel for each synthesizer; empty ones where nothing was measured."""
    figure = new_figure(8.2)
    panels = figure.subplots(2, 2, sharex=True, sharey=True).ravel()
    drawn = None
    for axes, record in zip(panels, results.get("mass", []), strict=False):
        drawn = _draw(axes, record)
    if drawn is not None:
        exponents = range(-_OCTAVES, _OCTAVES + 1)
        bar = figure.colorbar(
            drawn, ax=list(panels), label="times uniform, mean of both spins", extend="both", shrink=0.8, aspect=35
        )
        labels = [f"{2**k}" if k >= 0 else f"1/{2**-k}" for k in exponents]
        bar.set_ticks([2.0**k for k in exponents], labels=labels)
        bar.minorticks_off()
    for axes in panels:
        axes.grid(alpha=0.25)
        if not axes.has_data():
            not_measured(axes)
    title = ["θ-importance of paths, four chirplet synthesizers", *_examples(results), results["date"][:10]]
    add_title(figure, ", ".join(title), results)
    return figure


def _examples(results: dict[str, Any]) -> list[str]:
    """Tell how many examples the distributions are of, if the results have it."""
    numbers = sorted({scale["batch"] for scale in results.get("configuration", {}).get("mass", [])})
    return [f"{' or '.join(map(str, numbers))} example{'s' if numbers != [1] else ''} each"] if numbers else []


def _draw(axes: Axes, record: dict[str, Any]) -> Any:
    pi = distribution(record["values"]["curvature"])
    places = [Place(**place) for place in record["places"]]
    am, fm = tuple(record["am"]), tuple(record["fm"])
    drawn = draw_distribution(axes, places, pi.tolist(), am=am, fm=fm)
    drawn.set(cmap="RdBu_r", norm=LogNorm(2.0**-_OCTAVES, 2.0**_OCTAVES))
    for rectangle in axes.patches:
        rectangle.set_edgecolor("black")  # no colour of the scale
    for axis in (axes.xaxis, axes.yaxis):
        plain_log(axis, subs=(1,))
    axes.label_outer()
    ratio = mass_ratio(pi.tolist(), [inside(place, am, fm, tuple(record["per_octave"])) for place in places])
    name = f"AM {am[0]:g} to {am[1]:g} Hz, FM {fm[0]:g} to {fm[1]:g} oct/s"
    axes.set_title(f"{name}\ninside the rectangle {ratio:.2g} times uniform", fontsize=10)
    return drawn
