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


def within(bounds: Any, name: str, unit: str) -> Condition:
    """Return the condition that a path's rate or scale lies in a range, or agrees with a number.

    Raises:
        TypeError: a bound is not a number.
        ValueError: a bound is negative, or the bounds fall.
    """
    value = operator.attrgetter(name)
    if is_number(bounds, 0.0, math.inf):
        return lambda path: math.isclose(value(path), float(bounds), rel_tol=_PRINTED_PRECISION, abs_tol=0.0)
    is_pair = isinstance(bounds, (Sequence, np.ndarray)) and not isinstance(bounds, str) and len(bounds) == 2
    if not is_pair or not all(bound is None or is_number(bound, 0.0, math.inf) for bound in bounds):
        are_numbers = all(
            bound is None or (isinstance(bound, Real) and not isinstance(bound, bool))
            for bound in (bounds if is_pair else [bounds])
        )
        raise (ValueError if are_numbers else TypeError)(
            f"Invalid {name}: {bounds!r}; expected a number of {unit}, 0 or more, or (lowest, highest), of which "
            "None is no bound"
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
