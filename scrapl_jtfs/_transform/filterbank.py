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
    periods = _periods(sigma)
    gabor = _periodized_gauss(n, xi, sigma, periods)
    low = _periodized_gauss(n, 0.0, sigma, periods)
    response = gabor - gabor[0] / low[0] * low
    return response / np.abs(np.fft.ifft(response)).sum()


def decimated(response: FloatArray, log2_factor: int) -> FloatArray:
    """Return the response of the same filter for a signal decimated by 2**log2_factor (spectrum folded)."""
    return response.reshape(2**log2_factor, -1).sum(axis=0)


def half_support(response: FloatArray, tolerance: float = 1e-3) -> int:
    """Return the number of samples on one side after which a filter's l1 tail is below ``tolerance``.

    Returns half the length when the tail never gets there (the signal is shorter than the filter).
    """
    h = np.abs(np.fft.ifft(response))[: len(response) // 2]
    tail = np.cumsum(h[::-1])[::-1]
    below = np.flatnonzero(tail <= tolerance)
    return int(below[0]) + 1 if len(below) else len(h)


class Band(NamedTuple):
    """The bins that matter of one response: ``values[i]`` belongs to circular bin ``start + i``.

    Attributes:
        start: first bin; negative when the band reaches below zero frequency.
        values: real response on consecutive bins.
    """

    start: int
    values: FloatArray


def significant_band(response: FloatArray, max_bins: int) -> Band:
    """Cut the contiguous run of bins around the peak that holds everything above ``_NEGLIGIBLE``.

    Args:
        response: (n,) response in ``fftfreq`` order.
        max_bins: longest run allowed; a longer one is shortened at the end that loses less.
    """
    n = len(response)
    peak = int(np.argmax(np.abs(response)))
    centred = np.roll(response, n // 2 - peak)
    support = np.flatnonzero(np.abs(centred) > _NEGLIGIBLE * np.abs(response[peak]))
    low, high = int(support[0]), int(support[-1]) + 1
    while high - low > max_bins:
        if abs(centred[low]) <= abs(centred[high - 1]):
            low += 1
        else:
            high -= 1
    start = low - (n // 2 - peak)
    start = start - n if start >= n // 2 else start
    return Band(start, centred[low:high].copy())
