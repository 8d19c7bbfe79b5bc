"""From constants to paths: which maps a path is made of, and what several paths share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from . import scattering
from .constants import Constants
from .decimation import LowSpectrum, decimation_factor
from .geometry import Geometry
from .linear import LinearMap
from .maps import Crop, MatrixAverage, RowFilter, SpectralAverage, SpinPair
from .modulation import Effort, items_at_once
from .operators import FirstOrder
from .paths import Path
from .subband import CommonBand, Spectrum, Subbands

FEWEST_ROWS_TO_PAIR = 16
"""Rows in from which two filters of opposite spin are cheaper together: products then cost more than sums."""

FEWEST_ROWS_AT_ONCE = 16
"""Rows out of which a product consists at least, as each reads all rows in."""


@dataclass(frozen=True)
class RowGroup:
    """Rows of the scalogram that were computed together, from low to high frequency.

    Args:
        last: one past the largest n1 of the group; row f is n1 = last - 1 - f.
        spectra: U1^ (batch, rows, bins) complex, from bin 0 on.
    """

    last: int
    spectra: Tensor

    @property
    def rows(self) -> int:
        """How many rows."""
        return self.spectra.shape[1]


class Settings(NamedTuple):
    """What the numbers of a transform depend on: where they are equal, so are coefficients."""

    geometry: Geometry
    orders: frozenset[int]
    samples_per_bandwidth: float | None
    smoothing: float
    memory: int | None
    dtype: torch.dtype
    device: torch.device

    def differences(self, other: Settings, ignored: Collection[str] = ()) -> str:
        """Name what differs, in both; nothing where nothing does."""
        pairs = zip(self._named().items(), other._named().values(), strict=True)
        return ", ".join(f"{k}={a} there and {b} here" for (k, a), b in pairs if a != b and k not in ignored)

    def _named(self) -> dict[str, object]:
        g = self.geometry
        named: dict[str, object] = {name: getattr(g, name) for name in ("n_samples", "J", "Q", "J_fr", "Q_fr")}
        named |= {"T": g.time, "F": g.frequency, "orders": tuple(sorted(self.orders))}
        return named | {name: getattr(self, name) for name in self._fields[2:]}


@dataclass(frozen=True)
class FirstLayer:
    """What the paths of a batch of signals share.

    Args:
        batch_shape: leading axes of the signals.
        groups: the scalogram, from low to high frequency, at the bins that the second layer reads.
        average: S1 (batch, rows, frames), rows from low to high frequency; None unless order 1 is wanted.
        level: (batch, 1, 1) what the signals were divided by, None if nothing.
        serves: the ids of the paths that can be computed from it.
        settings: those of the transform that computed it, its dtype and device among them.
        differentiated: signals, from the first on, that are differentiated; None for all.
    """

    batch_shape: torch.Size
    groups: tuple[RowGroup, ...]
    average: Tensor | None
    level: Tensor | None
    serves: frozenset[int]
    settings: Settings
    differentiated: int | None = None

    def reshaped(self, batch_shape: torch.Size) -> FirstLayer:
        """Return the same for signals whose leading axes were flattened."""
        return replace(self, batch_shape=batch_shape)


@dataclass(frozen=True)
class Cascade:
    """The maps of a transform at one dtype and device.

    Args:
        constants: sizes and bands.
        array: gives a constant by name.
    """

    constants: Constants
    array: Callable[[str], Tensor]

    def scalogram(self, padded: Tensor, paths: Collection[Path], effort: Effort) -> tuple[RowGroup, ...]:
        """Compute U1^ of padded signals for paths of order 2: all rows and bins that they read."""
        n2s = {path.n2: path.n_rows for path in paths if path.n2 is not None}
        if not n2s:
            return ()
        n_rows = max(n2s.values())
        groups = self._pieces(n_rows, padded, effort)
        after: list[LinearMap] = []
        for f, rows in groups:
            bands = [self.constants.second[n2] for n2, fed in n2s.items() if fed > f.last - rows.stop]
            n_bins = max(max(band.stop, 1 - band.start) for band in bands)
            after.append(self._low_spectrum(f.length, min(n_bins, f.length // 2), padded.dtype))
        spectra = self._first_layer(padded, groups, after, effort)
        return tuple(
            _merged([RowGroup(f.last - rows.start, u) for (f, rows), u in zip(groups, spectra, strict=True)])
        )

    def averaged_scalogram(self, padded: Tensor, effort: Effort) -> Tensor:
        """Compute S1 (batch, rows, frames) of padded signals, rows from low to high frequency."""
        n_rows = self.constants.first[-1].last
        groups = list(self._pieces(n_rows, padded, effort))
        names = dict(zip((f.first for f in self.constants.first), self.constants.after_first, strict=True))
        after = [self._average(names[f.first]) for f, _ in groups]
        return torch.cat(self._first_layer(padded, groups, after, effort), dim=-2)

    def sampled_scalogram(self, padded: Tensor, log2_hop: int, effort: Effort) -> Tensor:
        """Compute U1 (batch, rows, frames) at every 2**log2_hop-th sample, rows from low to high frequency."""
        geometry = self.constants.geometry
        frames, kept = geometry.n_padded >> log2_hop, geometry.kept_frames(log2_hop)
        # Sub-bands of 2**k samples have one at each frame.
        lengths = (max(frames, 1 << (f.length - 1).bit_length()) for f in self.constants.first)
        first = tuple(replace(f, length=n) for f, n in zip(self.constants.first, lengths, strict=True))
        finer = replace(self, constants=replace(self.constants, first=first))
        groups = finer._pieces(first[-1].last, padded, effort)
        steps = [f.length // frames for f, _ in groups]
        after = [
            Crop(f.length, slice(kept.start * step, kept.stop * step, step))
            for (f, _), step in zip(groups, steps, strict=True)
        ]
        return torch.cat(self._first_layer(padded, groups, after, effort), dim=-2)

    def first_order(self, s1: Tensor, paths: Sequence[Path], effort: Effort) -> list[Tensor]:
        """Compute paths of order 1 from S1."""
        filters = [self._row_filter(path, self._rows(path), of_planes=False) for path in paths]
        moduli = scattering.frequential_modulation(s1, filters, effort)
        if self.constants.geometry.time.averaging == "global":
            moduli = tuple(u.mean(-1, keepdim=True) for u in moduli)
        return [self._average_rows(u, path) for u, path in zip(moduli, paths, strict=True)]

    def second_order(self, groups: Sequence[RowGroup], paths: Sequence[Path], effort: Effort) -> list[Tensor]:
        """Compute paths of order 2 that share one n2."""
        n2, n_rows = paths[0].n2 or 0, paths[0].n_rows
        psi2 = self.constants.second[n2]
        fed = [_feeding(group, n_rows) for group in groups if group.last - group.rows < n_rows]
        band = CommonBand(
            tuple((group.rows, group.spectra.shape[-1]) for group in fed),
            psi2.start,
            torch.view_as_complex(self.array(f"psi2_{n2}")),
            psi2.length,
        )
        items = min(fed[0].spectra.shape[0], items_at_once(band.size, effort.work, fed[0].spectra))
        at_once = items_at_once(2 * items * psi2.length, effort.work, fed[0].spectra)
        pieces = list(self._row_pieces(paths, at_once, one_spin=effort.taylor is not None))
        moduli = scattering.joint_modulation(
            [group.spectra for group in fed],
            band,
            [row_map for _, row_map in pieces],
            self._average(self.constants.after_second[n2]),
            effort,
        )
        parts: dict[int, list[Tensor]] = {path.index: [] for path in paths}
        for (together, _), u in zip(pieces, moduli, strict=True):
            rows = u.shape[1] // len(together)
            for i, path in enumerate(together):
                parts[path.index].append(u[:, i * rows : (i + 1) * rows])
        return [self._average_rows(_joined(parts[path.index]), path) for path in paths]

    def _row_pieces(
        self, paths: Sequence[Path], rows_at_once: int, *, one_spin: bool
    ) -> Iterator[tuple[tuple[Path, ...], RowFilter | SpinPair]]:
        """Cut the rows of some paths to the working memory, mirror images in spin together or not."""
        wanted = {path.n_fr: path for path in paths}
        for path in paths:
            if path.n_fr not in wanted:
                continue
            pays = path.n_rows >= FEWEST_ROWS_TO_PAIR and not one_spin
            mirror = wanted.pop(self.constants.mirrors.get(path.n_fr, -1), None) if pays else None
            del wanted[path.n_fr]
            together = (path,) if mirror is None else (path, mirror)
            rows = self._rows(path)
            at_once = max(FEWEST_ROWS_AT_ONCE, rows_at_once // len(together))
            for first in range(rows.start, rows.stop, at_once):
                piece = slice(first, min(first + at_once, rows.stop))
                yield together, self._row_filter(path, piece, of_planes=True, with_mirror=mirror is not None)

    def _pieces(self, n_rows: int, padded: Tensor, effort: Effort) -> list[tuple[FirstOrder, slice]]:
        """Cut the groups of rows n1 < n_rows, from low to high frequency, to the working memory."""
        pieces: list[tuple[FirstOrder, slice]] = []
        for f in reversed(self.constants.first):
            if f.first >= n_rows:
                continue
            at_once = items_at_once(2 * padded.shape[0] * f.length, effort.work, padded)
            begin, end = max(0, f.last - n_rows), f.last - f.first
            pieces += [(f, slice(a, min(a + at_once, end))) for a in range(begin, end, at_once)]
        return pieces

    def _first_layer(
        self,
        padded: Tensor,
        groups: Sequence[tuple[FirstOrder, slice]],
        after: Sequence[LinearMap],
        effort: Effort,
    ) -> tuple[Tensor, ...]:
        first_bin, last_bin = min(f.start for f, _ in groups), max(f.stop for f, _ in groups)
        psi1 = [
            Subbands(
                last_bin - first_bin,
                f.start + rows.start * f.step - first_bin,
                f.step,
                torch.view_as_complex(self.array(f"psi1_{f.first}"))[rows],
                f.length,
            )
            for f, rows in groups
        ]
        x_hat = Spectrum(self.constants.geometry.n_padded, first_bin, last_bin)
        return scattering.scalogram(padded, x_hat, psi1, after, effort)

    def _low_spectrum(self, n: int, n_bins: int, dtype: torch.dtype) -> LinearMap:
        """Return the map to the first bins: by decimation where few are wanted and its 1e-8 is below rounding."""
        factor = decimation_factor(n, n_bins)
        if factor is None or dtype != torch.float32:
            return Spectrum(n, 0, n_bins)
        correction = torch.view_as_complex(self.array(f"correction_{n}_{factor}"))
        return LowSpectrum(n, self.array(f"window_{factor}"), correction[:n_bins])

    def _rows(self, path: Path) -> slice:
        return self.constants.rows[path.n_fr, path.n_rows][0]

    def _row_filter(
        self, path: Path, rows: slice, *, of_planes: bool, with_mirror: bool = False
    ) -> RowFilter | SpinPair:
        """Return some rows of psi_nfr, for real rows or the planes of complex ones, with its mirror or alone."""
        c, s = self.array(f"psi_fr_{path.n_fr}")[rows, -path.n_rows :].unbind(-1)
        if with_mirror:
            return SpinPair(torch.cat([c, s]))
        if not of_planes:
            return RowFilter(torch.cat([c, s]))
        return RowFilter(torch.cat([torch.cat([c, -s], dim=1), torch.cat([s, c], dim=1)]))

    def _average(self, name: str) -> LinearMap:
        average = self.constants.averages[name]
        if average.matrix is not None:
            return MatrixAverage(self.array(f"phi_{name}"))
        if average.response is not None:
            response = torch.view_as_complex(self.array(f"phi_{name}"))
            return SpectralAverage(average.length, response, average.n_out, average.kept)
        return Crop(average.length, average.kept)

    def _average_rows(self, u: Tensor, path: Path) -> Tensor:
        psi_fr = self.constants.frequential[path.n_fr]
        if psi_fr.lowpass is None:
            return u.mean(-2, keepdim=True) if psi_fr.mean else u
        rows, rows_out = self.constants.rows[path.n_fr, path.n_rows]
        return scattering.average_rows(u, self.array(f"phi_fr_{path.n_fr}")[:rows_out, rows])


def _feeding(group: RowGroup, n_rows: int) -> RowGroup:
    """Leave out the rows n1 >= n_rows, which come first."""
    unfed = group.last - n_rows
    if unfed <= 0:
        return group
    return RowGroup(n_rows, group.spectra[:, unfed:])


def _merged(groups: Sequence[RowGroup]) -> Iterator[RowGroup]:
    """Join neighbours with equally many bins."""
    for _, alike in itertools.groupby(groups, key=lambda group: group.spectra.shape[-1]):
        same = list(alike)
        yield RowGroup(same[0].last, _joined([group.spectra for group in same])) if len(same) > 1 else same[0]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts), dim=-2) if len(parts) > 1 else parts[0]
