"""The figure: pi over the plane of AM and FM rates, as Figure 6 of the paper."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scrapl_jtfs import draw_distribution

from .summary import Place, distribution, inside, mass_ratio

__all__ = ["draw_figure"]


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
    drawn = draw_distribution(axes, places, pi.tolist(), am=am, fm=fm)
    ratio = mass_ratio(pi.tolist(), [inside(place, am, fm, tuple(record["per_octave"])) for place in places])
    name = f"AM {am[0]:g} to {am[1]:g} Hz, FM {fm[0]:g} to {fm[1]:g} oct/s"
    axes.set_title(f"{name}: {ratio:.2g} times uniform inside", fontsize=11)
    return drawn
