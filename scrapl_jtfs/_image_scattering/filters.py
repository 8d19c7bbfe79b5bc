"""The filters of a scattering of images: Morlet wavelets and a Gauss low-pass, in NumPy float64.

With u in pixels, :math:`R_\\theta` the rotation by theta and s the slant, a Gabor filter is

    g(u) = s / (2 pi sigma^2) exp(-u^T R_theta diag(1, s^2) R_theta^T u / (2 sigma^2)) exp(i xi <u, e_theta>),

and a Morlet wavelet is g minus the multiple of its envelope that makes the mean vanish. Axis 0 of u points down,
axis 1 to the right, and theta is measured from the first to the second. Widths, frequencies, slant and angles are
kymatio's, as are the periods over which filters are summed.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# sigma / 2**j and xi 2**j of the wavelets; the low-pass has the sigma of those of scale J - 1.
_SIGMA, _XI = 0.8, 3 * math.pi / 4
# kymatio's pi in the norm of each filter. The true one would change coefficients by 3e-5 an order.
_PI_OF_NORM = 3.1415
# Periods to either side that a filter is summed over.
_PERIODS = 2
# Half the square of the standard deviations at which an envelope is cut: it is below 1e-17 there.
_CUT = 40.0


def wavelength(j: int) -> float:
    """Return the wavelength in pixels of the wavelets of scale j."""
    return 2 * math.pi / _XI * 2**j


def angle(orientation: int, L: int) -> float:
    """Return the angle in degrees of the wave vector of an orientation, from 0 to below 180.

    It is measured from the horizontal axis, counterclockwise in a picture whose rows are drawn downwards.
    """
    return (math.degrees(_theta(orientation, L)) - 90.0) % 180.0


def wavelets(shape: tuple[int, int], j: int, L: int) -> FloatArray:
    """Return the responses (L, height, width) of the wavelets of scale j, which are real, at every frequency."""
    slant = 4.0 / L
    angles = [_theta(orientation, L) for orientation in range(L)]
    return np.stack([_morlet(shape, _SIGMA * 2**j, theta, _XI / 2**j, slant) for theta in angles])


def lowpass(size: int, J: int) -> FloatArray:
    """Return the response (size,) of the low-pass along one axis; the filter is the product of two of them."""
    sigma = _SIGMA * 2 ** (J - 1)
    u = np.arange(-_PERIODS * size, (_PERIODS + 1) * size)
    g = np.exp(-(u**2) / (2 * sigma**2)) / math.sqrt(2 * _PI_OF_NORM * sigma**2)
    return np.fft.fft(g.reshape(-1, size).sum(0)).real


def cropped(response: FloatArray, level: int, axes: tuple[int, ...]) -> FloatArray:
    """Keep the lowest frequencies along some axes, one of every 2**level: those of a signal of that stride."""
    for axis in axes:
        half = response.shape[axis] >> (level + 1)
        low, high = np.split(response, [response.shape[axis] // 2], axis)
        keep = [slice(None)] * response.ndim
        keep[axis] = slice(None, half)
        last = list(keep)
        last[axis] = slice(high.shape[axis] - half, None)
        response = np.concatenate([low[tuple(keep)], high[tuple(last)]], axis)
    return response


def _theta(orientation: int, L: int) -> float:
    return (int(L / 2 - 1) - orientation) * math.pi / L


def _morlet(shape: tuple[int, int], sigma: float, theta: float, xi: float, slant: float) -> FloatArray:
    """Return the response of a Morlet wavelet, periodized to an image of this shape."""
    c, s = math.cos(theta), math.sin(theta)
    # The two standard deviations of the envelope, along the wave and across it, seen along the image's axes.
    along, across = sigma, sigma / slant
    reach = (math.hypot(along * c, across * s), math.hypot(along * s, across * c))
    y, x = (_positions(n, math.sqrt(2 * _CUT) * std) for n, std in zip(shape, reach, strict=True))
    u, v = c * y[:, None] + s * x, -s * y[:, None] + c * x  # along the wave, across it
    envelope = np.exp(-(u**2 + (slant * v) ** 2) / (2 * sigma**2)) * (slant / (2 * _PI_OF_NORM * sigma**2))
    gabor = envelope * np.exp(1j * xi * u)
    morlet = gabor - envelope * (gabor.sum() / envelope.sum())
    return np.fft.fft2(_folded(morlet, (y, x), shape)).real


def _positions(size: int, reach: float) -> NDArray[np.int64]:
    """Return the positions along an axis, in the periods that are summed, at which an envelope is not zero."""
    last = math.ceil(reach)
    return np.arange(max(-_PERIODS * size, -last), min((_PERIODS + 1) * size, last + 1))


def _folded(
    values: NDArray[np.complex128], positions: tuple[NDArray[np.int64], ...], shape: tuple[int, int]
) -> NDArray[np.complex128]:
    """Sum the values of positions that are whole periods apart."""
    for axis, (at, size) in enumerate(zip(positions, shape, strict=True)):
        before = int(at[0] % size)
        after = -(before + len(at)) % size
        widths = [(0, 0), (0, 0)]
        widths[axis] = before, after
        periods = (-1, size, values.shape[1]) if axis == 0 else (values.shape[0], -1, size)
        values = np.pad(values, widths).reshape(periods).sum(axis)
    return values
