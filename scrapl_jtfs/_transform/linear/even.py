r"""Sub-bands of signals that are continued evenly at both ends, at half the samples.

A signal x of h samples continued by x[-1 - t] = x[t] and x[h + t] = x[h - 1 - t] has period 2h and is even about
t = -1/2. With times counted from there, :math:`\tau = t + 1/2`, its spectrum is real,

.. math:: \hat x[k] = \frac{1}{h} \sum_{t=0}^{h-1} x[t] \cos \frac{\pi k (2t + 1)}{2h} , \qquad
    x[t] = \sum_{k=-h}^{h-1} \hat x[k] \, e^{i \pi k \tau / h} ,

a cosine transform (DCT-II). A wavelet with a real response passes real bins c, whose sub-band
:math:`z(\tau) = \sum_k c_k e^{i \pi k \tau / h}` has an even real part (a DCT-III) and an odd imaginary part (a
DST-III). Its modulus is even again, and so is that of the second layer for paths without a spin: half of a period
tells the other half. With a spin the other half would be the modulus of the opposite one, as z(-tau) is conjugate
to z(tau) and frequential wavelets are complex. There the continuation is a choice: each layer continues its own
moduli evenly, so that averages at the ends hear a path and not its mirror image.

**Order of samples.** Samples 0, 2, 4, ..., 5, 3, 1 of n are every other sample of a whole period, at
:math:`\tau = 2j + 1/2`, of which those past the turn stand for their mirror images, conjugate where z is complex.
Of a sub-band they are one Fourier sum of n points, in which bins n apart fall together,

.. math:: z_j = \sum_k w_k c_k \, e^{2 \pi i k j / n} , \qquad w_k = e^{i \pi k / 2n} .

Of a real signal their spectrum v has bins k and n - k together, but a quarter of a turn apart,

.. math:: v_k = w_k \, (c_k - i \, c_{n-k}) , \qquad 0 \le k \le n / 2 ,

so that one FFT of n points and a twiddle w tell both. All signals, planes and moduli here are in this order, which
a modulus does not see and averages undo.

Source: Makhoul, A fast cosine transform in one and two dimensions (1980).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scrapl_jtfs._transform.linear.decimation import LowSpectrum
from scrapl_jtfs._transform.linear.spectra import CommonBand, Subbands, first_position


@dataclass(frozen=True, eq=False)
class EvenReflection:
    """Linear map that continues a signal evenly to a length at its end, and puts its samples in order.

    Args:
        n: samples in.
        length: samples out, even; at most twice as many.
    """

    n: int
    length: int

    def __call__(self, x: Tensor) -> Tensor:
        """Map (batch, n) to (batch, length)."""
        x = _lengthened(x, self.length)
        return torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], dim=-1)

    def adjoint(self, y: Tensor) -> tuple[Tensor]:
        """Map (batch, length) to (batch, n)."""
        even, odd = y.chunk(2, dim=-1)
        return (_folded(torch.stack([even, odd.flip(-1)], dim=-1).flatten(-2), self.n),)


@dataclass(frozen=True, eq=False)
class EvenExtension:
    """Linear map that continues a signal evenly to a whole period, in the order of time.

    Args:
        n: samples in.
        length: samples of half a period.
    """

    n: int
    length: int

    def __call__(self, x: Tensor) -> Tensor:
        """Map (batch, n) to (batch, 2 length)."""
        half = _lengthened(x, self.length)
        return torch.cat([half, half.flip(-1)], dim=-1)

    def adjoint(self, y: Tensor) -> tuple[Tensor]:
        """Map (batch, 2 length) to (batch, n)."""
        first, second = y.chunk(2, dim=-1)
        return (_folded(first + second.flip(-1), self.n),)


@dataclass(frozen=True, eq=False)
class EvenCrop:
    """Linear map that puts samples back in the order of time and keeps the first ones.

    Args:
        n: samples in, even.
        kept: samples out.
    """

    n: int
    kept: int

    def __call__(self, u: Tensor) -> Tensor:
        """Map (..., n) to (..., kept)."""
        even, odd = u.chunk(2, dim=-1)
        return torch.stack([even, odd.flip(-1)], dim=-1).flatten(-2)[..., : self.kept].clone()

    def adjoint(self, y: Tensor) -> tuple[Tensor]:
        """Map (..., kept) to (..., n)."""
        u = torch.nn.functional.pad(y, (0, self.n - self.kept))
        return (torch.cat([u[..., ::2], u[..., 1::2].flip(-1)], dim=-1),)


@dataclass(frozen=True, eq=False)
class EvenSpectrum:
    """Linear map from signals to a run of their real bins.

    Args:
        n: samples of the signals, even.
        first: first bin; bin -k equals bin k.
        last: one past the last bin; bin n is zero and bin n + k equals -bin (n - k).
        twiddle: (n / 2 + 1,) conj(w_k), complex.
    """

    n: int
    first: int
    last: int
    twiddle: Tensor

    @property
    def size(self) -> int:
        """Numbers in the bins of one signal."""
        return self.last - self.first

    def __call__(self, x: Tensor) -> Tensor:
        """Map (..., n) to (..., last - first)."""
        middle = self.n // 2
        v = torch.view_as_real(torch.fft.rfft(x, norm="forward").mul_(self.twiddle))
        # c_k for k <= n / 2, and from there to n
        c = v[..., 0]
        if max(self.last - 1, -self.first) > middle:
            c = torch.cat([c, v[..., :middle, 1].flip(-1).neg_()], dim=-1)
        parts = [c[..., max(self.first, 0) : min(self.last, self.n + 1)]]
        if self.first < 0:
            parts.insert(0, c[..., 1 : 1 - self.first].flip(-1))
        if self.last > self.n + 1:
            parts.append(c[..., 2 * self.n - self.last + 1 : self.n].flip(-1).neg_())
        # Cut, not viewed: a view would keep the whole spectrum alive.
        return torch.cat(parts, dim=-1)

    def adjoint(self, y: Tensor) -> tuple[Tensor]:
        """Map (..., last - first), of which real parts count, to (..., n)."""
        middle, y = self.n // 2, y.real
        c = y.new_zeros(*y.shape[:-1], self.n + 1)
        low, high = max(self.first, 0), min(self.last, self.n + 1)
        c[..., low:high] = y[..., low - self.first : high - self.first]
        if self.first < 0:
            c[..., 1 : 1 - self.first].add_(y[..., : -self.first].flip(-1))
        if self.last > self.n + 1:
            mirrored = y[..., self.n + 1 - self.first :].flip(-1)
            c[..., 2 * self.n - self.last + 1 : self.n].sub_(mirrored)
        v = y.new_zeros(*y.shape[:-1], middle + 1, 2)
        # irfft counts every bin but the first and the last twice.
        torch.mul(c[..., : middle + 1], 0.5, out=v[..., 0])
        torch.mul(c[..., middle + 1 :].flip(-1), -0.5, out=v[..., :middle, 1])
        bins = torch.view_as_complex(v).mul_(self.twiddle.conj())
        bins[..., 0].mul_(2.0)
        bins[..., -1].mul_(2.0)
        return (torch.fft.irfft(bins, n=self.n),)


@dataclass(frozen=True, eq=False)
class EvenLowSpectrum:
    """Linear map from signals to bins 0, 1, ... by decimation, as :class:`EvenSpectrum` to 1e-8.

    Args:
        spectrum: the same for signals that are not even.
        twiddle: (bins,) conj(w_k) of the bins that are read, complex.
    """

    spectrum: LowSpectrum
    twiddle: Tensor

    @property
    def size(self) -> int:
        """Numbers in the bins of one signal."""
        return len(self.twiddle)

    def __call__(self, x: Tensor) -> Tensor:
        """Map (..., n) to (..., bins)."""
        return (self.spectrum(x) * self.twiddle).real.contiguous()

    def adjoint(self, y: Tensor) -> tuple[Tensor]:
        """Map (..., bins) to (..., n)."""
        return self.spectrum.adjoint(y * self.twiddle.conj())


@dataclass(frozen=True, eq=False)
class EvenSubbands(Subbands):
    """Linear map from a run of real bins to the planes of several sub-bands of one length.

    z_f = sum_{i < width} c[start + f step + i] psi_f[i] e^{i pi (i + 1) tau / n} (from i, if the band fills all 2n
    bins). The second half of Im z has the opposite sign, which a modulus does not see.

    Args:
        bins: entries of the spectrum.
        start: first entry of the first band.
        step: entries from the start of one band to that of the next, at least 0.
        response: (filters, width) w psi_f / 2, complex, see :func:`band_twiddle`.
        length: n, samples of each sub-band, even.
    """

    @property
    def _position(self) -> int:
        return first_position(self.response.shape[1], 2 * self.length)

    def _zeros(self, y: Tensor, *shape: int) -> Tensor:
        return y.new_zeros(shape)

    def _weigh(self, z_hat: Tensor, out: Tensor) -> None:
        out.copy_((z_hat * self.response.conj()).real)


@dataclass(frozen=True, eq=False)
class EvenCommonBand(CommonBand):
    """Linear map that applies one filter to many signals, whose real spectra come in groups.

    All rows are demodulated alike, so that they may be mixed: the band's first bin becomes bin 1.

    Args:
        groups: for each group the rows and the number of bins of its spectra, from bin 0 on; bins past them are
            taken for zero.
        start: first bin of the band, possibly negative.
        response: (width,) w psi / 2, complex, see :func:`band_twiddle`.
        length: n, samples of each sub-band, even.
    """

    def __call__(self, *spectra: Tensor) -> Tensor:
        """Map groups (batch, rows of the group, bins) to planes (batch, 2 rows, length)."""
        return self._conjugate(super().__call__(*spectra))

    def adjoint(self, y: Tensor) -> tuple[Tensor, ...]:
        """Map planes (batch, 2 rows, length) to groups (batch, rows of the group, bins)."""
        return super().adjoint(self._conjugate(y.clone()))

    def _conjugate(self, planes: Tensor) -> Tensor:
        """Conjugate the second half of z in place, whose samples stand for their mirror images past the turn."""
        planes[:, planes.shape[1] // 2 :, self.length // 2 :].neg_()
        return planes

    @property
    def _position(self) -> int:
        return first_position(len(self.response), 2 * self.length)

    def _weighed(self, z_hat: Tensor, response: Tensor) -> Tensor:
        return z_hat.mul_(response.conj()).real


def _lengthened(x: Tensor, length: int) -> Tensor:
    """Continue signals (..., n) evenly at their end, to (..., length)."""
    n = x.shape[-1]
    return x if length == n else torch.cat([x, x[..., 2 * n - length :].flip(-1)], dim=-1)


def _folded(y: Tensor, n: int) -> Tensor:
    """Apply the adjoint of :func:`_lengthened`, to (..., n)."""
    length = y.shape[-1]
    if length == n:
        return y
    x = y[..., :n].clone()
    x[..., 2 * n - length :].add_(y[..., n:].flip(-1))
    return x


def even_order(n: int) -> NDArray[np.int64]:
    """Return the samples 0, 2, 4, ..., 5, 3, 1 of n, an even number."""
    return np.concatenate([np.arange(0, n, 2), np.arange(n - 1, 0, -2)])


def band_twiddle(width: int, length: int) -> NDArray[np.complex128]:
    """Return the w_k that turn the bins k of a band, (width,)."""
    k = np.arange(width) + first_position(width, 2 * length)
    return np.exp(0.5j * np.pi * k / length)
