"""Coefficients as features: all paths in one tensor with named coordinates, rows in Hz and frames in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from scrapl_jtfs._features.axes import frame_axis, frame_times, row_axis, row_frequencies
from scrapl_jtfs._features.distance import relative_distance
from scrapl_jtfs._features.labels import axis_coordinates, extent, labelled, units
from scrapl_jtfs._features.scalogram import Scalogram, scalogram
from scrapl_jtfs._validation import PathIndices
from scrapl_jtfs.paths import Path

if TYPE_CHECKING:
    from xarray import DataArray

    from scrapl_jtfs._transform.first_layer import FirstLayer
    from scrapl_jtfs.transform import JTFSPath

__all__ = [
    "Features",
    "Grid",
    "Kept",
    "Scalogram",
    "features",
    "frame_times",
    "relative_distance",
    "row_frequencies",
    "scalogram",
]

# An axis is kept, or averaged over.
Kept = Literal["keep", "mean"]


class Grid(NamedTuple):
    """Features laid out by spin, scale and rate.

    Attributes:
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
    """Coefficients of paths in one tensor, with the coordinates of its axes.

    Args:
        values: (..., paths[, rows][, frames]); 0 where a path has no row.
        paths: the paths, in the order of their axis.
        row_frequencies: (rows,) centres of the rows in Hz, falling, float64; None where rows were averaged.
        frame_times: (frames,) centres of the frames in seconds, rising, float64; None where frames were averaged.
        has_row: (paths, rows) True where a path has that row, as slow wavelets feed no fast path; None where rows
            were averaged.
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
        axes = (("row", self.row_frequencies), ("frame", self.frame_times))
        return ("path", *(name for name, axis in axes if axis is not None))

    def __repr__(self) -> str:
        hertz, second = units(self.paths[0].sample_rate)
        axes = [f"{len(self.paths)} paths"]
        if self.row_frequencies is not None:
            axes.append(f"{len(self.row_frequencies)} rows {extent(self.row_frequencies, hertz)}")
        if self.frame_times is not None:
            axes.append(f"{len(self.frame_times)} frames {extent(self.frame_times, second)}")
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
        coords |= axis_coordinates(self.row_frequencies, self.frame_times, sample_rate)
        return labelled(values, self.dims, coords, "coefficients")


def features(
    jtfs: JTFSPath,
    x: Tensor | FirstLayer,
    rows: Kept = "keep",
    frames: Kept = "keep",
    paths: PathIndices | None = None,
) -> Features:
    """Compute paths as one tensor with named coordinates: see :meth:`scrapl_jtfs.JTFSPath.features`."""
    _check_axis_choice(rows, "rows")
    _check_axis_choice(frames, "frames")
    ids = list(range(jtfs.n_paths)) if paths is None else jtfs.paths.indices(paths)
    if not ids:
        raise ValueError("Invalid paths: an empty sequence; expected at least one path, or None for all")
    row = None if rows == "mean" else row_axis(jtfs, ids)
    frame = None if frames == "mean" else frame_axis(jtfs, ids)
    aligned: dict[int, Tensor] = {}
    for p, phi in jtfs._coefficients(jtfs._as_first_layer(x, ids), ids):
        phi = phi.mean(-1, keepdim=True) if frame is None else frame.align(phi, p, -1)
        phi = phi.mean(-2, keepdim=True) if row is None else row.align(phi, p, -2)
        averaged = [dim for dim, axis in ((-2, row), (-1, frame)) if axis is None]
        aligned[p] = phi.squeeze(averaged)
    values = torch.stack([aligned[p] for p in ids], dim=-1 - (row is not None) - (frame is not None))
    return Features(
        values,
        tuple(jtfs.paths[p] for p in ids),
        None if row is None else row.coordinate,
        None if frame is None else frame.coordinate,
        None if row is None else torch.from_numpy(np.stack([row.is_covered(p) for p in ids])),
    )


def _check_axis_choice(value: object, name: str) -> None:
    if not isinstance(value, str) or value not in ("keep", "mean"):
        raise ValueError(f"Invalid {name}: {value!r}; expected 'keep', or 'mean' to average over them")


def _exact(values: Sequence[float]) -> Tensor:
    """Return numbers of the table in full precision, whatever the defaults of torch are."""
    return torch.tensor(values, dtype=torch.float64, device="cpu")
