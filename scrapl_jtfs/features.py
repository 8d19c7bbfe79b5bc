"""Coefficients as features: all paths in one tensor with named coordinates, rows in Hz and frames in seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import scattering
from .checks import PathIndices, checked_index, dense
from .geometry import Geometry
from .linear import full_precision
from .paths import Path, make_banks, rate_unit

if TYPE_CHECKING:
    from xarray import DataArray

    from .cascade import FirstLayer
    from .transform import JTFSPath

Kept = Literal["keep", "mean"]
"""What becomes of an axis: kept, or averaged over."""

FEWEST_FRAMES = 512
"""Frames that a scalogram has at least where no hop is given, or one a sample on shorter signals."""


class Grid(NamedTuple):
    """Features laid out on the rate-scale plane.

    Args:
        values: (..., spins, scales, rates[, rows][, frames]), NaN where there is no path.
        spins: -1, 0 and +1, as far as there are paths.
        scales: in cycles per octave, rising, float64.
        rates: in Hz, rising, float64; 0 stands for paths of order 1.
    """

    values: Tensor
    spins: Tensor
    scales: Tensor
    rates: Tensor


@dataclass(frozen=True, eq=False)
class Features:
    """Coefficients of all paths in one tensor, and what its axes stand for.

    Args:
        values: (..., paths[, rows][, frames]); 0 where a path has no row.
        paths: the paths, in the order of their axis.
        row_frequencies: (rows,) centres of the rows in Hz, falling, float64; None where rows were averaged.
        frame_times: (frames,) centres of the frames in seconds, rising, float64; None where frames were averaged.
        has_row: (paths, rows) whether a path has that row: slow wavelets feed no fast path; None where rows were
            averaged.
    """

    values: Tensor
    paths: tuple[Path, ...]
    row_frequencies: Tensor | None
    frame_times: Tensor | None
    has_row: Tensor | None

    @property
    def rates(self) -> Tensor:
        """Rate of each path in Hz (paths,), float64; 0 at order 1."""
        return _exact([path.rate for path in self.paths])

    @property
    def scales(self) -> Tensor:
        """Scale of each path in cycles per octave (paths,), float64."""
        return _exact([path.scale for path in self.paths])

    @property
    def spins(self) -> Tensor:
        """Spin of each path (paths,), int64: +1 rising, -1 falling, 0 neither."""
        return torch.tensor([path.spin for path in self.paths], device="cpu")

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the last axes: "path", and "row" and "frame" where they were kept."""
        kept = (("row", self.row_frequencies), ("frame", self.frame_times))
        return ("path", *(name for name, axis in kept if axis is not None))

    def __repr__(self) -> str:
        hertz, second = units(self.paths[0].sample_rate)
        axes = [f"{len(self.paths)} paths"]
        if self.row_frequencies is not None:
            axes.append(f"{len(self.row_frequencies)} rows {_extent(self.row_frequencies, hertz)}")
        if self.frame_times is not None:
            axes.append(f"{len(self.frame_times)} frames {_extent(self.frame_times, second)}")
        return f"Features({tuple(self.values.shape)}: {' x '.join(axes)}, {self.values.dtype})"

    def grid(self) -> Grid:
        """Lay the paths out by spin, scale and rate.

        Returns:
            The values, differentiable and NaN where there is no path, and the three axes.

        Example:
            >>> import torch
            >>> from scrapl_jtfs import JTFSPath
            >>> jtfs = JTFSPath(2048, J=7, Q=(8, 1), J_fr=2, sample_rate=2048)
            >>> values, spins, scales, rates = jtfs.features(torch.randn(2048), rows="mean", frames="mean").grid()
            >>> values.shape, spins.tolist(), [round(rate) for rate in rates.tolist()]
            (torch.Size([3, 4, 5]), [-1, 0, 1], [6, 11, 22, 45, 90])
        """
        axes, places = zip(
            *(axis.unique(return_inverse=True) for axis in (self.spins, self.scales, self.rates)), strict=True
        )
        shape = [len(axis) for axis in axes]
        flat = (places[0] * shape[1] + places[1]) * shape[2] + places[2]
        axis = self.values.ndim - len(self.dims)
        sizes = list(self.values.shape)
        empty = self.values.new_full([*sizes[:axis], shape[0] * shape[1] * shape[2], *sizes[axis + 1 :]], np.nan)
        values = empty.index_copy(axis, flat.to(self.values.device), self.values).unflatten(axis, shape)
        return Grid(values, *axes)

    def to_xarray(self) -> DataArray:
        """Return the values with labels, without a gradient.

        Paths have the coordinates rate, scale, spin and order; ``.set_index(path=["rate", "scale",
        "spin"]).unstack("path")`` makes axes of them. Values are NaN where a path has no row.

        Raises:
            ImportError: xarray is not installed.
        """
        values = self.values.detach().cpu()
        if self.has_row is not None:
            present = self.has_row if self.frame_times is None else self.has_row.unsqueeze(-1)
            values = values.masked_fill(~present, np.nan)
        coords: dict[str, Any] = {"path": ("path", [path.index for path in self.paths])}
        sample_rate = self.paths[0].sample_rate
        labels = (("rate", units(sample_rate)[0]), ("scale", "cycles/octave"), ("spin", "1"), ("order", "1"))
        for name, unit in labels:
            coords[name] = ("path", [getattr(path, name) for path in self.paths], {"units": unit})
        coords |= _axis_coordinates(self.row_frequencies, self.frame_times, sample_rate)
        return _labelled(values, self.dims, coords, "coefficients")


