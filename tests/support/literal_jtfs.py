"""A literal, slow float64 JTFS in NumPy, written from the definition: full-length circular convolutions.

It shares nothing with the package but the settings: filters come from kymatio 0.3's formulas where these are
unchanged, convolutions are products of full complex spectra, strides are slices in time.
"""

from __future__ import annotations

import math
from typing import Any

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


def convolve(x: NDArray[Any], response: Array, axis: int) -> NDArray[np.complex128]:
    """Circular convolution along one axis."""
    shape = [1] * x.ndim
    shape[axis] = -1
    return np.fft.ifft(np.fft.fft(x, axis=axis) * response.reshape(shape), axis=axis)


def fold(response: Array, factor: int) -> Array:
    """Response of the same filter on a signal decimated by ``factor``."""
    return response.reshape(factor, -1).sum(0)


class LiteralJTFS:
    """Local averages along time and log-frequency only (T and F numbers), the case of the paper."""

    def __init__(self, n_samples: int, J: int, Q: tuple[int, int], J_fr: int, Q_fr: int, T: int, F: int) -> None:
        self.n, self.log2_T, self.log2_F = n_samples, int(math.log2(T)), int(math.log2(F))
        tail = np.abs(np.fft.ifft(unit_l1(gauss(n_samples, 0.0, SIGMA0 / T))))[: n_samples // 2][::-1].cumsum()[
            ::-1
        ]
        short = np.flatnonzero(tail <= 1e-3)
        margin = 3 * (short[0] + 1 if len(short) else n_samples // 2)
        self.n_pad = 2 ** min(math.ceil(math.log2(n_samples + 2 * margin)), int(math.log2(3 * n_samples - 2)))
        self.left = (self.n_pad - n_samples) // 2
        self.first, self.second = wavelets(J, Q[0]), wavelets(J, Q[1])
        rows = (J + 1) * Q[0]
        self.n_rows = (rows + 8 * min(F, 2**J_fr)) // 2**J_fr * 2**J_fr
        up = wavelets(J_fr, Q_fr)
        self.spinned = [(None, SIGMA0 / 2**J_fr), *up, *[(-xi, sigma) for xi, sigma in up]]
        self.phi_T = unit_l1(gauss(self.n_pad, 0.0, SIGMA0 / T))
        self.phi_F = unit_l1(gauss(self.n_rows, 0.0, SIGMA0 / F))
        self.J_fr = J_fr
        self.keys = [
            (n2, n_fr)
            for n2, (xi, sigma) in enumerate(self.second)
            if any(scale(*psi) < scale(xi, sigma) for psi in self.first)
            for n_fr in range(len(self.spinned))
        ]

    def path(self, x: Array, n2: int, n_fr: int) -> Array:
        """Compute one order-2 path of a (n_samples,) signal: convolve at full rate, then slice."""
        padded = np.pad(x, (self.left, self.n_pad - self.n - self.left), mode="reflect")
        psi2 = morlet(self.n_pad, *self.second[n2])
        j2 = min(scale(*self.second[n2]), self.log2_T)
        rows = []
        for psi1 in self.first:
            if scale(*psi1) < scale(*self.second[n2]):
                j1 = min(scale(*psi1), self.log2_T)
                u1 = np.abs(convolve(padded, morlet(self.n_pad, *psi1), 0)[:: 2**j1])
                rows.append(convolve(u1, fold(psi2, 2**j1), 0)[:: 2 ** (j2 - j1)])
        y2 = np.zeros((self.n_rows, self.n_pad >> j2), dtype=complex)
        y2[: len(rows)] = rows
        xi_fr, sigma_fr = self.spinned[n_fr]
        if xi_fr is None:
            u, j_fr = np.abs(convolve(y2, unit_l1(gauss(self.n_rows, 0.0, sigma_fr)), 0)), self.J_fr
            u, rows_per_row = u[:: 2 ** min(j_fr, self.log2_F)], 2**j_fr
        else:
            j_fr = min(scale(xi_fr, sigma_fr), self.log2_F)
            u = np.abs(convolve(y2, morlet(self.n_rows, xi_fr, sigma_fr), 0))[:: 2**j_fr]
            u = convolve(u, fold(self.phi_F, 2**j_fr), 0).real[:: 2 ** (self.log2_F - j_fr)]
            rows_per_row = 2**self.log2_F
        s = convolve(u, fold(self.phi_T, 2**j2), 1).real[:, :: 2 ** (self.log2_T - j2)]
        step = 2**self.log2_T
        frames = slice(-(-self.left // step), -(-(self.left + self.n) // step))
        return s[: 1 + len(rows) // rows_per_row, frames]
