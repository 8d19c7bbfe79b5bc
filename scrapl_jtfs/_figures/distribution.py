"""Picture of a distribution over paths in the plane of amplitude and frequency modulation."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from scrapl_jtfs._figures.numbers import Values, need_matplotlib
from scrapl_jtfs._validation import is_number
from scrapl_optim._deprecation import rename_arguments
from scrapl_optim.probabilities import as_distribution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection


class Placed(Protocol):
    """Object with a rate and a scale in cycles per octave, such as a :class:`scrapl_jtfs.Path`.

    Rates are in Hz, unless a ``sample_rate`` of 1 says that they are in cycles per sample.
    """

    @property
    def rate(self) -> float: ...

    @property
    def scale(self) -> float: ...


@rename_arguments(pi="probs")
def draw_distribution(
    axes: Axes,
    paths: Sequence[Placed],
    probs: Values,
    *,
    am: tuple[float, float] | None = None,
    fm: tuple[float, float] | None = None,
) -> PathCollection:
    r"""Draw a distribution over paths in the plane of amplitude and frequency modulation.

    A path of rate r and scale s has its largest coefficients for sounds whose loudness beats r times a second and
    whose pitch moves by r / s octaves per second. Colours show :math:`P \pi_p`, averaged over both spins; 1 is the
    value of the uniform distribution. Paths of scale 0 have no place in the plane and are left out.

    Args:
        axes: axes of matplotlib, which become logarithmic in both directions.
        paths: the table of paths, ``jtfs.paths``. If the transform has no sample rate, rates are in cycles per
            sample, and the labels of both axes say so.
        probs: (P,) a probability :math:`\pi_p` for each path.
        am: lowest and highest rate of a synthesizer in Hz, or in the unit of the horizontal axis.
        fm: lowest and highest speed of its frequency modulation in octaves per second, or in the unit of the
            vertical axis. Both ranges are drawn as a rectangle, a single one as a band.

    Returns:
        The points, for ``figure.colorbar``.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: probabilities are not numbers.
        ValueError: ``probs`` is not a distribution over the paths, a range does not consist of two rising positive
            numbers, or no path has a place.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from scrapl_jtfs import JTFSPath, draw_distribution
        >>> jtfs = JTFSPath(4096, J=9, Q=(8, 1), J_fr=3, Q_fr=1, sample_rate=4096)
        >>> figure = Figure()
        >>> probs = [1 / jtfs.n_paths] * jtfs.n_paths
        >>> points = draw_distribution(figure.subplots(), jtfs.paths, probs, am=(4, 16), fm=(1, 8))
        >>> bar = figure.colorbar(points, label="times uniform")

    Source: SCRAPL, Figure 6.
    """
    need_matplotlib()
    from matplotlib.colors import LogNorm

    probabilities = as_distribution(probs, len(paths))
    _check_range(am, "am")
    _check_range(fm, "fm")
    # (rate, rate / scale) -> P pi_p of both spins
    places: dict[tuple[float, float], list[float]] = {}
    for path, probability in zip(paths, probabilities, strict=True):
        if path.rate > 0 and path.scale > 0:
            places.setdefault((path.rate, path.rate / path.scale), []).append(float(probability) * len(paths))
    if not places:
        raise ValueError("Invalid paths: none has both a rate and a scale; expected the table of a transform")
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
        raise ValueError(f"Invalid {name}: {values!r}; expected (lowest, highest), two positive numbers")


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
