"""From a real signal to its spectrum, and from a spectrum to critically sampled analytic sub-bands.

An analytic wavelet occupies one contiguous run of Fourier bins, so filtering and decimating is: take that run
from the spectrum, multiply by the real response, and apply one short inverse FFT. Placing the run at the start of
the short spectrum demodulates the sub-band, which its modulus does not see.

A sub-band z is computed as two real signals, its planes: Re z and Im z are the inverse real FFTs of the halves
of the same bins times 1/2 and -i/2. That costs what one complex FFT does, and leaves numbers that lie side by side
for whatever is done next; interleaved complex numbers are several times slower to take moduli of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Linear map from real signals to a run of their Fourier bins, x_hat[k] = 1/n sum_t x[t] e^{-2 pi i k t / n}.

    Args:
        n: samples of the signals, even.
        first: first bin; negative bins are mirror images.
        last: one past the last bin; bins beyond n / 2 are mirror images.
    """

    n: int
    first: int
    last: int

    @property
    def size(self) -> int:
        """Real numbers in the bins of one signal."""
        return 2 * (self.last - self.first)

    def __call__(self, x: Tensor) -> Tensor:
        """Map (..., n) real to (..., last - first) complex."""
        half = torch.fft.rfft(x, norm="forward")
        nyquist = self.n // 2
        # x is real: bin -k is the conjugate of bin k, and bin n - k is bin -k.
        parts = [half[..., max(self.first, 0) : min(self.last, nyquist + 1)]]
        if self.first < 0:
            parts.insert(0, half[..., 1 : 1 - self.first].flip(-1).conj())
        if self.last > nyquist + 1:
            parts.append(half[..., self.n - self.last + 1 : nyquist].flip(-1).conj())
        # Cut, not viewed: a view would keep the whole spectrum alive.
        return torch.cat(parts, dim=-1)

    def adjoint(self, y: Tensor) -> tuple[Tensor]:
        """Map (..., last - first) complex to (..., n) real."""
        nyquist = self.n // 2
        half = y.new_zeros(*y.shape[:-1], nyquist + 1)
        low, high = max(self.first, 0), min(self.last, nyquist + 1)
        # irfft counts every bin but the first and the last twice.
        torch.mul(y[..., low - self.first : high - self.first], 0.5, out=half[..., low:high])
        if self.first < 0:
            half[..., 1 : 1 - self.first].add_(y[..., : -self.first].flip(-1).conj(), alpha=0.5)
        if self.last > nyquist + 1:
            mirrored = y[..., nyquist + 1 - self.first :].flip(-1).conj()
            half[..., self.n - self.last + 1 : nyquist].add_(mirrored, alpha=0.5)
        half[..., 0].mul_(2.0)
        half[..., -1].mul_(2.0)
        return (torch.fft.irfft(half, n=self.n),)


