"""Pictures of sounds, of paths, of losses; they need matplotlib, which is imported when one is drawn."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from scrapl_optim.probabilities import as_distribution

from .checks import is_number
from .features import units
from .paths import make_banks
from .sweep import Loss, Sweep, sweep_control

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection, QuadMesh
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D

    from .paths import Path
    from .transform import JTFSPath

Values: TypeAlias = "Sequence[float] | NDArray[np.floating[Any]] | Tensor"
"""A number for each path."""
MOST_LABELS = 12
"""Labels on an axis of paths, beyond which every second one (third, ...) is left out."""


class Placed(Protocol):
    """What has a rate and a scale in cycles per octave, as a :class:`scrapl_jtfs.Path` has.

    Rates are in Hz, unless a ``sample_rate`` of 1 says that they are in cycles per sample.
    """

    @property
    def rate(self) -> float: ...

    @property
    def scale(self) -> float: ...


def draw_distribution(
    axes: Axes,
    paths: Sequence[Placed],
    pi: Values,
    *,
    am: tuple[float, float] | None = None,
    fm: tuple[float, float] | None = None,
) -> PathCollection:
    r"""Draw a distribution over paths in the plane of amplitude and frequency modulation.

    A path of rate r and scale s answers most to sounds whose loudness beats r times a second and whose pitch moves
    r / s octaves per second. Colours are :math:`P \pi_p`, the mean of both spins: 1 is as likely as under the
    uniform distribution. Paths of scale 0 have no place in the plane and are left out.

    Args:
        axes: of matplotlib; logarithmic in both directions afterwards.
        paths: the table of paths: ``jtfs.paths``. Where the transform has no sample rate, rates are in cycles per
            sample, and both axes say so.
        pi: a probability for each path.
        am: lowest and highest rate of a synthesizer, in the unit of the horizontal axis: Hz.
        fm: the same for its frequency modulation, in the unit of the vertical axis: octaves per second. Where both
            ranges are given they are drawn as a rectangle, one alone as a band.

    Returns:
        The points, for ``figure.colorbar``.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: probabilities are not numbers.
        ValueError: pi is no distribution over the paths (their number, entries that are negative or not finite,
            a sum other than 1), a range is not two rising positive numbers, or no path has a place.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from scrapl_jtfs import JTFSPath, draw_distribution
        >>> jtfs = JTFSPath(4096, J=9, Q=(8, 1), J_fr=3, Q_fr=1, sample_rate=4096)
        >>> figure = Figure()
        >>> pi = [1 / jtfs.n_paths] * jtfs.n_paths
        >>> points = draw_distribution(figure.subplots(), jtfs.paths, pi, am=(4, 16), fm=(1, 8))
        >>> bar = figure.colorbar(points, label="times uniform")

    Source: SCRAPL, Figure 6.
    """
    _need_matplotlib()
    from matplotlib.colors import LogNorm

    probabilities = as_distribution(pi, len(paths), "pi").tolist()
    _check_range(am, "am")
    _check_range(fm, "fm")
    places: dict[tuple[float, float], list[float]] = {}
    for path, probability in zip(paths, probabilities, strict=True):
        if path.rate > 0 and path.scale > 0:
            places.setdefault((path.rate, path.rate / path.scale), []).append(probability * len(paths))
    if not places:
        raise ValueError("no path has a rate and a scale: there is nothing to draw")
    x, y = np.array(list(places)).T
    colours = [np.mean(both) for both in places.values()]
    points = axes.scatter(
        x, y, c=colours, norm=LogNorm(0.05, 20.0), cmap="viridis", s=190, edgecolors="0.4", linewidths=0.5
    )
    _draw_ranges(axes, am, fm)
    per_sample = any(getattr(path, "sample_rate", None) == 1 for path in paths)
    hertz, second = ("cycles/sample", "sample") if per_sample else ("Hz", "s")
    axes.set(xscale="log", yscale="log", xlabel=f"AM: rate ({hertz})", ylabel=f"FM: rate / scale (oct/{second})")
    return points


def _check_range(values: Any, name: str) -> None:
    if values is None:
        return
    pair = isinstance(values, (tuple, list, np.ndarray)) and len(values) == 2
    if not pair or not all(is_number(v, 0.0, sys.float_info.max) for v in values) or not 0 < values[0] < values[1]:
        raise ValueError(f"Invalid {name}: {values!r}; expected (lowest, highest), two positive numbers.")


def _draw_ranges(axes: Axes, am: tuple[float, float] | None, fm: tuple[float, float] | None) -> None:
    """Draw a rectangle, or a band along the axis that has no range."""
    from matplotlib.patches import Rectangle

    line: dict[str, Any] = {"fill": False, "ls": "--", "lw": 1.6, "ec": "#D55E00", "zorder": 3}
    if am is not None and fm is not None:
        axes.add_patch(Rectangle((am[0], fm[0]), am[1] - am[0], fm[1] - fm[0], **line))
    elif am is not None:
        axes.axvspan(*am, **line)
    elif fm is not None:
        axes.axhspan(*fm, **line)


def draw_scalogram(
    axes: Axes,
    jtfs: JTFSPath,
    x: Tensor,
    *,
    decibels: float = 50.0,
    hop: int | None = None,
    label: str | None = "dB",
) -> QuadMesh:
    r"""Draw the scalogram of a sound in decibels below its loudest point.

    Frequencies shown are those of the wavelets of equal width in octaves; ``axes.set_ylim`` shows others.

    Args:
        axes: of matplotlib; the vertical one logarithmic afterwards.
        jtfs: the transform, whose first-order wavelets are the rows.
        x: (n_samples,) one signal, of its dtype and device.
        decibels: range shown, below the loudest point.
        hop: samples from one frame to the next, as in :meth:`scrapl_jtfs.JTFSPath.scalogram`.
        label: of the colour bar, None for none.

    Returns:
        The mesh.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: the signal is not a real floating-point tensor.
        ValueError: there are several signals, they do not fit the transform, or an option is out of range.

    Example:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> from scrapl_jtfs import JTFSPath, draw_scalogram
        >>> jtfs = JTFSPath(4096, J=9, Q=(8, 1), J_fr=3, sample_rate=4096)
        >>> mesh = draw_scalogram(Figure().subplots(), jtfs, torch.randn(4096))
    """
    _need_matplotlib()
    if not (is_number(decibels, 0.0, sys.float_info.max) and decibels > 0):
        raise ValueError(f"Invalid decibels: {decibels!r}; expected a positive number.")
    found = jtfs.scalogram(_one_signal(x).detach(), hop)
    u1 = found.values.double().cpu().numpy()
    quietest = 10 ** (-decibels / 20)
    level = 20 * np.log10(np.maximum(u1 / (u1.max() or 1.0), quietest))
    mesh = _draw_rows(axes, jtfs, found.frequencies, found.times, level, vmin=-decibels, vmax=0, cmap="magma")
    # Below, wavelets of one width in Hz fill the last octaves, each over more of them.
    axes.set_ylim(float(found.frequencies[len(found.frequencies) - jtfs.geometry.Q[0]]))
    if label is not None:
        axes.figure.colorbar(mesh, ax=axes, label=label)
    return mesh


def draw_coefficients(
    axes: Axes, jtfs: JTFSPath, x: Tensor, path_idx: int, *, vmax: float | None = None
) -> QuadMesh:
    """Draw the coefficients of one path over frequency and time.

    Args:
        axes: of matplotlib; the vertical one logarithmic afterwards.
        jtfs: the transform. With T=0 and F=0 it shows what a path hears before averages.
        x: (n_samples,) one signal, of its dtype and device.
        path_idx: path id p.
        vmax: coefficient of the brightest colour, by default the largest; 0 is the darkest.

    Returns:
        The mesh, for ``figure.colorbar``.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: the signal is not a real floating-point tensor, or the id not an integer.
        IndexError: the id is not from 0 to P - 1.
        ValueError: there are several signals, or they do not fit the transform.

    Example:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> from scrapl_jtfs import JTFSPath, draw_coefficients
        >>> jtfs = JTFSPath(4096, J=9, Q=(8, 1), J_fr=3, sample_rate=4096)
        >>> mesh = draw_coefficients(Figure().subplots(), jtfs, torch.randn(4096), path_idx=20)
    """
    _need_matplotlib()
    phi = jtfs(_one_signal(x).detach(), path_idx).double().cpu().numpy()
    frequencies, times = jtfs.row_frequencies(path_idx), jtfs.frame_times(path_idx)
    highest = float(phi.max()) if vmax is None else vmax
    return _draw_rows(axes, jtfs, frequencies, times, phi, vmin=0, vmax=highest or 1.0, cmap="magma")


def draw_rate_scale(
    axes: Axes,
    paths: Sequence[Path],
    values: Values,
    *,
    label: str | None = "times uniform",
    norm: Normalize | None = None,
    cmap: str | Colormap | None = None,
) -> AxesImage:
    r"""Draw a number for each path over its rate and its scale, rising ripples above, falling ones below.

    By default colours tell how often a number is 1: blue below, red above, from 1/8 to 8, such as
    :math:`P \pi_p`, visits over their mean, or a loss over its own first.

    Args:
        axes: of matplotlib.
        paths: the table of paths, ``jtfs.paths``, or some of it.
        values: a number for each of them; NaN leaves its place grey, as where there is no path.
        label: of the colour bar, None for none.
        norm: for other colours, such as ``matplotlib.colors.Normalize()`` for any numbers from least to largest.
        cmap: colour map, by default diverging without ``norm`` and matplotlib's own with one.

    Returns:
        The image.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: values are not numbers.
        ValueError: there are not as many values as paths, one is infinite, or negative without ``norm``.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from scrapl_jtfs import JTFSPath, draw_rate_scale
        >>> jtfs = JTFSPath(4096, J=9, Q=(8, 1), J_fr=3, sample_rate=4096)
        >>> pi = [1 / jtfs.n_paths] * jtfs.n_paths
        >>> image = draw_rate_scale(Figure().subplots(), jtfs.paths, [jtfs.n_paths * share for share in pi])
    """
    _need_matplotlib()
    from matplotlib.colors import LogNorm

    numbers = _checked_numbers(values, len(paths))
    if np.isinf(numbers).any() or (norm is None and (numbers < 0).any()):
        raise ValueError(
            "Invalid values: some are infinite, or negative; expected finite numbers, of at least 0 where no norm "
            "is given."
        )
    rates = sorted({path.rate for path in paths})
    scales = sorted({path.spin * path.scale for path in paths})
    image = np.full((len(scales), len(rates)), np.nan)
    for path, number in zip(paths, numbers, strict=True):
        image[scales.index(path.spin * path.scale), rates.index(path.rate)] = number
    times = norm is None
    if norm is None:
        norm = LogNorm(1 / 8, 8)
        image = np.maximum(image, 1e-9)  # 0 has no logarithm, and the colour of what is very small
        cmap = "RdBu_r" if cmap is None else cmap
    shown = axes.imshow(image, origin="lower", aspect="auto", norm=norm, cmap=cmap, interpolation="nearest")
    axes.set_facecolor("0.8")
    _label_places(axes, paths, rates, scales)
    if label is not None:
        bar = axes.figure.colorbar(shown, ax=axes, label=label, extend="both" if times else "neither")
        if times:
            ticks = [Fraction(2) ** k for k in range(-3, 4)]
            bar.set_ticks([float(tick) for tick in ticks], labels=[str(tick) for tick in ticks], minor=False)
            bar.minorticks_off()
    return shown


def draw_sweep(
    axes: Axes,
    loss: Loss | Mapping[str, Loss],
    synth: Callable[[Tensor], Tensor],
    theta: Tensor,
    control: int,
    values: Values | None = None,
) -> Sweep:
    """Draw a loss over one control around the truth, and where its gradient points away from the truth.

    A loss that can be trained on is a bowl; one that cannot hear the control is flat or ragged. The legend says
    from which share of values descent moves towards the truth; from the others, which have a cross, it does not.
    Each value costs a forward and a backward pass.

    Args:
        axes: of matplotlib.
        loss: (sound, target) -> scalar, such as ``JTFSPathLoss(jtfs).full``; or several by name, each drawn
            relative to its own largest value.
        synth: from controls of the shape of ``theta`` to a sound, differentiable and without randomness of its
            own.
        theta: (U,) or (1, U) controls of one sound, the truth.
        control: the one that is swept, from 0 to U - 1.
        values: of the control, at least two; by default 33 from 0 to 1 where the truth lies there.

    Returns:
        What was drawn.

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
    _need_matplotlib()
    sweep = sweep_control(loss, synth, theta, control, values)
    for (name, curve), share in zip(sweep.losses.items(), sweep.shares.values(), strict=True):
        relative = curve / (np.nanmax(np.abs(curve), initial=0.0) or 1.0)
        text = f"{name}: {share:.0%} of gradients lead to the truth"
        (line,) = axes.plot(sweep.values, relative, ".-", label=text)
        wrong = ~sweep.points_to_truth(name) & (sweep.values != sweep.truth)
        axes.plot(sweep.values[wrong], relative[wrong], "x", color=line.get_color(), ms=8, mew=2)
    axes.plot([sweep.truth] * 2, [0, 1], color="0.3", ls="--", lw=1, zorder=0)
    # A band above the curves for the legend, as a bowl leaves no room inside.
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
        axes: of matplotlib; scales and labels are the caller's.
        steps: (n,) where the runs were measured.
        runs: (n_runs, n) one row for each seed, or (n,) a single run; or several of these by name. NaN is no
            measurement, as of a run that ended early.
        label: name of the curve for the legend, where ``runs`` has no names.

    Returns:
        The mean curves.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: runs are not numbers.
        ValueError: they have another number of entries than there are steps.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from scrapl_jtfs import draw_curves
        >>> runs = {"P-Adam": [[3, 2, 1], [3, 2.5, 1.5]], "Adam": [3, 2, 2]}
        >>> lines = draw_curves(Figure().subplots(), [0, 10, 20], runs)
    """
    _need_matplotlib()
    x = _as_numbers(steps, "steps")
    named = runs if isinstance(runs, Mapping) else {label: runs}
    lines: list[Line2D] = []
    for name, curves in named.items():
        y = np.atleast_2d(_as_numbers(curves, "runs"))
        if x.ndim != 1 or y.ndim != 2 or y.shape[1] != len(x) or not y.size:
            raise ValueError(
                f"Invalid runs: shape {y.shape} for steps of shape {x.shape}; expected one row for each run, with "
                "one entry for each step."
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


def _need_matplotlib() -> None:
    try:
        import matplotlib as matplotlib
    except ImportError as error:
        raise ImportError("Pictures need matplotlib: pip install 'scrapl-jtfs[pictures]'") from error


def _one_signal(x: Any) -> Tensor:
    """Return the one signal (n_samples,) of a batch of one; what is none is left to the transform to refuse."""
    if not isinstance(x, Tensor) or x.ndim < 2:
        return x
    if x.shape[:-1].numel() != 1:
        raise ValueError(
            f"Invalid x: shape {tuple(x.shape)}; expected one signal (n_samples,); choose it, as x[0]."
        )
    return x.reshape(-1)


def _draw_rows(
    axes: Axes, jtfs: JTFSPath, frequencies: Tensor, times: Tensor, image: NDArray[np.float64], **colours: Any
) -> QuadMesh:
    """Draw rows over time, each cell around its centre; the signal's ends are those of the picture."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    rows, t, end = _row_edges(jtfs, frequencies), times.numpy(), jtfs.geometry.n_samples / jtfs.sample_rate
    frames = np.array([0.0, *(t[1:] + t[:-1]) / 2, end])
    mesh = axes.pcolormesh(frames, rows, image, shading="flat", rasterized=True, **colours)
    hertz, second = units(jtfs.sample_rate)
    axes.set(yscale="log", xlabel=f"time ({second})", ylabel=f"frequency ({hertz})", xlim=(0, end))
    axes.yaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(rows[-1], rows[0])
    return mesh


