"""The picture of a run from its results.json alone: no training, no checkpoints."""

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from ..pictures import new_figure
from .data import build_front_end, build_synth, synth_seeds
from .figures import Curve, Panel, draw_curves, draw_spectrogram
from .presets import Preset

__all__ = ["draw_results"]


def draw_results(results: dict[str, Any]) -> Figure:
    """Curves as recorded; textures rendered anew from the controls under "examples" and their seeds.

    Raises:
        ValueError: the results were written before controls of examples were kept.
    """
    examples = results.get("examples")
    if examples is None:
        raise ValueError("Invalid results: no examples; expected controls of the textures shown; repeat the run")
    rows = len(examples["theta"]["target"])
    figure = new_figure(4.0 + 1.55 * rows)
    top, bottom = np.ravel(figure.subfigures(2, 1, height_ratios=[3.7, 0.3 + 1.55 * rows]))  # type: ignore[arg-type]
    _draw_curves(top, results)
    _draw_textures(bottom, results, rows)
    return figure


def _draw_curves(part: SubFigure, results: dict[str, Any]) -> None:
    curves = [Curve(name, loss["label"], loss["history"]) for name, loss in results["losses"].items()]
    panels = part.subplots(1, 2, sharey=True)
    for axes, against in zip(panels, ("step", "seconds"), strict=True):
        draw_curves(axes, curves, against)
    panels[1].set_ylabel("")
    handles, labels = panels[0].get_legend_handles_labels()
    handles += [Line2D([], [], color="0.3", ls=ls, lw=0.8) for ls in (":", "--")]
    part.legend(handles, [*labels, "density", "slope"], loc="outside lower center", ncols=5, fontsize=9)


def _draw_textures(part: SubFigure, results: dict[str, Any], rows: int) -> None:
    """One row for each texture, on a colour scale of its own."""
    preset, seed = _preset(results["configuration"])
    columns = results["examples"]["theta"]
    part.suptitle("Unseen textures and their matches: constant-Q spectrograms, log(1 + gain |CQT|)", fontsize=10)
    grid = part.subplots(rows, len(columns), squeeze=False, sharex=True, sharey=True)
    found = [_spectrograms(preset, seed, theta, is_target=name == "target") for name, theta in columns.items()]
    frequencies, duration = build_front_end(preset).frequencies, preset.n_samples / preset.sample_rate
    for row, cells in enumerate(grid):
        top = max(float(spectrograms[row].max()) for spectrograms in found)
        for cell, spectrograms, (name, theta) in zip(cells, found, columns.items(), strict=True):
            label = "target" if name == "target" else results["losses"][name]["label"]
            title = f"{label}\ndensity {theta[row][0]:.2f}, slope {theta[row][1]:.2f}"
            draw_spectrogram(cell, Panel(title, spectrograms[row].numpy()), frequencies, duration, top)
        cells[0].set_ylabel("Hz", fontsize=9)
    for cell in grid[-1]:
        cell.set_xlabel("time (s)", fontsize=9)


def _preset(configuration: dict[str, Any]) -> tuple[Preset, int]:
    """Of a recorded configuration, with the seed."""
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in configuration.items()}
    seed = fields.pop("seed")
    del fields["version"]
    return Preset(**fields), seed


@torch.no_grad()
def _spectrograms(preset: Preset, seed: int, theta: list[list[float]], *, is_target: bool) -> torch.Tensor:
    """(n, bins, frames) of the first test textures, or of matches, whose grains are others."""
    if is_target:
        seeds = synth_seeds(seed, "target", preset.n_train + preset.n_val, len(theta))
    else:
        seeds = synth_seeds(seed, "report", 0, len(theta))
    return build_front_end(preset)(build_synth(preset)(torch.tensor(theta), seeds))[:, 0]
