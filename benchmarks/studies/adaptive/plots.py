"""The figure: for each synthesizer, errors while training, differences of test errors, and distributions."""

from __future__ import annotations

import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.style import (
    Look,
    add_title,
    draw_differences,
    draw_histories,
    finish,
    looks,
    new_figure,
    not_measured,
    shared_legend,
)


def draw_figure(results: dict[str, Any]) -> Figure:
    """A column for each synthesizer, from the content of a result file."""
    synths, reference = results["synths"], results["reference"]
    figure = new_figure(10.0)
    panels = figure.subplots(3, len(synths), squeeze=False, height_ratios=[3, 2.2, 2.2])
    styles = looks(results["arms"])
    for column, (name, synth) in enumerate(synths.items()):
        arms = synth["arms"]
        draw_histories(panels[0, column], {name: _histories(arm) for name, arm in arms.items()}, styles)
        finish(panels[0, column], f"{name}: mean over seeds, thin: each seed")
        _draw_differences(panels[1, column], arms, styles, reference)
        _draw_distributions(panels[2, column], arms, styles, reference)
    shared_legend(figure, panels[0], columns=5)
    title = f"Distributions over paths that adapt while training, {results['date'][:10]}"
    add_title(figure, title, results)
    return figure


def _histories(arm: dict[str, Any]) -> tuple[list[float], list[list[float]]]:
    """Steps, and errors of each seed at them."""
    return arm["runs"][0]["history"]["step"], [run["history"]["val_mean"] for run in arm["runs"]]


def _draw_differences(axes: Axes, arms: dict[str, Any], styles: dict[str, Look], reference: str) -> None:
    """The bar is the interval that the verdict is read off."""
    shown = {name: arm for name, arm in arms.items() if "minus_reference" in arm}
    differences = {name: arm["minus_reference"]["mean"] for name, arm in shown.items()}
    reaches = {name: d["interval95"] and d["interval95"][1] - d["mean"] for name, d in differences.items()}
    draw_differences(axes, differences, reaches, styles)
    labels = ["\n".join([*textwrap.wrap(name, 16), arm["verdict"]]) for name, arm in shown.items()]
    axes.set_xticks(range(len(shown)), labels, fontsize=8)
    axes.set_ylabel(f"test error minus {reference}")
    finish(axes, "The same seeds: dots; mean, 95% interval")


def _draw_distributions(axes: Axes, arms: dict[str, Any], styles: dict[str, Look], reference: str) -> None:
    """Final pi over uniform, mean of the seeds; all in the order of paths of the first arm."""
    shown = [(name, arm["pi"]) for name, arm in arms.items() if name != reference]
    if not shown:
        not_measured(axes)
        return
    order = sorted(range(len(shown[0][1])), key=lambda path: -shown[0][1][path])
    for name, pi in shown:
        axes.step(
            range(len(pi)), [len(pi) * pi[path] for path in order], where="mid", color=styles[name].color, lw=1.3
        )
    axes.axhline(1.0, color=styles[reference].color, lw=1.3)
    axes.set(ylabel="times uniform", xlabel=f"paths, in the order of {shown[0][0]}", ylim=(0, None))
    finish(axes, "Final $\\pi$, mean over seeds")
