"""The filters of signals that are continued evenly: those of kymatio's continuation, at half the samples.

Bins and responses are the same; the samples of half a period replace those of a whole one, see
:mod:`scrapl_jtfs._transform.linear.even`. Frames that are averaged stand where kymatio's do, at multiples of the
stride from the first sample on. Frames that are not averaged stand in the middle of the samples of their stride.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scrapl_jtfs._transform.filter_design import LARGEST_MATRIX, Sampling
from scrapl_jtfs._transform.filterbank import MIN_BANDWIDTH, FloatArray, gauss_band
from scrapl_jtfs._transform.filters import (
    Ends,
    FirstOrder,
    SecondOrder,
    SubbandMap,
    TimeAverage,
    as_pairs,
)
from scrapl_jtfs._transform.geometry import Geometry
from scrapl_jtfs._transform.linear.autograd import LinearMap, SizedMap
from scrapl_jtfs._transform.linear.even import (
    EvenCommonBand,
    EvenCrop,
    EvenExtension,
    EvenLowSpectrum,
    EvenReflection,
    EvenSpectrum,
    EvenSubbands,
    band_twiddle,
    even_order,
)
from scrapl_jtfs._transform.linear.spectra import Subbands


class EvenEnds(Ends):
    """The even continuation of signals beyond their ends, and its spectrum.

    Args:
        geometry: sizes of the transform.
    """

    twiddle: Tensor

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry, twiddle=_spectrum_twiddle(geometry.n_computed))

    def continuation(self) -> EvenReflection:
        """Return the map from signals (batch, n_samples) to the samples that are computed with."""
        return EvenReflection(self.geometry.n_samples, self.geometry.n_computed)

    def period(self) -> EvenExtension:
        """Return the map from signals (batch, n_samples) to a whole period (batch, n_padded)."""
        return EvenExtension(self.geometry.n_samples, self.geometry.n_computed)

    def spectrum(self, first: int, last: int) -> EvenSpectrum:
        """Return the map from the samples that are computed with to the bins from ``first`` to before ``last``."""
        return EvenSpectrum(self.geometry.n_computed, first, last, torch.view_as_complex(self.twiddle))


class EvenFirstOrder(FirstOrder):
    """psi_n1 on real bins: arguments as in :class:`FirstOrder`."""

    twiddle: Tensor

    @staticmethod
    def _constants(response: FloatArray, period: int) -> dict[str, FloatArray]:
        turned = response[..., 0] * band_twiddle(response.shape[1], period // 2)
        return {"response": as_pairs(turned), "twiddle": _spectrum_twiddle(period // 2)}

    @staticmethod
    def _computed(period: int) -> int:
        return period // 2

    def subbands(self, rows: slice, first_bin: int, n_bins: int) -> SubbandMap:
        """Return the map from bins of x^, from ``first_bin`` on, to the planes of x * psi_n1 of some rows."""
        start = self.start + rows.start * self.step - first_bin
        return EvenSubbands(n_bins, start, self.step, torch.view_as_complex(self.response)[rows], self.length)

    def sampled(self, rows: slice, first_bin: int, n_bins: int, length: int) -> Subbands:
        """Return the map from complex bins to planes of ``length`` samples, the first at the start of a period."""
        plain = super().sampled(rows, first_bin, n_bins, length)
        twiddle = torch.from_numpy(band_twiddle(self.response.shape[1], self.length).conj()).to(plain.response)
        return Subbands(plain.bins, plain.start, plain.step, plain.response * twiddle, length)

    def low_spectrum(self, n_bins: int) -> SizedMap:
        """Return the map from rows of U1 to the first bins of U1^."""
        twiddle, decimated = torch.view_as_complex(self.twiddle), self._decimated(n_bins)
        if decimated is not None:
            return EvenLowSpectrum(decimated, twiddle[:n_bins])
        return EvenSpectrum(self.length, 0, n_bins, twiddle)


class EvenSecondOrder(SecondOrder):
    """psi_n2 on real bins: arguments as in :class:`SecondOrder`."""

    def __init__(self, period: int, start: int, response: FloatArray, average: TimeAverage) -> None:
        turned = response[..., 0] * band_twiddle(len(response), period // 2)
        super().__init__(period, start, as_pairs(turned), average)

    def band(self, groups: Sequence[tuple[int, int]]) -> EvenCommonBand:
        """Return the map from U1^, in groups of (rows, bins), to the planes of U1 * psi_n2."""
        return EvenCommonBand(tuple(groups), self.start, torch.view_as_complex(self.response), self.length)


class EvenTimeAverage(TimeAverage):
    """phi_T, or what else is done along time to moduli: arguments as in :class:`TimeAverage`."""

    twiddle: Tensor

    def map(self) -> LinearMap:
        """Return the map from moduli (..., frames in) to (..., frames out)."""
        if "matrix" in self._exact or "response" in self._exact:
            return super().map()
        return EvenCrop(self.length, self.kept.stop)

    def _spectrum(self) -> SizedMap:
        return EvenSpectrum(self.length, 0, len(self.response), torch.view_as_complex(self.twiddle))


def even_time_average(geometry: Geometry, exact_period: int, period: int) -> EvenTimeAverage:
    """Return what is done along time to moduli: arguments as in :func:`filter_design.time_average`."""
    if geometry.time.averaging == "local":
        return even_local_time_average(geometry, exact_period, period)
    n, exact = period // 2, exact_period // 2
    kept = geometry.kept_frames((geometry.n_padded // exact_period).bit_length() - 1)
    if geometry.time.averaging == "none":
        return EvenTimeAverage(n, kept)
    mean = np.zeros((1, exact))
    mean[:, kept] = 1.0 / kept.stop
    return EvenTimeAverage(n, slice(0, 1), matrix=_resampled(mean, n)[:, even_order(n)])


def even_local_time_average(geometry: Geometry, exact_period: int, period: int) -> EvenTimeAverage:
    r"""Return the Gauss low-pass of support T followed by its stride: arguments as in :func:`even_time_average`.

    The cosine series of moduli u at n samples, times the low-pass, evaluated where frames stand:

    .. math:: S(t) = \frac{1}{n} \sum_{|q| < n} \hat\phi[q] \cos \frac{\pi q (2t + 1)}{2h}
        \sum_{i < n} u_i \cos \frac{\pi q (2i + 1)}{2n} .
    """
    n, h = period // 2, geometry.n_computed
    log2_out = geometry.time.log2_stride
    n_out, kept = geometry.n_padded >> log2_out, geometry.kept_frames(log2_out)
    phi = gauss_band(geometry.n_padded, MIN_BANDWIDTH / geometry.time.support).folded(geometry.n_padded)
    phi = phi[: min(n, exact_period // 2, h)]
    if kept.stop * (exact_period // 2) > LARGEST_MATRIX:
        phi = phi[:n_out]
        turned = phi * np.exp(0.5j * np.pi * np.arange(len(phi)) / h)
        return EvenTimeAverage(n, kept, n_out, response=as_pairs(turned), twiddle=_spectrum_twiddle(n))
    q = np.flatnonzero(phi > np.finfo(np.float64).tiny)
    weights = np.where(q == 0, 1.0, 2.0) * phi[q] / n
    frames = np.arange(kept.stop) << log2_out
    matrix = (weights * _cosines(2 * frames + 1, q, 2 * h)) @ _cosines(2 * even_order(n) + 1, q, 2 * n).T
    return EvenTimeAverage(n, slice(0, kept.stop), matrix=matrix)


def _cosines(places: NDArray[np.int64], q: NDArray[np.int64], half_period: int) -> FloatArray:
    """Return cos(pi q place / half_period), (places, q); products are reduced before they are rounded."""
    return np.cos(np.pi / half_period * (np.multiply.outer(places, q) % (2 * half_period)))


def _resampled(weights: FloatArray, n: int) -> FloatArray:
    """Return the weights (..., n) that do to an even signal's n samples what ``weights`` do to more of them."""
    exact = weights.shape[-1]
    if n == exact:
        return weights
    bins = np.fft.rfft(np.concatenate([weights, weights[..., ::-1]], axis=-1))[..., :n]
    q = np.arange(n)
    # From bins of a period that begins at sample 0 to cosines, and back at other samples.
    bins = bins * np.exp(0.5j * np.pi * q * (1.0 / n - 1.0 / exact))
    return np.fft.irfft(bins, n=2 * n)[..., :n]


def _spectrum_twiddle(n: int) -> FloatArray:
    """Return conj(w_k) for k from 0 to n / 2, as pairs."""
    return as_pairs(np.exp(-0.5j * np.pi * np.arange(n // 2 + 1) / n))


EVEN = Sampling(EvenEnds, EvenFirstOrder, EvenSecondOrder, even_time_average, even_local_time_average)
"""The even continuation."""
