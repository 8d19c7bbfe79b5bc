"""The table of the paths of time scattering: index <-> order, wavelets, frequencies, rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from scrapl_jtfs._transform.geometry import Geometry
from scrapl_jtfs._validation import PathIndices
from scrapl_jtfs.any_path_table import AnyPathTable
from scrapl_jtfs.path_table import Range
from scrapl_jtfs.paths import Banks, number_text, rate_unit

# What a path of order 2 is: a pair of wavelets, or a wavelet n2 with all n1.
Unit = Literal["pair", "second"]


@dataclass(frozen=True)
class TimePath:
    """One path of time scattering, in the units that users think in.

    Args:
        index: path id p.
        order: 0 (the average of the signal), 1 (of the scalogram) or 2 (of its modulations).
        n1: first-order wavelets of the rows, from high to low frequency: none at order 0, one with ``by="pair"``.
        n2: index of the second-order wavelet, None below order 2.
        frequencies: centre frequencies of the rows in Hz (cycles per sample without a sample rate), falling.
        frequency: that of the row, of several their geometric mean; 0 at order 0.
        rate: centre frequency of the temporal modulation in Hz (the same); 0 below order 2.
        j1: log2 of the coarsest stride of the rows' wavelets; None at order 0.
        j2: log2 of that of the second-order wavelet; None below order 2.
        sample_rate: in Hz; 1 where none was given.
    """

    index: int
    order: int
    n1: tuple[int, ...]
    n2: int | None
    frequencies: tuple[float, ...]
    frequency: float
    rate: float
    j1: int | None
    j2: int | None
    sample_rate: float = 1.0

    @property
    def n_rows(self) -> int:
        """First-order wavelets that feed the path; 0 at order 0."""
        return len(self.n1)

    @property
    def units(self) -> dict[str, str]:
        """Units of attributes, by their names."""
        return dict.fromkeys(("frequency", "rate"), rate_unit(self.sample_rate))

    def __str__(self) -> str:
        """Return what the path listens to, as in "path 60: 440 Hz, modulated at 5.47 Hz"."""
        if not self.order:
            return f"path {self.index}: the average of the signal"
        unit = rate_unit(self.sample_rate)
        text = f"path {self.index}: {_span(self.frequencies[-1], self.frequencies[0])} {unit}"
        return text if self.n2 is None else f"{text}, modulated at {number_text(self.rate)} {unit}"


class TimePathTable(AnyPathTable[TimePath]):
    """Paths of time scattering: a tuple of :class:`TimePath` in which the p-th has the id p.

    A slice of the table is a plain tuple. ``print`` shows what each path listens to, a line for each.

    Args:
        paths: every path, in the order of ids.

    Raises:
        TypeError: an entry is not a path of time scattering.
        ValueError: an entry's ``index`` is not its place in the table.

    Example:
        >>> from scrapl_jtfs import TimeScattering
        >>> paths = TimeScattering(16384, J=10, Q=(8, 1), by="second", sample_rate=16384).paths
        >>> paths
        TimePathTable(10 paths of orders 0 to 2, frequencies 4.14 to 7133 Hz, rates 5.6 to 717 Hz)
        >>> print(paths[4])
        path 4: 818 to 7133 Hz, modulated at 179 Hz
    """

    __slots__ = ()

    _ENTRY: ClassVar[type] = TimePath
    _OWN_NAME: ClassVar[str] = "scattering.paths"

    def where(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        *,
        order: int | PathIndices | None = None,
        frequency: Range | None = None,
        rate: Range | None = None,
        n2: int | PathIndices | None = None,
    ) -> tuple[int, ...]:
        """Return the ids of the paths that meet every condition, ascending.

        Args:
            order: 0, 1 or 2, or several of them.
            frequency: (lowest, highest) of a path's ``frequency`` in Hz, or in cycles per sample without a sample
                rate; both bounds are included, and None is no bound. A single number stands for the frequencies
                that are printed like it, with three digits. That of order 0 is 0.
            rate: the same of the temporal modulation, which is 0 below order 2.
            n2: index of a second-order wavelet, or several.

        Raises:
            TypeError: a condition is of another type.
            ValueError: a condition is out of its domain, or no path meets them all.

        Example:
            >>> from scrapl_jtfs import TimeScattering
            >>> paths = TimeScattering(16384, J=10, Q=(8, 1), sample_rate=16384).paths
            >>> [str(paths[p]) for p in paths.where(order=2, frequency=(400, 440), rate=(None, 20))]
            ['path 293: 409 Hz, modulated at 11.2 Hz', 'path 294: 409 Hz, modulated at 5.6 Hz']
        """
        return super().where(order=order, frequency=frequency, rate=rate, n2=n2)

    def _extent(self) -> str:
        parts = [f"{len(self)} paths of orders 0 to {self[-1].order}"]
        for name, values in (
            ("frequencies", [frequency for path in self for frequency in path.frequencies]),
            ("rates", [path.rate for path in self if path.n2 is not None]),
        ):
            if values:
                parts.append(f"{name} {_span(min(values), max(values))} {rate_unit(self[0].sample_rate)}")
        return ", ".join(parts)


def list_time_paths(
    geometry: Geometry, banks: Banks, sample_rate: float, max_order: int, by: Unit
) -> TimePathTable:
    """List every path, order by order.

    With ``by="pair"`` they are kymatio's coefficients in its order: n1, then (n1, n2) with j1 < j2. With
    ``by="second"`` they are all n1 together, then n2; without an average all n1 of one stride, as frames of
    several make no array.
    """
    first = range(len(banks.first))
    second = [n2 for n2 in range(len(banks.second)) if max_order > 1 and banks.feeding(n2)]
    keys: list[tuple[int, tuple[int, ...], int | None]] = [(0, (), None)]
    if by == "pair":
        keys += [(1, (n1,), None) for n1 in first]
        keys += [(2, (n1,), n2) for n1 in first for n2 in second if n1 in banks.feeding(n2)]
    else:
        strides = [geometry.time.averaging == "none" and banks.first[n1].j for n1 in first]
        keys += [(1, tuple(n1 for n1 in first if strides[n1] == j), None) for j in dict.fromkeys(strides)]
        keys += [(2, banks.feeding(n2), n2) for n2 in second]
    return TimePathTable(_path(banks, sample_rate, index, *key) for index, key in enumerate(keys))


def _path(
    banks: Banks, sample_rate: float, index: int, order: int, n1: tuple[int, ...], n2: int | None
) -> TimePath:
    first = [banks.first[n] for n in n1]
    frequencies = tuple(psi.xi * sample_rate for psi in first)
    return TimePath(
        index=index,
        order=order,
        n1=n1,
        n2=n2,
        frequencies=frequencies,
        frequency=math.exp(math.fsum(map(math.log, frequencies)) / len(frequencies)) if frequencies else 0.0,
        rate=0.0 if n2 is None else banks.second[n2].xi * sample_rate,
        j1=max((psi.j for psi in first), default=None),
        j2=None if n2 is None else banks.second[n2].j,
        sample_rate=sample_rate,
    )


def _span(lowest: float, highest: float) -> str:
    """Return a range, or the number that both ends are."""
    return " to ".join(dict.fromkeys(map(number_text, (lowest, highest))))
