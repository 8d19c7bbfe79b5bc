"""Conditions on paths: a range of rates or scales, or some spins, orders or wavelets."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from scrapl_jtfs._validation import is_number

# A condition that a path meets or not.
Condition: TypeAlias = Callable[[Any], bool]

# Rates and scales are printed with three significant digits; a number that was read there must find its paths.
_PRINTED_PRECISION = 5e-3


def within(bounds: Any, name: str, unit: str, lowest: float = 0.0) -> Condition:
    """Return the condition that a path's rate or scale lies in a range, or agrees with a number.

    Args:
        bounds: the number, or (lowest, highest), of which None is no bound.
        name: attribute of the path.
        unit: of its values, for messages.
        lowest: smallest value that there is.

    Raises:
        TypeError: a bound is not a number.
        ValueError: a bound is below the smallest value, or the bounds fall.
    """
    value, bottom = operator.attrgetter(name), lowest
    if is_number(bounds, bottom, math.inf):
        return lambda path: math.isclose(value(path), float(bounds), rel_tol=_PRINTED_PRECISION, abs_tol=0.0)
    is_pair = isinstance(bounds, (Sequence, np.ndarray)) and not isinstance(bounds, str) and len(bounds) == 2
    if not is_pair or not all(bound is None or is_number(bound, bottom, math.inf) for bound in bounds):
        are_numbers = all(
            bound is None or (isinstance(bound, Real) and not isinstance(bound, bool))
            for bound in (bounds if is_pair else [bounds])
        )
        raise (ValueError if are_numbers else TypeError)(
            f"Invalid {name}: {bounds!r}; expected a number of {unit}{', 0 or more' * (bottom == 0)}, or (lowest, "
            "highest), of which None is no bound"
        )
    lowest, highest = (math.nan if bound is None else float(bound) for bound in bounds)
    if lowest > highest:
        raise ValueError(f"Invalid {name}: {bounds!r}; expected (lowest, highest); swap them")
    # A comparison with NaN, which stands for no bound, is false.
    return lambda path: not (value(path) < lowest or value(path) > highest)


def among(values: Any, name: str, allowed: tuple[int, ...] | None) -> Condition:
    """Return the condition that a path's spin, order or n2 is an integer, or one of several.

    Args:
        values: the integer or the integers.
        name: attribute of the path.
        allowed: the integers that there are; None for all from 0.

    Raises:
        TypeError: a value is not an integer.
        ValueError: a value is not allowed, or there is none.
    """
    value = operator.attrgetter(name)
    several = as_entries(values)
    entries = [values] if several is None else several
    expected = "integers from 0" if allowed is None else f"one of {', '.join(map(str, allowed))}, or several"
    try:
        if any(isinstance(entry, bool) for entry in entries):
            raise TypeError
        chosen = {operator.index(entry) for entry in entries}
    except (TypeError, RuntimeError):  # RuntimeError: tensors on the meta device
        raise TypeError(f"Invalid {name}: {shortened(values)}; expected {expected}") from None
    if not chosen or (min(chosen) < 0 if allowed is None else not chosen <= set(allowed)):
        raise ValueError(f"Invalid {name}: {values!r}; expected {expected}")
    return lambda path: value(path) in chosen


def on_column(column: Sequence[Any], name: str, wanted: Any, unit: str) -> Condition:
    """Return a condition on an attribute of any transform's paths, of the kind that its values suggest.

    Args:
        column: the attribute's value of each path, None where a path has none.
        name: of the attribute.
        wanted: a function of the value; for real values a range or a number; for integers, truth values and texts
            one of them or several; for others a value.
        unit: of real values, for messages.

    Raises:
        TypeError: it is no range of real numbers where there are some.
        ValueError: its bounds fall, or no path has that integer, truth value or text.
    """
    values = [value for value in column if value is not None]
    if callable(wanted):
        return lambda path: bool(wanted(getattr(path, name, None)))
    if values and all(isinstance(value, (int, str)) for value in values):
        return _one_of(values, name, wanted)
    if values and all(isinstance(value, Real) for value in values):
        meets = within(wanted, name, unit or "the attribute", lowest=-math.inf)
        return lambda path: getattr(path, name, None) is not None and meets(path)
    return lambda path: getattr(path, name, None) == wanted


def _one_of(values: Sequence[Any], name: str, wanted: Any) -> Condition:
    several = as_entries(wanted)
    entries = [wanted] if several is None else several
    known = sorted(set(values), key=lambda value: (str(type(value)), value))
    try:
        unknown = [entry for entry in entries if entry not in known]
    except (TypeError, RuntimeError):
        unknown = entries
    if unknown or not entries:
        shown = ", ".join(map(repr, known[:8])) + ", ..." * (len(known) > 8)
        raise ValueError(f"Invalid {name}: {shortened(wanted)}; expected one of {shown}, or several")
    return lambda path: getattr(path, name, None) in entries


def attributes_of(entry: Any) -> list[str]:
    """Return the names of an entry's public attributes: the fields of a record, or what it keeps."""
    names = getattr(entry, "_fields", None) or getattr(entry, "__dataclass_fields__", None) or vars(entry)
    return [name for name in names if not name.startswith("_")]


def as_entries(values: Any) -> list[Any] | None:
    """Return the entries of an iterable, an array or a tensor, and None for any other object."""
    if isinstance(values, (str, bytes, dict)):
        return None
    try:
        return list(values.tolist() if isinstance(values, (Tensor, np.ndarray)) else values)
    except (TypeError, RuntimeError):  # RuntimeError: tensors on the meta device
        return None


def octaves_between(frequency: float, other: float | None) -> float:
    """Return the distance of two frequencies in octaves, 0 to None; from 0, all but 0 is infinitely far."""
    if other is None or frequency == other:
        return 0.0
    return abs(math.log2(frequency) - math.log2(other)) if frequency > 0 and other > 0 else math.inf


def shortened(value: Any) -> str:
    """Return the representation of a value, cut to 40 characters."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
