"""Frequencies of rows and times of frames, and common axes of paths that differ in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scrapl_jtfs._transform.geometry import Geometry
from scrapl_jtfs._validation import as_path_index
from scrapl_jtfs.paths import Path, make_banks

if TYPE_CHECKING:
    from scrapl_jtfs.transform import JTFSPath


def row_frequencies(jtfs: JTFSPath, path_idx: int) -> Tensor:
    """Return the centre of each row: see :meth:`scrapl_jtfs.JTFSPath.row_frequencies`."""
    path = jtfs.paths[as_path_index(path_idx, jtfs.n_paths)]
    frequencies = wavelet_frequencies(jtfs)[_row_places(jtfs.geometry, path)]
    if jtfs.geometry.frequency.averaging == "global":
        frequencies = np.exp(np.log(frequencies).mean(keepdims=True))
    return torch.from_numpy(frequencies)


def frame_times(jtfs: JTFSPath, path_idx: int) -> Tensor:
    """Return the centre of each frame: see :meth:`scrapl_jtfs.JTFSPath.frame_times`."""
    path = jtfs.paths[as_path_index(path_idx, jtfs.n_paths)]
    if jtfs.geometry.time.averaging == "global":
        middle = (jtfs.geometry.n_samples - 1) / 2 / jtfs.sample_rate
        return torch.tensor([middle], dtype=torch.float64, device="cpu")
    return torch.from_numpy(_frame_places(jtfs.geometry, path) / jtfs.sample_rate)


def wavelet_frequencies(jtfs: JTFSPath) -> NDArray[np.float64]:
    """Return the centre frequencies in Hz of the first-order wavelets, and of one more place after them."""
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


def _frame_places(geometry: Geometry, path: Path) -> NDArray[np.float64]:
    """Return the sample at the centre of each frame of a path, before a mean over all of them."""
    time = geometry.time
    if path.j2 is None or time.averaging == "local":  # order 1 is averaged locally in any case
        return geometry.frame_centres(time.log2_stride, averaged=True)
    return geometry.frame_centres(path.j2, averaged=False)


class Axis(NamedTuple):
    """Axis that paths of several strides share: all the places that any of them has.

    Attributes:
        places: (n,) rising: filters, or samples.
        own_places: the places of each path, by its id.
        coordinate: (n,) frequencies or times of the places, float64.
        ends: for each path, the place from which on it has no coefficients.
    """

    places: NDArray[Any]
    own_places: dict[int, NDArray[Any]]
    coordinate: Tensor
    ends: dict[int, Any]

    def is_covered(self, path_idx: int) -> NDArray[np.bool_]:
        """Return (n,) True where a path has coefficients."""
        return self.places < self.ends[path_idx]

    def align(self, phi: Tensor, path_idx: int, dim: int) -> Tensor:
        """Interpolate coefficients linearly to the common places, with zeros where the path has none."""
        own = self.own_places[path_idx]
        if np.array_equal(own, self.places):
            return phi
        covered = self.is_covered(path_idx)
        position = np.interp(self.places, own, np.arange(len(own)))
        below = np.floor(position).astype(np.int64)
        result = phi.index_select(dim, torch.from_numpy(below).to(phi.device))
        if (position != below).any():
            above = np.minimum(below + 1, len(own) - 1)
            share = torch.from_numpy(position - below).to(phi.device, phi.dtype)
            upper = phi.index_select(dim, torch.from_numpy(above).to(phi.device))
            result = torch.lerp(result, upper, share if dim == -1 else share.unsqueeze(-1))
        if not covered.all():
            mask = torch.from_numpy(covered).to(phi.device)
            result = torch.where(mask if dim == -1 else mask.unsqueeze(-1), result, 0.0)
        return result


def row_axis(jtfs: JTFSPath, ids: Sequence[int]) -> Axis:
    """Return the axis of frequencies that some paths share."""
    own = {p: _row_places(jtfs.geometry, jtfs.paths[p]) for p in set(ids)}
    if jtfs.geometry.frequency.averaging == "global":
        widest = max(own, key=lambda p: len(own[p]))
        return _single_place(row_frequencies(jtfs, widest), own)
    places = np.unique(np.concatenate(list(own.values())))
    # A row stands for the stride that follows it, but for no wavelet that does not feed the path.
    strides = {p: int(o[1] - o[0]) if len(o) > 1 else 1 for p, o in own.items()}
    ends = {p: int(own[p][-1]) + strides[p] for p in own}
    return Axis(places, own, torch.from_numpy(wavelet_frequencies(jtfs)[places]), ends)


def frame_axis(jtfs: JTFSPath, ids: Sequence[int]) -> Axis:
    """Return the axis of times that some paths share."""
    own = {p: _frame_places(jtfs.geometry, jtfs.paths[p]) for p in set(ids)}
    if jtfs.geometry.time.averaging == "global":
        return _single_place(frame_times(jtfs, ids[0]), own)
    places = np.unique(np.concatenate(list(own.values())))
    return Axis(places, own, torch.from_numpy(places / jtfs.sample_rate), dict.fromkeys(own, places[-1] + 1))


def _single_place(coordinate: Tensor, ids: Iterable[int]) -> Axis:
    """Return the axis of a mean over all places."""
    place = np.zeros(1, dtype=np.int64)
    return Axis(place, dict.fromkeys(ids, place), coordinate, dict.fromkeys(ids, 1))
