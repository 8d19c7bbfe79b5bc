"""The figures of the report: curves, guesses against true controls, spectrograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from benchmarks.harness.style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from benchmarks.sound_matching.train import EpochRecord
from benchmarks.sound_matching.verdict import control_label, controls_of

CHANCE = 250.0  # mean absolute error of always answering 0.5, in thousandths of the controls' range

_STYLES = {
    "scrapl": (BLUE, "-"),
    "mss": (VERMILION, "--"),
    "p_loss": (GREEN, "-."),
    "scrapl_two": (SKY, "-"),
    "mss_linear": (ORANGE, "--"),
    "mss_random": (ORANGE, ":"),
    "mss_revisited": (VERMILION, ":"),
    "one_mss": (VERMILION, "-."),
    "with_mss": (PURPLE, "-"),
    "with_one_mss": (GREEN, "-"),
    "with_revisited": (PURPLE, ":"),
    "with_one_revisited": (GREEN, ":"),
    "time_scattering": (PURPLE, "--"),
    "full_tree": (BLACK, "-"),
    "p_adam": (SKY, "--"),
    "adam": (SKY, ":"),
    "theta_is": (BLUE, "--"),
    "theta_is_by_pi": (BLUE, ":"),
    "crepe": (GREY, ":"),
    "aisfx": (GREY, "-."),
    "clap": (GREY, "-"),
    "panns": (GREY, "--"),
}
_OCTAVE_TICKS = [128, 256, 512, 1024, 2048, 4096]
CONTROL_DASHES = (":", "--")
_XLABELS = {"step": "optimizer steps", "seconds": "training time (s)"}
# Inches. A page shows pictures this wide in columns of 290 to 400 px (guesses: 370 to 420), text about as it is.
_NARROW, _WIDE = 3.2, 4.2


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


def curves_of(results: dict[str, Any]) -> list[Curve]:
    return [Curve(name, loss["label"], loss["history"]) for name, loss in results["losses"].items()]


def draw_curves(axes: Axes, curves: Sequence[Curve], against: str) -> None:
    """Validation error against "step" or "seconds"; thin lines are the two controls, the thick one their mean."""
    for curve in curves:
        color, dashes = _STYLES[curve.name]
        controls = (key for key in curve.history[0]["val"] if key != "mean")
        for key, style in zip(controls, CONTROL_DASHES, strict=True):
            axes.plot(*_points(curve, against, key), style, color=color, lw=0.8, alpha=0.5)
        axes.plot(*_points(curve, against, "mean"), dashes, color=color, lw=2.2, label=curve.label)
    _draw_chance(axes)
    axes.set(
        xlabel=_XLABELS[against],
        ylabel=r"validation $\theta$ L1 ($\times 10^{-3}$)",
        ylim=(0, max(1.15 * CHANCE, axes.get_ylim()[1])),
        xlim=(0, None),
    )
    axes.set_title("Parameter error against " + ("steps" if against == "step" else "wall-clock time"), fontsize=11)
    axes.grid(alpha=0.25)


def curve_figure(curves: Sequence[Curve], key: str, against: str) -> Figure:
    """Validation error of one control, or of both ("mean"), with a thick line for each loss."""
    figure = Figure(figsize=(_NARROW, 2.9), layout="constrained")
    axes = figure.add_subplot()
    for curve in curves:
        color, dashes = _STYLES[curve.name]
        axes.plot(*_points(curve, against, key), dashes, color=color, lw=2, label=curve.label)
    axes.axhline(CHANCE, color="0.35", lw=1, label="chance (always 0.5)")
    axes.set(ylim=(0, max(1.15 * CHANCE, axes.get_ylim()[1])), xlim=(0, None))
    axes.set_xlabel(_XLABELS[against], fontsize=9)
    axes.set_ylabel("error (thousandths)", fontsize=9)
    title = "both controls" if key == "mean" else control_label(key)
    axes.set_title(title[0].upper() + title[1:], fontsize=10)
    axes.tick_params(labelsize=9)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8.5, frameon=False)
    return figure


def _points(curve: Curve, against: str, key: str) -> tuple[list[float], list[float]]:
    """x and y of a history."""
    x = [record["step"] if against == "step" else record["seconds"] for record in curve.history]
    return x, [record["val"][key] for record in curve.history]


def _draw_chance(axes: Axes) -> None:
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


def draw_guesses(axes: Axes, name: str, true: ArrayLike, guessed: ArrayLike) -> None:
    """One control of all unseen textures (n,): a point for each, a line where guesses are right, one at chance."""
    true = np.asarray(true)
    axes.plot([0, 1], [0, 1], color="0.35", lw=1)
    axes.plot([0, 1], [0.5, 0.5], ":", color="0.35", lw=1)
    size = float(np.clip(1500 / len(true), 2, 12))
    axes.scatter(true, guessed, s=size, color=_STYLES[name][0], alpha=0.6, linewidths=0, clip_on=False)
    ticks = [0, 0.5, 1]
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=ticks, yticks=ticks)
    axes.set_xticklabels(["0", "0.5", "1"])
    axes.set_yticklabels(["0", "0.5", "1"])
    axes.tick_params(labelsize=9)


def guesses_figure(results: dict[str, Any], name: str) -> Figure:
    """Guessed against true controls of one loss, with its errors."""
    loss, theta = results["losses"][name], results["evaluation"]["theta"]
    true, guessed = np.array(theta["target"]), np.array(theta[name])
    figure = Figure(figsize=(_WIDE, 2.55), layout="constrained")
    figure.suptitle(loss["label"], fontsize=10)
    panels = zip(figure.subplots(1, 2, sharey=True), controls_of(results), strict=True)
    for k, (axes, control) in enumerate(panels):
        draw_guesses(axes, name, true[:, k], guessed[:, k])
        axes.set_title(f"{control_label(control)}: error {loss['test'][control]:.0f}", fontsize=9)
        axes.set_xlabel("true", fontsize=9)
        if k == 0:
            axes.set_ylabel("guessed", fontsize=9)
    return figure


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


def spectrogram_figure(
    spectrogram: np.ndarray, frequencies: Sequence[float], duration: float, top: float
) -> Figure:
    """One spectrogram with its axes; what it shows is said beside it."""
    figure = Figure(figsize=(_NARROW, 1.9), layout="constrained")
    axes = figure.add_subplot()
    draw_spectrogram(axes, Panel("", spectrogram), frequencies, duration, top)
    axes.set_xlabel("time (s)", fontsize=9)
    axes.set_ylabel("frequency (Hz)", fontsize=9)
    axes.tick_params(labelsize=9)
    return figure
