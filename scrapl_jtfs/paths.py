"""The table of paths: index <-> (n2, n_fr), order, spin, rate, scale, relative cost."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from scrapl_jtfs._transform.filterbank import MIN_BANDWIDTH, Wavelet, spinned_bank, wavelet_bank
from scrapl_jtfs._transform.geometry import Geometry


@dataclass(frozen=True)
class Path:
    """One path of the transform, in the units that users think in.

    Args:
        index: path id p, in kymatio's order (hence interchangeable with scrapl-loss's).
        order: 1 (no temporal modulation) or 2.
        n2: index of the second-order temporal wavelet, None at order 1.
        n_fr: index of the filter along log-frequency; 0 is the low-pass.
        spin: +1 (rising patterns), -1 (falling) or 0 (low-pass along log-frequency).
        rate: centre frequency of the temporal modulation in Hz (cycles per sample at a sample rate of 1, the
            default); 0 at order 1.
        scale: centre frequency of the frequential modulation in cycles per octave, at least 0.
        j2: log2 of the temporal stride of the second-order wavelet, None at order 1.
        j_fr: log2 of the stride along log-frequency.
        n_rows: first-order wavelets that feed the path, those with j1 < j2 (all at order 1).
        cost: estimated cost of one evaluation, relative to the mean over the table.
        sample_rate: what ``rate`` is in units of, in Hz; 1 where none was given, as rates then are in cycles per
            sample.
    """

    index: int
    order: int
    n2: int | None
    n_fr: int
    spin: int
    rate: float
    scale: float
    j2: int | None
    j_fr: int
    n_rows: int
    cost: float
    sample_rate: float = 1.0

    def __str__(self) -> str:
        """Return what the path listens to, as in "path 30: 87.5 Hz, 0.70 cycles/octave, rising"."""
        rate = "order 1" if self.order == 1 else f"{number_text(self.rate)} {rate_unit(self.sample_rate)}"
        # At order 1 both spins are one.
        spin = {1: ", rising", -1: ", falling"}.get(self.spin, "") if self.order == 2 else ""
        return f"path {self.index}: {rate}, {scale_text(self.scale)} cycles/octave{spin}"


def rate_unit(sample_rate: float) -> str:
    """Return the unit of rates: without a sample rate it is 1, and no Hz are known."""
    return "cycles/sample" if sample_rate == 1.0 else "Hz"


def number_text(value: float) -> str:
    """Return a number with three significant digits, and the integral ones of larger numbers."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def scale_text(scale: float) -> str:
    """Return a scale with at least two decimals, so that those an octave apart look alike."""
    short, exact = f"{scale:.2f}", f"{scale:.3g}"
    return "0" if scale == 0 else short if float(short) == float(exact) else exact


class Banks(NamedTuple):
    """The wavelets of the transform.

    Attributes:
        first: first-order temporal wavelets psi_{n1}, from high to low frequency.
        second: second-order temporal wavelets psi_{n2}.
        frequential: filters along log-frequency psi_{n_fr}; entry 0 is the low-pass of width 2**J_fr.
    """

    first: tuple[Wavelet, ...]
    second: tuple[Wavelet, ...]
    frequential: tuple[Wavelet, ...]

    def feeding(self, n2: int | None) -> tuple[int, ...]:
        """Return the n1 with j1 < j2: a slower wavelet has no modulation left at that rate. All at order 1."""
        if n2 is None:
            return tuple(range(len(self.first)))
        j2 = self.second[n2].j
        return tuple(n1 for n1, psi in enumerate(self.first) if psi.j < j2)


def make_banks(geometry: Geometry) -> Banks:
    """List the wavelets of a transform with these settings."""
    q1, q2 = geometry.Q
    lowpass = Wavelet(0.0, MIN_BANDWIDTH / 2**geometry.J_fr, geometry.J_fr)
    return Banks(
        wavelet_bank(geometry.J, q1),
        wavelet_bank(geometry.J, q2),
        (lowpass, *spinned_bank(geometry.J_fr, geometry.Q_fr)),
    )


def list_paths(geometry: Geometry, banks: Banks, sample_rate: float, orders: Collection[int]) -> tuple[Path, ...]:
    """List every path: order 1 by n_fr (spins >= 0 only), then order 2 by n2, then n_fr.

    Args:
        geometry: settings of the transform.
        banks: its wavelets.
        sample_rate: in Hz.
        orders: which of {1, 2} to include.
    """
    temporal: list[int | None] = [None] if 1 in orders else []
    if 2 in orders:
        temporal += [n2 for n2 in range(len(banks.second)) if banks.feeding(n2)]
    keys: list[tuple[int | None, int, int]] = []
    operations: list[float] = []
    for n2 in temporal:
        n_rows = len(banks.feeding(n2))
        frames, of_ffts = _frames_and_fft_operations(geometry, banks, n2)
        for n_fr, psi_fr in enumerate(banks.frequential):
            if n2 is None and psi_fr.xi < 0:
                continue
            rows_out = 1 + n_rows // 2 ** geometry.frequency.stride_of(psi_fr.j)
            keys.append((n2, n_fr, n_rows))
            operations.append(of_ffts + 8.0 * frames * n_rows * rows_out)
    mean = sum(operations) / max(1, len(operations))
    return tuple(
        _path(geometry, banks, sample_rate, index, key, cost / mean)
        for index, (key, cost) in enumerate(zip(keys, operations, strict=True))
    )


def _path(
    geometry: Geometry,
    banks: Banks,
    sample_rate: float,
    index: int,
    key: tuple[int | None, int, int],
    cost: float,
) -> Path:
    n2, n_fr, n_rows = key
    psi_fr = banks.frequential[n_fr]
    return Path(
        index=index,
        order=1 if n2 is None else 2,
        n2=n2,
        n_fr=n_fr,
        spin=(psi_fr.xi > 0) - (psi_fr.xi < 0),
        rate=0.0 if n2 is None else banks.second[n2].xi * sample_rate,
        scale=abs(psi_fr.xi) * geometry.Q[0],
        j2=None if n2 is None else banks.second[n2].j,
        j_fr=psi_fr.j,
        n_rows=n_rows,
        cost=cost,
        sample_rate=sample_rate,
    )


def _frames_and_fft_operations(geometry: Geometry, banks: Banks, n2: int | None) -> tuple[float, float]:
    """Return the frames that a path filters along log-frequency, and the real operations of its FFTs."""

    def fft(n: float) -> float:
        return 5.0 * n * math.log2(max(n, 2.0))

    n, feeding = geometry.n_padded, banks.feeding(n2)
    lengths = [n / 2 ** geometry.time.stride_of(banks.first[n1].j) for n1 in feeding]
    total = fft(n) / 2 + sum(1.5 * fft(length) for length in lengths)
    if n2 is None:
        return n / 2**geometry.time.log2_stride, total
    frames = n / 2 ** geometry.time.stride_of(banks.second[n2].j)
    return frames, total + len(feeding) * fft(frames)
