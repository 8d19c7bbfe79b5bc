"""Equation 1: from signals to the coefficients of paths, in the order of the formula.

Definitions (each array with its axes; * is a convolution; ^ a discrete Fourier transform; batch axes first)
-----------
x            (t)              signal, reflected at both ends to a power of two
U1(n1, t)    = |x * psi_n1|(t)                 scalogram, stride 2**j1 in t
S1(n1, t)    = (U1 * phi_T)(t)                 its average, stride 2**log2(T), unpadded
U1^(n1, k)                                     its spectrum, at the low bins that psi_n2 passes
Y2(n1, t)    = (U1 * psi_n2)(n1, t)            temporal modulation, rows j1 < j2, stride 2**j2
Yfr(n1, t)   = (Y * psi_nfr)(n1, t)            frequential modulation of Y = S1 or Y2, stride 2**j_fr in n1;
                                               n1 zero-padded on the right (towards low frequencies)
U(n1, t)     = |Yfr|(n1, t)
phi_p(n1, t) = (U * Phi_{T,F})(n1, t)          path p = (n2, n_fr), or (n_fr) at order 1 where Y is averaged
                                               in time already; the low-pass along n1 is left out for n_fr = 0

Two layers B |A y| compute this, with A a filter bank and B what follows its modulus up to the next: neither U1 nor
U is ever held for all rows at once. Rows of U1 and Y run from low to high frequency, those of U from high to low.

    layer 1   A = psi_n1     B = ^, cut to low bins, or phi_T     :func:`scalogram`, :func:`averaged_scalogram`
    layer 2   A = psi_nfr    B = phi_T, of y = Y2 or S1           :func:`joint`, :func:`first_order`

The average along log-frequency, * phi_F, comes last, where a path has few numbers left.

Strides are kymatio's: capped by those of T and F where these average locally; a compact transform has fewer
samples in t. Source: paper, Equation 1 and section 4.1; Anden, Lostanlen & Mallat, Joint time-frequency
scattering (2019).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from scrapl_jtfs._transform.budget import Budget
from scrapl_jtfs._transform.filters import Filters, FirstOrder
from scrapl_jtfs._transform.first_layer import FirstLayer, RowGroup
from scrapl_jtfs._transform.layer import Layer, LayerFunction, scattering_layer
from scrapl_jtfs._transform.linear.autograd import LinearMap, SizedMap, apply_linear
from scrapl_jtfs._transform.linear.filters_and_averages import Crop, Identity, RowFilter, SpinPair
from scrapl_jtfs._transform.linear.spectra import Spectrum
from scrapl_jtfs.paths import Path

# Rows in from which two filters of opposite spin are cheaper together: products then cost more than sums.
_FEWEST_ROWS_TO_PAIR = 16
# Rows out of which a product consists at least, as each reads all rows in.
_FEWEST_ROWS_AT_ONCE = 16


def signal_level(x: Tensor) -> Tensor:
    """Return root mean squares (batch, 1): divided by them, signals know eps as relative, and so do gradients."""
    tiny = torch.finfo(x.dtype).tiny
    # The peak is taken out first, as squares of large numbers overflow.
    peak = x.detach().abs().amax(-1, keepdim=True).clamp_min(tiny**0.5)
    return peak * (x / peak).square().mean(-1, keepdim=True).add(tiny).sqrt()


def continued(filters: Filters, x: Tensor) -> Tensor:
    """Continue signals (batch, n_samples) at their ends; returns the samples that are computed with."""
    return apply_linear(filters.ends.continuation(), x)


def scalogram(
    filters: Filters,
    x: Tensor,
    paths: Collection[Path],
    epsilon: float,
    budget: Budget,
    layer: LayerFunction = scattering_layer,
) -> tuple[RowGroup, ...]:
    """Compute U1^ of continued signals for paths of order 2: all rows and bins that they read.

    Args:
        filters: of the transform.
        x: (batch, samples), from :func:`continued`.
        paths: those that are to be computed; with none of order 2 there is no group.
        epsilon: eps of the modulus.
        budget: memory of the layer.
        layer: what computes it.
    """
    n_rows_of = {path.n2: path.n_rows for path in paths if path.n2 is not None}
    if not n_rows_of:
        return ()
    # U1 = |x * psi_n1|, n1 < n_rows
    chunks = row_chunks(filters, range(max(n_rows_of.values())), x, budget)
    # U1^, at the bins of the psi_n2 that read a row: those with j2 > j1
    spectra: list[LinearMap] = []
    for psi1, rows in chunks:
        smallest_n1 = psi1.last - rows.stop
        readers = [filters.psi2(n2) for n2, n_rows in n_rows_of.items() if n_rows > smallest_n1]
        n_bins = max(psi2.n_bins for psi2 in readers)
        spectra.append(psi1.low_spectrum(min(n_bins, psi1.period // 2)))
    u1_hat = layer(*row_layers(filters, chunks, spectra, epsilon), budget, x)
    groups = [RowGroup(psi1.last - rows.start, u) for (psi1, rows), u in zip(chunks, u1_hat, strict=True)]
    return tuple(_merged(groups))


def averaged_scalogram(
    filters: Filters, x: Tensor, epsilon: float, budget: Budget, layer: LayerFunction = scattering_layer
) -> Tensor:
    """Compute S1 (batch, rows, frames) of continued signals: arguments as in :func:`scalogram`."""
    # U1 = |x * psi_n1|, all n1
    chunks = row_chunks(filters, range(filters.psi1[-1].last), x, budget)
    # S1 = U1 * phi_T
    averages = [psi1.average.map() for psi1, _ in chunks if psi1.average is not None]
    return torch.cat(layer(*row_layers(filters, chunks, averages, epsilon), budget, x), dim=-2)


def sampled_scalogram(filters: Filters, x: Tensor, log2_hop: int, budget: Budget) -> Tensor:
    """Compute U1 (batch, rows, frames) of signals (batch, n_samples) at every 2**log2_hop-th sample."""
    geometry = filters.geometry
    x = apply_linear(filters.ends.period(), x)
    frames, kept = geometry.n_padded >> log2_hop, geometry.kept_frames(log2_hop)
    # Sub-bands of 2**k samples a frame have one at each frame.
    lengths = {psi1: frames << (-(-psi1.period // frames) - 1).bit_length() for psi1 in filters.psi1}
    chunks = row_chunks(filters, range(filters.psi1[-1].last), x, budget, lengths)
    crops: list[LinearMap] = []
    for psi1, _ in chunks:
        step = lengths[psi1] // frames
        crops.append(Crop(lengths[psi1], slice(kept.start * step, kept.stop * step, step)))
    first_bin, last_bin = _bins(chunks)
    layers: list[Layer] = []
    for (psi1, rows), crop in zip(chunks, crops, strict=True):
        a = psi1.sampled(rows, first_bin, last_bin - first_bin, lengths[psi1])
        layers.append(Layer(a, crop, a.size))
    return torch.cat(scattering_layer(Spectrum(x.shape[-1], first_bin, last_bin), layers, budget, x), dim=-2)


def second_layer(
    filters: Filters,
    shared: FirstLayer,
    paths: Sequence[Path],
    epsilon: float,
    budget: Budget,
    layer: LayerFunction = scattering_layer,
    *,
    pair_spins: bool = True,
) -> list[Tensor]:
    """Compute phi_p of paths that share one n2 from what all paths share: see :func:`joint`."""
    if paths[0].order == 1 and shared.average is not None:
        return first_order(filters, shared.average, paths, epsilon, budget, layer)
    return joint(filters, shared.groups, paths, epsilon, budget, layer, pair_spins=pair_spins)


def joint(
    filters: Filters,
    u1_hat: Sequence[RowGroup],
    paths: Sequence[Path],
    epsilon: float,
    budget: Budget,
    layer: LayerFunction = scattering_layer,
    *,
    pair_spins: bool = True,
) -> list[Tensor]:
    """Compute phi_p of paths of order 2 that share one n2.

    Args:
        filters: of the transform.
        u1_hat: U1^, from :func:`scalogram`.
        paths: the paths.
        epsilon: eps of the modulus.
        budget: memory of the layer.
        layer: what computes it.
        pair_spins: whether mirror images in spin may be computed together.
    """
    n2, n_rows = paths[0].n2 or 0, paths[0].n_rows
    psi2 = filters.psi2(n2)
    # Y2 = U1 * psi_n2, n1 < n_rows
    feeding = [_first_rows(group, n_rows) for group in u1_hat if group.last - group.rows < n_rows]
    y2 = psi2.band([(group.rows, group.spectra.shape[-1]) for group in feeding])
    # Yfr = Y2 * psi_nfr, some rows of it at a time
    x = feeding[0].spectra
    items = min(x.shape[0], budget.items_at_once(y2.size, x))
    rows_at_once = budget.items_at_once(2 * items * psi2.length, x)
    chunks = list(_joint_chunks(filters, paths, rows_at_once, pair_spins=pair_spins))
    # U * phi_T = |Yfr| * phi_T
    phi_t = psi2.average.map()
    layers = [Layer(psi_fr, phi_t, psi_fr.rows * 2 * psi2.length, epsilon) for _, psi_fr in chunks]
    moduli = layer(y2, layers, budget, *(group.spectra for group in feeding))
    parts: dict[int, list[Tensor]] = {path.index: [] for path in paths}
    for (together, _), u in zip(chunks, moduli, strict=True):
        rows = u.shape[1] // len(together)
        for i, path in enumerate(together):
            parts[path.index].append(u[:, i * rows : (i + 1) * rows])
    # phi_p = U * phi_T * phi_F
    return [filters.psi_fr[path.n_fr].average(_joined(parts[path.index]), path.n_rows) for path in paths]


def first_order(
    filters: Filters,
    s1: Tensor,
    paths: Sequence[Path],
    epsilon: float,
    budget: Budget,
    layer: LayerFunction = scattering_layer,
) -> list[Tensor]:
    """Compute phi_p of paths of order 1 from S1, (batch, rows, frames): arguments as in :func:`joint`."""
    # Yfr = S1 * psi_nfr, U = |Yfr|
    layers: list[Layer] = []
    for path in paths:
        psi_fr = filters.psi_fr[path.n_fr]
        row_filter = psi_fr.row_filter(psi_fr.rows[path.n_rows][0], path.n_rows, of_planes=False)
        size = row_filter.rows * s1.shape[-1]
        layers.append(Layer(row_filter, Identity(size), 2 * size, epsilon))
    moduli = layer(Identity(s1[0].numel()), layers, budget, s1)
    # phi_p = U * phi_F, averaged in time already but for the mean over the signal
    if filters.geometry.time.averaging == "global":
        moduli = tuple(u.mean(-1, keepdim=True) for u in moduli)
    return [filters.psi_fr[path.n_fr].average(u, path.n_rows) for u, path in zip(moduli, paths, strict=True)]


def plane_size(filters: Filters, path: Path, first_order_frames: int) -> int:
    """Return how many real numbers the planes of Yfr have for one signal; S1 has ``first_order_frames``."""
    rows = filters.psi_fr[path.n_fr].rows[path.n_rows][0]
    frames = first_order_frames if path.n2 is None else filters.psi2(path.n2).length
    return (rows.stop - rows.start) * 2 * frames


def row_layers(
    filters: Filters,
    chunks: Sequence[tuple[FirstOrder, slice]],
    synthesis: Sequence[LinearMap],
    epsilon: float,
) -> tuple[SizedMap, list[Layer]]:
    """Return the map to x^ at the bins that are read, and the layers B |x * psi_n1| of chunks of rows."""
    first_bin, last_bin = _bins(chunks)
    layers: list[Layer] = []
    for (psi1, rows), b in zip(chunks, synthesis, strict=True):
        a = psi1.subbands(rows, first_bin, last_bin - first_bin)
        layers.append(Layer(a, b, a.size, epsilon))
    return filters.ends.spectrum(first_bin, last_bin), layers


def _bins(chunks: Sequence[tuple[FirstOrder, slice]]) -> tuple[int, int]:
    """Return the first bin that some rows read, and one past the last."""
    return min(psi1.start for psi1, _ in chunks), max(psi1.stop for psi1, _ in chunks)


def row_chunks(
    filters: Filters,
    wanted: Collection[int],
    x: Tensor,
    budget: Budget,
    lengths: dict[FirstOrder, int] | None = None,
) -> list[tuple[FirstOrder, slice]]:
    """Cut the rows of some n1, from low to high frequency, to the working memory.

    Args:
        filters: of the transform.
        wanted: every n1 of them.
        x: the samples that are computed with.
        budget: memory of the layer.
        lengths: samples of the sub-bands, by default those that are computed.
    """
    chunks: list[tuple[FirstOrder, slice]] = []
    for psi1 in reversed(filters.psi1):
        length = psi1.length if lengths is None else lengths[psi1]
        at_once = budget.items_at_once(2 * x.shape[0] * length, x)
        # Row f is n1 = last - 1 - f.
        for run in runs(f for f in range(psi1.last - psi1.first) if psi1.last - 1 - f in wanted):
            chunks += [(psi1, slice(f, min(f + at_once, run.stop))) for f in range(run.start, run.stop, at_once)]
    return chunks


def runs(rising: Iterable[int]) -> Iterator[slice]:
    """Yield the runs of consecutive integers among rising ones."""
    for _, run in itertools.groupby(enumerate(rising), key=lambda pair: pair[1] - pair[0]):
        members = [member for _, member in run]
        yield slice(members[0], members[-1] + 1)


def _joint_chunks(
    filters: Filters, paths: Sequence[Path], rows_at_once: int, *, pair_spins: bool
) -> Iterator[tuple[tuple[Path, ...], RowFilter | SpinPair]]:
    """Cut the rows of some paths to the working memory, mirror images in spin together or not."""
    left = {path.n_fr: path for path in paths}
    for path in paths:
        if left.pop(path.n_fr, None) is None:
            continue
        psi_fr = filters.psi_fr[path.n_fr]
        mirror = None
        if pair_spins and psi_fr.mirror is not None and path.n_rows >= _FEWEST_ROWS_TO_PAIR:
            mirror = left.pop(psi_fr.mirror, None)
        together = (path,) if mirror is None else (path, mirror)
        rows = psi_fr.rows[path.n_rows][0]
        at_once = max(_FEWEST_ROWS_AT_ONCE, rows_at_once // len(together))
        for begin in range(rows.start, rows.stop, at_once):
            some = slice(begin, min(begin + at_once, rows.stop))
            if mirror is None:
                yield together, psi_fr.row_filter(some, path.n_rows, of_planes=True)
            else:
                yield together, psi_fr.spin_pair(some, path.n_rows)


def _first_rows(group: RowGroup, n_rows: int) -> RowGroup:
    """Leave out the rows n1 >= n_rows, which come first."""
    left_out = group.last - n_rows
    return group if left_out <= 0 else RowGroup(n_rows, group.spectra[:, left_out:])


def _merged(groups: Sequence[RowGroup]) -> Iterator[RowGroup]:
    """Join neighbours with equally many bins."""
    for _, alike in itertools.groupby(groups, key=lambda group: group.spectra.shape[-1]):
        same = list(alike)
        yield RowGroup(same[0].last, _joined([group.spectra for group in same]))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts), dim=-2) if len(parts) > 1 else parts[0]
