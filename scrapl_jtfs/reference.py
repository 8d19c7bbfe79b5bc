r"""Equation 1 of the paper from top to bottom: literal, slow, float64, and independent of the rest of the package.

The paper writes the transform for any filterbank, with :math:`\lambda` for log-frequency:

.. math::
    \Phi x(p, t, \lambda) = \rho \big( (|\mathbf W x| \circledast \Psi_p) \circledast \Psi_0 \big) (t, \lambda) .

For the joint time-frequency scattering transform, W is the wavelet transform with :math:`\psi_{n_1}`, whose index
:math:`n_1` is :math:`\lambda`; :math:`\Psi_p` is a wavelet along time times one along log-frequency,
:math:`\psi_{n_2} \otimes \psi_{n_{fr}}`; and :math:`\Psi_0` is the low-pass :math:`\Phi_{T,F}`:

.. math::
    \phi_p(x) = \left| |x * \psi_{n_1}| *_t \psi_{n_2} *_{n_1} \psi_{n_{fr}} \right| * \Phi_{T,F} .

The outer modulus, which the paper's general form leaves out, is that of kymatio and scrapl-loss: without it the
low-pass would remove what the wavelets let through. :math:`\rho` is left to the loss (``log1p_eps``).

Every convolution is a product of full Fourier transforms, every stride a slice. :class:`scrapl_jtfs.JTFSPath`
computes the same numbers fast; the tests hold it to this file, and this file to kymatio.

The last class is another family of paths, the scattering transform along time.

Source: SCRAPL paper, Equations 1 and 3; filters, padding and strides are those of kymatio's
TimeFrequencyScattering (Anden, Lostanlen & Mallat, Joint time-frequency scattering, 2019).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal, NamedTuple

import torch
from torch import Tensor

_SIGMA_0 = 0.1  # the Gauss low-pass of support T has bandwidth sigma_0 / T
_ALPHA = 5.0  # the band of a wavelet ends alpha standard deviations from its centre
_MAX_PERIODS = 5
_TAIL = 1e-3  # padding is three times as long as the low-pass on one side, but for this share of its weight


class Wavelet(NamedTuple):
    """A Morlet wavelet, or the Gauss low-pass along log-frequency where xi is 0.

    Attributes:
        xi: centre frequency in cycles per sample; negative for falling patterns.
        sigma: standard deviation of its Gaussian in frequency.
        j: log2 of its stride.
    """

    xi: float
    sigma: float
    j: int


class ReferenceJTFS:
    r"""The joint time-frequency scattering transform, as it is written in the paper.

    Settings are those of :class:`scrapl_jtfs.JTFSPath`, which checks them; they are not checked here.

    Args:
        n_samples: N, samples of the signals.
        J: octaves in time.
        Q: wavelets per octave of the first and second order.
        J_fr: octaves along log-frequency.
        Q_fr: wavelets per octave along log-frequency.
        T: support in samples of the average along time; None for 2**J, 0 for no average, or "global".
        F: support of the average along log-frequency in first-order filters; None for 2**J_fr, 0 or "global".
        orders: which orders to include; paths of order 1 come first.
        boundary: "reflect", kymatio's reflections padded to a power of two; or "even", where the signal is
            followed by itself backwards, and that is repeated for ever.

    Attributes:
        paths: (n2, n_fr) of each path, in kymatio's order; n2 is None at order 1.

    Example:
        >>> import torch
        >>> from scrapl_jtfs import JTFSPath
        >>> from scrapl_jtfs.reference import ReferenceJTFS
        >>> x = torch.sin(0.3 * torch.arange(1024, dtype=torch.float64))
        >>> slow = ReferenceJTFS(1024, J=6, Q=(8, 1), J_fr=2)
        >>> fast = JTFSPath(1024, J=6, Q=(8, 1), J_fr=2).double()
        >>> torch.allclose(slow(x, 10), fast(x, 10), rtol=1e-6)
        True
    """

    def __init__(
        self,
        n_samples: int,
        J: int,
        Q: tuple[int, int],
        J_fr: int,
        Q_fr: int = 1,
        T: float | Literal["global"] | None = None,
        F: float | Literal["global"] | None = None,
        orders: Collection[int] = (2,),
        boundary: Literal["reflect", "even"] = "reflect",
    ) -> None:
        self.n_samples, self.T, self.F, self.boundary = n_samples, T, F, boundary
        support_T = T if isinstance(T, (int, float)) and T else 2**J
        support_F = F if isinstance(F, (int, float)) and F else 2**J_fr
        self.log2_T, self.log2_F = math.floor(math.log2(support_T)), math.floor(math.log2(support_F))
        self._pad(support_T, J)
        # The n1 axis is zero-padded on the right.
        self.n_rows = ((J + 1) * Q[0] + math.floor(8 * min(support_F, 2**J_fr))) // 2**J_fr * 2**J_fr
        self.psi1, self.psi2, rising = wavelets(J, Q[0]), wavelets(J, Q[1]), wavelets(J_fr, Q_fr)
        falling = [Wavelet(-psi.xi, psi.sigma, psi.j) for psi in rising]
        self.psi_fr = [Wavelet(0.0, _SIGMA_0 / 2**J_fr, J_fr), *rising, *falling]
        self.phi_T = gauss(self.n_padded, _SIGMA_0 / support_T)
        self.phi_F = gauss(self.n_rows, _SIGMA_0 / support_F)
        # At order 1 both spins are one; a path of order 2 needs a first-order wavelet that is faster than its own.
        self.paths: list[tuple[int | None, int]] = []
        if 1 in orders:
            self.paths += [(None, n_fr) for n_fr, psi in enumerate(self.psi_fr) if psi.xi >= 0]
        if 2 in orders:
            n2s = [n2 for n2 in range(len(self.psi2)) if self.rows(n2)]
            self.paths += [(n2, n_fr) for n2 in n2s for n_fr in range(len(self.psi_fr))]

    def _pad(self, support_T: float, J: int) -> None:
        """Choose the period M of the continued signal, and where in it the signal begins."""
        n = self.n_samples
        if self.boundary == "reflect":  # at both ends, to a power of two
            margin = 3 * _half_support(gauss(n, _SIGMA_0 / support_T))
            longest = math.floor(math.log2(max(3 * n - 2, 1)))  # a reflection adds fewer than N on each side
            self.n_padded = 2 ** min(math.ceil(math.log2(n + 2 * margin)), longest)
            self.left = (self.n_padded - n) // 2
        else:  # twice the least length of at least N that is 1, 3 or 5 times a multiple of every stride
            octaves = max(J, self.log2_T)
            self.n_padded = 2 * min(c * 2**a for c in (1, 3, 5) for a in range(octaves, 64) if c * 2**a >= n)
            self.left = 0

    def __call__(self, x: Tensor, path_idx: int) -> Tensor:
        """Compute phi_p(x), differentiably.

        Args:
            x: (..., n_samples) signals, float64 on the CPU.
            path_idx: path id p.

        Returns:
            (..., rows, frames): rows from high to low frequency.
        """
        n2, n_fr = self.paths[path_idx]
        # U1(n1, t) = |x * psi_n1|(t) at stride 2**j1, n1 from high to low frequency.
        signal = self.continued(x.reshape(-1, self.n_samples))
        # Y2(n1, t) = (U1 *_t psi_n2)(n1, t) at stride 2**j2; at order 1, S1 = U1 *_t phi_T in its place.
        j2 = self.log2_T if n2 is None else self.stride(self.psi2[n2])
        psi2 = self.phi_T if n2 is None else morlet(self.n_padded, self.psi2[n2])
        rows = []
        for psi1 in self.rows(n2):
            j1 = self.stride(psi1)
            u1 = self.filter(signal, morlet(self.n_padded, psi1), j1).abs()
            rows.append(self.average(u1, j1) if n2 is None else self.filter(u1, fold(psi2, j1), j2 - j1))
        y2 = torch.stack(rows, -2)
        # U(n1, t) = |Y2 *_n1 psi_nfr|(n1, t) at stride 2**j_fr.
        psi_fr = self.psi_fr[n_fr]
        j_fr = psi_fr.j if self.F in (0, "global") else min(psi_fr.j, self.log2_F)
        padded = torch.nn.functional.pad(y2, (0, 0, 0, self.n_rows - len(rows)))
        response = morlet(self.n_rows, psi_fr) if psi_fr.xi else gauss(self.n_rows, psi_fr.sigma)
        u = convolve(padded, response, dim=-2)[..., :: 2**j_fr, :].abs()
        # phi_p(n1, t) = (U * Phi_{T,F})(n1, t), unpadded.
        u = self.average_rows(u, psi_fr, j_fr, len(rows))
        u = self.average_frames(u, j2, averaged=n2 is None)
        return u.reshape(*x.shape[:-1], *u.shape[-2:])

    def loss(self, x: Tensor, y: Tensor, path_idx: int) -> Tensor:
        """Compute L_p = P ||phi_p(x) - phi_p(y)||^2, Equation 3, for each signal."""
        return len(self.paths) * (self(x, path_idx) - self(y, path_idx)).square().sum((-2, -1))

    def loss_of_two_renderings(self, x1: Tensor, x2: Tensor, y: Tensor, path_idx: int) -> Tensor:
        """Compute P <phi_p(x1) - phi_p(y), phi_p(x2) - phi_p(y)>, for each signal; not in the paper."""
        phi_y = self(y, path_idx)
        return len(self.paths) * ((self(x1, path_idx) - phi_y) * (self(x2, path_idx) - phi_y)).sum((-2, -1))

    def rows(self, n2: int | None) -> list[Wavelet]:
        """List the first-order wavelets with j1 < j2, as a slower one has no modulation left at that rate."""
        return [psi for psi in self.psi1 if n2 is None or psi.j < self.psi2[n2].j]

    def stride(self, psi: Wavelet) -> int:
        """Return log2 of the stride along time: a local average's is the coarsest."""
        return psi.j if self.T in (0, "global") else min(psi.j, self.log2_T)

    def continued(self, x: Tensor) -> Tensor:
        """Continue signals (batch, N) at their ends: to a period, or to the half of one that is even."""
        if self.boundary == "reflect":
            right = self.n_padded - self.n_samples - self.left
            return torch.nn.functional.pad(x, (self.left, right), mode="reflect")
        return torch.cat([x, x.flip(-1)], -1)[..., : self.n_padded // 2]

    def filter(self, u: Tensor, response: Tensor, log2_stride: int) -> Tensor:
        """Convolve in time, and keep every 2**log2_stride-th sample, or the middle of as many."""
        if self.boundary == "reflect":
            return convolve(u, response)[..., :: 2**log2_stride]
        middle = (2**log2_stride - 1) / 2
        return convolve_even(u, response, middle)[..., :: 2**log2_stride]

    def average(self, u: Tensor, j: int) -> Tensor:
        """Convolve moduli at stride 2**j with phi_T, at stride 2**log2_T."""
        if self.boundary == "reflect":
            return convolve(u, fold(self.phi_T, j)).real[..., :: 2 ** (self.log2_T - j)]
        # Sample i stands at t = 2**j (i + 1/2) - 1/2 of the signal. Frames stand at t = 0, 2**log2_T, ...
        half = u.shape[-1]
        phi_T = torch.cat([self.phi_T[:half], self.phi_T[-half:]])
        return convolve_even(u, phi_T, 0.5 / 2**j - 0.5).real[..., :: 2 ** (self.log2_T - j)]

    def average_rows(self, u: Tensor, psi_fr: Wavelet, j_fr: int, n_rows: int) -> Tensor:
        """Average along log-frequency, which the low-pass n_fr = 0 has done already, and leave out padding."""
        log2_stride = psi_fr.j
        if self.F not in (0, "global") and psi_fr.xi:
            log2_stride = self.log2_F
            u = convolve(u, fold(self.phi_F, j_fr), dim=-2).real[..., :: 2 ** (self.log2_F - j_fr), :]
        u = u[..., : 1 + n_rows // 2**log2_stride, :]
        return u.mean(-2, keepdim=True) if self.F == "global" else u

    def average_frames(self, u: Tensor, j2: int, *, averaged: bool) -> Tensor:
        """Average along time, unless that is done already, and leave out reflections."""
        if self.T not in (0, "global") and not averaged:
            u = self.average(u, j2)
            j2 = self.log2_T
        u = u[..., -(-self.left // 2**j2) : -(-(self.left + self.n_samples) // 2**j2)]
        return u.mean(-1, keepdim=True) if self.T == "global" else u


class ReferenceTimeScattering:
    r"""The scattering transform along time, as it is written; another path family than the paper's.

    .. math::
        S_0 x = x * \phi_T, \qquad S_1 x(n_1) = |x * \psi_{n_1}| * \phi_T, \qquad
        S_2 x(n_1, n_2) = \big| |x * \psi_{n_1}| * \psi_{n_2} \big| * \phi_T .

    Settings are those of :class:`scrapl_jtfs.TimeScattering`, which checks them; they are not checked here.

    Args:
        n_samples: N, samples of the signals.
        J: octaves.
        Q: wavelets per octave of the first and second order.
        T: support in samples of the average; None for 2**J, 0 for no average, or "global".
        boundary: as in :class:`ReferenceJTFS`.

    Attributes:
        paths: wavelets of each path, (), (n1,) or (n1, n2), in kymatio's order.

    Example:
        >>> import torch
        >>> from scrapl_jtfs import TimeScattering
        >>> from scrapl_jtfs.reference import ReferenceTimeScattering
        >>> x = torch.sin(0.3 * torch.arange(1024, dtype=torch.float64))
        >>> slow, fast = ReferenceTimeScattering(1024, 6, (8, 1)), TimeScattering(1024, 6, (8, 1)).double()
        >>> torch.allclose(slow(x, 60), fast(x, 60))
        True
    """

    def __init__(
        self,
        n_samples: int,
        J: int,
        Q: tuple[int, int],
        T: float | Literal["global"] | None = None,
        *,
        boundary: Literal["reflect", "even"] = "reflect",
    ) -> None:
        # Of it, all that is along time.
        self._jtfs = ReferenceJTFS(n_samples, J, Q, 1, T=T, F=0, boundary=boundary)
        first, second = self._jtfs.psi1, self._jtfs.psi2
        self.paths: list[tuple[int, ...]] = [(), *((n1,) for n1 in range(len(first)))]
        for n1, psi1 in enumerate(first):
            self.paths += [(n1, n2) for n2, psi2 in enumerate(second) if psi1.j < psi2.j]

    def __call__(self, x: Tensor, path_idx: int) -> Tensor:
        """Compute one path, differentiably.

        Args:
            x: (..., n_samples) signals, float64 on the CPU.
            path_idx: path id p.

        Returns:
            (..., frames).
        """
        jtfs, j = self._jtfs, 0
        u = jtfs.continued(x.reshape(-1, jtfs.n_samples))
        for order, n in enumerate(self.paths[path_idx]):
            psi = (jtfs.psi1, jtfs.psi2)[order][n]
            # u * psi at stride 2**stride, from stride 2**j.
            stride = jtfs.stride(psi)
            u = jtfs.filter(u, fold(morlet(jtfs.n_padded, psi), j), stride - j).abs()
            j = stride
        u = jtfs.average_frames(u, j, averaged=False)
        return u.reshape(*x.shape[:-1], u.shape[-1])


def convolve(x: Tensor, response: Tensor, dim: int = -1) -> Tensor:
    """Convolve circularly along one axis with the filter of a Fourier response."""
    return torch.fft.ifft(torch.fft.fft(x, dim=dim).mul(response if dim == -1 else response[:, None]), dim=dim)


def convolve_even(u: Tensor, response: Tensor, shift: float) -> Tensor:
    """Convolve in time a signal that is followed by itself backwards; samples are read ``shift`` samples later."""
    n = u.shape[-1]
    k = torch.fft.fftfreq(2 * n, dtype=torch.float64, device="cpu")
    later = torch.exp(2j * math.pi * k * shift)
    return torch.fft.ifft(torch.fft.fft(torch.cat([u, u.flip(-1)], -1)) * response * later)[..., :n]


def fold(response: Tensor, log2_stride: int) -> Tensor:
    """Return the response of the same filter on signals sampled at a stride."""
    return response.reshape(2**log2_stride, -1).sum(0)


def wavelets(J: int, Q: int) -> list[Wavelet]:
    """List the wavelets of one axis, from high to low frequency.

    Centres fall geometrically, Q an octave, while the bandwidth exceeds sigma_0 / 2**J; Q - 1 more of that
    bandwidth divide what is left down to zero. Adjacent wavelets cross at a height of 1 / sqrt(2).
    """
    ratio = 2 ** (-1 / Q)
    xi = max(1 / (1 + 2 ** (3 / Q)), 0.35)
    sigma = xi * (1 - ratio) / (1 + ratio) / math.sqrt(2 * math.log(math.sqrt(2)))
    narrowest = _SIGMA_0 / 2**J
    bank: list[tuple[float, float]] = []
    if sigma <= narrowest:
        xi = sigma
    else:
        bank.append((xi, sigma))
        while sigma > narrowest / ratio:
            xi, sigma = xi * ratio, sigma * ratio
            bank.append((xi, sigma))
    bank += [(xi * (1 - q / Q), narrowest) for q in range(1, Q)]
    return [Wavelet(xi, sigma, _log2_stride(xi, sigma)) for xi, sigma in bank]


def _log2_stride(xi: float, sigma: float) -> int:
    """Return the largest j at which the band lies below half of the Nyquist frequency."""
    j = 0
    while min(abs(xi) + _ALPHA * sigma, 0.5) <= 2.0 ** -(j + 2):
        j += 1
    return j


def gauss(n: int, sigma: float) -> Tensor:
    """Return the Fourier response (n,) of a Gauss low-pass of unit l1 norm."""
    return _unit_l1(_periodized(n, 0.0, sigma))


def morlet(n: int, psi: Wavelet) -> Tensor:
    """Return the Fourier response (n,) of a Morlet wavelet of unit l1 norm: a Gabor less the low-pass in it."""
    gabor, low = _periodized(n, psi.xi, psi.sigma), _periodized(n, 0.0, psi.sigma)
    return _unit_l1(gabor - low * gabor[0] / low[0])


def _periodized(n: int, centre: float, sigma: float) -> Tensor:
    """Sum a Gaussian at the n Fourier bins over the periods that kymatio takes (few, where xi < 0)."""
    reach = min(math.ceil(math.sqrt(-2 * sigma**2 * math.log(1e-7)) + 1), _MAX_PERIODS)
    bins = torch.arange(n, dtype=torch.float64, device="cpu") / n
    periods = torch.arange(1 - reach, reach, dtype=torch.float64, device="cpu")
    return torch.exp(-((bins + periods[:, None] - centre) ** 2) / (2 * sigma**2)).sum(0)


def _unit_l1(response: Tensor) -> Tensor:
    return response / torch.fft.ifft(response).abs().sum()


def _half_support(response: Tensor) -> int:
    """Return the samples on one side beyond which a filter's weights sum to at most ``_TAIL``."""
    tail = torch.fft.ifft(response).abs()[: len(response) // 2].flip(0).cumsum(0).flip(0)
    return min(int((tail > _TAIL).sum()) + 1, len(tail))
