"""Maps between two layers along time, in which each row of the scalogram stays by itself.

A second-order wavelet reads the low bins of a row's spectrum, and a path of order 1 is the row's average; where
both are wanted, both are made of one modulus.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scrapl_jtfs._transform.linear.autograd import LinearMap, SizedMap


@dataclass(frozen=True, eq=False)
class SpectrumAndAverage:
    """Linear map from moduli to the low bins of their spectra and to their averages, side by side as real numbers.

    Args:
        spectrum: to the bins.
        average: to the frames.
        complex_bins: whether bins are complex; those of an even period are real.
    """

    spectrum: SizedMap
    average: LinearMap
    complex_bins: bool

    def __call__(self, u: Tensor) -> Tensor:
        """Map (..., n) to (..., numbers of the bins + frames)."""
        bins = self.spectrum(u)
        numbers = torch.view_as_real(bins).flatten(-2) if self.complex_bins else bins
        return torch.cat([numbers, self.average(u)], dim=-1)

    def adjoint(self, y: Tensor) -> tuple[Tensor]:
        """Map (..., numbers of the bins + frames) to (..., n)."""
        bins, frames = self.split(y)
        return (self.spectrum.adjoint(bins)[0].add_(self.average.adjoint(frames)[0]),)

    def split(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bins and the frames of an image, differentiably."""
        n = self.spectrum.size
        bins, frames = y.split([n, y.shape[-1] - n], dim=-1)
        if self.complex_bins:
            bins = torch.view_as_complex(bins.unflatten(-1, (-1, 2)).contiguous())
        return bins, frames


@dataclass(frozen=True, eq=False)
class LowBins:
    """Linear map that joins rows whose spectra come in groups, at the low bins of each.

    Args:
        groups: for each group the rows and the number of bins of its spectra, from bin 0 on.
        n_bins: bins out; those that a group does not have are zero.
    """

    groups: tuple[tuple[int, int], ...]
    n_bins: int

    @property
    def rows(self) -> int:
        """Rows of all groups."""
        return sum(rows for rows, _ in self.groups)

    @property
    def size(self) -> int:
        """Real numbers in the bins of one item of the batch, if they are complex."""
        return 2 * self.rows * self.n_bins

    def __call__(self, *spectra: Tensor) -> Tensor:
        """Map groups (batch, rows of the group, bins) to (batch, rows, n_bins)."""
        joined = spectra[0].new_zeros(spectra[0].shape[0], self.rows, self.n_bins)
        row = 0
        for spectrum, (rows, bins) in zip(spectra, self.groups, strict=True):
            n = min(bins, self.n_bins)
            joined[:, row : row + rows, :n] = spectrum[..., :n]
            row += rows
        return joined

    def adjoint(self, y: Tensor) -> tuple[Tensor, ...]:
        """Map (batch, rows, n_bins) to groups (batch, rows of the group, bins)."""
        results: list[Tensor] = []
        row = 0
        for rows, bins in self.groups:
            n = min(bins, self.n_bins)
            result = y.new_zeros(y.shape[0], rows, bins)
            result[..., :n] = y[:, row : row + rows, :n]
            results.append(result)
            row += rows
        return tuple(results)


@dataclass(frozen=True, eq=False)
class RowPlanes:
    """Linear map that filters some rows along time: from the bins of all rows to the planes of these.

    Args:
        band: the filter of a single group, that of these rows.
        rows: the rows, of n_rows.
        n_rows: rows in.
    """

    band: LinearMap
    rows: slice
    n_rows: int

    def __call__(self, y: Tensor) -> Tensor:
        """Map (batch, n_rows, bins) to (batch, 2, rows, frames)."""
        return self.band(y[:, self.rows]).unflatten(1, (2, -1))

    def adjoint(self, y: Tensor) -> tuple[Tensor]:
        """Map (batch, 2, rows, frames) to (batch, n_rows, bins)."""
        (bins,) = self.band.adjoint(y.flatten(1, 2))
        total = bins.new_zeros(bins.shape[0], self.n_rows, bins.shape[-1])
        total[:, self.rows] = bins
        return (total,)

    def add_adjoint(self, y: Tensor, total: Tensor) -> None:
        """Add the adjoint of ``y`` to ``total``, in place."""
        total[:, self.rows].add_(self.band.adjoint(y.flatten(1, 2))[0])
