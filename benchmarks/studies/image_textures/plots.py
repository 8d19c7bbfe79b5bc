"""The figure: textures, validation errors while training, and differences of test errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure

from benchmarks.harness.style import (
    add_title,
    draw_differences,
    draw_histories,
    finish,
    looks,
    new_figure,
    shared_legend,
)
from benchmarks.studies.image_textures.textures import random_grains, render

# Orientation, wavelength and density of the textures that are shown.
_SHOWN = ((0.0, 0.1, 0.9), (0.25, 0.5, 0.9), (0.5, 0.9, 0.9), (0.75, 0.5, 0.5), (0.1, 0.9, 0.2), (0.4, 0.3, 0.0))


def draw_figure(results: dict[str, Any]) -> Figure:
    """Draw the content of a result file."""
    figure = new_figure(5.2)
    grid = figure.add_gridspec(2, 2, height_ratios=[1, 2.6], width_ratios=[3, 2])
    textures = figure.add_subplot(grid[0, :])
    theta = torch.tensor(_SHOWN)
    images = render(theta, random_grains(len(theta), torch.Generator().manual_seed(0)))
    images = torch.nn.functional.pad(images, (2, 2), value=float("nan"))
    textures.imshow(torch.cat(list(images), 1).numpy(), cmap="gray", vmin=-2.5, vmax=2.5, interpolation="nearest")
    textures.set(xticks=[], yticks=[])
    textures.set_title("Textures of 32 by 32 pixels", fontsize=10)
    left, right = (figure.add_subplot(grid[1, column]) for column in (0, 1))
    styles = looks(results["arms"])
    histories: dict[str, tuple[Sequence[float], Sequence[Sequence[float]]]] = {
        name: (arm["runs"][0]["history"]["step"], [one["history"]["mean"] for one in arm["runs"]])
        for name, arm in results["arms"].items()
    }
    draw_histories(left, histories, styles, each_seed=False)
    left.set_xlabel("steps")
    finish(left, "Mean over seeds")
    shown = {
        name: arm["minus_reference"]["mean"] for name, arm in results["arms"].items() if "minus_reference" in arm
    }
    reaches = {name: d["interval95"] and d["interval95"][1] - d["mean"] for name, d in shown.items()}
    draw_differences(right, shown, reaches, styles)
    right.set_xticks([])
    right.set_ylabel(f"test error minus {results['reference']}")
    finish(right, "The same seeds: dots; mean, 95% interval")
    shared_legend(figure, [left], columns=4)
    add_title(figure, f"Image textures {results['date'][:10]}", results)
    return figure
