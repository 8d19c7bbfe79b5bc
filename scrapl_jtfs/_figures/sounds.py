"""Pictures of a sound: its scalogram, and the coefficients of one path."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from scrapl_jtfs._features.labels import units
from scrapl_jtfs._figures.numbers import need_matplotlib
from scrapl_jtfs._validation import is_number
from scrapl_jtfs.paths import make_banks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

    from scrapl_jtfs.transform import JTFSPath


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

    Frequencies at which wavelets are equally wide in octaves are shown; ``axes.set_ylim`` shows others.

    Args:
        axes: axes of matplotlib, whose vertical one becomes logarithmic.
        jtfs: the transform, whose first-order wavelets are the rows.
        x: (n_samples,) one signal, of the transform's dtype and device.
        decibels: range of levels below the loudest point that is shown.
        hop: samples from one frame to the next, as in :meth:`scrapl_jtfs.JTFSPath.scalogram`.
        label: label of the colour bar, None for no bar.

    Returns:
        The mesh.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: the signal is not a real floating-point tensor, or the transform no JTFS.
        ValueError: there are several signals, they do not fit the transform, or an option is out of range.

    Example:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> from scrapl_jtfs import JTFSPath, draw_scalogram
        >>> jtfs = JTFSPath(4096, J=9, Q=(8, 1), J_fr=3, sample_rate=4096)
        >>> mesh = draw_scalogram(Figure().subplots(), jtfs, torch.randn(4096))
    """
    need_matplotlib()
    if not (is_number(decibels, 0.0, sys.float_info.max) and decibels > 0):
        raise ValueError(f"Invalid decibels: {decibels!r}; expected a positive number")
    _check_is_jtfs(jtfs)
    scalogram = jtfs.scalogram(_as_one_signal(x).detach(), hop)
    u1, frequencies = scalogram.values.double().cpu().numpy(), scalogram.frequencies
    quietest = 10 ** (-decibels / 20)
    level = 20 * np.log10(np.maximum(u1 / (u1.max() or 1.0), quietest))
    mesh = _draw_rows(axes, jtfs, frequencies, scalogram.times, level, vmin=-decibels, vmax=0, cmap="magma")
    # Lower wavelets have one width in Hz, so that each of them fills more of an octave.
    axes.set_ylim(float(frequencies[len(frequencies) - jtfs.geometry.Q[0]]))
    if label is not None:
        axes.figure.colorbar(mesh, ax=axes, label=label)
    return mesh


def draw_coefficients(
    axes: Axes, jtfs: JTFSPath, x: Tensor, path_idx: int, *, vmax: float | None = None
) -> QuadMesh:
    """Draw the coefficients of one path over frequency and time.

    Args:
        axes: axes of matplotlib, whose vertical one becomes logarithmic.
        jtfs: the transform. With T=0 and F=0 the coefficients are shown before they are averaged.
        x: (n_samples,) one signal, of the transform's dtype and device.
        path_idx: path id p.
        vmax: coefficient of the brightest colour, by default the largest one; the darkest colour is 0.

    Returns:
        The mesh, for ``figure.colorbar``.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: the signal is not a real floating-point tensor, the id not an integer, or the transform no JTFS.
        IndexError: the id is not from 0 to P - 1.
        ValueError: there are several signals, or they do not fit the transform.

    Example:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> from scrapl_jtfs import JTFSPath, draw_coefficients
        >>> jtfs = JTFSPath(4096, J=9, Q=(8, 1), J_fr=3, sample_rate=4096)
        >>> mesh = draw_coefficients(Figure().subplots(), jtfs, torch.randn(4096), path_idx=20)
    """
    need_matplotlib()
    _check_is_jtfs(jtfs)
    phi = jtfs(_as_one_signal(x).detach(), path_idx).double().cpu().numpy()
    frequencies, times = jtfs.row_frequencies(path_idx), jtfs.frame_times(path_idx)
    highest = float(phi.max()) if vmax is None else vmax
    return _draw_rows(axes, jtfs, frequencies, times, phi, vmin=0, vmax=highest or 1.0, cmap="magma")


def _check_is_jtfs(jtfs: Any) -> None:
    if not hasattr(jtfs, "scalogram"):
        raise TypeError(
            f"Invalid jtfs: {type(jtfs).__name__}; expected a JTFSPath, whose rows are pitches; draw what "
            "select(x, path_indices) returns"
        )


def _as_one_signal(x: Any) -> Tensor:
    """Return a signal (n_samples,), also of a batch of one; other objects are left to the transform to refuse."""
    if not isinstance(x, Tensor) or x.ndim < 2:
        return x
    if x.shape[:-1].numel() != 1:
        raise ValueError(
            f"Invalid x: shape {tuple(x.shape)}; expected one signal (n_samples,); choose it, as x[0]"
        )
    return x.reshape(-1)


def _draw_rows(
    axes: Axes, jtfs: JTFSPath, frequencies: Tensor, times: Tensor, image: NDArray[np.float64], **colours: Any
) -> QuadMesh:
    """Draw rows over time, each cell around its centre, from the beginning of the signal to its end."""
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
    """Return the edges of rows, from high to low; a single row is the mean over all wavelets."""
    if len(frequencies) == 1:
        centres = [psi.xi * jtfs.sample_rate for psi in make_banks(jtfs.geometry).first]
        return np.array([centres[0], centres[-1]])
    octaves = np.log2(frequencies.numpy())
    first, last = (octaves[:-1] - octaves[1:])[[0, -1]] / 2
    return 2.0 ** np.array([octaves[0] + first, *(octaves[1:] + octaves[:-1]) / 2, octaves[-1] - last])
