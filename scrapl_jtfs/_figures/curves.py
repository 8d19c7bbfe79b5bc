"""Pictures of losses: over one control of a synthesizer, and over the steps of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from scrapl_jtfs._figures.numbers import Values, as_numbers, need_matplotlib
from scrapl_jtfs.sweep import Loss, Sweep, sweep_control

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D


def draw_sweep(
    axes: Axes,
    loss: Loss | Mapping[str, Loss],
    synth: Callable[[Tensor], Tensor],
    theta: Tensor,
    control: int,
    values: Values | None = None,
) -> Sweep:
    """Draw a loss over one control around the truth, and mark where its gradient does not lead to the truth.

    A loss that can be trained on has the shape of a bowl; one that cannot hear the control is flat or ragged. The
    legend names the share of values from which descent moves towards the truth; the other values have a cross.
    Each value costs a forward and a backward pass.

    Args:
        axes: axes of matplotlib.
        loss: (sound, target) -> scalar, such as ``JTFSPathLoss(jtfs).full``; or several by name, each drawn
            relative to its own largest value.
        synth: differentiable function from controls of the shape of ``theta`` to a sound, without random numbers.
        theta: (U,) or (1, U) controls of one sound, the truth.
        control: index of the control that is swept, from 0 to U - 1.
        values: values of the control, at least two; by default 33 from 0 to 1 where the truth lies there.

    Returns:
        The losses and gradients that were drawn.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: ``theta`` is not a real floating-point tensor, ``control`` not an integer, or a loss is not
            callable.
        IndexError: there is no such control.
        ValueError: ``theta`` holds several sounds, values are not finite or missing, a loss is not a scalar, or
            has no gradient with respect to the control.

    Example:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> from scrapl_jtfs import JTFSPath, JTFSPathLoss, draw_sweep
        >>> loss_fn = JTFSPathLoss(JTFSPath(4096, J=9, Q=(8, 2), J_fr=2, T="global", F="global"))
        >>> t = torch.arange(4096)
        >>> def synth(theta):  # how fast loudness beats, over one octave
        ...     return torch.sin(t) * torch.sin(0.03 * 2 ** theta[0] * t) ** 2
        >>> axes, truth = Figure().subplots(), torch.tensor([0.5])
        >>> sweep = draw_sweep(axes, loss_fn.full, synth, truth, control=0, values=torch.linspace(0, 1, 5))
        >>> sweep.shares
        {'loss': 1.0}
    """
    need_matplotlib()
    sweep = sweep_control(loss, synth, theta, control, values)
    for (name, curve), share in zip(sweep.losses.items(), sweep.shares.values(), strict=True):
        relative = curve / (np.nanmax(np.abs(curve), initial=0.0) or 1.0)
        text = f"{name}: {share:.0%} of gradients lead to the truth"
        (line,) = axes.plot(sweep.values, relative, ".-", label=text)
        wrong = ~sweep.points_to_truth(name) & (sweep.values != sweep.truth)
        axes.plot(sweep.values[wrong], relative[wrong], "x", color=line.get_color(), ms=8, mew=2)
    axes.plot([sweep.truth] * 2, [0, 1], color="0.3", ls="--", lw=1, zorder=0)
    # The legend lies above the curves, as a bowl leaves no room inside.
    axes.set(
        xlabel=f"control {control}",
        ylabel="loss, relative to its largest",
        ylim=(-0.04, 1.1 + 0.1 * len(sweep.losses)),
    )
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.legend(loc="upper center", frameon=False)
    return sweep


def draw_curves(
    axes: Axes,
    steps: Sequence[float] | NDArray[Any] | Tensor,
    runs: Any,
    *,
    label: str | None = None,
) -> list[Line2D]:
    """Draw learning curves: the mean over runs, with a band from the least to the largest.

    Args:
        axes: axes of matplotlib, whose scales and labels are left to the caller.
        steps: (n,) steps at which the runs were measured.
        runs: (n_runs, n) one row for each seed, or (n,) a single run; or several of these by name. NaN stands for
            a missing measurement, for instance of a run that ended early.
        label: name of the curve in the legend, if ``runs`` has no names.

    Returns:
        The mean curves.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: steps or runs are not numbers.
        ValueError: runs do not have one entry for each step.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from scrapl_jtfs import draw_curves
        >>> runs = {"P-Adam": [[3, 2, 1], [3, 2.5, 1.5]], "Adam": [3, 2, 2]}
        >>> lines = draw_curves(Figure().subplots(), [0, 10, 20], runs)
    """
    need_matplotlib()
    x = as_numbers(steps, "steps")
    named = runs if isinstance(runs, Mapping) else {label: runs}
    lines: list[Line2D] = []
    for name, curves in named.items():
        y = np.atleast_2d(as_numbers(curves, "runs"))
        if x.ndim != 1 or y.ndim != 2 or y.shape[1] != len(x) or not y.size:
            raise ValueError(
                f"Invalid runs: shape {y.shape} for steps of shape {x.shape}; expected one row for each run, with "
                "one entry for each step"
            )
        counts = (~np.isnan(y)).sum(0)
        mean = np.where(counts > 0, np.nansum(y, axis=0) / np.maximum(counts, 1), np.nan)
        (line,) = axes.plot(x, mean, label=name)
        lines.append(line)
        if len(y) > 1:
            axes.fill_between(x, np.fmin.reduce(y), np.fmax.reduce(y), color=line.get_color(), alpha=0.2, lw=0)
    if any(name is not None for name in named):
        axes.legend()
    return lines
