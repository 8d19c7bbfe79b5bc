"""From signals to the coefficients of time scattering, in the order of the formula.

Definitions (each array with its axes; * is a convolution; ^ a discrete Fourier transform; batch axes first)
-----------
x            (t)                              signal, continued at both ends
S0(t)        = (x * phi_T)(t)                 order 0
U1(n1, t)    = |x * psi_n1|(t)                scalogram, stride 2**j1 in t
S1(n1, t)    = (U1 * phi_T)(t)                order 1
U1^(n1, k)                                    its spectrum, at the low bins that psi_n2 passes
U2(n1, t)    = |U1 * psi_n2|(n1, t)           one n2 at a time, rows with j1 < j2, stride 2**j2
S2(n1, t)    = (U2 * phi_T)(n1, t)            order 2

Two layers B |A y| compute this: psi_n1, and what follows its modulus, are A and B of the first; psi_n2 and phi_T
those of the second. A path asks for some rows, which alone are computed. Rows run from low to high frequency.

Source: Mallat, Group invariant scattering (2012); Anden & Mallat, Deep scattering spectrum (2014).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from scrapl_jtfs._time_scattering.filters import TimeFilters
from scrapl_jtfs._transform.budget import Budget
from scrapl_jtfs._transform.filters import FirstOrder
from scrapl_jtfs._transform.layer import Layer, LayerFunction
from scrapl_jtfs._transform.linear.autograd import LinearMap, SizedMap, apply_linear
from scrapl_jtfs._transform.linear.rows import LowBins, RowPlanes, SpectrumAndAverage
from scrapl_jtfs._transform.scattering import row_chunks, row_layers, runs


class Rows(NamedTuple):
    """Rows of the first layer that were computed together, from low to high frequency.

    Attributes:
        last: one past the largest n1; row f is n1 = last - 1 - f.
        spectra: U1^ (batch, rows, bins), from bin 0 on; None where no second-order wavelet reads them.
        average: S1 (batch, rows, frames); None where no path of order 1 was asked for.
    """

    last: int
    spectra: Tensor | None
    average: Tensor | None


def order_zero(filters: TimeFilters, x: Tensor) -> Tensor:
    """Compute S0 (batch, frames) of continued signals (batch, samples)."""
    return apply_linear(filters.average.map(), x)


def first_layer(
    filters: TimeFilters,
    x: Tensor,
    averaged: Collection[int],
    readers: Mapping[int, Collection[int]],
    epsilon: float,
    budget: Budget,
    layer: LayerFunction,
) -> list[Rows]:
    """Compute S1 and U1^ of continued signals, those that are asked for.

    Args:
        filters: of the transform.
        x: (batch, samples).
        averaged: every n1 whose S1 is asked for.
        readers: by n2, every n1 of which it is asked for.
        epsilon: eps of the modulus.
        budget: memory of the layer.
        layer: what computes it.
    """
    chunks = row_chunks(filters, set(averaged).union(*readers.values()), x, budget)
    if not chunks:
        return []
    # B: to U1^ at the bins that are read, to S1, or to both
    synthesis = [_after_modulus(filters, *chunk, averaged, readers) for chunk in chunks]
    # U1 = |x * psi_n1|
    maps = [both or spectrum or average for spectrum, average, both in synthesis]
    outputs = layer(*row_layers(filters, chunks, [b for b in maps if b is not None], epsilon), budget, x)
    found: list[Rows] = []
    for (psi1, rows), (spectrum, _, both), y in zip(chunks, synthesis, outputs, strict=True):
        parts = both.split(y) if both is not None else (None, y) if spectrum is None else (y, None)
        found.append(Rows(psi1.last - rows.start, *parts))
    return found


class _AfterModulus(NamedTuple):
    """Maps from moduli to their spectra, to their averages, and to both at a time where both are wanted."""

    spectrum: SizedMap | None
    average: LinearMap | None
    both: SpectrumAndAverage | None


def _after_modulus(
    filters: TimeFilters,
    psi1: FirstOrder,
    rows: slice,
    averaged: Collection[int],
    readers: Mapping[int, Collection[int]],
) -> _AfterModulus:
    """Return the maps of a chunk of rows; a few of its rows may be computed for others' sake."""
    n1s = range(psi1.last - rows.stop, psi1.last - rows.start)
    n_bins = [filters.psi2(n2).n_bins for n2, read in readers.items() if any(n1 in read for n1 in n1s)]
    spectrum = psi1.low_spectrum(min(max(n_bins), psi1.period // 2)) if n_bins else None
    average = None
    if psi1.average is not None and any(n1 in averaged for n1 in n1s):
        average = psi1.average.map()
    if spectrum is None or average is None:
        return _AfterModulus(spectrum, average, None)
    complex_bins = filters.geometry.boundary == "reflect"
    return _AfterModulus(spectrum, average, SpectrumAndAverage(spectrum, average, complex_bins))


def order_one(first: Sequence[Rows]) -> dict[int, Tensor]:
    """Return S1 (batch, frames) by n1, of all rows that have it."""
    averages: dict[int, Tensor] = {}
    for rows in first:
        if rows.average is not None:
            n1s = range(rows.last - 1, -1, -1)
            averages |= dict(zip(n1s, rows.average.unbind(1), strict=False))
    return averages


def order_two(
    filters: TimeFilters,
    first: Sequence[Rows],
    n2: int,
    wanted: Collection[int],
    epsilon: float,
    budget: Budget,
    layer: LayerFunction,
) -> dict[int, Tensor]:
    """Compute S2 of one n2.

    Args:
        filters: of the transform.
        first: U1^ of these rows, among others.
        n2: the wavelet.
        wanted: every n1 that is asked for.
        epsilon: eps of the modulus.
        budget: memory of the layer.
        layer: what computes it.

    Returns:
        S2 (batch, frames) by n1.
    """
    spectra: list[Tensor] = []
    n1s: list[int] = []
    for group in first:
        if group.spectra is not None:
            rows = group.spectra.shape[1]
            for run in runs(f for f in range(rows) if group.last - 1 - f in wanted):
                spectra.append(group.spectra if run == slice(0, rows) else group.spectra[:, run])
                n1s += range(group.last - 1 - run.start, group.last - 1 - run.stop, -1)
    psi2 = filters.psi2(n2)
    n_bins = min(psi2.n_bins, max(some.shape[-1] for some in spectra))
    low = LowBins(tuple((some.shape[1], some.shape[2]) for some in spectra), n_bins)
    # U2 = |U1 * psi_n2|, some rows at a time
    at_once = budget.items_at_once(2 * psi2.length, spectra[0])
    layers: list[Layer] = []
    for begin in range(0, len(n1s), at_once):
        some_rows = slice(begin, min(begin + at_once, len(n1s)))
        count = some_rows.stop - some_rows.start
        planes = RowPlanes(psi2.band([(count, n_bins)]), some_rows, len(n1s))
        # S2 = U2 * phi_T
        layers.append(Layer(planes, psi2.average.map(), 2 * count * psi2.length, epsilon))
    moduli = layer(low, layers, budget, *spectra)
    return dict(zip(n1s, itertools.chain.from_iterable(rows.unbind(1) for rows in moduli), strict=True))
