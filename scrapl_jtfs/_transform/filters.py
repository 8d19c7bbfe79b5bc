"""The filters of a transform: modules that own their constants and give the linear maps that they are applied by.

Everything is worked out once in NumPy float64 from the geometry and the wavelets; nothing here touches a signal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import NamedTuple, Protocol, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

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
from scrapl_jtfs._transform.geometry import Geometry
from scrapl_jtfs._transform.linear.autograd import AddingMap, LinearMap, SizedMap, apply_linear
from scrapl_jtfs._transform.linear.decimation import (
    LowSpectrum,
    decimation_correction,
    decimation_factors,
    decimation_window,
)
from scrapl_jtfs._transform.linear.filters_and_averages import (
    Crop,
    Matrix,
    Reflection,
    RowFilter,
    SpectralAverage,
    SpinPair,
)
from scrapl_jtfs._transform.linear.spectra import CommonBand, Spectrum, Subbands
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


class Constants(nn.Module):
    """A module whose buffers follow every move and stay exact: float64 in NumPy, where no move reaches them.

    None of them is in a state dict.

    Args:
        exact: every constant by name; complex ones as pairs of real numbers on the last axis, since conversions of
            a module's dtype would drop imaginary parts.
    """

    def __init__(self, **exact: FloatArray) -> None:
        super().__init__()
        self._exact = exact
        dtype = _filter_dtype(torch.get_default_dtype())
        for name, constant in exact.items():
            self.register_buffer(name, torch.tensor(constant, dtype=dtype, device="cpu"), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Constants:
        def move(tensor: Tensor) -> Tensor:
            try:
                return fn(tensor)
            except NotImplementedError:
                if not tensor.is_meta:
                    raise
                # Off the meta device, where numbers were lost that the exact constants give back below.
                return fn(torch.empty_like(tensor, device="cpu"))

        super()._apply(move, recurse)
        for name, constant in self._exact.items():
            moved = self.get_buffer(name)
            if moved.device.type == "meta":
                continue
            # A change to float64 must not keep float32's rounding, nor to_empty what memory held.
            exact = torch.tensor(constant, dtype=_filter_dtype(moved.dtype), device=moved.device)
            if moved.dtype != exact.dtype or not torch.equal(moved, exact):
                setattr(self, name, exact)
        return self


def _filter_dtype(dtype: torch.dtype) -> torch.dtype:
    """Half precision cannot hold the filters."""
    return torch.float64 if dtype == torch.float64 else torch.float32


class Ends(Constants):
    """The continuation of signals beyond their ends, and its spectrum.

    Args:
        geometry: sizes of the transform.
    """

    def __init__(self, geometry: Geometry, **exact: FloatArray) -> None:
        super().__init__(**exact)
        self.geometry = geometry

    def continuation(self) -> LinearMap:
        """Return the map from signals (batch, n_samples) to the samples that are computed with."""
        return Reflection(self.geometry.pad_left, self.geometry.pad_right)

    def period(self) -> LinearMap:
        """Return the map from signals (batch, n_samples) to a whole period (batch, n_padded)."""
        return self.continuation()

    def spectrum(self, first: int, last: int) -> SizedMap:
        """Return the map from the samples that are computed with to the bins from ``first`` to before ``last``."""
        return Spectrum(self.geometry.n_padded, first, last)


class Decimation(Constants):
    """The constants of :class:`LowSpectrum` for signals of one length.

    Args:
        length: samples of the signals.
        factor: samples of a block.
    """

    window: Tensor
    correction: Tensor

    def __init__(self, length: int, factor: int) -> None:
        correction = as_pairs(decimation_correction(length, factor))
        super().__init__(window=decimation_window(factor), correction=correction)
        self.most_bins = len(correction)  # that it leaves intact


class TimeAverage(Constants):
    """phi_T, or what else is done along time to moduli, from frames of one length to unpadded frames.

    Args:
        length: frames in.
        kept: unpadded frames among those that are left (all where a matrix is used).
        n_out: number of padded frames out, where the low-pass is applied by FFT.
        constant: ``matrix``, (frames out, frames in), or ``response``, (bins, 2), of the low-pass; none to crop.
    """

    matrix: Tensor
    response: Tensor

    def __init__(self, length: int, kept: slice, n_out: int = 0, **constant: FloatArray) -> None:
        super().__init__(**constant)
        self.length, self.kept, self.n_out = length, kept, n_out

    def map(self) -> LinearMap:
        """Return the map from moduli (..., frames in) to (..., frames out)."""
        if "matrix" in self._exact:
            return Matrix(self.matrix, dim=-1)
        if "response" in self._exact:
            return SpectralAverage(self._spectrum(), torch.view_as_complex(self.response), self.n_out, self.kept)
        return Crop(self.length, self.kept)

    def _spectrum(self) -> SizedMap:
        """Return the map from frames to the bins that the low-pass reads."""
        return Spectrum(self.length, 0, len(self.response))


class SubbandMap(AddingMap, SizedMap, Protocol):
    """A linear map from a spectrum to the planes of several sub-bands."""


class FirstOrder(Constants):
    """psi_n1 of wavelets whose sub-bands have one length, on a regular grid of bins, from low to high frequency.

    Args:
        first: smallest n1 of the group.
        last: one past its largest n1; row f of the group is n1 = last - 1 - f.
        period: samples of a whole period of each sub-band.
        start: first bin of row 0's band.
        step: bins from one row's band to the next one's.
        response: (filters, width, 2) psi_{n1} / 2, real and (zero) imaginary parts.
        average: phi_T after the modulus, for paths of order 1; None without these.

    Attributes:
        length: samples of each sub-band that are computed.
    """

    response: Tensor
    average: TimeAverage | None

    def __init__(
        self,
        first: int,
        last: int,
        period: int,
        start: int,
        step: int,
        response: FloatArray,
        average: TimeAverage | None = None,
    ) -> None:
        super().__init__(**self._constants(response, period))
        self.first, self.last, self.period, self.start, self.step = first, last, period, start, step
        self.length = self._computed(period)
        self.stop = start + (last - first - 1) * step + response.shape[1]  # one past the last bin read
        self.average = average
        # By the largest factor first, which is the fastest.
        factors = decimation_factors(self.length)
        self._decimations = nn.ModuleList(Decimation(self.length, factor) for factor in factors)

    @staticmethod
    def _constants(response: FloatArray, period: int) -> dict[str, FloatArray]:
        """Return the constants by name, given psi_{n1} / 2."""
        return {"response": response}

    @staticmethod
    def _computed(period: int) -> int:
        """Return how many samples of a period are computed."""
        return period

    def subbands(self, rows: slice, first_bin: int, n_bins: int) -> SubbandMap:
        """Return the map from bins of x^, from ``first_bin`` on, to the planes of x * psi_n1 of some rows."""
        return self.sampled(rows, first_bin, n_bins, self.length)

    def sampled(self, rows: slice, first_bin: int, n_bins: int, length: int) -> Subbands:
        """Return the map from complex bins to planes of ``length`` samples, the first at the start of a period."""
        response = torch.view_as_complex(self.response)[rows]
        return Subbands(n_bins, self.start + rows.start * self.step - first_bin, self.step, response, length)

    def low_spectrum(self, n_bins: int) -> SizedMap:
        """Return the map from rows of U1 to the first bins of U1^."""
        return self._decimated(n_bins) or Spectrum(self.length, 0, n_bins)

    def _decimated(self, n_bins: int) -> LowSpectrum | None:
        """Return the map to the first bins by decimation, None where it does not reach so far or is too coarse."""
        # Decimation is off by 1e-8, which is below float32's rounding alone.
        if self.response.dtype == torch.float32:
            for decimation in cast("Sequence[Decimation]", self._decimations):
                if n_bins <= decimation.most_bins:
                    correction = torch.view_as_complex(decimation.correction)[:n_bins]
                    return LowSpectrum(self.length, decimation.window, correction)
        return None


class SecondOrder(Constants):
    """psi_n2 of one wavelet, and phi_T after the modulus.

    Args:
        period: samples of a whole period of its output.
        start: its first bin.
        response: (width, 2) psi_{n2} / 2, real and (zero) imaginary parts. It is right for first-order outputs of
            every length: at the coarsest, the folded tail of a wavelet with j2 > j1 is more than ten standard
            deviations away.
        average: what is done along time; modules of equal lengths share it.

    Attributes:
        length: samples of its output that are computed.
    """

    response: Tensor

    def __init__(self, period: int, start: int, response: FloatArray, average: TimeAverage) -> None:
        super().__init__(response=response)
        self.length, self.start, self.average = average.length, start, average
        self.n_bins = max(start + len(response), 1 - start)  # of the spectra that it reads, from bin 0 on

    def band(self, groups: Sequence[tuple[int, int]]) -> SizedMap:
        """Return the map from U1^, in groups of (rows, bins), to the planes of U1 * psi_n2."""
        return CommonBand(tuple(groups), self.start, torch.view_as_complex(self.response), self.length)


class Frequential(Constants):
    """psi_{n_fr} along log-frequency, and the low-pass phi_F after its modulus.

    Rows are circular, with period n_rows_padded / stride, and rolled such that those that a path needs are
    consecutive: row 0 is row ``-reach`` of the axis.

    Args:
        matrix: (rows, n1) decimated circulant matrix of psi_nfr; columns from low to high frequency.
        lowpass: (rows out, rows) decimated circulant matrix of phi_F, or None.
        row_stride: first-order filters per row out as unpadding counts them.
        reach: rows before the first that was not rolled.
        mean: whether the kept rows are averaged into one.
        negligible: share of a coefficient below which a row is left out.

    Attributes:
        mirror: n_fr of the same filter with the opposite spin, None where there is none.
        rows: by number of rows in, the rows that have to be computed and how many leave the low-pass.
    """

    matrix: Tensor
    lowpass: Tensor

    def __init__(
        self,
        matrix: ComplexArray,
        lowpass: FloatArray | None,
        row_stride: int,
        reach: int,
        mean: bool,
        negligible: float,
    ) -> None:
        lowpasses = {} if lowpass is None else {"lowpass": lowpass}
        super().__init__(matrix=as_pairs(matrix), **lowpasses)
        self.has_lowpass, self.mean = lowpass is not None, mean
        self._row_stride, self._reach, self._negligible = row_stride, reach, negligible
        self.mirror: int | None = None
        self.rows: dict[int, tuple[slice, int]] = {}

    def needed_rows(self, counts: Sequence[int]) -> dict[int, tuple[slice, int]]:
        """Return the rows that paths fed by n_rows filters have to compute, and how many they end with, by n_rows.

        Unpadding keeps the rows out; for these, only rows that are heard and not empty are computed.
        """
        matrix, lowpass = self._exact["matrix"], self._exact.get("lowpass")
        length = len(matrix if lowpass is None else lowpass)
        rows_out = {n_rows: min(1 + n_rows // self._row_stride, length) for n_rows in counts}
        if lowpass is None:
            return {n_rows: (slice(self._reach, self._reach + out), out) for n_rows, out in rows_out.items()}
        weights, magnitudes = np.abs(lowpass), np.sqrt(np.square(matrix).sum(-1))
        rows: dict[int, tuple[slice, int]] = {}
        for n_rows, out in rows_out.items():
            share = weights[:out] * magnitudes[:, -n_rows:].sum(-1)
            needed = np.flatnonzero((share / share.sum(-1, keepdims=True)).max(0) > self._negligible)
            rows[n_rows] = slice(int(needed[0]), int(needed[-1]) + 1), out
        return rows

    def is_mirror_of(self, other: Frequential) -> bool:
        """Tell whether two filters are conjugate to rounding (if aliased, opposite spins need not be)."""
        a, b = self._exact["matrix"], other._exact["matrix"]
        return a.shape == b.shape and np.allclose(a, b * np.array([1.0, -1.0]), rtol=0.0, atol=1e-13)

    def row_filter(self, rows: slice, n_rows: int, *, of_planes: bool) -> RowFilter:
        """Return some rows of psi_nfr for n_rows rows in: for real ones, or for the planes of complex ones."""
        c, s = self.matrix[rows, -n_rows:].unbind(-1)
        if not of_planes:
            return RowFilter(torch.cat([c, s]))
        return RowFilter(torch.cat([torch.cat([c, -s], dim=1), torch.cat([s, c], dim=1)]))

    def spin_pair(self, rows: slice, n_rows: int) -> SpinPair:
        """Return the same of psi_nfr and of its mirror in spin together."""
        return SpinPair(torch.cat(self.matrix[rows, -n_rows:].unbind(-1)))

    def average(self, u: Tensor, n_rows: int) -> Tensor:
        """Apply phi_F, or what else is done along log-frequency, to moduli (batch, rows, frames)."""
        if not self.has_lowpass:
            return u.mean(-2, keepdim=True) if self.mean else u
        rows, rows_out = self.rows[n_rows]
        # As a linear map, since its backward keeps autocast out, which matmul's does not.
        return apply_linear(Matrix(self.lowpass[:rows_out, rows], dim=-2), u)


class Filters(nn.Module):
    """All filters of one transform.

    They are a module of their own so that the transform's attributes are those that users look for.

    Args:
        ends: of signals.
        psi1: first-order filters, from high to low frequency.
        psi2: second-order filters by n2.
        psi_fr: filters along log-frequency by n_fr.
    """

    def __init__(
        self,
        ends: Ends,
        psi1: Sequence[FirstOrder],
        psi2: dict[int, SecondOrder],
        psi_fr: Sequence[Frequential],
    ) -> None:
        super().__init__()
        self.geometry, self.ends = ends.geometry, ends
        # Sequences of modules, by which they become parts of this one.
        self.psi1 = cast("Sequence[FirstOrder]", nn.ModuleList(psi1))
        self._psi2 = nn.ModuleDict({str(n2): psi for n2, psi in psi2.items()})
        self.psi_fr = cast("Sequence[Frequential]", nn.ModuleList(psi_fr))

    def psi2(self, n2: int) -> SecondOrder:
        """Return psi_n2."""
        return cast("SecondOrder", self._psi2[str(n2)])

    @property
    def like(self) -> Tensor:
        """Any of the constants: all have one dtype and device."""
        return self.psi1[0].response

    def __repr__(self) -> str:
        buffers = list(self.buffers())
        return f"Filters({len(buffers)} arrays, {sum(buffer.nbytes for buffer in buffers)} bytes)"


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
    psi2: dict[int, SecondOrder] = {}
    for n2 in sorted({path.n2 for path in paths if path.n2 is not None}):
        length, band = _second_order_band(geometry, banks.second[n2], samples_per_bandwidth)
        averaged = average(_exact_length(geometry, banks.second[n2]), length)
        psi2[n2] = sampling.second_order(length, band.start, as_pairs(band.values / 2), averaged)
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
    local_average: Callable[[int, int], TimeAverage] | None,
) -> list[FirstOrder]:
    """Group the first-order wavelets by FFT length, from high to low frequency; averaged only for order 1."""
    lengths = [_first_order_length(geometry, banks, psi, samples_per_bandwidth) for psi in banks.first]
    filters: list[FirstOrder] = []
    for length in sorted(set(lengths), reverse=True):
        first = lengths.index(length)
        last = first + lengths.count(length)
        bands = [_band(geometry, psi, length, samples_per_bandwidth) for psi in banks.first[first:last]]
        for begin, end, start, step, response in _grids(first, length, bands):
            exact = _exact_length(geometry, banks.first[begin])
            average = local_average(exact, length) if local_average is not None else None
            filters.append(sampling.first_order(begin, end, length, start, step, response, average))
    return filters


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


def as_pairs(x: FloatArray | ComplexArray) -> FloatArray:
    """Return real and imaginary parts side by side on a last axis."""
    return np.stack([x.real, x.imag], axis=-1)


def _circulant(taps: _Taps, outputs: NDArray[np.int64], inputs: NDArray[np.int64]) -> _Taps:
    """Return the matrix of a circular convolution, for some of its outputs and inputs."""
    return taps[(outputs[:, None] - inputs[None, :]) % len(taps)]


def _half_width(taps: ComplexArray) -> int:
    """Return the lag beyond which a circular kernel is negligible."""
    weights = np.abs(taps[: len(taps) // 2 + 1])
    return int(np.flatnonzero(weights > _NEGLIGIBLE_WEIGHT * weights.max())[-1])
