"""Pictures of distributions over paths; needs matplotlib, which is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection


class Placed(Protocol):
    """What has a rate in Hz and a scale in cycles per octave, as a :class:`scrapl_jtfs.Path` has."""

    @property
    def rate(self) -> float: ...

    @property
    def scale(self) -> float: ...


def draw_distribution(
    axes: Axes,
    paths: Sequence[Placed],
    pi: Sequence[float],
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
        paths: the table of paths, with rates in Hz: ``jtfs.paths`` of a transform that knows its sample rate.
        pi: a probability for each path.
        am, fm: range of a synthesizer in Hz and in octaves per second, drawn as a rectangle.

    Returns:
        The points, for ``figure.colorbar``.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: there are not as many probabilities as paths, or no path has a place.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from scrapl_jtfs import JTFSPath, draw_distribution
        >>> jtfs = JTFSPath(4096, J=9, Q=(8, 1), J_fr=3, Q_fr=1, sample_rate=4096)
        >>> figure = Figure()
        >>> points = draw_distribution(figure.subplots(), jtfs.paths, [1 / jtfs.n_paths] * jtfs.n_paths)
        >>> bar = figure.colorbar(points, label="times uniform")

    Source: SCRAPL, Figure 6.
    """
    try:
        from matplotlib.colors import LogNorm
        from matplotlib.patches import Rectangle
    except ImportError as error:
        raise ImportError("draw_distribution needs matplotlib: pip install matplotlib") from error
    if len(pi) != len(paths):
        raise ValueError(f"{len(pi)} probabilities for {len(paths)} paths; expected one for each")
    places: dict[tuple[float, float], list[float]] = {}
    for path, probability in zip(paths, pi, strict=True):
        if path.rate > 0 and path.scale > 0:
            places.setdefault((path.rate, path.rate / path.scale), []).append(float(probability) * len(paths))
    if not places:
        raise ValueError("no path has a rate and a scale: there is nothing to draw")
    x, y = np.array(list(places)).T
    colours = [np.mean(both) for both in places.values()]
    points = axes.scatter(
        x, y, c=colours, norm=LogNorm(0.05, 20.0), cmap="viridis", s=190, edgecolors="0.4", linewidths=0.5
    )
    if am is not None and fm is not None:
        corner, width, height = (am[0], fm[0]), am[1] - am[0], fm[1] - fm[0]
        axes.add_patch(Rectangle(corner, width, height, fill=False, ls="--", lw=1.6, ec="#D55E00", zorder=3))
    axes.set(xscale="log", yscale="log", xlabel="AM: rate (Hz)", ylabel="FM: rate / scale (oct/s)")
    return points
