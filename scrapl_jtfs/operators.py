"""The constants of a transform: bands of its wavelets, matrices of its low-passes and frequential filters.

Everything is worked out once in NumPy float64 from the geometry and the wavelets; nothing here touches a signal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .filterbank import (
    ALIASING_DEVIATIONS,
    MIN_BANDWIDTH,
    Band,
    Wavelet,
    decimated,
    gauss_response,
    morlet_response,
    significant_band,
)
from .geometry import Geometry
from .paths import Banks

LARGEST_MATRIX = 2**20
"""Entries above which the low-pass along time is applied by FFT instead of by a matrix."""
NEGLIGIBLE_WEIGHT = 2e-8
"""Share of a coefficient below which a row along log-frequency is left out: under float32's resolution."""
NEGLIGIBLE_WEIGHT_COMPACT = 1e-5
"""The same for a compact transform, whose other errors are larger."""
SHORTEST_COMPACT = 1024
"""FFT length to which a compact sub-band is never cut: below, calls cost more than samples."""
READ_DEVIATIONS = 2.0
"""Standard deviations above its centre that a second-order wavelet must find in a compact first-order sub-band."""
SHORTEST_SHARED = 512
"""FFT length shared by all first-order sub-bands of a compact transform that could do with less."""

_Taps = TypeVar("_Taps", NDArray[np.float64], NDArray[np.complex128])


@dataclass(frozen=True)
class FirstOrder:
    """Scalogram filters that share one FFT length, on a regular grid of bins, from low to high frequency.

    Args:
        first: smallest n1 of the group.
        last: one past its largest n1; row f of the group is n1 = last - 1 - f.
        length: samples of each sub-band.
        start: first bin of row 0's band.
        step: bins from one row's band to the next one's.
        response: (filters, width, 2) float64, psi_{n1} / 2, real and (zero) imaginary parts.
    """

    first: int
    last: int
    length: int
    start: int
    step: int
    response: Tensor

    @property
    def stop(self) -> int:
        """One past the last bin read."""
        return self.start + (self.last - self.first - 1) * self.step + self.response.shape[1]


