"""The constants of a transform: plans of bins, and the matrices of its low-pass and frequential filters.

Everything is worked out once in NumPy float64 from the geometry and the wavelets; nothing here touches a signal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .filterbank import (
    MIN_BANDWIDTH,
    decimated,
    gauss_response,
    morlet_response,
    significant_band,
)
from .geometry import Geometry
from .paths import Banks
from .subband import SubbandGroup, SubbandPlan, make_group

LARGEST_MATRIX = 2**20
"""Entries above which the low-pass along time is applied by FFT instead of by a matrix."""
NEGLIGIBLE_WEIGHT = 1e-8
"""Fraction of a kernel's peak below which it is cut along log-frequency: under float32's resolution."""

_Taps = TypeVar("_Taps", NDArray[np.float64], NDArray[np.complex128])


@dataclass(frozen=True)
class FirstOrder:
    """Scalogram filters of one scale j1.

    Args:
        j: the scale j1.
        group: their bins.
        response: (filters, widest band, 2) float64.
    """

    j: int
    group: SubbandGroup
    response: Tensor


def first_order_filters(geometry: Geometry, banks: Banks) -> tuple[FirstOrder, ...]:
    """Collect the first-order wavelets by scale j1, from fine to coarse."""
    n = geometry.n_padded
    result: list[FirstOrder] = []
    for j in sorted({psi.j for psi in banks.first}):
        length = n >> geometry.time.stride_of(j)
        bands = [
            significant_band(morlet_response(n, psi.xi, psi.sigma), length) for psi in banks.first if psi.j == j
        ]
        result.append(FirstOrder(j, *make_group(length, bands)))
    return tuple(result)


def second_order_filter(geometry: Geometry, banks: Banks, n2: int) -> tuple[SubbandGroup, Tensor]:
    """Return the bins of psi_{n2} and its (1, bins, 2) response.

    One response serves first-order outputs of every stride: at the coarsest, the folded tail of a wavelet with
    j2 > j1 is more than ten standard deviations away.
    """
    psi = banks.second[n2]
    length = geometry.n_padded >> geometry.time.stride_of(psi.j)
    band = significant_band(morlet_response(geometry.n_padded, psi.xi, psi.sigma), length)
    return make_group(length, [band])


def second_order_plan(geometry: Geometry, group: SubbandGroup, j1: int) -> SubbandPlan:
    """Return the plan that applies a second-order filter to the rows of scale j1."""
    return SubbandPlan(geometry.n_padded >> geometry.time.stride_of(j1), (group,))


@dataclass(frozen=True)
class TimeAverage:
    """The low-pass phi_T, from the frames of one stride to the unpadded frames of the output.

    Args:
        kept: unpadded frames among those that are left after the low-pass (all where a matrix is used).
        matrix: (frames in, frames out) float64, or None.
        response: response for :func:`scattering.average_time_by_fft`, or None.
        n_out: its number of padded frames.
    """

    kept: slice
    matrix: Tensor | None = None
    response: Tensor | None = None
    n_out: int = 0


def local_time_average(geometry: Geometry, log2_stride_in: int) -> TimeAverage:
    """Return the Gauss low-pass of support T followed by its stride and by unpadding."""
    log2_out = geometry.time.log2_stride
    phi = gauss_response(geometry.n_padded, MIN_BANDWIDTH / geometry.time.support)
    phi = decimated(phi, log2_stride_in)
    n_out = geometry.n_padded >> log2_out
    kept = geometry.kept_frames(log2_out)
    n_kept = kept.stop - kept.start
    if n_kept * len(phi) > LARGEST_MATRIX:
        bins = min(len(phi) // 2, n_out) + 1
        return TimeAverage(kept, response=torch.from_numpy(phi[:bins].copy()), n_out=n_out)
    taps = np.fft.ifft(phi).real
    frames = np.arange(kept.start, kept.stop) * 2 ** (log2_out - log2_stride_in)
    matrix = torch.from_numpy(_circulant(taps, frames, np.arange(len(phi)))).T.contiguous()
    return TimeAverage(slice(0, n_kept), matrix=matrix)


def global_time_average(geometry: Geometry, log2_stride_in: int) -> TimeAverage:
    """Return the mean over the unpadded frames."""
    kept = geometry.kept_frames(log2_stride_in)
    matrix = torch.zeros(geometry.n_padded >> log2_stride_in, 1, dtype=torch.float64)
    matrix[kept] = 1.0 / (kept.stop - kept.start)
    return TimeAverage(slice(0, 1), matrix=matrix)


def second_order_average(geometry: Geometry, j2: int) -> TimeAverage:
    """Return what is done along time to a second-order path of scale j2."""
    stride = geometry.time.stride_of(j2)
    if geometry.time.averaging == "none":
        return TimeAverage(geometry.kept_frames(stride))
    if geometry.time.averaging == "global":
        return global_time_average(geometry, stride)
    return local_time_average(geometry, stride)


@dataclass(frozen=True)
class FrequentialFilter:
    """One filter psi_{n_fr} along log-frequency and the low-pass phi_F after its modulus.

    Rows are circular, with period n_rows_padded / stride, and rolled such that those that a path needs are always
    the first few: row 0 is row ``-reach`` of the axis.

    Args:
        matrix: (rows, n1, 2) float64, decimated circulant matrix of psi_nfr, real and imaginary parts.
        lowpass: (rows out, rows) float64 decimated circulant matrix of phi_F, or None.
        stride: first-order filters per row.
        step: rows per row out.
        reach: rows on each side that psi_nfr carries a first-order filter to.
        reach_lowpass: rows on each side that a row out hears.
        row_stride: first-order filters per row out as unpadding counts them.
        mean: whether the kept rows are averaged into one.
    """

    matrix: Tensor
    lowpass: Tensor | None
    stride: int
    step: int
    reach: int
    reach_lowpass: int
    row_stride: int
    mean: bool

    def rows_out(self, n1_max: int) -> int:
        """Return the rows that unpadding keeps of a path fed by the first n1_max filters."""
        available = self.matrix.shape[0] if self.lowpass is None else self.lowpass.shape[0]
        return min(1 + n1_max // self.row_stride, available)

    def rows_in(self, n1_max: int) -> int:
        """Return the rows that have to be computed for these: those that are heard and not empty."""
        heard = (self.rows_out(n1_max) - 1) * self.step + self.reach_lowpass
        if self.lowpass is None:
            return heard + 1
        available = self.matrix.shape[0]
        last = (n1_max - 1) // self.stride + self.reach
        if (
            last < available - self.reach_lowpass
        ):  # otherwise the first outputs hear the last rows around the circle
            last = min(last, heard)
        return min(self.reach + last + 1, available)


def frequential_filters(geometry: Geometry, banks: Banks) -> Iterator[FrequentialFilter]:
    """Yield the filters along log-frequency in the order of n_fr."""
    n, axis = geometry.n_rows_padded, geometry.frequency
    phi = gauss_response(n, MIN_BANDWIDTH / axis.support)
    for psi in banks.frequential:
        response = morlet_response(n, psi.xi, psi.sigma) if psi.xi else gauss_response(n, psi.sigma)
        taps = np.fft.ifft(response)
        log2_stride = axis.stride_of(psi.j)
        stride, row_stride = 2**log2_stride, 2**psi.j
        lowpass, step, reach, reach_lowpass = None, 1, 0, 0
        if axis.averaging == "local" and psi.xi:
            row_stride = 2**axis.log2_stride
            step = row_stride // stride
            phi_taps = np.fft.ifft(decimated(phi, log2_stride)).real
            reach, reach_lowpass = -(-_half_width(taps) // stride), _half_width(phi_taps)
            outputs = np.arange(-(-n // row_stride))
            lowpass = torch.from_numpy(_circulant(phi_taps, outputs * step, np.arange(n // stride) - reach))
        rows = (np.arange(n // stride) - reach) * stride
        matrix = torch.view_as_real(torch.from_numpy(_circulant(taps, rows, np.arange(len(banks.first)))))
        yield FrequentialFilter(
            matrix, lowpass, stride, step, reach, reach_lowpass, row_stride, axis.averaging == "global"
        )


def _circulant(taps: _Taps, outputs: NDArray[np.int64], inputs: NDArray[np.int64]) -> _Taps:
    """Return the matrix of a circular convolution, for some of its outputs and inputs."""
    return taps[(outputs[:, None] - inputs[None, :]) % len(taps)]


def _half_width(taps: NDArray[Any]) -> int:
    """Return the lag beyond which a circular kernel, even in modulus, is negligible."""
    weights = np.abs(taps[: len(taps) // 2 + 1])
    return int(np.flatnonzero(weights > NEGLIGIBLE_WEIGHT * weights.max())[-1])
