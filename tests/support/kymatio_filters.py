"""Filters by kymatio 0.3's own formulas where these are unchanged: what the package's reference is held to."""

from __future__ import annotations

import numpy as np
from kymatio.scattering1d.filter_bank import adaptive_choice_P, compute_sigma_psi, compute_xi_max
from numpy.typing import NDArray

Array = NDArray[np.float64]
SIGMA0, ALPHA = 0.1, 5.0


def gauss(n: int, centre: float, sigma: float) -> Array:
    """Periodized Gaussian at the n Fourier bins, over the periods that kymatio sums (too few for xi < 0)."""
    reach = min(adaptive_choice_P(sigma), 5)
    bins = np.arange(n)[:, None] / n + np.arange(1 - reach, reach)[None, :]
    return np.exp(-((bins - centre) ** 2) / (2 * sigma**2)).sum(1)


def unit_l1(response: Array) -> Array:
    """Scale to unit l1 norm in time."""
    return response / np.abs(np.fft.ifft(response)).sum()


def morlet(n: int, xi: float, sigma: float) -> Array:
    """Gabor minus the multiple of its low-pass that makes the mean vanish."""
    gabor, low = gauss(n, xi, sigma), gauss(n, 0.0, sigma)
    return unit_l1(gabor - low * gabor[0] / low[0])


def scale(xi: float, sigma: float) -> int:
    """Return the largest j such that a stride of 2**j leaves |xi| + 5 sigma below half its Nyquist."""
    j = 0
    while min(abs(xi) + ALPHA * sigma, 0.5) <= 2.0 ** -(j + 2):
        j += 1
    return j


def wavelets(J: int, Q: int) -> list[tuple[float, float]]:
    """Geometric centre frequencies down to the smallest bandwidth, then Q - 1 in arithmetic progression."""
    xi = compute_xi_max(Q)
    sigma = compute_sigma_psi(xi, Q)
    narrowest = SIGMA0 / 2**J
    bank = []
    if sigma > narrowest:
        bank.append((xi, sigma))
        while sigma > narrowest * 2 ** (1 / Q):
            xi, sigma = xi / 2 ** (1 / Q), sigma / 2 ** (1 / Q)
            bank.append((xi, sigma))
    else:
        xi = sigma
    return bank + [(xi - q * xi / Q, narrowest) for q in range(1, Q)]
