"""Checks of the arguments of theta-importance and of its methods' options."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, TypeVar

import torch
from torch import nn

from scrapl_optim._validation import as_int, as_number, as_path, as_switch, check_callable

# The smallest value of each count among the methods' options.
_SMALLEST = {"max_products": 1, "max_basis": 4, "max_size": 1, "max_graphs": 0}

_Item = TypeVar("_Item")


def checked_options(method: Any) -> None:
    """Check the options of a method, a frozen dataclass, and make its numbers Python's.

    Raises:
        TypeError: if an option is of another type than expected.
        ValueError: if an option is out of its domain.
    """
    for field in fields(method):
        value = getattr(method, field.name)
        if field.name == "tolerance":
            value = as_number(value, "tolerance")
            if not 0 < value < math.inf:
                raise ValueError(f"Invalid tolerance: {value}; expected a positive number")
        elif field.name in _SMALLEST:
            value = as_int(value, field.name)
            if value < _SMALLEST[field.name]:
                raise ValueError(
                    f"Invalid {field.name}: {value}; expected an integer of at least {_SMALLEST[field.name]}"
                )
        elif value is not None:
            check_takes(value, field.name, "batch")
        object.__setattr__(method, field.name, value)


def check_options(method: Any, derivatives: Any, dtype: Any, folder: Any, check: Any, progress: Any) -> None:
    """Raise TypeError, by name, where an option of theta-importance is not what is expected."""
    if isinstance(method, type) or not hasattr(method, "find_values"):
        raise TypeError(f"Invalid method: {method!r}; expected Arnoldi(...) or SharedSubspace(...)")
    if derivatives is not None:
        check_takes(derivatives, "derivatives", "theta", "batch", "paths")
    if dtype is not None and (not isinstance(dtype, torch.dtype) or not dtype.is_floating_point):
        raise TypeError(f"Invalid dtype: {dtype!r}; expected a floating dtype of torch, or None")
    if folder is not None:
        as_path(folder, "folder")
    as_switch(check, "check")
    if not callable(progress):
        as_switch(progress, "progress")


def check_rank(rank: Any, world_size: Any) -> tuple[int, int]:
    """Return the rank of a process and the number of processes; raise where they are not."""
    rank, world_size = as_int(rank, "rank"), as_int(world_size, "world_size")
    if not 0 <= rank < world_size:
        raise ValueError(f"Invalid rank: {rank}; expected 0 <= rank < world_size, which is {world_size}")
    return rank, world_size


def as_path_ids(paths: Iterable[int] | None, n_paths: int) -> list[int]:
    """Return the ids of paths, sorted and each once; raise where some do not exist or there are none."""
    if paths is None:
        return list(range(n_paths))
    ids = sorted({as_int(p, "an entry of paths") for p in as_list(paths, "paths", "some paths")})
    outside = [p for p in ids if not 0 <= p < n_paths]
    if outside:
        raise ValueError(f"Invalid paths: {outside}; expected ids in [0, {n_paths})")
    return ids


def check_takes(function: Any, name: str, *arguments: str) -> None:
    """Raise TypeError if a function cannot be called, or not with these arguments by position."""
    check_callable(function, name)
    called: Any = function
    if isinstance(function, nn.Module) and type(function).__call__ is nn.Module.__call__:
        called = function.forward if not function._forward_pre_hooks else lambda *_: None
    try:
        # Arguments that a wrapper adds or takes away do not show in the function that it wraps.
        signature = inspect.signature(called, follow_wrapped=False)
    except (TypeError, ValueError):  # a function of C tells nothing
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        listed = ", ".join(arguments)
        raise TypeError(
            f"Invalid {name}: it takes {signature} ({error}); expected one to be called as {name}({listed}); let "
            f"it take all of them, used or not, as in lambda {listed}: ..."
        ) from None


def as_list(items: Iterable[_Item], name: str, expected: str) -> list[_Item]:
    """Return the items of a sequence, at least one."""
    if isinstance(items, (str, bytes)) or not isinstance(items, Iterable):
        raise TypeError(f"Invalid {name}: {items!r}; expected a sequence, {expected}")
    listed = list(items)
    if not listed:
        raise ValueError(f"Invalid {name}: empty; expected {expected}")
    return listed
