"""Validators that both the sampler and the optimizer use: ``as_x`` converts, ``check_x`` raises."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Sequence
from numbers import Real
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# A few numbers of eight bytes for each path are to fit in memory anywhere.
MOST_PATHS = 2**24


def as_int(value: SupportsIndex | Tensor, name: str) -> int:
    """Return ``value`` as a Python int.

    Python and NumPy integers and 0-dim integer tensors are accepted.

    Raises:
        TypeError: for bools, floats, and tensors that are not 0-dim integers.
    """
    # A one-element 1-D tensor also passes operator.index; it is usually a batch by mistake.
    not_scalar = isinstance(value, Tensor) and (value.dim() != 0 or value.dtype == torch.bool or value.is_meta)
    if not not_scalar and not isinstance(value, bool):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise TypeError(
        f"Invalid {name}: {value!r} of type {type(value).__name__}; expected an integer (int, NumPy integer or "
        "0-dim integer tensor); convert it with int(...)"
    )


def as_n_paths(value: SupportsIndex | Tensor) -> int:
    """Return a number of paths as an int.

    Raises:
        TypeError: if it is not an integer.
        ValueError: if there are none, or too many to keep numbers for each.
    """
    n_paths = as_int(value, "n_paths")
    if not 1 <= n_paths <= MOST_PATHS:
        raise ValueError(f"Invalid n_paths: {n_paths}; expected at least 1, and at most {MOST_PATHS}")
    return n_paths


def as_number(value: Any, name: str) -> float:
    """Return ``value``, a real number of Python or NumPy, as a float; NaN and infinities are numbers here.

    Raises:
        TypeError: if it is not a number.
    """
    if not isinstance(value, (float, int, Real)):
        raise TypeError(f"Invalid {name}: {value!r} of type {type(value).__name__}; expected a number")
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]


def as_fraction(value: Any, name: str) -> float:
    """Return ``value``, a number in ``[0, 1]``, as a float.

    Raises:
        TypeError: if it is not a number.
        ValueError: if it is out of range.
    """
    number = as_number(value, name)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"Invalid {name}: {value}; expected a number in [0, 1]")
    return number


def as_switch(value: Any, name: str) -> bool:
    """Return ``value``, True or False of Python or NumPy.

    Raises:
        TypeError: if it is neither.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"Invalid {name}: {value!r} of type {type(value).__name__}; expected True or False")
    return bool(value)


