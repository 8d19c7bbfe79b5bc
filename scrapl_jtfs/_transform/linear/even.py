r"""Sub-bands of signals that are continued evenly at both ends, at half the samples.

A signal x of h samples continued by x[-1 - t] = x[t] and x[h + t] = x[h - 1 - t] has period 2h and is even about
t = -1/2. With times counted from there, :math:`\tau = t + 1/2`, its spectrum is real,

.. math:: \hat x[k] = \frac{1}{h} \sum_{t=0}^{h-1} x[t] \cos \frac{\pi k (2t + 1)}{2h} , \qquad
    x[t] = \sum_{k=-h}^{h-1} \hat x[k] \, e^{i \pi k \tau / h} ,

a cosine transform (DCT-II). A wavelet with a real response passes real bins c, whose sub-band
:math:`z(\tau) = \sum_k c_k e^{i \pi k \tau / h}` has an even real part (a DCT-III) and an odd imaginary part (a
DST-III). Its modulus is even again, hence so is all that follows: half of a period tells everything.

**Order of samples.** Samples 0, 2, 4, ..., 5, 3, 1 are every other sample of a whole period, at
:math:`\tau = 2j + 1/2`. At that stride bins k and n - k of n samples fall together, but a quarter of a turn apart:
the spectrum v of the samples in this order is

.. math:: v_k = w_k \, (c_k - i \, c_{n-k}) , \qquad w_k = e^{i \pi k / 2n} , \quad 0 \le k \le n / 2 ,

so that one real FFT of n points and a twiddle w tell both. All signals, planes and moduli here are in this order,
which a modulus does not see and averages undo.

Source: Makhoul, A fast cosine transform in one and two dimensions (1980).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scrapl_jtfs._transform.linear.decimation import LowSpectrum


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
        if self.length > self.n:
            x = torch.cat([x, x[..., 2 * self.n - self.length :].flip(-1)], dim=-1)
        return torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], dim=-1)

    def adjoint(self, y: Tensor) -> tuple[Tensor]:
        """Map (batch, length) to (batch, n)."""
        even, odd = y.chunk(2, dim=-1)
        x = torch.stack([even, odd.flip(-1)], dim=-1).flatten(-2)
        if self.length > self.n:
            x, added = x[..., : self.n].clone(), x[..., self.n :].flip(-1)
            x[..., 2 * self.n - self.length :].add_(added)
        return (x,)


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
        half = x if self.length == self.n else torch.cat([x, x[..., 2 * self.n - self.length :].flip(-1)], dim=-1)
        return torch.cat([half, half.flip(-1)], dim=-1)

    def adjoint(self, y: Tensor) -> tuple[Tensor]:
        """Map (batch, 2 length) to (batch, n)."""
        first, second = y.chunk(2, dim=-1)
        x = first + second.flip(-1)
        if self.length > self.n:
            x, added = x[..., : self.n].clone(), x[..., self.n :].flip(-1)
            x[..., 2 * self.n - self.length :].add_(added)
        return (x,)


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
class EvenSubbands:
    """Linear map from a run of real bins to the planes of several sub-bands of one length.

    z_f = sum_{i < width} c[start + f step + i] psi_f[i] e^{i pi (i + 1) tau / n} (from i, if the band fills the
    circle), as :class:`scrapl_jtfs._transform.linear.spectra.Subbands` has it at twice as many samples. The second
    half of Im z has the opposite sign, which a modulus does not see.

    Args:
        bins: entries of the spectrum.
        start: first entry of the first band.
        step: entries from the start of one band to that of the next, at least 0.
        response: (filters, width) w psi_f / 2, complex, see :func:`band_twiddle`.
        length: n, samples of each sub-band, even.
    """

    bins: int
    start: int
    step: int
    response: Tensor
    length: int

    @property
    def size(self) -> int:
        """Numbers in the planes of one signal."""
        return 2 * self.response.shape[0] * self.length

    def __call__(self, spectrum: Tensor) -> Tensor:
        """Map (batch, bins) to (batch, 2, filters, length)."""
        spectrum = spectrum.contiguous()
        batch = spectrum.shape[0]
        filters, width = self.response.shape
        bands = spectrum.as_strided(
            (batch, filters, width), (self.bins, self.step, 1), spectrum.storage_offset() + self.start
        )
        planes = self.response.new_zeros(batch, 2, filters, self.length // 2 + 1)
        _place(planes, bands, self.response, first_position(width, self.length))
        return torch.fft.irfft(planes, n=self.length, norm="forward")

    def adjoint(self, y: Tensor) -> tuple[Tensor]:
        """Map (batch, 2, filters, length) to (batch, bins)."""
        spectrum = y.new_zeros(y.shape[0], self.bins)
        self.add_adjoint(y, spectrum)
        return (spectrum,)

    def add_adjoint(self, y: Tensor, total: Tensor) -> None:
        """Add the adjoint of ``y`` to ``total``, in place."""
        batch = y.shape[0]
        filters, width = self.response.shape
        span = width + (filters - 1) * self.step
        # Row f starts f steps later, so that overlapping bands add up in one sum. In rows of ``span`` entries they
        # lie on a diagonal: from one to the next it is span + step entries.
        rows = y.new_zeros(batch, filters, span)
        bands = rows.as_strided((batch, filters, width), (filters * span, span + self.step, 1))
        _collect(torch.fft.rfft(y), self.response, first_position(width, self.length), bands)
        total[:, self.start : self.start + span].add_(rows.sum(1), alpha=2.0)


@dataclass(frozen=True, eq=False)
class EvenCommonBand:
    """Linear map that applies one filter to many signals, whose real spectra come in groups.

    All rows are demodulated alike, so that they may be mixed: the band's first bin becomes bin 1.

    Args:
        groups: for each group the rows and the number of bins of its spectra, from bin 0 on; bins past them are
            taken for zero.
        start: first bin of the band, possibly negative.
        response: (width,) w psi / 2, complex, see :func:`band_twiddle`.
        length: n, samples of each sub-band, even.
    """

    groups: tuple[tuple[int, int], ...]
    start: int
    response: Tensor
    length: int

    @property
    def size(self) -> int:
        """Numbers in the planes of one item of the batch."""
        return 2 * sum(rows for rows, _ in self.groups) * self.length

    def __call__(self, *spectra: Tensor) -> Tensor:
        """Map groups (batch, rows of the group, bins) to planes (batch, 2 rows, length)."""
        batch, n_rows = spectra[0].shape[0], sum(rows for rows, _ in self.groups)
        planes = self.response.new_zeros(batch, 2, n_rows, self.length // 2 + 1)
        row, origin = 0, first_position(len(self.response), self.length)
        for spectrum, (rows, n_bins) in zip(spectra, self.groups, strict=True):
            low, high = self._run(n_bins)
            bins = spectrum[..., max(low, 0) : max(high, 0)]
            if low < 0:
                bins = torch.cat([spectrum[..., 1 : 1 - low].flip(-1), bins], dim=-1)
            response = self.response[low - self.start : high - self.start]
            _place(planes[:, :, row : row + rows], bins, response, origin + low - self.start)
            row += rows
        z = torch.fft.irfft(planes, n=self.length, norm="forward")
        z[:, 1, :, self.length // 2 :].neg_()
        return z.flatten(1, 2)

    def adjoint(self, y: Tensor) -> tuple[Tensor, ...]:
        """Map planes (batch, 2 rows, length) to groups (batch, rows of the group, bins)."""
        y = y.unflatten(1, (2, -1)).clone()
        y[:, 1, :, self.length // 2 :].neg_()
        planes = torch.fft.rfft(y)
        results: list[Tensor] = []
        row, origin = 0, first_position(len(self.response), self.length)
        for rows, n_bins in self.groups:
            low, high = self._run(n_bins)
            bins, result = y.new_empty(len(y), rows, high - low), y.new_zeros(len(y), rows, n_bins)
            response = self.response[low - self.start : high - self.start]
            _collect(planes[:, :, row : row + rows], response, origin + low - self.start, bins)
            result[..., max(low, 0) : high].add_(bins[..., max(-low, 0) :], alpha=2.0)
            if low < 0:
                result[..., 1 : 1 - low].add_(bins[..., :-low].flip(-1), alpha=2.0)
            results.append(result)
            row += rows
        return tuple(results)

    def _run(self, n_bins: int) -> tuple[int, int]:
        """Return the first bin, possibly negative, and one past the last that the band reads of such spectra."""
        low = max(self.start, 1 - n_bins)
        return low, max(low, min(self.start + len(self.response), n_bins))


def even_order(n: int) -> NDArray[np.int64]:
    """Return the samples 0, 2, 4, ..., 5, 3, 1 of n, an even number."""
    return np.concatenate([np.arange(0, n, 2), np.arange(n - 1, 0, -2)])


def first_position(width: int, length: int) -> int:
    """Return the bin that a band starts at: 1 if it fits the 2n bins of a period, as irfft counts bin 0 once."""
    return int(width < 2 * length)


def band_twiddle(width: int, length: int) -> NDArray[np.complex128]:
    """Return the w that turn the bins of a band, (width,): w_k at bin k, or at its image from 0 to n / 2."""
    k = np.arange(width) + first_position(width, length)
    image = np.abs((k + length // 2) % length - length // 2)
    return np.exp(0.5j * np.pi * image / length)


# Bins k from 0 to n/2, n/2 to n, n to 3n/2, and 3n/2 to 2n: what each adds to v of Re z and of Im z at its image
# k, n - k, k - n or 2n - k, times w. A cosine at bin 2n - k is minus that at k, and a sine is the same.
_QUARTERS = ((1 + 0j, -1j), (-1j, 1 + 0j), (1j, 1 + 0j), (-1 + 0j, -1j))


def _quarters(position: int, width: int, middle: int) -> Iterator[tuple[slice, slice, bool, int]]:
    """Cut a band into quarters of the period: its entries, their images, whether these are reversed, and which."""
    for quarter in range(4):
        # Bins 0 and n are images of the ends, which belong to the quarter before.
        first = max(position, quarter * middle + (quarter > 0))
        last = min(position + width, (quarter + 1) * middle + 1)
        if first < last:
            entries = slice(first - position, last - position)
            if quarter % 2 == 0:
                shift = quarter * middle
                yield entries, slice(first - shift, last - shift), False, quarter
            else:
                end = (quarter + 1) * middle
                yield entries, slice(end - last + 1, end - first + 1), True, quarter


def _place(planes: Tensor, bins: Tensor, response: Tensor, position: int) -> None:
    """Write the spectra v of both planes of z, whose bins from ``position`` on are 2 bins x response / w.

    Args:
        planes: (batch, 2, rows, n / 2 + 1) complex zeros, changed in place.
        bins: (batch, rows, width) real.
        response: (width,) or (rows, width) complex.
        position: position + width is at most 2n, or 2n + 1 from position 1 on.
    """
    middle, width = planes.shape[-1] - 1, bins.shape[-1]
    for entries, image, reverse, quarter in _quarters(position, width, middle):
        real, imaginary = planes[:, 0, :, image], planes[:, 1, :, image]
        if quarter == 0:
            torch.mul(bins[..., entries], response[..., entries], out=real)
            torch.mul(real, -1.0j, out=imaginary)
            continue
        turned = bins[..., entries] * response[..., entries]
        turned = turned.flip(-1) if reverse else turned
        real.add_(turned, alpha=_QUARTERS[quarter][0])
        imaginary.add_(turned, alpha=_QUARTERS[quarter][1])
    # irfft counts the first and the last bin once.
    if position == 0 or position + width > 2 * middle:
        planes[..., 0].mul_(2.0)
    if position + width > middle:
        planes[..., middle].mul_(2.0)


def _collect(planes: Tensor, response: Tensor, position: int, bins: Tensor) -> None:
    """Write what the adjoint of :func:`_place` makes of the spectra of both planes, over 2, into real bins."""
    middle, width = planes.shape[-1] - 1, bins.shape[-1]
    for entries, image, reverse, quarter in _quarters(position, width, middle):
        # With a and b those of _QUARTERS: Re(conj(a w) R + conj(b w) I) = Re(conj(a w) (R + a conj(b) I)).
        a, b = _QUARTERS[quarter]
        v = torch.add(planes[:, 0, :, image], planes[:, 1, :, image], alpha=a * b.conjugate())
        v = (v.flip(-1) if reverse else v).mul_(response[..., entries].conj())
        bins[..., entries] = (v if a == 1 else v.mul_(a.conjugate())).real