@dataclass(frozen=True, eq=False)
class Subbands:
    """Linear map from a run of Fourier bins to the planes of several sub-bands of one length.

    z_f[t] = sum_{i < width} x_hat[start + f step + i] psi_f[i] e^{2 pi i (i + 1) t / M} for t = 0 .. M - 1: the
    signal filtered by psi_f at stride n / M, shifted down by start + f step - 1 bins (or by one less, if the band
    fills the circle). Equally wide bands on a
    regular grid are one strided view of the spectrum, hence one product.

    Args:
        bins: entries of the spectrum.
        start: first entry of the first band.
        step: entries from the start of one band to that of the next, at least 0.
        response: (filters, width) psi_f / 2, real numbers held as complex, so that products convert nothing.
        length: M, samples of each sub-band, even.
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
        """Map (batch, bins) complex to (batch, 2, filters, length) real."""
        spectrum = spectrum.contiguous()
        batch = spectrum.shape[0]
        filters, width = self.response.shape
        bands = spectrum.as_strided(
            (batch, filters, width), (self.bins, self.step, 1), spectrum.storage_offset() + self.start
        )
        planes = self.response.new_zeros(batch, 2, filters, self.length // 2 + 1)
        _place(planes, bands, self.response, self._position)
        return torch.fft.irfft(planes, n=self.length, norm="forward")

    def adjoint(self, y: Tensor) -> tuple[Tensor]:
        """Map (batch, 2, filters, length) real to (batch, bins) complex."""
        spectrum = self._zeros(y, y.shape[0], self.bins)
        self.add_adjoint(y, spectrum)
        return (spectrum,)

    def add_adjoint(self, y: Tensor, total: Tensor) -> None:
        """Add the adjoint of ``y`` to ``total``, in place."""
        batch = y.shape[0]
        filters, width = self.response.shape
        span = width + (filters - 1) * self.step
        # Row f starts f steps later, so that overlapping bands add up in one sum. In rows of ``span`` entries they
        # lie on a diagonal: from one to the next it is span + step entries.
        rows = total.new_zeros(batch, filters, span)
        bands = rows.as_strided((batch, filters, width), (filters * span, span + self.step, 1))
        self._weigh(_collect(torch.fft.rfft(y), self._position, width), bands)
        total[:, self.start : self.start + span].add_(rows.sum(1), alpha=2.0)

    @property
    def _position(self) -> int:
        """The bin that bands begin at."""
        return first_position(self.response.shape[1], self.length)

    def _zeros(self, y: Tensor, *shape: int) -> Tensor:
        """Make an empty spectrum on the device of ``y``."""
        return self.response.new_zeros(shape)

    def _weigh(self, z_hat: Tensor, out: Tensor) -> None:
        """Write the adjoint of a product with the response."""
        torch.mul(z_hat, self.response, out=out)


@dataclass(frozen=True, eq=False)
class CommonBand:
    """Linear map that applies one filter to many real signals, whose spectra come in groups.

    All rows are demodulated alike, so that they may be mixed: the band's first bin becomes bin 1.

    Args:
        groups: for each group the rows and the number of bins of its spectra, from bin 0 on; bins past them are
            taken for zero.
        start: first bin of the band, possibly negative.
        response: (width,) psi / 2, real numbers held as complex.
        length: M, samples of each sub-band, even.
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
        """Map groups (batch, rows of the group, bins) complex to planes (batch, 2 rows, length) real."""
        batch, n_rows = spectra[0].shape[0], sum(rows for rows, _ in self.groups)
        planes = self.response.new_zeros(batch, 2, n_rows, self.length // 2 + 1)
        row = 0
        for spectrum, (rows, n_bins) in zip(spectra, self.groups, strict=True):
            low, high = self._run(n_bins)
            bins = spectrum[..., max(low, 0) : max(high, 0)]
            if low < 0:
                bins = torch.cat([spectrum[..., 1 : 1 - low].flip(-1).conj(), bins], dim=-1)
            response = self.response[low - self.start : high - self.start]
            _place(planes[:, :, row : row + rows], bins, response, self._position + low - self.start)
            row += rows
        return torch.fft.irfft(planes, n=self.length, norm="forward").flatten(1, 2)

    def adjoint(self, y: Tensor) -> tuple[Tensor, ...]:
        """Map planes (batch, 2 rows, length) real to groups (batch, rows of the group, bins) complex."""
        planes = torch.fft.rfft(y.unflatten(1, (2, -1)))
        results: list[Tensor] = []
        row = 0
        for rows, n_bins in self.groups:
            low, high = self._run(n_bins)
            z_hat = _collect(planes[:, :, row : row + rows], self._position + low - self.start, high - low)
            bins = self._weighed(z_hat, self.response[low - self.start : high - self.start])
            result = bins.new_zeros(y.shape[0], rows, n_bins)
            result[..., max(low, 0) : high].add_(bins[..., max(-low, 0) :], alpha=2.0)
            if low < 0:
                result[..., 1 : 1 - low].add_(bins[..., :-low].flip(-1).conj(), alpha=2.0)
            results.append(result)
            row += rows
        return tuple(results)

    def _run(self, n_bins: int) -> tuple[int, int]:
        """Return the first bin, possibly negative, and one past the last that the band reads of such spectra."""
        low = max(self.start, 1 - n_bins)
        return low, max(low, min(self.start + self.response.shape[-1], n_bins))

    @property
    def _position(self) -> int:
        """The bin that the band begins at."""
        return first_position(len(self.response), self.length)

    def _weighed(self, z_hat: Tensor, response: Tensor) -> Tensor:
        """Return the adjoint of a product with some of the response."""
        return z_hat.mul_(response)


def first_position(width: int, period: int) -> int:
    """Return the bin that a band starts at: 1 if it fits, since irfft counts bin 0 once and others twice."""
    return int(width < period)


def _segments(position: int, width: int, middle: int) -> Iterator[tuple[slice, slice, bool]]:
    """Cut a band at the ends of a half spectrum: its entries, their bins, and whether these are mirror images.

    Bins k up to ``middle``, half of the circle, are themselves; from there to the whole circle bin k is bin
    2 middle - k, conjugate and in reverse; a band that goes on begins at bin 0 again.
    """
    for half in range((position + width - 1) // middle + 1):
        first = max(position, half * middle + half % 2)
        last = min(position + width, (half + 1) * middle + (half + 1) % 2)
        if first < last:
            entries, origin = slice(first - position, last - position), half // 2 * 2 * middle
            if half % 2:
                yield entries, slice(origin + 2 * middle - last + 1, origin + 2 * middle - first + 1), True
            else:
                yield entries, slice(first - origin, last - origin), False


def _place(planes: Tensor, bins: Tensor, response: Tensor, position: int) -> None:
    """Write the half spectra of both planes of z, whose bins from ``position`` on are 2 bins x response.

    Re z has the bins (z_hat[k] + conj z_hat[-k]) / 2 and Im z those of -i z. Bins past M / 2 are negative ones:
    their mirror images are added. Bins past M begin again at 0.

    Args:
        planes: (batch, 2, rows, M / 2 + 1) zeros, changed in place.
        bins: (batch, rows, width), complex or real.
        response: (width,) or (rows, width).
        position: the bin of the first.
    """
    middle, width = planes.shape[-1] - 1, bins.shape[-1]
    for number, (entries, image, mirrored) in enumerate(_segments(position, width, middle)):
        real, imaginary = planes[:, 0, :, image], planes[:, 1, :, image]
        if mirrored:
            # Bin M / 2 + i is bin -(M / 2 - i): its conjugate adds to Re z at M / 2 - i, and i times it to Im z.
            # Bins are reversed before the product, where they may be real.
            turned = torch.mul(bins[..., entries].flip(-1), response[..., entries].flip(-1)).conj_physical_()
            real.add_(turned)
            imaginary.add_(turned, alpha=1j)
        elif number == 0:
            torch.mul(bins[..., entries], response[..., entries], out=real)
            torch.mul(real, -1j, out=imaginary)  # the bins of -i z
        else:
            turned = bins[..., entries] * response[..., entries]
            real.add_(turned)
            imaginary.add_(turned, alpha=-1j)
    for once in (0, middle):  # irfft counts these once
        if any(image.start <= once < image.stop for _, image, _ in _segments(position, width, middle)):
            planes[..., once].mul_(2.0)


def _collect(planes: Tensor, position: int, width: int) -> Tensor:
    """Return z_hat = Re_hat + i Im_hat at ``width`` bins from ``position`` on, given the planes' half spectra."""
    middle, parts = planes.shape[-1] - 1, []
    for _, image, mirrored in _segments(position, width, middle):
        real, imaginary = planes[:, 0, :, image], planes[:, 1, :, image]
        if mirrored:
            # Bins past M / 2 are negative: z_hat[-k] = conj(Re_hat[k] - i Im_hat[k]), as both planes are real.
            parts.append(torch.add(real, imaginary, alpha=-1j).flip(-1).conj_physical_())
        else:
            parts.append(torch.add(real, imaginary, alpha=1j))
    if not parts:
        return planes.new_zeros(planes.shape[0], planes.shape[2], 0)
    return torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]