@dataclass(frozen=True, eq=False)
class Scalogram:
    """How strong each first-order wavelet's band is at each moment: U1(n1, t) = |x * psi_n1|(t).

    Args:
        values: (..., rows, frames) real, non-negative.
        frequencies: (rows,) centre frequencies of the wavelets in Hz, falling, float64.
        times: (frames,) in seconds, rising, float64.
        sample_rate: in Hz; at 1, a transform's default, frequencies are in cycles per sample and times in samples.
    """

    values: Tensor
    frequencies: Tensor
    times: Tensor
    sample_rate: float = 1.0

    def __repr__(self) -> str:
        rows, frames = self.values.shape[-2:]
        hertz, second = units(self.sample_rate)
        axes = f"{rows} rows {_extent(self.frequencies, hertz)} x {frames} frames {_extent(self.times, second)}"
        return f"Scalogram({tuple(self.values.shape)}: {axes}, {self.values.dtype})"

    def to_xarray(self) -> DataArray:
        """Return the values with labels, without a gradient.

        Raises:
            ImportError: xarray is not installed.
        """
        coords = _axis_coordinates(self.frequencies, self.times, self.sample_rate)
        return _labelled(self.values.detach().cpu(), ("row", "frame"), coords, "scalogram")


def row_frequencies(jtfs: JTFSPath, path_idx: int) -> Tensor:
    """Return the centre of each row: see :meth:`scrapl_jtfs.JTFSPath.row_frequencies`."""
    path = jtfs.paths[checked_index(path_idx, jtfs.n_paths)]
    frequencies = _frequencies(jtfs)[_row_places(jtfs.geometry, path)]
    if jtfs.geometry.frequency.averaging == "global":
        frequencies = np.exp(np.log(frequencies).mean(keepdims=True))
    return torch.from_numpy(frequencies)


def frame_times(jtfs: JTFSPath, path_idx: int) -> Tensor:
    """Return the centre of each frame: see :meth:`scrapl_jtfs.JTFSPath.frame_times`."""
    path = jtfs.paths[checked_index(path_idx, jtfs.n_paths)]
    if jtfs.geometry.time.averaging == "global":
        return _exact([(jtfs.geometry.n_samples - 1) / 2 / jtfs.sample_rate])
    return torch.from_numpy(_frame_places(jtfs.geometry, path) / jtfs.sample_rate)


