"""Morlet and Gauss filters in the Fourier domain, NumPy float64.

The formulas are those of kymatio's development version (Anden & Mallat 2014, Lostanlen 2017), so that
paths and coefficients are interchangeable with kymatio's and with scrapl-loss's.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

# sigma0: the Gaussian of support T has bandwidth sigma0 / T (cycles per sample).
MIN_BANDWIDTH = 0.1
# r_psi: height at which adjacent wavelets of peak height one cross.
_ADJACENT_OVERLAP = math.sqrt(0.5)
# alpha: a band ends this many standard deviations from its centre when strides are chosen.
ALIASING_DEVIATIONS = 5.0
# Periods on one side over which Gaussians are summed at most, as in kymatio.
_MAX_PERIODS = 5
# Bins below this fraction of a response's peak are left out.
_NEGLIGIBLE = 1e-12
# Standard deviations beyond which a Gaussian is under the rounding of its peak, in frequency and in time.
_REACH = 8.5
# Standard deviations between samples of a wavelet whose modulus is summed. The error is exp(-pi rho / _STEP) for a
# centre frequency of rho standard deviations, below 1e-21 from rho = 1 on.
_STEP = 1.0 / 16.0
# Samples of a slow wavelet's period whose moduli are summed: at least, and until twice as many agree to this.
_FEWEST_POINTS = 256
_CONVERGED = 3e-14


class Wavelet(NamedTuple):
    """One band-pass filter: what identifies it, not its samples.

    Attributes:
        xi: centre frequency in cycles per sample; negative for a downward spin along log-frequency.
        sigma: standard deviation of its Gaussian in frequency, cycles per sample.
        j: log2 of the coarsest stride at which its output does not alias.
    """

    xi: float
    sigma: float
    j: int


def max_centre_frequency(filters_per_octave: int) -> float:
    """Return the highest centre frequency (cycles per sample) of a bank of Q wavelets per octave."""
    return max(1.0 / (1.0 + 2.0 ** (3.0 / filters_per_octave)), 0.35)


def constant_q_bandwidth(xi: float, filters_per_octave: int) -> float:
    """Return sigma such that neighbours xi and xi * 2**(-1/Q) cross at height r_psi."""
    ratio = 2.0 ** (-1.0 / filters_per_octave)
    return xi * (1.0 - ratio) / (1.0 + ratio) / math.sqrt(2.0 * math.log(1.0 / _ADJACENT_OVERLAP))


def log2_stride(xi: float, sigma: float) -> int:
    """Return the largest j for which |xi| + alpha * sigma < 2**-(j + 1)."""
    edge = min(abs(xi) + ALIASING_DEVIATIONS * sigma, 0.5)
    return math.floor(-math.log2(edge)) - 1


def wavelet_bank(J: int, filters_per_octave: int) -> tuple[Wavelet, ...]:
    """List the wavelets of one layer, from high to low centre frequency.

    Centre frequencies fall geometrically (constant Q) while sigma > sigma0 / 2**J, then linearly with
    constant bandwidth sigma0 / 2**J towards zero.

    Args:
        J: octaves, i.e. log2 of the largest support.
        filters_per_octave: the number Q of filters in an octave.

    Source: Anden & Mallat, Deep scattering spectrum (2014), section II; kymatio ``anden_generator``.
    """
    step = 2.0 ** (-1.0 / filters_per_octave)
    xi = max_centre_frequency(filters_per_octave)
    sigma = constant_q_bandwidth(xi, filters_per_octave)
    narrowest = MIN_BANDWIDTH / 2.0**J
    centres: list[tuple[float, float]] = []
    if sigma <= narrowest:
        xi = sigma
    else:
        centres.append((xi, sigma))
        while sigma > narrowest / step:
            xi, sigma = xi * step, sigma * step
            centres.append((xi, sigma))
    elbow = xi
    centres += [(elbow * (1 - q / filters_per_octave), narrowest) for q in range(1, filters_per_octave)]
    return tuple(Wavelet(xi, sigma, log2_stride(xi, sigma)) for xi, sigma in centres)


def spinned_bank(J: int, filters_per_octave: int) -> tuple[Wavelet, ...]:
    """List the wavelets along log-frequency: all upward spins (xi > 0), then all downward ones."""
    upward = wavelet_bank(J, filters_per_octave)
    return upward + tuple(Wavelet(-w.xi, w.sigma, w.j) for w in upward)


def _periodized_gauss(n: int, centre: float, sigma: float, periods: range) -> FloatArray:
    k = np.arange(n) / n
    return sum((np.exp(-((k + a - centre) ** 2) / (2 * sigma**2)) for a in periods), np.zeros(n))


def _periods(sigma: float) -> range:
    """Return the integer shifts over which a Gaussian of this width has to be summed."""
    reach = math.ceil(math.sqrt(-2.0 * sigma**2 * math.log(1e-7)) + 1.0)
    reach = min(reach, _MAX_PERIODS)
    return range(1 - reach, reach)


def gauss_response(n: int, sigma: float) -> FloatArray:
    """Sample the Fourier transform of a low-pass Gauss filter of unit l1 norm in time.

    phi_hat(w) = sum_a exp(-(w + a)^2 / (2 sigma^2)), w = k / n.

    Args:
        n: number of bins (samples of the padded signal).
        sigma: bandwidth, cycles per sample.

    Returns:
        (n,) real bins in the order of ``numpy.fft.fftfreq``.
    """
    response = _periodized_gauss(n, 0.0, sigma, _periods(sigma))
    return response / np.abs(np.fft.ifft(response)).sum()


def morlet_response(n: int, xi: float, sigma: float) -> FloatArray:
    """Sample the Fourier transform of a Morlet wavelet of zero mean and unit l1 norm in time.

    psi_hat(w) = g(w - xi) - kappa g(w), with g the periodized Gaussian of width sigma and kappa such that
    psi_hat(0) = 0.

    Args:
        n: number of bins.
        xi: centre frequency, cycles per sample (negative for a downward spin).
        sigma: bandwidth, cycles per sample.

    Returns:
        (n,) real bins in the order of ``numpy.fft.fftfreq``.
    """
    response = _unscaled_morlet(n, xi, sigma)
    return response / np.abs(np.fft.ifft(response)).sum()


def _unscaled_morlet(n: int, xi: float, sigma: float) -> FloatArray:
    periods = _periods(sigma)
    gabor = _periodized_gauss(n, xi, sigma, periods)
    low = _periodized_gauss(n, 0.0, sigma, periods)
    return gabor - gabor[0] / low[0] * low


def decimated(response: FloatArray, log2_factor: int) -> FloatArray:
    """Return the response of the same filter for a signal decimated by 2**log2_factor (spectrum folded)."""
    return response.reshape(2**log2_factor, -1).sum(axis=0)


def gauss_half_support(n: int, sigma: float, tolerance: float = 1e-3) -> int:
    """Return the number of samples on one side after which a Gauss filter's l1 tail is below ``tolerance``.

    Returns half of the n samples when the tail never gets there (the signal is shorter than the filter).
    """
    reach = math.ceil(_REACH / (2.0 * math.pi * sigma))  # in samples
    t = np.arange(min(n // 2, reach))
    periods = range(-math.ceil(reach / n), math.ceil(reach / n) + 1)
    h = sum((np.exp(-2.0 * (math.pi * sigma * (t + a * n)) ** 2) for a in periods), np.zeros(len(t)))
    tail = math.sqrt(2.0 * math.pi) * sigma * np.cumsum(h[::-1])[::-1]
    below = np.flatnonzero(tail <= tolerance)
    return int(below[0]) + 1 if len(below) else len(t)


class Band(NamedTuple):
    """The bins that matter of one response: ``values[i]`` belongs to circular bin ``start + i``.

    Attributes:
        start: first bin; negative when the band reaches below zero frequency.
        values: real response on consecutive bins.
    """

    start: int
    values: FloatArray

    def folded(self, n: int) -> FloatArray:
        """Return the (n,) response of the same filter for a signal decimated to n samples."""
        response = np.zeros(n)
        np.add.at(response, (self.start + np.arange(len(self.values))) % n, self.values)
        return response


def gauss_band(n: int, sigma: float) -> Band:
    """Evaluate :func:`gauss_response` where it is not negligible."""
    reach = math.ceil(_REACH * sigma * n)
    if 2 * reach >= n:
        return Band(0, gauss_response(n, sigma))
    # The filter is positive in time: its l1 norm is the response at zero, which is one.
    return Band(-reach, np.exp(-((np.arange(-reach, reach + 1) / n) ** 2) / (2 * sigma**2)))


def morlet_band(n: int, xi: float, sigma: float, max_bins: int) -> Band:
    """Evaluate :func:`morlet_response` where it is not negligible.

    Args:
        n: number of bins of the whole response.
        xi: centre frequency, cycles per sample, positive.
        sigma: bandwidth, cycles per sample.
        max_bins: longest run of bins allowed; a longer one is shortened at the end that loses less.

    Returns:
        The contiguous run of bins around the peak that holds everything above ``_NEGLIGIBLE`` of it.
    """
    # The peak's bin may be a bin away from xi. Below zero, kappa g(w) falls as exp(-(xi^2 + w^2) / (2 sigma^2)).
    reach = _REACH * sigma + 1.0 / n
    lowest = xi - reach if xi > reach else -math.sqrt(reach**2 - xi**2)
    if xi + 2.0 * reach >= 1.0:  # where periods meet, all bins, with the peak's in the middle
        response = _unscaled_morlet(n, xi, sigma)
        first = int(np.argmax(np.abs(response))) - n // 2
        response = np.roll(response, -first)
    else:
        first = math.floor(lowest * n)
        w = np.arange(first, math.ceil((xi + reach) * n) + 1) / n
        response = np.exp(-((w - xi) ** 2) / (2 * sigma**2))
        # By the function that gave the response, which is exactly zero in bin 0.
        kappa = np.exp(-(xi**2) / (2 * sigma**2))
        if kappa > _NEGLIGIBLE**2:
            response -= kappa * np.exp(-(w**2) / (2 * sigma**2))
    magnitude = np.abs(response)
    support = np.flatnonzero(magnitude > _NEGLIGIBLE * magnitude.max())
    low, high = int(support[0]), int(support[-1]) + 1
    while high - low > max_bins:
        if magnitude[low] <= magnitude[high - 1]:
            low += 1
        else:
            high -= 1
    start = first + low
    values = response[low:high] / _morlet_norm(n, xi, sigma, response)
    return Band(start - n if start >= n // 2 else start, values)


def _morlet_norm(n: int, xi: float, sigma: float, response: FloatArray) -> float:
    """Return the l1 norm in time of a Morlet wavelet with period n, from its bins that are not negligible.

    The modulus of g(t) (e^{2 pi i xi t} - kappa) is smooth but where it nearly vanishes: its sum over all samples
    is a multiple of that over few. In a long period it is evaluated in time. In a short one an FFT gives it, which
    grows until the sum stays, at most to all samples.
    """
    width = 2.0 * math.pi * sigma  # g(t) falls as exp(-(width t)^2 / 2)
    # Where periods do not meet in time, and those that `_periods` leaves out in frequency do not count.
    if width * n >= 2.0 * _REACH and sigma * _REACH <= 1.0:
        stride = max(1, math.floor(_STEP / width)) if xi >= sigma else 1
        reach = math.ceil(_REACH / (width * stride))
        t = stride * np.arange(-reach, reach + 1)
        periods = np.array(_periods(sigma))
        gabor, low = (np.exp(-((periods - centre) ** 2) / (2 * sigma**2)).sum() for centre in (xi, 0.0))
        modulus = np.exp(-((width * t) ** 2) / 2) * np.abs(np.exp(2j * np.pi * xi * t) - gabor / low)
        return math.sqrt(2.0 * math.pi) * sigma * stride * float(modulus.sum())
    points = n if len(response) > _FEWEST_POINTS else min(n, _FEWEST_POINTS)
    norm, shorter = float(np.abs(np.fft.ifft(response, points)).sum()), 0.0
    while abs(norm - shorter) > _CONVERGED * norm and points < n:
        points = min(2 * points, n)
        shorter, norm = norm, float(np.abs(np.fft.ifft(response, points)).sum())
    return norm
