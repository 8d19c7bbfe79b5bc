"""The design of the filters: lengths, bands, windows and averages, from sizes and wavelets.

Everything is worked out once in NumPy float64; nothing here touches a signal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache, partial
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from scrapl_jtfs._transform.filterbank import (
    ALIASING_DEVIATIONS,
    MIN_BANDWIDTH,
    Band,
    ComplexArray,
    FloatArray,
    Wavelet,
    decimated,
    gauss_band,
    gauss_response,
    morlet_band,
    morlet_response,
)
from scrapl_jtfs._transform.filters import (
    Ends,
    Filters,
    FirstOrder,
    Frequential,
    SecondOrder,
    TimeAverage,
    as_pairs,
)
from scrapl_jtfs._transform.geometry import Geometry
from scrapl_jtfs.paths import Banks, Path

# Entries above which the low-pass along time is applied by FFT instead of by a matrix.
LARGEST_MATRIX = 2**20
# Share of a coefficient below which a row along log-frequency is left out: under float32's resolution.
_NEGLIGIBLE_WEIGHT = 2e-8
# The same for a compact transform, whose other errors are larger.
_NEGLIGIBLE_WEIGHT_COMPACT = 1e-5
# FFT length to which a compact sub-band is never cut: below, calls cost more than samples.
_SHORTEST_COMPACT = 1024
# Standard deviations above its centre that a second-order wavelet must find in a compact first-order sub-band.
_READ_DEVIATIONS = 2.0
# FFT length shared by all first-order sub-bands of a compact transform that could do with less.
_SHORTEST_SHARED = 512

_Taps = TypeVar("_Taps", FloatArray, ComplexArray)


class Sampling(NamedTuple):
    """The filters that a continuation of signals at their ends takes.

    Attributes:
        ends: of signals.
        first_order: of the first layer.
        second_order: of the second layer.
        time_average: makes what is done along time, from sizes and the periods of moduli at kymatio's stride and
            at that of the transform.
        local_time_average: makes the low-pass, from the same.
    """

    ends: type[Ends]
    first_order: type[FirstOrder]
    second_order: type[SecondOrder]
    time_average: Callable[[Geometry, int, int], TimeAverage]
    local_time_average: Callable[[Geometry, int, int], TimeAverage]


def make_filters(
    geometry: Geometry,
    banks: Banks,
    paths: Sequence[Path],
    samples_per_bandwidth: float | None,
    sampling: Sampling,
) -> Filters:
    """Work out what the paths need, at kymatio's lengths or at those of a compact transform."""
    makers = sampling.time_average, sampling.local_time_average
    average, local_average = (cache(partial(make, geometry)) for make in makers)
    if geometry.time.averaging == "local":
        local_average = average
    first_order = any(path.order == 1 for path in paths)
    psi1 = first_order_filters(
        geometry, banks, sampling, samples_per_bandwidth, local_average if first_order else None
    )
    n2s = {path.n2 for path in paths if path.n2 is not None}
    psi2 = second_order_filters(geometry, banks, sampling, samples_per_bandwidth, average, n2s)
    psi_fr = list(frequential_filters(geometry, banks, samples_per_bandwidth))
    half = len(psi_fr) // 2
    for up, down in zip(range(1, half + 1), range(half + 1, len(psi_fr)), strict=True):
        if psi_fr[up].is_mirror_of(psi_fr[down]):
            psi_fr[up].mirror, psi_fr[down].mirror = down, up
    counts = sorted({path.n_rows for path in paths})
    for n_fr, psi in enumerate(psi_fr):
        # One of a pair decides for both, which are computed together; rounding could tell their rows apart.
        first = n_fr if psi.mirror is None else min(n_fr, psi.mirror)
        psi.rows = psi_fr[first].rows if first < n_fr else psi.needed_rows(counts)
    return Filters(sampling.ends(geometry), psi1, psi2, psi_fr)


def _exact_length(geometry: Geometry, psi: Wavelet) -> int:
    """Return the samples of a sub-band at kymatio's stride."""
    return geometry.n_padded >> geometry.time.stride_of(psi.j)