def features(
    jtfs: JTFSPath,
    x: Tensor | FirstLayer,
    rows: Kept = "keep",
    frames: Kept = "keep",
    paths: PathIndices | None = None,
) -> Features:
    """Compute paths as one tensor with named coordinates: see :meth:`scrapl_jtfs.JTFSPath.features`."""
    _check_kept(rows, "rows")
    _check_kept(frames, "frames")
    ids = list(range(jtfs.n_paths)) if paths is None else jtfs.paths.indices(paths)
    if not ids:
        raise ValueError("Invalid paths: an empty sequence; expected at least one path, or None for all.")
    row_axis = None if rows == "mean" else _row_axis(jtfs, ids)
    frame_axis = None if frames == "mean" else _frame_axis(jtfs, ids)
    done: dict[int, Tensor] = {}
    for p, phi in jtfs._coefficients(x, ids):
        aligned = phi.mean(-1, keepdim=True) if frame_axis is None else frame_axis.align(phi, p, -1)
        aligned = aligned.mean(-2, keepdim=True) if row_axis is None else row_axis.align(aligned, p, -2)
        aligned = aligned.squeeze(-1) if frame_axis is None else aligned
        done[p] = aligned.squeeze(-1 if frame_axis is None else -2) if row_axis is None else aligned
    values = torch.stack([done[p] for p in ids], dim=-1 - (row_axis is not None) - (frame_axis is not None))
    return Features(
        values,
        tuple(jtfs.paths[p] for p in ids),
        None if row_axis is None else row_axis.coordinate,
        None if frame_axis is None else frame_axis.coordinate,
        None if row_axis is None else torch.from_numpy(np.stack([row_axis.held(p) for p in ids])),
    )


def scalogram(jtfs: JTFSPath, x: Tensor, hop: int | None = None) -> Scalogram:
    """Compute the modulus of the first-order wavelets: see :meth:`scrapl_jtfs.JTFSPath.scalogram`."""
    geometry = jtfs.geometry
    log2_hop = _log2_hop(hop, geometry.n_samples)
    flat, batch_shape = jtfs._checked_signal(x)
    with full_precision(flat.device):
        padded = scattering.pad_signal(flat, geometry)
        effort = replace(jtfs._effort(padded, 1, None), epsilon=0.0)
        u1 = jtfs._cascade.sampled_scalogram(padded, log2_hop, effort).flip(-2)
    kept = geometry.kept_frames(log2_hop)
    samples = np.arange(kept.start, kept.stop) * 2**log2_hop - geometry.pad_left
    frequencies = torch.from_numpy(_frequencies(jtfs)[:-1].copy())
    values, times = u1.reshape(*batch_shape, *u1.shape[1:]), torch.from_numpy(samples / jtfs.sample_rate)
    return Scalogram(values, frequencies, times, jtfs.sample_rate)


def relative_distance(jtfs: JTFSPath, x: Tensor, y: Tensor) -> Tensor:
    r"""Compute how far two signals are apart on the full tree: 0 for equal ones, 1 as far as silence.

    .. math::
        d(x, y) = \frac{\lVert S x - S y \rVert}{\max(\lVert S x \rVert, \lVert S y \rVert)}, \qquad
        \lVert S x \rVert^2 = \sum_p \lVert \phi_p(x) \rVert^2

    It is symmetric and does not change with the level of both. As coefficients are not negative, it is at most
    sqrt(2), for signals that no coefficient hears both of. Its square is ``JTFSPathLoss(jtfs).full(x, y)`` over
    the larger of the same from x and from y to silence.

    Args:
        jtfs: the transform.
        x: (..., n_samples) signals of its dtype and device.
        y: the same, of the same shape.

    Returns:
        (...) real, differentiable in both; 0 between two silent signals.

    Raises:
        TypeError: a signal is not a real floating-point tensor.
        ValueError: the signals differ in shape, or do not fit the transform.

    Example:
        >>> import torch
        >>> from scrapl_jtfs import JTFSPath, relative_distance
        >>> jtfs = JTFSPath(2048, J=7, Q=(8, 1), J_fr=2)
        >>> x = torch.randn(4, 2048)
        >>> relative_distance(jtfs, x, torch.zeros(4, 2048))
        tensor([1., 1., 1., 1.])
    """
    x, y = dense(x, "x"), dense(y, "y")
    if x.shape != y.shape:
        raise ValueError(
            f"x and y differ in shape: {tuple(x.shape)} and {tuple(y.shape)}; expected one shape: crop, pad or "
            "expand one of them."
        )
    (x, batch_shape), (y, _) = jtfs._checked_signal(x, "x"), jtfs._checked_signal(y, "y")
    # Coefficients scale with the signal; at a level of one, squares of quiet ones do not vanish.
    peak = torch.maximum(x.detach().abs().amax(-1, keepdim=True), y.detach().abs().amax(-1, keepdim=True))
    peak = torch.where(peak > 0, peak, 1.0)
    apart: Any = 0.0
    of_x: Any = 0.0
    of_y: Any = 0.0
    for (_, a), (_, b) in zip(jtfs.stream(x / peak), jtfs.stream(y / peak), strict=True):
        apart = apart + (a - b).square().sum((-2, -1))
        of_x, of_y = of_x + a.square().sum((-2, -1)), of_y + b.square().sum((-2, -1))
    largest = torch.maximum(of_x, of_y)
    # At zero distance the root has no slope; autograd would make NaN of it.
    different = apart != 0
    ratio = torch.where(different, apart, 1.0) / torch.where(largest == 0, 1.0, largest)
    return torch.where(different, torch.where(different, ratio, 1.0).sqrt(), 0.0).reshape(batch_shape)