def subband_length(
    geometry: Geometry, psi: Wavelet, samples_per_bandwidth: float | None, least: float = 0.0
) -> int:
    """Return the samples of a sub-band: kymatio's, or fewer if ``samples_per_bandwidth`` bandwidths need fewer.

    The bandwidth is that from which kymatio derives its strides: five standard deviations on either side. There
    are never fewer than ``least``, unless kymatio's are.
    """
    exact = geometry.n_padded >> geometry.time.stride_of(psi.j)
    if samples_per_bandwidth is None:
        return exact
    wanted = max(least, samples_per_bandwidth * 2.0 * ALIASING_DEVIATIONS * psi.sigma * geometry.n_padded)
    power = 2 ** math.ceil(math.log2(max(wanted, SHORTEST_COMPACT)))
    return min(exact, 3 * power // 4 if 3 * power // 4 >= max(wanted, SHORTEST_COMPACT) else power)


def _first_length(geometry: Geometry, banks: Banks, psi: Wavelet, samples_per_bandwidth: float | None) -> int:
    """Return the samples of a first-order sub-band; a compact one holds the modulations that are read."""
    if samples_per_bandwidth is None:
        return subband_length(geometry, psi, None)
    read = max((w.xi + READ_DEVIATIONS * w.sigma for w in banks.second if w.j > psi.j), default=0.0)
    shared = min(SHORTEST_SHARED, geometry.n_padded)
    return max(shared, subband_length(geometry, psi, samples_per_bandwidth, 2.0 * read * geometry.n_padded))


def _band(geometry: Geometry, psi: Wavelet, length: int, samples_per_bandwidth: float | None) -> Band:
    """Return the bins of a wavelet that a sub-band of this length can hold.

    A compact sub-band holds the bandwidth in its lower half, which spares mirroring the rest.
    """
    compact = (
        samples_per_bandwidth is not None and length >= 4.0 * ALIASING_DEVIATIONS * psi.sigma * geometry.n_padded
    )
    widest = length // 2 - 1 if compact else length
    return significant_band(morlet_response(geometry.n_padded, psi.xi, psi.sigma), widest)


def first_order_filters(
    geometry: Geometry, banks: Banks, samples_per_bandwidth: float | None = None
) -> tuple[FirstOrder, ...]:
    """Group the first-order wavelets by FFT length, from high to low frequency."""
    lengths = [_first_length(geometry, banks, psi, samples_per_bandwidth) for psi in banks.first]
    result: list[FirstOrder] = []
    for length in sorted(set(lengths), reverse=True):
        first = lengths.index(length)
        last = first + lengths.count(length)
        bands = [_band(geometry, psi, length, samples_per_bandwidth) for psi in banks.first[first:last]]
        result += _grids(first, length, bands)
    return tuple(result)


def _grids(first: int, length: int, bands: Sequence[Band]) -> list[FirstOrder]:
    """Lay bands on a regular grid, or on several if windows that hold them would be too wide."""
    count, ascending = len(bands), bands[::-1]
    starts = [band.start for band in ascending]
    step = max(0, round((starts[-1] - starts[0]) / max(1, count - 1)))
    origin = min(start - f * step for f, start in enumerate(starts))
    offsets = [start - f * step - origin for f, start in enumerate(starts)]
    width = max(offset + len(band.values) for offset, band in zip(offsets, ascending, strict=True))
    if width >= length + (count == 1):
        half = count // 2
        return _grids(first, length, bands[:half]) + _grids(first + half, length, bands[half:])
    response = torch.zeros(count, width, 2, dtype=torch.float64)
    for row, offset, band in zip(response, offsets, ascending, strict=True):
        row[offset : offset + len(band.values), 0] = torch.from_numpy(band.values / 2)
    return [FirstOrder(first, first + count, length, origin, step, response)]


@dataclass(frozen=True)
class SecondOrder:
    """The band of one second-order wavelet.

    Args:
        length: samples of its output.
        start: its first bin.
        response: (width, 2) float64, psi_{n2} / 2, real and (zero) imaginary parts. It serves first-order outputs
            of every length: at the coarsest, the folded tail of a wavelet with j2 > j1 is more than ten standard
            deviations away.
    """

    length: int
    start: int
    response: Tensor

    @property
    def stop(self) -> int:
        """One past its last bin."""
        return self.start + self.response.shape[0]


def second_order_filter(
    geometry: Geometry, banks: Banks, n2: int, samples_per_bandwidth: float | None = None
) -> SecondOrder:
    """Return the band of psi_{n2}; compact only where an average hides the number of frames."""
    psi = banks.second[n2]
    samples_per_bandwidth = None if geometry.time.averaging == "none" else samples_per_bandwidth
    length = subband_length(geometry, psi, samples_per_bandwidth)
    band = _band(geometry, psi, length, samples_per_bandwidth)
    values = torch.from_numpy(band.values / 2)
    return SecondOrder(length, band.start, torch.stack([values, torch.zeros_like(values)], dim=-1))


@dataclass(frozen=True)
class TimeAverage:
    """What is done along time to |z|, from frames of one length to the unpadded frames of the output.

    Args:
        length: frames in.
        kept: unpadded frames among those that are left (all where a matrix is used).
        matrix: (frames out, frames in) float64, or None.
        response: (bins, 2) float64 response for :class:`SpectralAverage`, or None.
        n_out: its number of padded frames.
    """

    length: int
    kept: slice
    matrix: Tensor | None = None
    response: Tensor | None = None
    n_out: int = 0


def time_average(geometry: Geometry, exact_length: int, length: int) -> TimeAverage:
    """Return what is done along time to moduli of ``length`` frames whose kymatio stride leaves ``exact_length``.

    Fewer frames than kymatio's get the weights that give the same result to a signal without higher frequencies.
    """
    if geometry.time.averaging == "none":
        log2_stride = (geometry.n_padded // length).bit_length() - 1
        return TimeAverage(length, geometry.kept_frames(log2_stride))
    if geometry.time.averaging == "global":
        kept = geometry.kept_frames((geometry.n_padded // exact_length).bit_length() - 1)
        mean = np.zeros((1, exact_length))
        mean[:, kept] = 1.0 / (kept.stop - kept.start)
        return TimeAverage(length, slice(0, 1), matrix=_resampled(mean, length))
    return local_time_average(geometry, exact_length, length)


def local_time_average(geometry: Geometry, exact_length: int, length: int) -> TimeAverage:
    """Return the Gauss low-pass of support T followed by its stride and by unpadding."""
    log2_out = geometry.time.log2_stride
    phi = gauss_response(geometry.n_padded, MIN_BANDWIDTH / geometry.time.support)
    phi = decimated(phi, (geometry.n_padded // exact_length).bit_length() - 1)
    n_out = geometry.n_padded >> log2_out
    kept = geometry.kept_frames(log2_out)
    if (kept.stop - kept.start) * exact_length > LARGEST_MATRIX:
        half = min(length, exact_length) // 2
        bins = torch.zeros(min(half, n_out) + 1, 2, dtype=torch.float64)
        bins[:, 0] = torch.from_numpy(phi[: len(bins)].copy())
        if len(bins) == half + 1:
            bins[-1] /= 2.0  # half of the sampling rate stands for a pair of bins
        return TimeAverage(length, kept, response=bins, n_out=n_out)
    frames = np.arange(kept.start, kept.stop) * (exact_length // n_out)
    matrix = _circulant(np.fft.ifft(phi).real, frames, np.arange(exact_length))
    return TimeAverage(length, slice(0, kept.stop - kept.start), matrix=_resampled(matrix, length))


def _resampled(weights: NDArray[np.float64], length: int) -> Tensor:
    """Return the weights (..., length) that do to a signal's ``length`` samples what ``weights`` do to more."""
    if length != weights.shape[-1]:
        bins = np.fft.rfft(weights)[..., : length // 2 + 1]
        bins[..., -1] /= 2.0 if length > weights.shape[-1] else np.inf  # at half the lower sampling rate
        weights = np.fft.irfft(bins, n=length)
    return torch.from_numpy(weights.copy())


@dataclass(frozen=True)
class FrequentialFilter:
    """One filter psi_{n_fr} along log-frequency and the low-pass phi_F after its modulus.

    Rows are circular, with period n_rows_padded / stride, and rolled such that those that a path needs are
    consecutive: row 0 is row ``-reach`` of the axis.

    Args:
        matrix: (rows, n1, 2) float64, decimated circulant matrix of psi_nfr, real and imaginary parts; columns
            from low to high frequency.
        lowpass: (rows out, rows) float64 decimated circulant matrix of phi_F, or None.
        row_stride: first-order filters per row out as unpadding counts them.
        reach: rows before the first that was not rolled.
        mean: whether the kept rows are averaged into one.
        negligible: share of a coefficient below which a row is left out.
    """

    matrix: Tensor
    lowpass: Tensor | None
    row_stride: int
    reach: int
    mean: bool
    negligible: float

    def rows_out(self, n1_max: int) -> int:
        """Return the rows that unpadding keeps of a path fed by the first n1_max filters."""
        available = self.matrix.shape[0] if self.lowpass is None else self.lowpass.shape[0]
        return min(1 + n1_max // self.row_stride, available)

    def rows_in(self, n1_max: int) -> slice:
        """Return the rows that have to be computed for these: those that are heard and not empty."""
        rows_out = self.rows_out(n1_max)
        if self.lowpass is None:
            return slice(self.reach, self.reach + rows_out)
        fed = torch.linalg.vector_norm(self.matrix[:, -n1_max:], dim=-1).sum(-1)
        share = self.lowpass[:rows_out].abs() * fed
        share = (share / share.sum(-1, keepdim=True)).amax(0)
        needed = torch.nonzero(share > self.negligible)
        return slice(int(needed[0]), int(needed[-1]) + 1)


def frequential_filters(
    geometry: Geometry, banks: Banks, samples_per_bandwidth: float | None = None
) -> Iterator[FrequentialFilter]:
    """Yield the filters along log-frequency in the order of n_fr."""
    negligible = NEGLIGIBLE_WEIGHT if samples_per_bandwidth is None else NEGLIGIBLE_WEIGHT_COMPACT
    n, axis = geometry.n_rows_padded, geometry.frequency
    phi = gauss_response(n, MIN_BANDWIDTH / axis.support)
    columns = np.arange(len(banks.first))[::-1]
    for psi in banks.frequential:
        response = morlet_response(n, psi.xi, psi.sigma) if psi.xi else gauss_response(n, psi.sigma)
        taps = np.fft.ifft(response)
        log2_stride = axis.stride_of(psi.j)
        stride, row_stride, reach, lowpass = 2**log2_stride, 2**psi.j, 0, None
        if axis.averaging == "local" and psi.xi:
            row_stride = 2**axis.log2_stride
            reach = -(-_half_width(taps) // stride)
            phi_taps = np.fft.ifft(decimated(phi, log2_stride)).real
            outputs = np.arange(-(-n // row_stride)) * (row_stride // stride)
            lowpass = torch.from_numpy(_circulant(phi_taps, outputs, np.arange(n // stride) - reach))
        rows = (np.arange(n // stride) - reach) * stride
        matrix = torch.view_as_real(torch.from_numpy(_circulant(taps, rows, columns)))
        yield FrequentialFilter(matrix, lowpass, row_stride, reach, axis.averaging == "global", negligible)


def _circulant(taps: _Taps, outputs: NDArray[np.int64], inputs: NDArray[np.int64]) -> _Taps:
    """Return the matrix of a circular convolution, for some of its outputs and inputs."""
    return taps[(outputs[:, None] - inputs[None, :]) % len(taps)]


def _half_width(taps: NDArray[np.complex128]) -> int:
    """Return the lag beyond which a circular kernel is negligible."""
    weights = np.abs(taps[: len(taps) // 2 + 1])
    return int(np.flatnonzero(weights > NEGLIGIBLE_WEIGHT * weights.max())[-1])
