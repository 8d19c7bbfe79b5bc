"""The table of the paths of the JTFS, to choose from by rate, scale and spin."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, TypeAlias

from scrapl_jtfs._conditions import (
    Condition,
    among,
    octaves_between,
    within,
)
from scrapl_jtfs._validation import PathIndices, is_number
from scrapl_jtfs.any_path_table import AnyPathTable
from scrapl_jtfs.paths import Path, number_text, rate_unit, scale_text

# A number, or (lowest, highest), both included, of which None is no bound.
Range: TypeAlias = float | Sequence[float | None]
# A property that the paths of a bundle share.
Unit = Literal["rate", "scale", "spin"]

_KEYS: dict[str, Callable[[Path], Any]] = {
    "rate": lambda path: path.n2,
    "scale": lambda path: path.scale,
    "spin": lambda path: path.spin,
}


class PathTable(AnyPathTable[Path]):
    """Paths of a transform: a tuple of :class:`Path` in which the p-th has the id p.

    A slice of the table, a sum or a copy by ``tuple(...)`` is a plain tuple. ``print`` shows the ids in a table
    with rates down and scales across.

    Args:
        paths: every path of a transform, in the order of their ids.

    Raises:
        TypeError: an entry is not a path.
        ValueError: an entry's ``index`` is not its place in the table.

    Example:
        >>> from scrapl_jtfs import JTFSPath
        >>> paths = JTFSPath(16000, J=12, Q=(8, 1), J_fr=3, T="global", sample_rate=16000).paths
        >>> paths
        PathTable(90 paths of order 2, rates 1.37 to 700 Hz, scales 0 to 2.80 cycles/octave)
        >>> paths.where(rate=(2, 12), scale=(0.5, 2), spin=+1)
        (56, 57, 65, 66, 74, 75)
        >>> str(paths[paths.nearest(rate=6, scale=0.7, spin=+1)])
        'path 66: 5.47 Hz, 0.70 cycles/octave, rising'
    """

    __slots__ = ()

    _ENTRY: ClassVar[type] = Path
    _OWN_NAME: ClassVar[str] = "jtfs.paths"

    def where(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        *,
        rate: Range | None = None,
        scale: Range | None = None,
        spin: int | PathIndices | None = None,
        order: int | PathIndices | None = None,
        n2: int | PathIndices | None = None,
    ) -> tuple[int, ...]:
        """Return the ids of the paths that meet every condition, ascending.

        Args:
            rate: (lowest, highest) in Hz, or in cycles per sample without a sample rate; both bounds are included,
                and None is no bound. A single number stands for the rates that are printed like it, with three
                digits. A path of order 1 has rate 0.
            scale: the same in cycles per octave.
            spin: +1 (rising), -1 (falling), 0 (low-pass along log-frequency), or several of them.
            order: 1, 2 or both.
            n2: index of a second-order temporal wavelet, or several.

        Raises:
            TypeError: a condition is of another type.
            ValueError: a condition is out of its domain, or no path meets them all.

        Example:
            >>> from scrapl_jtfs import JTFSPath
            >>> paths = JTFSPath(16000, J=12, Q=(8, 1), J_fr=3, T="global", sample_rate=16000).paths
            >>> paths.where(rate=(None, 3), spin=0)
            (72, 81)
        """
        conditions: dict[str, tuple[str, Condition]] = {}
        for name, bounds in (("rate", rate), ("scale", scale)):
            if bounds is not None:
                conditions[name] = f"{name}={bounds!r}", within(bounds, name, self._unit(name))
        for name, several, allowed in (("spin", spin, (-1, 0, 1)), ("order", order, (1, 2)), ("n2", n2, None)):
            if several is not None:
                conditions[name] = f"{name}={several!r}", among(several, name, allowed)
        return self._meeting(conditions)

    def nearest(self, *, rate: float | None = None, scale: float | None = None, spin: int | None = None) -> int:
        """Return the id of the path that is nearest in octaves of rate and of scale, or the lowest of several.

        The distance is the root of the sum of squares of log2 of both ratios. A rate of 0, which only paths of
        order 1 have, and a scale of 0, which only those of spin 0 have, are infinitely far from any other.

        Args:
            rate: in Hz, or in cycles per sample without a sample rate; None for any.
            scale: in cycles per octave; None for any.
            spin: +1 (rising), -1 (falling) or 0 (low-pass along log-frequency); None for any.

        Raises:
            TypeError: ``spin`` is not an integer, or there is neither a rate nor a scale.
            ValueError: a value is out of its domain, or every path is infinitely far.

        Example:
            >>> from scrapl_jtfs import JTFSPath
            >>> paths = JTFSPath(16000, J=12, Q=(8, 1), J_fr=3, T="global", sample_rate=16000).paths
            >>> str(paths[paths.nearest(rate=100, scale=1, spin=-1)])
            'path 33: 87.5 Hz, 1.40 cycles/octave, falling'
        """
        if rate is None and scale is None:
            raise TypeError(
                "Invalid rate and scale: None; expected one of them or both, as in nearest(rate=6, scale=0.7); "
                "for all paths of a spin call where(spin=...)"
            )
        for name, value in (("rate", rate), ("scale", scale)):
            if value is not None and not is_number(value, 0.0, math.nextafter(math.inf, 0.0)):
                raise ValueError(
                    f"Invalid {name}: {value!r}; expected a number of {self._unit(name)}, 0 or more; for a range "
                    f"of them: where({name}=...)"
                )
        has_spin = (lambda path: True) if spin is None else among(spin, "spin", (-1, 0, 1))
        distances = [
            (math.hypot(octaves_between(path.rate, rate), octaves_between(path.scale, scale)), path.index)
            for path in self
            if has_spin(path)
        ]
        distance, index = min(distances, default=(math.inf, -1))
        if math.isinf(distance):
            named = {"rate": rate, "scale": scale, "spin": spin}
            asked = ", ".join(f"{name}={value!r}" for name, value in named.items() if value is not None)
            raise ValueError(
                f"Invalid {asked}: no path is at a finite distance; expected those of {self._extent()}; rate 0 is "
                "that of order 1, scale 0 that of spin 0"
            )
        return index

    def bundles(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, by: Unit = "rate", within: PathIndices | Iterable[Path] | None = None
    ) -> tuple[tuple[int, ...], ...]:
        r"""Group the ids of paths into bundles, each of which can be drawn as if it were one path.

        Paths of one rate share their temporal modulation, which makes up most of the cost of a path. A bundle
        :math:`b` has :math:`|b|` paths; its loss :math:`L_b` is the mean over them, ``loss_fn(x, y, bundles[b])``.
        The loss on all :math:`P` paths is :math:`\sum_b \frac{|b|}{P} L_b`. The loss of a random bundle is an
        unbiased estimate of it if bundles are drawn in proportion to their sizes.

        Args:
            by: the property that the paths of a bundle share: "rate" (order 1 is one bundle), "scale" (whatever
                their spins and orders) or "spin".
            within: ids to group, each once; by default all.

        Returns:
            The ids of each bundle, ascending; bundles are in the order of their first ids.

        Raises:
            TypeError: ``within`` holds an entry that is not an id.
            IndexError: an id is out of range.
            ValueError: ``by`` is unknown; ``within`` is empty, names a path twice, or one of another transform.

        Example:
            >>> import numpy as np
            >>> from scrapl_jtfs import JTFSPath
            >>> from scrapl_optim import PathSampler
            >>> paths = JTFSPath(16000, J=12, Q=(8, 1), J_fr=3, T="global", sample_rate=16000).paths
            >>> bundles = paths.bundles("rate", within=paths.where(rate=(2, 12), spin=1))
            >>> bundles
            ((55, 56, 57, 58), (64, 65, 66, 67), (73, 74, 75, 76))
            >>> sizes = np.array([len(bundle) for bundle in bundles])
            >>> sampler = PathSampler(sizes / sizes.sum())
        """
        return super().bundles(by, within)

    def _keys(self) -> dict[str, Callable[[Path], Any]]:
        return _KEYS

    def __repr__(self) -> str:
        """Return the number of paths and their ranges."""
        return f"PathTable({self._extent()})"

    def __str__(self) -> str:
        """Return a table of ids, with rates down and scales across."""
        if not self:
            return "no paths"
        scales = sorted({path.scale for path in self})
        cells: dict[tuple[int | None, float], list[str]] = {}
        for path in sorted(self, key=lambda path: -path.spin):
            sign = {1: "+", -1: "-", 0: ""}[path.spin] if path.order == 2 else ""
            cells.setdefault((path.n2, path.scale), []).append(f"{sign}{path.index}")
        rows = [["rate", *map(scale_text, scales)]]
        for n2 in dict.fromkeys(path.n2 for path in self):
            rate = next(path.rate for path in self if path.n2 == n2)
            label = "order 1" if n2 is None else number_text(rate)
            rows.append([label, *(" ".join(cells.get((n2, scale), ["."])) for scale in scales)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.rjust, row, widths)) for row in rows]
        title = (
            f"Ids of {_count(self)}: rates in {self._unit('rate')} down, scales in cycles/octave across, "
            "+ rising, - falling"
        )
        return "\n".join([title, *lines])

    def _is_same(self, own: Path, path: Path) -> bool:
        # Tables of signals of different lengths differ in nothing but costs.
        return replace(own, cost=path.cost) == path

    def _unit(self, name: str) -> str:
        if name == "scale":
            return "cycles/octave"
        return rate_unit(self[0].sample_rate if self else 1.0)

    def _extent(self) -> str:
        """Return the number of paths and the ranges of their rates and scales as text."""
        if not self:
            return "0 paths"
        parts = [_count(self)]
        for name, text in (("rate", number_text), ("scale", scale_text)):
            values = {getattr(path, name) for path in self if name == "scale" or path.order == 2}
            if values:
                span = " to ".join(dict.fromkeys((text(min(values)), text(max(values)))))
                parts.append(f"{name}s {span} {self._unit(name)}")
        return ", ".join(parts)

    def _remedy(self, names: Collection[str]) -> str:
        remedy = super()._remedy(names)
        if "rate" in names and self and self[0].sample_rate == 1.0:
            remedy += "; for rates in Hz, build JTFSPath with sample_rate=..."
        return remedy


def _count(paths: tuple[Path, ...]) -> str:
    orders = " and ".join(str(order) for order in sorted({path.order for path in paths}))
    return f"{len(paths)} path{'s' if len(paths) > 1 else ''} of order {orders}"
