"""The figure of the report: curves, map of paths, spectrograms."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter

from .train import EpochRecord

__all__ = ["CHANCE", "Curve", "Panel", "draw_report"]

CHANCE = 250.0  # theta L1 per mille of always answering 0.5

# Okabe and Ito's colours, distinguishable with any colour vision, and dashes for print
_STYLES = {"scrapl": ("#0072B2", "-"), "mss": ("#D55E00", "--"), "p_loss": ("#009E73", "-.")}
_OCTAVE_TICKS = [128, 256, 512, 1024, 2048, 4096]


class PathLike(Protocol):
    """What a row of the path table tells about a path; order-1 paths have no rate."""

    @property
    def order(self) -> int: ...
    @property
    def spin(self) -> Any: ...
    @property
    def rate(self) -> Any: ...
    @property
    def scale(self) -> Any: ...


@dataclass(frozen=True)
class Curve:
    """Training history of one loss."""

    name: str
    label: str
    history: Sequence[EpochRecord]


@dataclass(frozen=True)
class Panel:
    """One spectrogram: (n_bins, frames), its title and where it stands in the grid."""

    title: str
    spectrogram: np.ndarray


def draw_curves(axes: Axes, curves: Sequence[Curve], against: str) -> None:
    """Validation error against "step" or "seconds"; thin lines are density and slope, the thick one their mean."""
    for curve in curves:
        color, dashes = _STYLES[curve.name]
        x = [record["step"] if against == "step" else record["seconds"] for record in curve.history]
        for key, width, alpha in (("density", 0.8, 0.5), ("slope", 0.8, 0.5), ("mean", 2.2, 1.0)):
            style = {"density": ":", "slope": "--", "mean": dashes}[key]
            axes.plot(
                x,
                [record["val"][key] for record in curve.history],
                style,
                color=color,
                lw=width,
                alpha=alpha,
                label=curve.label if key == "mean" else None,
            )
    axes.axhline(CHANCE, color="0.35", lw=1)
    axes.annotate(
        "chance (always 0.5)",
        (0.99, CHANCE),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color="0.35",
    )
    axes.set(
        xlabel="optimizer steps" if against == "step" else "training time (s)",
        ylabel=r"validation $\theta$ L1 ($\times 10^{-3}$)",
        ylim=(0, max(1.15 * CHANCE, axes.get_ylim()[1])),
        xlim=(0, None),
    )
    axes.set_title("Parameter error against " + ("steps" if against == "step" else "wall-clock time"), fontsize=11)
    axes.grid(alpha=0.25)


def draw_path_map(axes: Axes, paths: Sequence[PathLike], counts: Sequence[int]) -> None:
    """How often each second-order path was drawn, over rate and signed scale."""
    rows = [
        (path.rate, abs(path.scale) * (path.spin or 0), count)
        for path, count in zip(paths, counts, strict=True)
        if path.order == 2
    ]
    rate, scale, count = np.array(rows, dtype=float).T
    points = axes.scatter(rate, scale, c=count, s=34, cmap="cividis", edgecolors="0.4", linewidths=0.3)
    axes.set_xscale("log", base=2)
    axes.set_yscale("symlog", base=2, linthresh=0.125)
    _plain_ticks(axes.xaxis, [2.0**k for k in range(int(np.log2(rate.min())), int(np.log2(rate.max())) + 2, 2)])
    _plain_ticks(axes.yaxis, [-8, -4, -2, -1, -0.5, -0.25, 0, 0.25, 0.5, 1, 2, 4, 8])
    edge = max(1.4 * np.abs(scale).max(), 0.25)
    axes.set(xlabel="rate (Hz)", ylabel="scale (cycles/octave), signed by spin", ylim=(-edge, edge))
    axes.set_title(f"Paths drawn by SCRAPL ({int(count.sum())} steps)", fontsize=11)
    axes.get_figure().colorbar(points, ax=axes, label="times drawn", ticks=MaxNLocator(integer=True))  # type: ignore[union-attr]


def _plain_ticks(axis: Any, values: Sequence[float]) -> None:
    axis.set_major_locator(FixedLocator(list(values)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(NullFormatter())


def draw_spectrogram(axes: Axes, panel: Panel, frequencies: Sequence[float], duration: float, top: float) -> None:
    """Log-frequency spectrogram on a colour scale shared by its row."""
    n_bins = len(frequencies)
    axes.imshow(
        panel.spectrogram,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=0,
        vmax=top,
        extent=(0, duration, -0.5, n_bins - 0.5),
        interpolation="nearest",
    )
    octaves = [tick for tick in _OCTAVE_TICKS if frequencies[0] <= tick <= frequencies[-1]]
    axes.set_yticks(
        [float(np.interp(np.log2(tick), np.log2(frequencies), range(n_bins))) for tick in octaves],
        [str(tick) for tick in octaves],
    )
    axes.set_title(panel.title, fontsize=8.5)
    axes.tick_params(labelsize=8)


def draw_report(
    curves: Sequence[Curve],
    panels: Sequence[Sequence[Panel]],
    frequencies: Sequence[float],
    duration: float,
    path_map: tuple[Sequence[PathLike], Sequence[int]] | None,
) -> Figure:
    """Curves and map on top, below one row of spectrograms for each unseen texture."""
    n_rows, n_columns = len(panels), len(panels[0])
    figure = Figure(figsize=(15, 4.6 + 2.3 * n_rows), layout="constrained", dpi=110)
    halves = figure.add_gridspec(2, 1, height_ratios=(4.6, 2.3 * n_rows))
    top, bottom = figure.add_subfigure(halves[0]), figure.add_subfigure(halves[1])
    axes = top.subplots(1, 2 if path_map is None else 3)
    draw_curves(axes[0], curves, "step")
    draw_curves(axes[1], curves, "seconds")
    handles, labels = axes[0].get_legend_handles_labels()
    handles += [Line2D([], [], color="0.3", ls=ls, lw=0.8) for ls in (":", "--")]
    top.legend(handles, [*labels, "density", "slope"], loc="outside lower center", ncols=len(handles), fontsize=9)
    if path_map is not None:
        draw_path_map(axes[2], *path_map)
    bottom.suptitle("Unseen textures and their matches: constant-Q spectrograms, log(1 + gain |CQT|)", fontsize=11)
    grid = bottom.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey=True)
    for row, line in zip(grid, panels, strict=True):
        limit = max(float(panel.spectrogram.max()) for panel in line)
        for cell, panel in zip(row, line, strict=True):
            draw_spectrogram(cell, panel, frequencies, duration, limit)
        row[0].set_ylabel("frequency (Hz)", fontsize=9)
    for cell in grid[-1]:
        cell.set_xlabel("time (s)", fontsize=9)
    return figure
