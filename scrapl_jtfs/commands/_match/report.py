"""Files of a match: result.json, match.wav, target.wav, and last report.png."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from torch import Tensor

from scrapl_jtfs.commands._match.fit import History
from scrapl_jtfs.commands.audio import Recording, write_audio
from scrapl_jtfs.commands.drawing import drawing, plain_title
from scrapl_jtfs.commands.files import write_atomically, write_text
from scrapl_jtfs.commands.provenance import CONFIGURATION, machine, versions
from scrapl_jtfs.commands.transforms import make_jtfs
from scrapl_jtfs.figures import draw_scalogram

__all__ = ["PICTURE", "Match", "draw_report", "write_match"]

PICTURE = "report.png"
_PACKAGES = ("torch", "numpy", "soundfile", "scrapl-jtfs")


class Match(NamedTuple):
    """Finished or interrupted match.

    Attributes:
        configuration: settings.
        recording: recording that was matched.
        start: (N,) sound before the fit, at the level of ``recording.samples``.
        match: (N,) sound after it, at the same level.
        history: course of the fit.
        figures: parameters and other numbers for result.json.
    """

    configuration: dict[str, Any]
    recording: Recording
    start: Tensor
    match: Tensor
    history: History
    figures: dict[str, Any]


def write_match(folder: Path, match: Match) -> dict[str, Any]:
    """Write result.json, then the sounds at the recording's own level; return the content of result.json.

    The picture comes afterwards, in :func:`draw_report`: if it fails, the result of minutes is safe.
    """
    recording, result = match.recording, describe(match)
    write_text(folder / CONFIGURATION, json.dumps(match.configuration, indent=2) + "\n")
    write_text(folder / "result.json", json.dumps(result, indent=2) + "\n")
    write_audio(folder / "match.wav", match.match * recording.gain, recording.sample_rate)
    write_audio(folder / "target.wav", recording.samples * recording.gain, recording.sample_rate)
    return result


def draw_report(folder: Path, match: Match) -> None:
    """Write report.png.

    Raises:
        PictureError: it could not be drawn or written.
    """
    path = folder / PICTURE
    with drawing(path):
        figure = draw_match(match)
        write_atomically(path, lambda beside: figure.savefig(beside))


def describe(match: Match) -> dict[str, Any]:
    """Return all numbers of the match, with the settings, the machine and the versions to repeat it."""
    history = match.history
    return {
        "configuration": match.configuration,
        "recording": list(match.recording.notes),
        "lost_energy": match.recording.lost_energy,
        "steps_done": history.done,
        "interrupted": history.interrupted,
        "error_unit": "sqrt(sum_p ||S_p(match) - S_p(target)||^2 / sum_p ||S_p(target)||^2) over all JTFS paths",
        "error_start": history.curve[0][1][history.best],
        "error_match": history.curve[-1][1][history.best],
        "error_curve": [{"step": step, "errors": errors} for step, errors in history.curve],
        **match.figures,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(torch.device("cpu")),
        "versions": versions(_PACKAGES),
    }


def draw_match(match: Match) -> Figure:
    """Draw scalograms of target, start and match, and under them the error by steps."""
    rate, n = match.recording.sample_rate, match.recording.samples.shape[-1]
    jtfs = make_jtfs(n, rate, invariant=True)
    sounds = {"target": match.recording.samples, "start": match.start, "match": match.match}
    best, curve = match.history.best, match.history.curve
    errors = {
        "target": "",
        "start": f", error {curve[0][1][best]:.3f}",
        "match": f", error {curve[-1][1][best]:.3f}",
    }
    figure = Figure(figsize=(13, 7), layout="constrained", dpi=110)
    grid = figure.add_gridspec(2, 3, height_ratios=(3, 2))
    cells = [figure.add_subplot(grid[0, k]) for k in range(3)]
    pairs = zip(cells, sounds.values(), strict=True)
    meshes = [draw_scalogram(cell, jtfs, audio, label=None) for cell, audio in pairs]
    for cell, name in zip(cells, sounds, strict=True):
        cell.set_title(f"{name}{errors[name]}", fontsize=10)
    figure.colorbar(meshes[0], ax=cells, label="dB below its loudest point")
    settings, steps = match.configuration, match.history.done
    of_a_step = "all paths" if settings.get("method") == "lbfgs" else "one random path"
    draw_error(figure.add_subplot(grid[1, :]), match.history, of_a_step)
    title = f"{plain_title(settings['file'])}, {settings['mode']}, {steps} steps, seed {settings['seed']}"
    figure.suptitle(title, parse_math=False)  # $ in a file's name is no formula
    return figure


def draw_error(axes: Axes, history: History, of_a_step: str) -> None:
    """Draw the relative error on all paths; the line of the chosen start is thick."""
    steps = [step for step, _ in history.curve]
    for k in range(len(history.curve[0][1])):
        chosen = k == history.best
        label = "chosen start" if chosen else "other start"
        errors = [values[k] for _, values in history.curve]
        axes.plot(
            steps, errors, "o-", color="#0072B2" if chosen else "0.6", lw=2 if chosen else 1, ms=4, label=label
        )
    if len(history.curve[0][1]) > 1:
        axes.legend(fontsize=9)
    axes.set(yscale="log", xlabel=f"steps ({of_a_step} each)", ylabel="relative JTFS error, all paths")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 4 * low else MaxNLocator(6))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
