"""The picture: octaves above uniform on the grid of rates and scales, ours above the authors'."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.style import add_title, new_figure, not_measured

_REACH = 4.0
_SMALL = 7.5


def draw_figure(results: dict[str, Any]) -> Figure:
    """A column for each problem, at the paper's size where it was measured: ours, the authors'."""
    shown = _shown(results)
    figure = new_figure(5.4)
    panels = figure.subplots(2, max(1, len(shown)), sharey=True, squeeze=False)
    image = None
    for (above, below), case in zip(panels.T, shown or [None], strict=True):
        if case is None:
            not_measured(above)
            not_measured(below)
            continue
        released, n = results["released"].get(case["case"]["preset"]), case["case"]["n_examples"]
        image = _draw(above, case["map"], f"{case['case']['name']}\nours, {n} examples")
        _draw(below, released["map"], "released") if released else not_measured(below)
    for row in panels:
        row[0].set_ylabel("scale (cycles/octave)", fontsize=8)
    for axes in panels[-1]:
        axes.set_xlabel("rate (Hz)", fontsize=8)
    if image is not None:
        bar = figure.colorbar(image, ax=panels.ravel().tolist(), shrink=0.8, extend="both")
        bar.set_label("octaves above uniform, mean of both spins", fontsize=8)
    add_title(
        figure, f"θ-importance, ours and as released by the paper's authors, {results['date'][:10]}", results
    )
    return figure


def _shown(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the case of most examples of each problem, at the paper's size where there is one."""
    chosen: dict[str, dict[str, Any]] = {}
    for case in results["cases"]:
        size, _, problem = case["case"]["preset"].partition("-")
        best = chosen.get(problem)
        rank = size == "paper", case["case"]["n_examples"]
        if best is None or rank > (best["case"]["preset"].startswith("paper"), best["case"]["n_examples"]):
            chosen[problem] = case
    return list(chosen.values())


def _draw(axes: Axes, values: dict[str, Any], title: str) -> Any:
    octaves = np.array(values["octaves"])
    image = axes.imshow(octaves, origin="lower", aspect="auto", cmap="RdBu_r", vmin=-_REACH, vmax=_REACH)
    rates, scales = values["rates"], values["scales"]
    at = [len(rates) // 10, len(rates) // 2, -len(rates) // 10 + len(rates)]
    axes.set_xticks(at, [f"{rates[k]:.3g}" for k in at], fontsize=_SMALL)
    axes.set_yticks(range(len(scales)), [f"{scale:.2g}" for scale in scales], fontsize=_SMALL)
    axes.set_title(title, fontsize=_SMALL + 0.5)
    return image
