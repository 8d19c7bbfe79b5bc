"""What pictures of results share: a width that is legible on a page, plain ticks, true colours, a source."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

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

__all__ = [
    "SOURCE",
    "WIDTH",
    "legend_below",
    "new_figure",
    "not_measured",
    "plain_log",
    "shared_legend",
    "source_of",
    "write_picture",
]

WIDTH = 9.0
"""Inches. README's column is about as wide, so that text is shown about as large as it is named here."""

SOURCE = "Source"
"""Entry of a PNG file that names the result file it was drawn from, with a hash of its content."""

_DPI = 120


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


def not_measured(axes: Axes) -> None:
    """Say so where there is nothing to draw."""
    axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color="0.35")
    axes.set(xticks=[], yticks=[])


def source_of(results: Path) -> str:
    """What a picture of this result file carries as its source."""
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
