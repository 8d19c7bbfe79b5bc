"""The figure: pi over the plane of AM and FM rates, as Figure 6 of the paper."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .summary import Place, distribution, inside, mass_ratio

__all__ = ["draw_figure"]

_NORM = LogNorm(0.05, 20.0)


def draw_figure(results: dict[str, Any]) -> Figure:
    """A panel for each synthesizer; empty ones where nothing was measured."""
    figure = Figure(figsize=(12, 9.5), layout="constrained", dpi=110)
    panels = figure.subplots(2, 2, sharex=True, sharey=True).ravel()
    drawn = None
    for axes, record in zip(panels, results.get("mass", []), strict=False):
        drawn = _draw(axes, record)
    if drawn is not None:
        figure.colorbar(drawn, ax=list(panels), label="P π, both spins (1: uniform)", extend="both", shrink=0.8)
    for axes in panels:
        axes.grid(alpha=0.25)
        if not axes.has_data():
            axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color="0.35")
    title = f"θ-importance of paths for four chirplet synthesizers, {results['date'][:10]}"
    figure.suptitle(title + (" (quick selection)" if results["quick"] else ""), fontsize=12)
    return figure


def _draw(axes: Axes, record: dict[str, Any]) -> Any:
    pi = distribution(record["values"]["curvature"])
    places = [Place(**place) for place in record["places"]]
    am, fm = tuple(record["am"]), tuple(record["fm"])
    found: dict[tuple[float, float], list[float]] = {}
    for place, value in zip(places, pi * len(pi), strict=True):
        if place.fm is not None:
            found.setdefault((place.rate, place.fm), []).append(float(value))
    x, y = np.array(list(found)).T
    values = [np.mean(both) for both in found.values()]
    drawn = axes.scatter(x, y, c=values, norm=_NORM, cmap="viridis", s=190, edgecolors="0.4", linewidths=0.5)
    corner, size = (am[0], fm[0]), (am[1] - am[0], fm[1] - fm[0])
    axes.add_patch(Rectangle(corner, *size, fill=False, ls="--", lw=1.6, ec="#D55E00", zorder=3))
    axes.set(xscale="log", yscale="log", xlabel="AM: rate (Hz)", ylabel="FM: rate / scale (oct/s)")
    ratio = mass_ratio(pi.tolist(), [inside(place, am, fm, tuple(record["per_octave"])) for place in places])
    name = f"AM {am[0]:g} to {am[1]:g} Hz, FM {fm[0]:g} to {fm[1]:g} oct/s"
    axes.set_title(f"{name}: {ratio:.2g} times uniform inside", fontsize=11)
    return drawn
