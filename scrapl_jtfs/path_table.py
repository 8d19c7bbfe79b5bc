"""Tables of the paths of a transform: of any, by the units of its entries; of the JTFS, by rate, scale, spin."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, TypeVar

import numpy as np
from torch import Tensor

from scrapl_jtfs._path_table.conditions import (
    Condition,
    among,
    as_entries,
    attributes_of,
    octaves_between,
    on_column,
    shortened,
    within,
)
from scrapl_jtfs._validation import PathIndices, as_path_indices, is_entry, is_number
from scrapl_jtfs.paths import Path, number_text, rate_unit, scale_text

if TYPE_CHECKING:
    from typing_extensions import Self

# An entry of a table, with an id as ``index``.
Entry = TypeVar("Entry")

# A number, or (lowest, highest), both included, of which None is no bound.
Range: TypeAlias = float | Sequence[float | None]
# A property that the paths of a bundle share.
Unit = Literal["rate", "scale", "spin"]

_KEYS: dict[str, Callable[[Path], Any]] = {
    "rate": lambda path: path.n2,
    "scale": lambda path: path.scale,
    "spin": lambda path: path.spin,
}


class AnyPathTable(tuple[Entry, ...]):
    """Paths of any transform: a tuple of entries in which the p-th has the id p as ``index``.

    An entry's attributes are what paths are chosen by. Its attribute ``units``, of the class or of the entry, may
    name the unit of each in a dict, for messages. A slice of the table, a sum or a copy by ``tuple(...)`` is a
    plain tuple. ``print`` shows a line for each path.

    Args:
        paths: every path of a transform, in the order of their ids.

    Raises:
        TypeError: an entry has no path id.
        ValueError: an entry's ``index`` is not its place in the table.

    Example:
        >>> from dataclasses import dataclass
        >>> from scrapl_jtfs import AnyPathTable
        >>> @dataclass(frozen=True)
        ... class Band:
        ...     index: int
        ...     frequency: float
        ...     sharp: bool
        ...     units = {"frequency": "Hz"}
        >>> paths = AnyPathTable(Band(p, 100.0 * 2**p, p % 2 == 1) for p in range(6))
        >>> paths
        AnyPathTable(6 paths, frequency 100 to 3200 Hz)
        >>> paths.where(frequency=(150, None), sharp=True)
        (1, 3, 5)
        >>> paths.bundles("sharp")
        ((0, 2, 4), (1, 3, 5))
    """

    __slots__ = ()

    # What entries are instances of, and what users call the table of their transform, for messages.
    _ENTRY: ClassVar[type] = object
    _OWN_NAME: ClassVar[str] = "paths"

    def __new__(cls, paths: Iterable[Entry]) -> Self:
        """Make a table of every path of a transform."""
        entries = as_entries(paths)
        as_in = f"as in {cls._OWN_NAME}" if cls._ENTRY is not object else "entries with an id as index"
        if entries is None:
            raise TypeError(f"Invalid paths: {shortened(paths)}; expected paths, {as_in}")
        for place, path in enumerate(entries):
            if not isinstance(path, cls._ENTRY) or not is_entry(path):
                raise TypeError(
                    f"Invalid paths: entry {place} is a {type(path).__name__}; expected paths, {as_in}"
                )
            if path.index != place:
                raise ValueError(
                    f"Invalid paths: path {path.index} in place {place}; expected all paths of a transform in the "
                    "order of their ids; keep some of them as a tuple"
                )
        return super().__new__(cls, entries)

    def where(self, **conditions: Any) -> tuple[int, ...]:
        """Return the ids of the paths that meet every condition, ascending.

        Args:
            conditions: by the name of an attribute of the entries. Where its values are real numbers, (lowest,
                highest), both included, of which None is no bound, or a number, for those that are printed like it
                with three digits; where they are integers, truth values or texts, one of them or several; for
                others the value itself. Or a function of the value that returns True or False. None is no
                condition. A path whose value is None meets no condition but a function's.

        Raises:
            TypeError: a condition is of another type.
            ValueError: no entry has such an attribute, or no path meets all conditions.
        """
        attributes = self._attributes()
        chosen: dict[str, tuple[str, Condition]] = {}
        for name, wanted in conditions.items():
            if name not in attributes:
                raise ValueError(
                    f"Invalid condition: {name}={wanted!r}; expected one on {', '.join(attributes) or 'nothing'}"
                )
            if wanted is not None:
                column = [getattr(path, name, None) for path in self]
                chosen[name] = f"{name}={shortened(wanted)}", on_column(column, name, wanted, self._unit(name))
        return self._meeting(chosen)

    def bundles(self, by: str, within: PathIndices | Iterable[Entry] | None = None) -> tuple[tuple[int, ...], ...]:
        """Group the ids of paths into bundles of one value each, which can be drawn as if they were one path.

        Args:
            by: an attribute of the entries.
            within: ids to group, each once; by default all.

        Returns:
            The ids of each bundle, ascending; bundles are in the order of their first ids.

        Raises:
            TypeError: ``within`` holds an entry that is not an id.
            IndexError: an id is out of range.
            ValueError: ``by`` is unknown; ``within`` is empty, names a path twice, or one of another transform.
        """
        keys = self._keys()
        if not isinstance(by, str) or by not in keys:
            raise ValueError(f"Invalid by: {by!r}; expected one of {', '.join(map(repr, keys))}")
        ids = tuple(range(len(self))) if within is None else self.ids(within, "within")
        groups: dict[Any, list[int]] = {}
        for p in ids:
            groups.setdefault(keys[by](self[p]), []).append(p)
        return tuple(tuple(group) for group in groups.values())

    @property
    def properties(self) -> tuple[str, ...]:
        """The names that :meth:`bundles` takes."""
        return tuple(self._keys())

    def ids(self, paths: PathIndices | Iterable[Entry], name: str = "paths") -> tuple[int, ...]:
        """Return the ids of some paths, ascending.

        Args:
            paths: ids, or paths of this table; each once, at least one.
            name: the caller's name of this argument, for error messages.

        Raises:
            TypeError: an entry is neither an integer nor a path.
            IndexError: an id is out of range.
            ValueError: there are none, one is named twice, or one is of another transform.

        Example:
            >>> from scrapl_jtfs import JTFSPath
            >>> paths = JTFSPath(2048, J=7, Q=(8, 1), J_fr=2).paths
            >>> paths.ids(paths[3:6])
            (3, 4, 5)
        """
        entries = None if isinstance(paths, (Tensor, np.ndarray)) else as_entries(paths)
        if entries is not None:
            entries = [self._own(path, name) if is_entry(path) else path for path in entries]
            nested = next((entry for entry in entries if isinstance(entry, (tuple, list, range))), None)
            if nested is not None:
                raise TypeError(
                    f"Invalid {name}: it holds the {type(nested).__name__} {shortened(nested)}; expected ids, "
                    "integers; of bundles, take one at a time"
                )
        try:
            indices = sorted(as_path_indices(paths if entries is None else entries, len(self)))
        except (TypeError, IndexError) as error:
            reason = str(error).removeprefix("Invalid path_indices: ").removeprefix("Invalid path_idx: ")
            raise type(error)(
                f"Invalid {name}: {reason}; choose from this transform's table, {self._OWN_NAME}"
            ) from None
        if not indices:
            raise ValueError(
                f"Invalid {name}: none; expected at least one of {len(self)} paths; leave it out for all"
            )
        twice = next((a for a, b in itertools.pairwise(indices) if a == b), None)
        if twice is not None:
            raise ValueError(
                f"Invalid {name}: path {twice} is named twice; expected each once; make it a set of ids"
            )
        return tuple(indices)

    def indices(self, paths: PathIndices | Iterable[Entry]) -> list[int]:
        """Return the ids of some paths in their order; a path may occur twice.

        Args:
            paths: ids, or paths of this table.

        Raises:
            TypeError: an entry is neither an integer nor a path.
            IndexError: an id is out of range.
            ValueError: a path is of another transform.
        """
        if isinstance(paths, (list, tuple)):
            mixed: list[Any] = [self._own(path, "paths") if is_entry(path) else path for path in paths]
            return as_path_indices(mixed, len(self))
        return as_path_indices(paths, len(self))

    def __repr__(self) -> str:
        """Return the number of paths and their ranges."""
        return f"{type(self).__name__}({self._extent()})"

    def __str__(self) -> str:
        """Return a line for each path."""
        return "\n".join([self._extent(), *map(str, self)])

    def _own(self, path: Any, name: str) -> int:
        """Return the id of a path of this table.

        Raises:
            ValueError: the path is of another transform.
        """
        own: Any = self[path.index] if 0 <= path.index < len(self) else None
        if own is not None and type(own) is type(path) and self._is_same(own, path):
            return path.index
        difference = f"this one has {len(self)} paths"
        if own is not None:
            names = [one for one in attributes_of(own) if one != "cost"]
            unlike = next((one for one in names if getattr(own, one) != getattr(path, one, None)), None)
            difference = f"path {path.index} here is '{own}'"
            if unlike is not None:
                theirs = getattr(path, unlike, None)
                difference = f"path {path.index} here has {unlike}={getattr(own, unlike)!r}, not {theirs!r}"
        raise ValueError(
            f"Invalid {name}: '{path}' is of another transform; expected one of this transform: {difference}; "
            f"choose from its table, {self._OWN_NAME}"
        )

    def _is_same(self, own: Any, path: Any) -> bool:
        """Tell whether a path of a table is the one that this table has in its place."""
        return own == path

    def _attributes(self) -> list[str]:
        """Return the names that paths are chosen by."""
        return [name for name in attributes_of(self[0]) if name not in ("index", "units")] if self else []

    def _keys(self) -> dict[str, Callable[[Any], Any]]:
        """Return the properties that the paths of a bundle may share."""
        return {name: operator.attrgetter(name) for name in self._attributes()}

    def _unit(self, name: str) -> str:
        return getattr(self[0], "units", {}).get(name, "") if self else ""

    def _extent(self) -> str:
        """Return the number of paths and the ranges of their real values as text."""
        parts = [f"{len(self)} path{'' if len(self) == 1 else 's'}"]
        for name in self._attributes():
            values = [getattr(path, name, None) for path in self]
            numbers = [value for value in values if isinstance(value, float)]
            if numbers and name != "cost":
                span = " to ".join(dict.fromkeys((number_text(min(numbers)), number_text(max(numbers)))))
                parts.append(f"{name} {span} {self._unit(name)}".rstrip())
        return ", ".join(parts)

    def _meeting(self, conditions: dict[str, tuple[str, Condition]]) -> tuple[int, ...]:
        """Return the ids of paths that meet all conditions, given as texts and functions by name.

        Raises:
            ValueError: there are none; the text names the conditions that alone keep no path.
        """
        ids = tuple(p for p, path in enumerate(self) if all(meets(path) for _, meets in conditions.values()))
        if ids:
            return ids
        alone = [text for text, meets in conditions.values() if not any(map(meets, self))]
        asked = ", ".join(alone or [text for text, _ in conditions.values()])
        lack = "no path has" + (" that" if alone else " all of that")
        raise ValueError(
            f"Invalid {asked}: {lack}; expected those of {self._extent()}; {self._remedy(conditions)}"
        )

    def _remedy(self, names: Collection[str]) -> str:
        """Return what to do where no path meets conditions on some attributes."""
        return f"widen it, or see print({self._OWN_NAME})"


def as_table(paths: Sequence[Entry]) -> AnyPathTable[Entry]:
    """Return the table of a transform's paths: itself, or one made of a plain sequence."""
    return paths if isinstance(paths, AnyPathTable) else AnyPathTable(paths)


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