def _subband_length(
    geometry: Geometry, psi: Wavelet, samples_per_bandwidth: float | None, least: float = 0.0
) -> int:
    """Return the samples of a sub-band: kymatio's, or fewer if ``samples_per_bandwidth`` asks for fewer.

    The bandwidth is that from which kymatio derives its strides: five standard deviations on either side. There
    are never fewer than ``least``, unless kymatio's are.
    """
    exact = _exact_length(geometry, psi)
    if samples_per_bandwidth is None:
        return exact
    needed = max(least, samples_per_bandwidth * 2.0 * ALIASING_DEVIATIONS * psi.sigma * geometry.n_padded)
    needed = max(needed, _SHORTEST_COMPACT)
    # FFTs are fast at lengths 2**k and 3 * 2**k.
    power = 2 ** math.ceil(math.log2(needed))
    return min(exact, 3 * power // 4 if 3 * power // 4 >= needed else power)


def _first_order_length(
    geometry: Geometry, banks: Banks, psi: Wavelet, samples_per_bandwidth: float | None
) -> int:
    """Return the samples of a first-order sub-band; a compact one holds the modulations that are read."""
    if samples_per_bandwidth is None:
        return _exact_length(geometry, psi)
    read = max((w.xi + _READ_DEVIATIONS * w.sigma for w in banks.second if w.j > psi.j), default=0.0)
    shared = min(_SHORTEST_SHARED, geometry.n_padded)
    return max(shared, _subband_length(geometry, psi, samples_per_bandwidth, 2.0 * read * geometry.n_padded))


def _band(geometry: Geometry, psi: Wavelet, length: int, samples_per_bandwidth: float | None) -> Band:
    """Return the bins of a wavelet that a sub-band of this length can hold.

    A compact sub-band holds the bandwidth in its lower half, which spares mirroring the rest.
    """
    bandwidth = 2.0 * ALIASING_DEVIATIONS * psi.sigma * geometry.n_padded
    compact = samples_per_bandwidth is not None and length >= 2.0 * bandwidth
    widest = length // 2 - 1 if compact else length
    return morlet_band(geometry.n_padded, psi.xi, psi.sigma, widest)


def first_order_filters(
    geometry: Geometry,
    banks: Banks,
    sampling: Sampling,
    samples_per_bandwidth: float | None,
    average: Callable[[int, int], TimeAverage] | None,
) -> list[FirstOrder]:
    """Group the first-order wavelets by FFT length, from high to low frequency.

    Args:
        geometry: sizes of the transform.
        banks: its wavelets.
        sampling: what filters are made of.
        samples_per_bandwidth: None for kymatio's lengths.
        average: makes what is done along time for paths of order 1; None without these.
    """
    lengths = [_first_order_length(geometry, banks, psi, samples_per_bandwidth) for psi in banks.first]
    filters: list[FirstOrder] = []
    for length in sorted(set(lengths), reverse=True):
        first = lengths.index(length)
        last = first + lengths.count(length)
        bands = [_band(geometry, psi, length, samples_per_bandwidth) for psi in banks.first[first:last]]
        for begin, end, start, step, response in _grids(first, length, bands):
            exact = _exact_length(geometry, banks.first[begin])
            averaged = average(exact, length) if average is not None else None
            filters.append(sampling.first_order(begin, end, length, start, step, response, averaged))
    return filters


def second_order_filters(
    geometry: Geometry,
    banks: Banks,
    sampling: Sampling,
    samples_per_bandwidth: float | None,
    average: Callable[[int, int], TimeAverage],
    n2s: Collection[int],
) -> dict[int, SecondOrder]:
    """Make some second-order wavelets, by n2, with what is done along time after their moduli."""
    psi2: dict[int, SecondOrder] = {}
    for n2 in sorted(n2s):
        length, band = _second_order_band(geometry, banks.second[n2], samples_per_bandwidth)
        averaged = average(_exact_length(geometry, banks.second[n2]), length)
        psi2[n2] = sampling.second_order(length, band.start, as_pairs(band.values / 2), averaged)
    return psi2


def _grids(first: int, length: int, bands: Sequence[Band]) -> Iterator[tuple[int, int, int, int, FloatArray]]:
    """Lay bands on a regular grid, or on several if windows that hold them would be too wide.

    Yields:
        The first n1 and one past the last, the first bin, the step from row to row, and the windows.
    """
    count, ascending = len(bands), bands[::-1]
    starts = [band.start for band in ascending]
    step = max(0, round((starts[-1] - starts[0]) / max(1, count - 1)))
    # The grid begins where no band begins before its window; offsets are the zeros that windows begin with.
    origin = min(start - f * step for f, start in enumerate(starts))
    offsets = [start - f * step - origin for f, start in enumerate(starts)]
    width = max(offset + len(band.values) for offset, band in zip(offsets, ascending, strict=True))
    if width >= length + (count == 1):
        half = count // 2
        yield from _grids(first, length, bands[:half])
        yield from _grids(first + half, length, bands[half:])
        return
    response = np.zeros((count, width))
    for row, offset, band in zip(response, offsets, ascending, strict=True):
        row[offset : offset + len(band.values)] = band.values / 2
    yield first, first + count, origin, step, as_pairs(response)


def _second_order_band(geometry: Geometry, psi: Wavelet, samples_per_bandwidth: float | None) -> tuple[int, Band]:
    """Return the length and the band of psi_{n2}; compact only where an average hides the number of frames."""
    samples_per_bandwidth = None if geometry.time.averaging == "none" else samples_per_bandwidth
    length = _subband_length(geometry, psi, samples_per_bandwidth)
    return length, _band(geometry, psi, length, samples_per_bandwidth)


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
    phi = gauss_band(geometry.n_padded, MIN_BANDWIDTH / geometry.time.support).folded(exact_length)
    n_out = geometry.n_padded >> log2_out
    kept = geometry.kept_frames(log2_out)
    if (kept.stop - kept.start) * exact_length > LARGEST_MATRIX:
        half = min(length, exact_length) // 2
        bins = phi[: min(half, n_out) + 1].copy()
        if len(bins) == half + 1:
            bins[-1] /= 2.0  # half of the sampling rate stands for a pair of bins
        return TimeAverage(length, kept, n_out, response=as_pairs(bins))
    taps, matrix_length = np.fft.irfft(phi[: exact_length // 2 + 1], n=exact_length), exact_length
    if length % n_out == 0:  # frames fall on samples after resampling as well
        taps, matrix_length = _resampled(taps, length), length
    frames = np.arange(kept.start, kept.stop) * (matrix_length // n_out)
    matrix = _circulant(taps, frames, np.arange(matrix_length))
    return TimeAverage(length, slice(0, kept.stop - kept.start), matrix=_resampled(matrix, length))


REFLECTED = Sampling(Ends, FirstOrder, SecondOrder, time_average, local_time_average)
"""Kymatio's continuation: reflected, and padded to a power of two."""


def _resampled(weights: FloatArray, length: int) -> FloatArray:
    """Return the weights (..., length) that do to a signal's ``length`` samples what ``weights`` do to more."""
    if length == weights.shape[-1]:
        return weights
    bins = np.fft.rfft(weights)[..., : length // 2 + 1]
    bins[..., -1] /= 2.0 if length > weights.shape[-1] else np.inf  # at half the lower sampling rate
    return np.fft.irfft(bins, n=length)


def frequential_filters(
    geometry: Geometry, banks: Banks, samples_per_bandwidth: float | None = None
) -> Iterator[Frequential]:
    """Yield the filters along log-frequency in the order of n_fr."""
    negligible = _NEGLIGIBLE_WEIGHT if samples_per_bandwidth is None else _NEGLIGIBLE_WEIGHT_COMPACT
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
            lowpass = _circulant(phi_taps, outputs, np.arange(n // stride) - reach)
        rows = (np.arange(n // stride) - reach) * stride
        matrix = _circulant(taps, rows, columns)
        yield Frequential(matrix, lowpass, row_stride, reach, axis.averaging == "global", negligible)


def _circulant(taps: _Taps, outputs: NDArray[np.int64], inputs: NDArray[np.int64]) -> _Taps:
    """Return the matrix of a circular convolution, for some of its outputs and inputs."""
    return taps[(outputs[:, None] - inputs[None, :]) % len(taps)]


def _half_width(taps: ComplexArray) -> int:
    """Return the lag beyond which a circular kernel is negligible."""
    weights = np.abs(taps[: len(taps) // 2 + 1])
    return int(np.flatnonzero(weights > _NEGLIGIBLE_WEIGHT * weights.max())[-1])
