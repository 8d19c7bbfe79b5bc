"""The style of pictures of results: a width that is legible on a page, colours, plain ticks, a source."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from scrapl_jtfs.commands.files import write_atomically

WIDTH = 9.0
"""Inches. README's column is about as wide, so that text is shown about as large as it is named here."""

SOURCE = "Source"
"""Entry of a PNG file that names the result file it was drawn from, with a hash of its content."""

_DPI = 120

# Okabe and Ito's colours, distinguishable with any colour vision, one more, and markers for print
BLACK, BLUE, SKY, VERMILION, ORANGE, GREEN, PURPLE, GREY, _WINE = PALETTE = (
    *("#000000", "#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#009E73", "#CC79A7", "#999999", "#882255"),
)
_MARKERS = "osv^DPX*<"


class Look(NamedTuple):
    """The look of something in every panel of a picture.

    Attributes:
        label: in the legend.
        color: of `PALETTE`, or a grey.
        marker: of points.
        dashes: of lines; other than solid where a line may lie on another, which then shows in the gaps.
    """

    label: str
    color: str
    marker: str
    dashes: str = "-"

    def line(self, **changes: Any) -> dict[str, Any]:
        """Options of a line through points, with changes."""
        color, marker, dashes = {"color": self.color}, {"marker": self.marker, "ms": 5}, {"ls": self.dashes}
        return {**color, **marker, **dashes, "lw": 1.4, "label": self.label, **changes}


def looks(names: Iterable[str]) -> dict[str, Look]:
    """One look for each name, in this order; dashed, then dotted, where there are more names than colours."""
    n = len(PALETTE)
    return {
        name: Look(name, PALETTE[k % n], _MARKERS[k % n], ("-", "--", ":")[k // n % 3])
        for k, name in enumerate(dict.fromkeys(names))
    }


def new_figure(height: float) -> Figure:
    """An empty figure of README's width; height in inches."""
    return Figure(figsize=(WIDTH, height), layout="constrained", dpi=_DPI)


def plain_log(axis: Axis, subs: tuple[float, ...] = (1, 2, 5)) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5 times powers of ten, labelled as numbers; after drawing.

    Powers of ten are left where the axis goes below a thousandth or above a million.
    """
    axis.axes.autoscale_view()
    low, high = sorted(axis.get_view_interval())
    if not 1e-3 <= low < high <= 1e6:
        return
    axis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def legend_below(axes: Axes, columns: int, **options: Any) -> None:
    """A legend under the axes and their labels, where it hides no line."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=columns, fontsize=8, **options)


def shared_legend(figure: Figure, panels: Iterable[Axes], columns: int) -> None:
    """One legend below all panels, with what is drawn in any of them once."""
    drawn: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        for handle, label in zip(handles, labels, strict=True):
            drawn.setdefault(label, handle)
    if drawn:
        figure.legend(list(drawn.values()), list(drawn), loc="outside lower center", ncols=columns, fontsize=9)


def add_title(figure: Figure, title: str, results: dict[str, Any]) -> None:
    """Write a title over all panels, which tells a quick selection."""
    figure.suptitle(title + (" (quick selection)" if results["quick"] else ""), fontsize=12)


def finish(axes: Axes, title: str) -> None:
    """Add a title and a grid to a panel, or say that nothing was measured."""
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.25)
    if not axes.has_data():
        not_measured(axes)


def draw_histories(
    axes: Axes,
    arms: dict[str, tuple[Sequence[float], Sequence[Sequence[float]]]],
    looks: dict[str, Look],
    *,
    each_seed: bool = True,
) -> None:
    """Draw errors while training: a thick line for the mean over seeds, thin ones for the seeds.

    Args:
        axes: of the panel.
        arms: steps of each arm, and the errors of each of its seeds at these.
        looks: of each arm.
        each_seed: False to leave out the thin lines.
    """
    for name, (steps, seeds) in arms.items():
        color = looks[name].color
        for errors in seeds if each_seed else ():
            axes.plot(steps, errors, color=color, lw=0.6, alpha=0.25)
        axes.plot(steps, np.mean(seeds, axis=0), color=color, lw=1.8, ls=looks[name].dashes, label=name)
    axes.set(xlabel="steps, one path each", ylabel=r"validation $\theta$ L1 ($\times 10^{-3}$)", yscale="log")
    plain_log(axes.yaxis, subs=(1, 1.5, 2, 3, 4, 6, 8))


def draw_differences(
    axes: Axes, differences: dict[str, dict[str, Any]], reaches: dict[str, float | None], looks: dict[str, Look]
) -> None:
    """Draw what `runs.paired` returns: a dot for each seed, beside them the mean with a bar of this reach."""
    for position, (name, comparison) in enumerate(differences.items()):
        values, color = list(comparison["differences"].values()), looks[name].color
        # Hollow where lines are dashed
        dots: dict[str, Any] = {"ls": "", "color": color, "ms": 4, "alpha": 0.5}
        dots["fillstyle"] = "full" if looks[name].dashes == "-" else "none"
        axes.plot([position] * len(values), values, looks[name].marker, **dots)
        if values:
            bar: dict[str, Any] = {"fmt": "_", "color": color, "ms": 12, "capsize": 4}
            axes.errorbar(position + 0.2, comparison["mean"], reaches[name] or 0.0, **bar)
    axes.axhline(0.0, color="0.6", lw=0.8)
    axes.set_xlim(-0.5, max(len(differences), 1) - 0.5)


def not_measured(axes: Axes) -> None:
    """Say so where there is nothing to draw."""
    axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color="0.35")
    axes.set(xticks=[], yticks=[])


def source_of(results: Path) -> str:
    """Return what a picture of this result file carries as its source."""
    return f"{results.name} sha256:{hashlib.sha256(results.read_bytes()).hexdigest()}"


def write_picture(results: Path, figure: Figure) -> Path:
    """Save the picture of a result file beside it, in true colour: a palette would merge colours of lines."""
    canvas = FigureCanvasAgg(figure)
    with style.context("default"):  # whatever the user's matplotlibrc says
        canvas.draw()
    # Without the alpha channel, which is opaque everywhere and a tenth of the file.
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    information = PngInfo()
    information.add_text(SOURCE, source_of(results))
    path = results.with_suffix(".png")
    write_atomically(path, lambda beside: picture.save(beside, format="PNG", optimize=True, pnginfo=information))
    return path