def _frequencies(jtfs: JTFSPath) -> NDArray[np.float64]:
    """Return the centre frequencies in Hz of the first-order wavelets, and of one place more."""
    centres = [psi.xi * jtfs.sample_rate for psi in make_banks(jtfs.geometry).first]
    return np.array([*centres, centres[-1] * 2 ** (-1 / jtfs.geometry.Q[0])])


def _row_places(geometry: Geometry, path: Path) -> NDArray[np.int64]:
    """Return n1 at the centre of each row of a path, before a mean over all of them."""
    axis = geometry.frequency
    stride, counted = 2 ** axis.stride_of(path.j_fr), 2**path.j_fr
    if axis.averaging == "local" and path.n_fr:
        stride = counted = 2**axis.log2_stride
    rows = min(1 + path.n_rows // counted, -(-geometry.n_rows_padded // stride))
    return np.arange(rows) * stride


def _frame_places(geometry: Geometry, path: Path) -> NDArray[np.int64]:
    """Return the sample at the centre of each frame of a path, before a mean over all of them."""
    time = geometry.time
    log2_stride = time.log2_stride  # order 1 is averaged locally in any case
    if path.j2 is not None and time.averaging != "local":
        log2_stride = path.j2
    kept = geometry.kept_frames(log2_stride)
    return np.arange(kept.start, kept.stop) * 2**log2_stride - geometry.pad_left


@dataclass(frozen=True)
class _Axis:
    """An axis that paths of several strides share: all places that one of them has.

    Args:
        places: (n,) rising integers.
        own: those of each path.
        coordinate: (n,) what they stand for.
        held_to: for each path the place up to which it has something to say, excluded.
    """

    places: NDArray[np.int64]
    own: dict[int, NDArray[np.int64]]
    coordinate: Tensor
    held_to: dict[int, int]

    def held(self, path_idx: int) -> NDArray[np.bool_]:
        return self.places < self.held_to[path_idx]

    def align(self, phi: Tensor, path_idx: int, dim: int) -> Tensor:
        """Interpolate linearly to the common places, with zeros where the path has none."""
        own = self.own[path_idx]
        if np.array_equal(own, self.places):
            return phi
        held = self.held(path_idx)
        position = np.interp(self.places, own, np.arange(len(own)))
        below = np.floor(position).astype(np.int64)
        result = phi.index_select(dim, torch.from_numpy(below).to(phi.device))
        if (position != below).any():
            above = np.minimum(below + 1, len(own) - 1)
            share = torch.from_numpy(position - below).to(phi.device, phi.dtype)
            upper = phi.index_select(dim, torch.from_numpy(above).to(phi.device))
            result = torch.lerp(result, upper, share if dim == -1 else share.unsqueeze(-1))
        if not held.all():
            mask = torch.from_numpy(held).to(phi.device)
            result = torch.where(mask if dim == -1 else mask.unsqueeze(-1), result, 0.0)
        return result


def _row_axis(jtfs: JTFSPath, ids: Sequence[int]) -> _Axis:
    own = {p: _row_places(jtfs.geometry, jtfs.paths[p]) for p in set(ids)}
    if jtfs.geometry.frequency.averaging == "global":
        widest = max(own, key=lambda p: len(own[p]))
        return _one_place(row_frequencies(jtfs, widest), own)
    places = np.unique(np.concatenate(list(own.values())))
    # A row speaks for the stride that follows it, but for no wavelet that does not feed the path.
    strides = {p: int(o[1] - o[0]) if len(o) > 1 else 1 for p, o in own.items()}
    return _Axis(
        places, own, torch.from_numpy(_frequencies(jtfs)[places]), {p: int(own[p][-1]) + strides[p] for p in own}
    )


def _frame_axis(jtfs: JTFSPath, ids: Sequence[int]) -> _Axis:
    own = {p: _frame_places(jtfs.geometry, jtfs.paths[p]) for p in set(ids)}
    if jtfs.geometry.time.averaging == "global":
        return _one_place(frame_times(jtfs, ids[0]), own)
    places = np.unique(np.concatenate(list(own.values())))
    return _Axis(places, own, torch.from_numpy(places / jtfs.sample_rate), {p: int(places[-1]) + 1 for p in own})


def _one_place(coordinate: Tensor, own: dict[int, Any]) -> _Axis:
    place = np.zeros(1, dtype=np.int64)
    return _Axis(place, dict.fromkeys(own, place), coordinate, dict.fromkeys(own, 1))


def _check_kept(value: object, name: str) -> None:
    if not isinstance(value, str) or value not in ("keep", "mean"):
        raise ValueError(f"Invalid {name}: {value!r}; expected 'keep', or 'mean' to average over them.")


def units(sample_rate: float) -> tuple[str, str]:
    """Return the units of frequency and time; a transform without a sample rate has one of 1."""
    return rate_unit(sample_rate), "samples" if sample_rate == 1 else "s"


def _log2_hop(hop: object, n_samples: int) -> int:
    if hop is None:
        return max(0, (n_samples // FEWEST_FRAMES).bit_length() - 1)
    if isinstance(hop, bool) or not isinstance(hop, (int, np.integer)):
        raise TypeError(f"Invalid hop: {hop!r}; expected a power of two, or None to choose one.")
    if not 1 <= hop <= n_samples or hop & (hop - 1):
        raise ValueError(f"Invalid hop: {hop}; expected a power of two from 1 to the {n_samples} samples.")
    return int(hop).bit_length() - 1


def _exact(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device="cpu")


def _extent(axis: Tensor, unit: str) -> str:
    first, last = float(axis[0]), float(axis[-1])
    return f"({first:.4g} {unit})" if len(axis) == 1 else f"({first:.4g} to {last:.4g} {unit})"


def _axis_coordinates(frequencies: Tensor | None, times: Tensor | None, sample_rate: float) -> dict[str, Any]:
    coords: dict[str, Any] = {}
    hertz, second = units(sample_rate)
    if frequencies is not None:
        coords["row"] = ("row", frequencies.numpy(), {"units": hertz, "long_name": "frequency"})
    if times is not None:
        coords["frame"] = ("frame", times.numpy(), {"units": second, "long_name": "time"})
    return coords


def _labelled(values: Tensor, dims: Sequence[str], coords: dict[str, Any], name: str) -> DataArray:
    try:
        from xarray import DataArray
    except ImportError as error:
        raise ImportError("to_xarray needs xarray: pip install 'scrapl-jtfs[labels]'") from error
    return DataArray(
        values.numpy(), dims=[*_batch_names(values.ndim - len(dims)), *dims], coords=coords, name=name
    )


def _batch_names(n: int) -> Iterator[str]:
    return (f"batch_{i}" if n > 1 else "batch" for i in range(n))
