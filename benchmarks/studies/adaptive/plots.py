"""The figure: for each synthesizer, errors while training, differences of test errors, and distributions."""

import textwrap
from statistics import mean, stdev
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.style import new_figure, not_measured, plain_log, shared_legend

__all__ = ["draw_figure"]

# Okabe and Ito's colours, distinguishable with any colour vision
_COLORS = ("#000000", "#0072B2", "#56B4E9", "#D55E00", "#009E73")


def draw_figure(results: dict[str, Any]) -> Figure:
    """A column for each synthesizer, from the content of a result file."""
    synths, reference = results["synths"], results["reference"]
    figure = new_figure(10.0)
    panels = figure.subplots(3, len(synths), squeeze=False, height_ratios=[3, 2.2, 2.2])
    colors: dict[str, str] = dict(zip(results["arms"], _COLORS, strict=True))
    for column, (name, synth) in enumerate(synths.items()):
        arms = synth["arms"]
        _draw_histories(panels[0, column], arms, colors)
        panels[0, column].set_title(f"{name}: mean ± deviation over seeds", fontsize=10)
        _draw_differences(panels[1, column], arms, colors, reference)
        _draw_distributions(panels[2, column], arms, colors, reference)
    shared_legend(figure, panels[0], columns=5)
    title = f"Distributions over paths that adapt while training, {results['date'][:10]}"
    figure.suptitle(title + (" (quick: four steps)" if results["quick"] else ""), fontsize=12)
    return figure


def _draw_histories(axes: Axes, arms: dict[str, Any], colors: dict[str, str]) -> None:
    for name, arm in arms.items():
        steps = arm["runs"][0]["history"]["step"]
        columns = list(zip(*(run["history"]["val_mean"] for run in arm["runs"]), strict=True))
        middle = [mean(column) for column in columns]
        axes.plot(steps, middle, color=colors[name], lw=1.8, label=name)
        if len(arm["runs"]) > 1:
            reach = [stdev(column) for column in columns]
            low, high = ([m + sign * r for m, r in zip(middle, reach, strict=True)] for sign in (-1, 1))
            axes.fill_between(steps, low, high, color=colors[name], alpha=0.12, lw=0)
    axes.set(xlabel="steps, one path each", ylabel=r"validation $\theta$ L1 ($\times 10^{-3}$)", yscale="log")
    plain_log(axes.yaxis, subs=(1, 1.5, 2, 3, 4, 6, 8))
    axes.grid(alpha=0.25)
    if not arms:
        not_measured(axes)


def _draw_differences(axes: Axes, arms: dict[str, Any], colors: dict[str, str], reference: str) -> None:
    """A dot for each seed; beside them the mean and the interval that the verdict is read off."""
    shown = {name: arm for name, arm in arms.items() if "minus_reference" in arm}
    if not shown:
        not_measured(axes)
        return
    for position, (name, arm) in enumerate(shown.items()):
        found = arm["minus_reference"]["mean"]
        values = list(found["differences"].values())
        axes.plot([position] * len(values), values, "o", color=colors[name], ms=4, alpha=0.5)
        if found["interval95"] is not None:
            reach = found["interval95"][1] - found["mean"]
            axes.errorbar(position + 0.15, found["mean"], reach, fmt="_", color=colors[name], ms=12, capsize=4)
    axes.axhline(0.0, color="0.6", lw=0.8)
    axes.set_xlim(-0.5, len(shown) - 0.5)
    labels = ["\n".join([*textwrap.wrap(name, 16), arm["verdict"]]) for name, arm in shown.items()]
    axes.set_xticks(range(len(shown)), labels, fontsize=8)
    axes.set_ylabel(f"test error minus {reference}")
    axes.set_title("The same seeds: dots; mean, 95% interval", fontsize=10)
    axes.grid(alpha=0.25, axis="y")


def _draw_distributions(axes: Axes, arms: dict[str, Any], colors: dict[str, str], reference: str) -> None:
    """Final pi over uniform, mean of the seeds; all in the order of paths of the first arm."""
    shown = [(name, arm["pi"]) for name, arm in arms.items() if name != reference]
    if not shown:
        not_measured(axes)
        return
    order = sorted(range(len(shown[0][1])), key=lambda path: -shown[0][1][path])
    for name, pi in shown:
        axes.step(range(len(pi)), [len(pi) * pi[path] for path in order], where="mid", color=colors[name], lw=1.3)
    axes.axhline(1.0, color=colors[reference], lw=1.3)
    axes.set_title("Final $\\pi$, mean over seeds", fontsize=10)
    axes.set(ylabel="times uniform", xlabel=f"paths, in the order of {shown[0][0]}", ylim=(0, None))
    axes.grid(alpha=0.25)
