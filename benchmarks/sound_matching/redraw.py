"""The picture of a run from its results.json alone: no training, no checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from benchmarks.harness.style import new_figure
from benchmarks.sound_matching.data import build_front_end
from benchmarks.sound_matching.examples import Sound, preset_of, render_examples
from benchmarks.sound_matching.figures import (
    CONTROL_DASHES,
    Panel,
    curves_of,
    draw_curves,
    draw_guesses,
    draw_spectrogram,
)
from benchmarks.sound_matching.verdict import control_label, controls_of


def draw_results(results: dict[str, Any], rows: list[list[Sound]] | None = None) -> Figure:
    """Curves, guesses where they were kept, and `rows` of textures (None: those of the results, rendered anew).

    Raises:
        ValueError: the textures cannot be rendered from these results.
    """
    rows = render_examples(results) if rows is None else rows
    heights, painters = [3.7], [_draw_curves]
    if "evaluation" in results:
        heights.append(4.9)
        painters.append(_draw_guesses)
    if rows:
        heights.append(0.3 + 1.55 * len(rows))
        painters.append(lambda part, results: _draw_textures(part, results, rows))
    figure = new_figure(sum(heights))
    parts = np.ravel(figure.subfigures(len(heights), 1, height_ratios=heights))  # type: ignore[arg-type]
    for part, paint in zip(parts, painters, strict=True):
        paint(part, results)
    return figure


def _draw_curves(part: SubFigure, results: dict[str, Any]) -> None:
    panels = part.subplots(1, 2, sharey=True)
    for axes, against in zip(panels, ("step", "seconds"), strict=True):
        draw_curves(axes, curves_of(results), against)
    panels[1].set_ylabel("")
    handles, labels = panels[0].get_legend_handles_labels()
    handles += [Line2D([], [], color="0.3", ls=ls, lw=0.8) for ls in CONTROL_DASHES]
    labels += [control_label(control) for control in controls_of(results)]
    part.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=9)


def _draw_guesses(part: SubFigure, results: dict[str, Any]) -> None:
    """A column for each loss, a row for each control."""
    theta, losses, controls = results["evaluation"]["theta"], results["losses"], controls_of(results)
    part.suptitle(f"Guessed against true controls of {len(theta['target'])} unseen textures", fontsize=10)
    grid = part.subplots(len(controls), len(losses), squeeze=False, sharex=True, sharey=True)
    for k, (control, cells) in enumerate(zip(controls, grid, strict=True)):
        for cell, (name, loss) in zip(cells, losses.items(), strict=True):
            draw_guesses(cell, name, np.array(theta["target"])[:, k], np.array(theta[name])[:, k])
            cell.set_title(
                f"{loss['label']}, {control_label(control)}: error {loss['test'][control]:.0f}", fontsize=8.5
            )
        cells[0].set_ylabel(f"guessed {control_label(control)}", fontsize=9)
    for cell in grid[-1]:
        cell.set_xlabel("true", fontsize=9)


def _draw_textures(part: SubFigure, results: dict[str, Any], rows: list[list[Sound]]) -> None:
    """One row for each texture, on a colour scale of its own."""
    preset, _ = preset_of(results)
    part.suptitle("Unseen textures and their matches: constant-Q spectrograms, log(1 + gain |CQT|)", fontsize=10)
    grid = part.subplots(len(rows), len(rows[0]), squeeze=False, sharex=True, sharey=True)
    frequencies, duration = build_front_end(preset).frequencies, preset.n_samples / preset.sample_rate
    for cells, row in zip(grid, rows, strict=True):
        top = max(float(sound.spectrogram.max()) for sound in row)
        for cell, sound in zip(cells, row, strict=True):
            panel = Panel(f"{sound.label}\n{sound.values}", sound.spectrogram)
            draw_spectrogram(cell, panel, frequencies, duration, top)
        cells[0].set_ylabel("Hz", fontsize=9)
    for cell in grid[-1]:
        cell.set_xlabel("time (s)", fontsize=9)