def as_floats(values: Any, name: str) -> npt.NDArray[np.float64]:
    """Return real numbers, a tensor, array or sequence of any shape, as a new float64 array.

    Raises:
        TypeError: if they are not real numbers.
    """
    kind = type(values).__name__
    try:
        if isinstance(values, Tensor):
            # A complex tensor is left for the error below.
            values = None if values.is_complex() else values.detach().to("cpu", torch.float64, copy=True).numpy()
        if isinstance(values, (list, tuple)):
            values = [v.item() if isinstance(v, Tensor) and v.dim() == 0 else v for v in values]
        array = np.array(values)
        if array.dtype.kind in "biuf" or (array.ndim and all(isinstance(v, Real) for v in array.flat)):
            return array.astype(np.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        pass
    raise TypeError(f"Invalid {name}: a {kind}; expected real numbers in a dense tensor, an array or a list")


def as_path(path: Any, name: str = "path") -> str:
    """Return the name of a file or folder as a string.

    Raises:
        TypeError: if it is none; an integer would name an open file.
    """
    try:
        return os.fsdecode(path)
    except TypeError:
        raise TypeError(
            f"Invalid {name}: {path!r} of type {type(path).__name__}; expected a string or pathlib.Path"
        ) from None


def as_path_idx(value: SupportsIndex | Tensor, n_paths: int) -> int:
    """Return ``value`` as an int in ``[0, n_paths)``.

    Raises:
        TypeError: if it is not an integer.
        IndexError: if it is out of range; negative indices do not wrap around.
    """
    if type(value) is not int and _is_several(value):
        raise TypeError(
            f"Invalid path_idx: {value!r}; expected one integer, since a path updates a row of its own; for "
            "several in a step, call add_path(...) after the backward pass of each, then step()"
        )
    path_idx = as_int(value, "path_idx")
    if not 0 <= path_idx < n_paths:
        raise IndexError(
            f"Invalid path_idx: {path_idx}; expected an id in [0, {n_paths}), since n_paths is {n_paths}"
        )
    return path_idx


def _is_several(value: Any) -> bool:
    if isinstance(value, (Tensor, np.ndarray)):
        return value.ndim > 0 and len(value) != 1
    return isinstance(value, (list, tuple, set, frozenset, range))


def as_uint64(value: Any, name: str) -> int:
    """Return ``value`` as an int in ``[0, 2**64)``.

    Raises:
        TypeError: if it is not an integer.
        ValueError: if it is out of range.
    """
    number = as_int(value, name)
    if not 0 <= number < 2**64:
        raise ValueError(f"Invalid {name}: {number}; expected an integer in [0, 2**64)")
    return number


def refuse_paths(n_paths: Any) -> None:
    """Raise TypeError, without a list of them, if ``n_paths`` is the paths themselves or what has them."""
    remedy = instead_of_paths(n_paths)
    if remedy:
        kind = type(n_paths).__name__
        size = f" of {len(n_paths)} entries" if hasattr(n_paths, "__len__") else ""
        raise TypeError(f"Invalid n_paths: a {kind}{size}; expected an integer; {remedy}")


def as_one_path(path_idx: Any, n_paths: int) -> int:
    """Return a path as an int in ``[0, n_paths)``.

    Raises:
        TypeError: if it is not an integer.
        IndexError: if it is out of range.
    """
    if isinstance(path_idx, (list, tuple, range)) or getattr(path_idx, "ndim", 0):
        raise TypeError(
            f"Invalid path_idx: a {type(path_idx).__name__}; expected an integer, one path; for several, call it "
            "for each"
        )
    return as_path_idx(path_idx, n_paths)


def instead_of_paths(value: Any) -> str:
    """Return what to give in place of paths, or of what has paths; nothing for anything else."""
    if isinstance(getattr(value, "n_paths", None), int):
        return "give its number of paths, as in PathSampler(n_paths=jtfs.n_paths)"
    several = isinstance(value, (list, tuple, range)) or (
        isinstance(value, (Tensor, np.ndarray)) and value.ndim > 0
    )
    # A single entry is more likely the number itself.
    return f"for as many paths as it has entries: n_paths={len(value)}" if several and len(value) > 1 else ""


def plain_value(value: Any) -> Any:
    """Return a number, truth value or string of NumPy, or a tensor of one element, as Python's; others as is.

    Those of NumPy would keep a state dict from being loaded with ``weights_only=True``.
    """
    if isinstance(value, Tensor):
        readable = (
            value.numel() == 1 and value.layout is torch.strided and not (value.is_meta or value.is_complex())
        )
        return value.item() if readable else value
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    if isinstance(value, (float, str)) and type(value) not in (float, str):
        return float(value) if isinstance(value, float) else "".join(value)
    return value


def check_callable(function: Any, name: str) -> None:
    """Raise TypeError if ``function`` cannot be called."""
    if not callable(function):
        raise TypeError(f"Invalid {name}: {function!r} of type {type(function).__name__}; expected a callable")


def check_controls(thetas: Sequence[Tensor]) -> None:
    """Raise unless all controls have shape (B, U) with one U, are floating and finite."""
    for theta in thetas:
        if not isinstance(theta, Tensor):
            raise TypeError(
                f"Invalid controls: the encoder returned {type(theta).__name__}; expected a tensor (B, U)"
            )
        if theta.ndim != 2 or theta.shape[1] == 0 or not theta.is_floating_point():
            raise ValueError(
                f"Invalid controls: the encoder returned shape {tuple(theta.shape)}, {theta.dtype}; expected a "
                "floating tensor of shape (B, U)"
            )
        if theta.shape[1] != thetas[0].shape[1]:
            raise ValueError(
                f"Invalid controls: the encoder returned {thetas[0].shape[1]} for the first batch and "
                f"{theta.shape[1]} for another; expected one number U for all"
            )
        if not bool(theta.isfinite().all()):
            raise ValueError(
                "Invalid controls: the encoder returned an inf or a NaN; expected finite ones; check its data"
            )
