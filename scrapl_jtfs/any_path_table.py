"""Tables of the paths of any transform, to choose from by the units of their entries."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from torch import Tensor

from scrapl_jtfs._conditions import (
    Condition,
    as_entries,
    attributes_of,
    on_column,
    shortened,
)
from scrapl_jtfs._validation import PathIndices, as_path_indices, is_entry
from scrapl_jtfs.paths import number_text

if TYPE_CHECKING:
    from typing_extensions import Self

# An entry of a table, with an id as ``index``.
Entry = TypeVar("Entry")


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
