"""Picture of a number for each path over rates and scales."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from scrapl_jtfs._features.labels import units
from scrapl_jtfs._figures.numbers import Values, as_path_values, need_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.image import AxesImage

    from scrapl_jtfs.paths import Path

# What paths of the JTFS are placed by.
_COORDINATES = ("rate", "scale", "spin", "sample_rate")
# An axis with more values than this has a label at every second of them (third, ...).
_MOST_LABELS = 12


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

    By default the numbers are ratios, and colours diverge from 1: blue below, red above, from 1/8 to 8. Such are
    :math:`P \pi_p`, visits over their mean, or a loss over its first value.

    Args:
        axes: axes of matplotlib.
        paths: the table of paths, ``jtfs.paths``, or some of its paths.
        values: a number for each of these paths; NaN leaves a place grey, like a place without a path.
        label: label of the colour bar, None for no bar.
        norm: another scale of colours, such as ``matplotlib.colors.Normalize()`` from the least to the largest.
        cmap: colour map; by default a diverging one without ``norm``, and matplotlib's default with it.

    Returns:
        The image.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: values are not numbers, or paths have no rate and scale.
        ValueError: there are not as many values as paths, one is infinite, or negative without ``norm``.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from scrapl_jtfs import JTFSPath, draw_rate_scale
        >>> jtfs = JTFSPath(4096, J=9, Q=(8, 1), J_fr=3, sample_rate=4096)
        >>> pi = [1 / jtfs.n_paths] * jtfs.n_paths
        >>> image = draw_rate_scale(Figure().subplots(), jtfs.paths, [jtfs.n_paths * share for share in pi])
    """
    need_matplotlib()
    from matplotlib.colors import LogNorm

    numbers = as_path_values(values, len(paths), "values")
    foreign = next((path for path in paths if not all(hasattr(path, name) for name in _COORDINATES)), None)
    if foreign is not None:
        raise TypeError(
            f"Invalid paths: '{foreign}' has no rate, scale and spin; expected paths of the JTFS; place those "
            "of any transform with draw_distribution(axes, paths, probs, by=...)"
        )
    if np.isinf(numbers).any() or (norm is None and (numbers < 0).any()):
        raise ValueError(
            "Invalid values: some are infinite or negative; expected finite numbers, and ratios of at least 0 "
            "unless a norm is given"
        )
    rates = sorted({path.rate for path in paths})
    scales = sorted({path.spin * path.scale for path in paths})
    image = np.full((len(scales), len(rates)), np.nan)
    for path, number in zip(paths, numbers, strict=True):
        image[scales.index(path.spin * path.scale), rates.index(path.rate)] = number
    is_ratio = norm is None
    if norm is None:
        norm = LogNorm(1 / 8, 8)
        image = np.maximum(image, 1e-9)  # 0 has no logarithm; it gets the colour of very small numbers
        cmap = "RdBu_r" if cmap is None else cmap
    shown = axes.imshow(image, origin="lower", aspect="auto", norm=norm, cmap=cmap, interpolation="nearest")
    axes.set_facecolor("0.8")
    _label_places(axes, paths, rates, scales)
    if label is not None:
        bar = axes.figure.colorbar(shown, ax=axes, label=label, extend="both" if is_ratio else "neither")
        if is_ratio:
            ticks = [Fraction(2) ** k for k in range(-3, 4)]
            bar.set_ticks([float(tick) for tick in ticks], labels=[str(tick) for tick in ticks], minor=False)
            bar.minorticks_off()
    return shown


def _label_places(axes: Axes, paths: Sequence[Path], rates: Sequence[float], scales: Sequence[float]) -> None:
    """Label columns with rates and lines with signed scales, leaving some out where there are many."""
    columns = range(0, len(rates), -(-len(rates) // _MOST_LABELS))
    axes.set_xticks(columns, [f"{rates[i]:.3g}" for i in columns])
    middle = next((i for i, scale in enumerate(scales) if scale >= 0), 0)
    step = -(-len(scales) // (2 * _MOST_LABELS))
    lines = range(middle % step, len(scales), step)
    axes.set_yticks(lines, [f"{scales[i]:+.2g}" if scales[i] else "0" for i in lines])
    unit, _ = units(paths[0].sample_rate)
    axes.set(xlabel=f"rate ({unit})", ylabel="spin x scale (cycles/octave)")
