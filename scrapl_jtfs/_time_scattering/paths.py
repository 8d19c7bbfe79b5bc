"""The table of the paths of time scattering: index <-> order, wavelets, frequencies, rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from scrapl_jtfs._path_table.conditions import Condition, among, within
from scrapl_jtfs._transform.geometry import Geometry
from scrapl_jtfs._validation import PathIndices
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
    rate: float
    j1: int | None
    j2: int | None
    sample_rate: float = 1.0

    @property
    def n_rows(self) -> int:
        """First-order wavelets that feed the path; 0 at order 0."""
        return len(self.n1)

    @property
    def frequency(self) -> float:
        """Centre frequency of the row, of several their geometric mean; 0 at order 0."""
        if not self.frequencies:
            return 0.0
        return math.exp(math.fsum(map(math.log, self.frequencies)) / len(self.frequencies))

    def __str__(self) -> str:
        """Return what the path listens to, as in "path 60: 440 Hz, modulated at 5.47 Hz"."""
        if not self.order:
            return f"path {self.index}: the average of the signal"
        unit = rate_unit(self.sample_rate)
        text = f"path {self.index}: {_span(self.frequencies[-1], self.frequencies[0])} {unit}"
        return text if self.n2 is None else f"{text}, modulated at {number_text(self.rate)} {unit}"


class TimePathTable(tuple[TimePath, ...]):
    """Paths of time scattering: a tuple of :class:`TimePath` in which the p-th has the id p.

    A slice of the table is a plain tuple. ``print`` shows what each path listens to, a line for each.

    Example:
        >>> from scrapl_jtfs import TimeScattering
        >>> paths = TimeScattering(16384, J=10, Q=(8, 1), by="second", sample_rate=16384).paths
        >>> paths
        TimePathTable(10 paths of orders 0 to 2, frequencies 4.14 to 7133 Hz, rates 5.6 to 717 Hz)
        >>> print(paths[4])
        path 4: 818 to 7133 Hz, modulated at 179 Hz
    """

    __slots__ = ()

    def where(
        self,
        *,
        order: int | PathIndices | None = None,
        frequency: Range | None = None,
        rate: Range | None = None,
    ) -> tuple[int, ...]:
        """Return the ids of all paths that meet every condition, ascending.

        Args:
            order: 0, 1 or 2, or several of them.
            frequency: (lowest, highest) of a path's ``frequency`` in Hz (cycles per sample without a sample rate),
                both included, None for no bound; or a number, met to three digits. That of order 0 is 0.
            rate: the same of the temporal modulation, which is 0 below order 2.

        Raises:
            TypeError: an order is not an integer, or a bound not a number.
            ValueError: a condition is out of its domain, or no path meets all.

        Example:
            >>> from scrapl_jtfs import TimeScattering
            >>> paths = TimeScattering(16384, J=10, Q=(8, 1), sample_rate=16384).paths
            >>> [str(paths[p]) for p in paths.where(order=2, frequency=(400, 440), rate=(None, 20))]
            ['path 293: 409 Hz, modulated at 11.2 Hz', 'path 294: 409 Hz, modulated at 5.6 Hz']
        """
        unit = rate_unit(self[0].sample_rate)
        conditions: dict[str, Condition] = {}
        for name, bounds in (("frequency", frequency), ("rate", rate)):
            if bounds is not None:
                conditions[f"{name}={bounds!r}"] = within(bounds, name, unit)
        if order is not None:
            conditions[f"order={order!r}"] = among(order, "order", (0, 1, 2))
        ids = tuple(path.index for path in self if all(meets(path) for meets in conditions.values()))
        if not ids:
            alone = [text for text, meets in conditions.items() if not any(map(meets, self))]
            raise ValueError(
                f"Invalid {', '.join(alone or conditions)}: no path has {'that' if alone else 'all of that'}; "
                f"expected those of {self._extent()}; widen it, or see print(scattering.paths)"
            )
        return ids

    def __repr__(self) -> str:
        """Return the number of paths and their ranges."""
        return f"TimePathTable({self._extent()})"

    def __str__(self) -> str:
        """Return what each path listens to."""
        return "\n".join(map(str, self))

    def _extent(self) -> str:
        unit = rate_unit(self[0].sample_rate)
        parts = [f"{len(self)} paths of orders 0 to {self[-1].order}"]
        for name, values in (
            ("frequencies", [frequency for path in self for frequency in path.frequencies]),
            ("rates", [path.rate for path in self if path.n2 is not None]),
        ):
            if values:
                parts.append(f"{name} {_span(min(values), max(values))} {unit}")
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
    return TimePathTable(
        TimePath(
            index=index,
            order=order,
            n1=n1,
            n2=n2,
            frequencies=tuple(banks.first[n].xi * sample_rate for n in n1),
            rate=0.0 if n2 is None else banks.second[n2].xi * sample_rate,
            j1=max((banks.first[n].j for n in n1), default=None),
            j2=None if n2 is None else banks.second[n2].j,
            sample_rate=sample_rate,
        )
        for index, (order, n1, n2) in enumerate(keys)
    )


def _span(lowest: float, highest: float) -> str:
    """Return a range, or the number that both ends are."""
    return " to ".join(dict.fromkeys(map(number_text, (lowest, highest))))