def _row_edges(jtfs: JTFSPath, frequencies: Tensor) -> NDArray[np.float64]:
    """Return where rows meet, and how far the outer ones reach; one row alone is the mean over all wavelets."""
    if len(frequencies) == 1:
        centres = [psi.xi * jtfs.sample_rate for psi in make_banks(jtfs.geometry).first]
        return np.array([centres[0], centres[-1]])
    octaves = np.log2(frequencies.numpy())
    first, last = (octaves[:-1] - octaves[1:])[[0, -1]] / 2
    return 2.0 ** np.array([octaves[0] + first, *(octaves[1:] + octaves[:-1]) / 2, octaves[-1] - last])


def _label_places(axes: Axes, paths: Sequence[Path], rates: Sequence[float], scales: Sequence[float]) -> None:
    columns = range(0, len(rates), -(-len(rates) // MOST_LABELS))
    axes.set_xticks(columns, [f"{rates[i]:.3g}" for i in columns])
    middle = next((i for i, scale in enumerate(scales) if scale >= 0), 0)
    step = -(-len(scales) // (2 * MOST_LABELS))
    lines = range(middle % step, len(scales), step)
    axes.set_yticks(lines, [f"{scales[i]:+.2g}" if scales[i] else "0" for i in lines])
    unit, _ = units(paths[0].sample_rate)
    axes.set(xlabel=f"rate ({unit})", ylabel="spin x scale (cycles/octave)")


def _as_numbers(values: Any, name: str) -> NDArray[np.float64]:
    try:
        if isinstance(values, Tensor):
            values = values.detach().cpu()
        elif isinstance(values, (list, tuple)):
            values = [one.detach().cpu() if isinstance(one, Tensor) else one for one in values]
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, NotImplementedError):  # the last for the meta device, without numbers
        raise TypeError(f"Invalid {name}: a {type(values).__name__}; expected numbers.") from None


def _checked_numbers(values: Any, n_paths: int) -> NDArray[np.float64]:
    numbers = _as_numbers(values, "values")
    if numbers.shape != (n_paths,):
        raise ValueError(f"Invalid values: shape {numbers.shape}; expected one for each of {n_paths} paths.")
    return numbers
