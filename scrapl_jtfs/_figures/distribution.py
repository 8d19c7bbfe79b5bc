"""Picture of a distribution over paths in the plane of amplitude and frequency modulation."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from numbers import Real
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
    paths: Sequence[Any],
    probs: Values,
    *,
    am: tuple[float, float] | None = None,
    fm: tuple[float, float] | None = None,
    by: tuple[str, str] | None = None,
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
        by: for paths of any transform, two attributes of the entries of its table to place them by, horizontal and
            vertical. Paths of one place are averaged. An axis over more than a decade is logarithmic, and leaves
            out what is not above 0; the labels have the entries' ``units``.

    Returns:
        The points, for ``figure.colorbar``.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: probabilities are not numbers; or paths have no rates and scales, and ``by`` names nothing else.
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
    names = None if by is None else _names(paths, by)
    if names is None and not all(hasattr(path, "rate") and hasattr(path, "scale") for path in paths):
        raise TypeError(
            f"Invalid paths: '{paths[0]}' has no rate and scale; expected paths of the JTFS; name two other "
            "attributes to place paths by, as in by=('frequency', 'rate')"
        )
    # (rate, rate / scale) -> P pi_p of both spins
    places: dict[tuple[float, float], list[float]] = {}
    for path, probability in zip(paths, probabilities, strict=True):
        place = _place(path) if names is None else tuple(getattr(path, name) for name in names)
        if place is not None and all(isinstance(value, Real) for value in place):
            places.setdefault(place, []).append(float(probability) * len(paths))
    logarithmic = (True, True) if names is None else _decades(places)
    places = {
        key: some
        for key, some in places.items()
        if all(k > 0 or not log for k, log in zip(key, logarithmic, strict=True))
    }
    if not places:
        both = " and ".join(names or ("a rate", "a scale"))
        raise ValueError(f"Invalid paths: none has both {both}; expected the table of a transform")
    x, y = np.array(list(places)).T
    colours = [np.mean(both) for both in places.values()]
    points = axes.scatter(
        x, y, c=colours, norm=LogNorm(0.05, 20.0), cmap="viridis", s=190, edgecolors="0.4", linewidths=0.5
    )
    _draw_ranges(axes, am, fm)
    scales = ["log" if log else "linear" for log in logarithmic]
    axes.set(xscale=scales[0], yscale=scales[1])
    if names is None:
        per_sample = any(getattr(path, "sample_rate", None) == 1 for path in paths)
        hertz, second = ("cycles/sample", "sample") if per_sample else ("Hz", "s")
        axes.set(xlabel=f"AM: rate ({hertz})", ylabel=f"FM: rate / scale (oct/{second})")
    else:
        units = getattr(paths[0], "units", {})
        labels = [f"{name} ({units[name]})" if name in units else name for name in names]
        axes.set(xlabel=labels[0], ylabel=labels[1])
    return points


def _place(path: Placed) -> tuple[float, float] | None:
    """Return where a path of the JTFS lies, None where it has no place."""
    return (path.rate, path.rate / path.scale) if path.rate > 0 and path.scale > 0 else None


def _names(paths: Sequence[Any], by: Any) -> tuple[str, str]:
    """Return two attributes that every path has.

    Raises:
        ValueError: they are not two, or a path lacks one.
    """
    pair = isinstance(by, (tuple, list)) and len(by) == 2 and all(isinstance(name, str) for name in by)
    if not pair or not all(hasattr(path, name) for path in paths for name in by):
        raise ValueError(
            f"Invalid by: {by!r}; expected two attributes of every path, such as ('frequency', 'rate'); see "
            "print(paths[0])"
        )
    return by[0], by[1]


def _decades(places: Iterable[tuple[float, float]]) -> tuple[bool, bool]:
    """Tell for each axis whether what is above 0 goes over more than a decade."""
    columns = zip(*places, strict=True)
    positive = [[value for value in column if value > 0] for column in columns] or [[], []]
    first, second = (bool(values) and max(values) > 10 * min(values) for values in positive)
    return first, second


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
