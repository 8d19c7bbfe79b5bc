"""The filters of a transform: modules that own their constants and give the linear maps that they are applied by.

Everything is worked out once in NumPy float64 from the geometry and the wavelets; nothing here touches a signal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from scrapl_jtfs._transform.filterbank import ComplexArray, FloatArray
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


def as_pairs(x: FloatArray | ComplexArray) -> FloatArray:
    """Return real and imaginary parts side by side on a last axis."""
    return np.stack([x.real, x.imag], axis=-1)
