"""Tables of the paths of any transform: choosing by the entries' own units against brute force, and its errors."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scrapl_jtfs import AnyPathTable
from scrapl_jtfs.any_path_table import as_table


@dataclass(frozen=True)
class Entry:
    """A path with one attribute of each kind."""

    index: int
    order: int
    frequency: float | None
    angle: float
    spin: bool
    kind: str
    pair: tuple[int, ...]

    units: ClassVar[dict[str, str]] = {"frequency": "Hz", "angle": "degrees"}

    def __str__(self) -> str:
        return f"path {self.index}: {self.frequency} Hz"


def entry(p: int) -> Entry:
    frequency = None if p == 0 else 100 / 3 * 2 ** (p % 4)
    return Entry(p, (0, 1, 2)[p % 3], frequency, 30.0 * (p % 5) - 60, p % 2 == 1, "abc"[p % 3], (p % 2, p % 3))


TABLE = AnyPathTable(map(entry, range(20)))


def ids(meets: Any) -> tuple[int, ...]:
    return tuple(p for p in range(20) if meets(entry(p)))


@given(
    low=st.none() | st.floats(0, 300), high=st.none() | st.floats(0, 300), order=st.sampled_from([None, 0, 1, 2])
)
def test_where_against_brute_force(low: float | None, high: float | None, order: int | None) -> None:
    expected = ids(
        lambda path: (
            path.frequency is not None
            and (low is None or low <= path.frequency)
            and (high is None or path.frequency <= high)
            and order in (None, path.order)
        )
    )
    if low is not None and high is not None and low > high:
        with pytest.raises(ValueError, match="swap them"):
            TABLE.where(frequency=(low, high), order=order)
    elif expected:
        assert TABLE.where(frequency=(low, high), order=order) == expected
    else:
        with pytest.raises(ValueError, match="no path has"):
            TABLE.where(frequency=(low, high), order=order)


@pytest.mark.parametrize(("conditions", "meets"), [
    (dict(order=[0, 2]), lambda path: path.order in (0, 2)),
    (dict(order=np.int64(1)), lambda path: path.order == 1),
    (dict(order=torch.tensor([1, 2])), lambda path: path.order in (1, 2)),
    (dict(spin=True), lambda path: path.spin),
    (dict(kind="b"), lambda path: path.kind == "b"),
    (dict(kind={"a", "c"}), lambda path: path.kind in "ac"),
    (dict(pair=(1, 2)), lambda path: path.pair == (1, 2)),
    (dict(angle=(-70, 0)), lambda path: path.angle <= 0),
    (dict(angle=-30), lambda path: path.angle == -30),
    (dict(frequency=133), lambda path: path.frequency is not None and abs(path.frequency - 133.3) < 1),
    (dict(frequency=lambda f: f is None or f > 200), lambda path: path.frequency is None or path.frequency > 200),
    (dict(order=None), lambda path: True),
])  # fmt: skip
def test_every_kind_of_condition(conditions: dict[str, Any], meets: Any) -> None:
    assert TABLE.where(**conditions) == ids(meets)


@pytest.mark.parametrize(("conditions", "error", "message"), [
    (dict(rate=3), ValueError, "Invalid condition: rate=3; expected one on order, frequency, angle, spin,"),
    (dict(order=7), ValueError, "Invalid order: 7; expected one of 0, 1, 2, or several"),
    (dict(order=[]), ValueError, r"Invalid order: \[\]; expected one of 0, 1, 2, or several"),
    (dict(kind="d"), ValueError, "Invalid kind: 'd'; expected one of 'a', 'b', 'c', or several"),
    (dict(frequency="high"), TypeError, "Invalid frequency: 'high'; expected a number of Hz, or"),
    (dict(frequency=(3, 2, 1)), TypeError, "expected a number of Hz, or"),
    (dict(frequency=(9000, None)), ValueError,
     r"Invalid frequency=\(9000, None\): no path has that; expected those of 20 paths, frequency 33.3 to 267 Hz, "
     r"angle -60 to 60 degrees; widen it, or see print\(paths\)"),
    (dict(pair=(1, 0), order=0, kind="b"), ValueError, "no path has all of that"),
    (dict(pair=(5, 5), order=0), ValueError, r"Invalid pair=\(5, 5\): no path has that"),
])  # fmt: skip
def test_bad_conditions(conditions: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TABLE.where(**conditions)


def test_bundles_cut_all_paths_by_value() -> None:
    bundles = TABLE.bundles("order")
    assert bundles == tuple(ids(lambda path, order=order: path.order == order) for order in (0, 1, 2))
    assert TABLE.bundles("spin", within=[5, 2, 4]) == ((2, 4), (5,))
    with pytest.raises(ValueError, match="Invalid by: 'rate'; expected one of 'order', 'frequency'"):
        TABLE.bundles("rate")
    with pytest.raises(ValueError, match="path 3 is named twice"):
        TABLE.bundles("order", within=[3, 3])


def test_entries_stand_for_their_ids() -> None:
    mixed: list[Any] = [TABLE[7], 3, TABLE[7]]
    assert TABLE.indices(mixed) == [7, 3, 7]
    assert TABLE.ids({TABLE[7], TABLE[3]}) == (3, 7)
    other = Entry(3, 0, 1.0, 0.0, False, "a", ())
    with pytest.raises(
        ValueError, match=r"is of another transform; .* path 3 here has frequency=266\.\d+, not 1.0; ch"
    ):
        TABLE.indices([other])
    with pytest.raises(ValueError, match="this one has 20 paths; choose from its table, paths"):
        TABLE.ids([Entry(20, 0, 1.0, 0.0, False, "a", ())])
    with pytest.raises(IndexError, match="Invalid paths: 20; expected an id from 0 to 19"):
        TABLE.ids([20])


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda table: pickle.loads(pickle.dumps(table))])
def test_copies_are_tables(copied: Any) -> None:
    other = copied(TABLE)
    assert type(other) is AnyPathTable
    assert other == TABLE == tuple(TABLE)
    assert type(TABLE[2:4]) is tuple


def test_text() -> None:
    assert repr(TABLE) == "AnyPathTable(20 paths, frequency 33.3 to 267 Hz, angle -60 to 60 degrees)"
    lines = str(TABLE).splitlines()
    assert lines[1:] == [str(path) for path in TABLE]
    assert repr(AnyPathTable([])) == "AnyPathTable(0 paths)"


class Record(NamedTuple):
    """An entry that is a tuple."""

    index: int  # type: ignore[assignment]
    size: float


class Plain:
    """An entry of no special kind."""

    def __init__(self, index: int) -> None:
        self.index, self.size, self._hidden = index, 2.0 * index, 3


@pytest.mark.parametrize("kind", [lambda p: Record(p, 2.0 * p), Plain])
def test_entries_of_other_kinds(kind: Any) -> None:
    table = as_table([kind(p) for p in range(4)])
    assert as_table(table) is table
    assert table.where(size=(1, 4)) == (1, 2)
    assert table.indices([table[2]]) == [2]
    with pytest.raises(ValueError, match="expected one on size"):
        table.where(_hidden=3)


@pytest.mark.parametrize(("paths", "error", "message"), [
    (3, TypeError, "Invalid paths: 3; expected paths, entries with an id as index"),
    (["low"], TypeError, "entry 0 is a str; expected paths, entries with an id"),
    ([entry(1)], ValueError, "path 1 in place 0; expected all paths of a transform in the order of their ids"),
])  # fmt: skip
def test_bad_tables(paths: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        AnyPathTable(paths)
