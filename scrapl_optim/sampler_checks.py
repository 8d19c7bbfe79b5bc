"""What samplers are given: a distribution over paths, or their number; errors name what to give instead."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scrapl_optim._validation import MOST_PATHS, as_floats, as_int, as_n_paths, as_path_idx

# probs may come from float32 arithmetic over thousands of paths; a larger error is a mistake.
SUM_TOLERANCE = 1e-5


def as_uint64(value: Any, name: str) -> int:
    """Return ``value`` as an int in ``[0, 2**64)``.

    Raises:
        TypeError: if it is not an integer.
        ValueError: if it is out of range.
    """
    number = as_int(value, name)
    if not 0 <= number < 2**64:
        raise ValueError(f"{name} must be in [0, 2**64), got {number}")
    return number


def refuse_paths(n_paths: Any) -> None:
    """Raise TypeError, without a list of them, if ``n_paths`` is the paths themselves or what has them."""
    remedy = _remedy(n_paths)
    if remedy:
        kind = type(n_paths).__name__
        size = f" of {len(n_paths)} entries" if hasattr(n_paths, "__len__") else ""
        raise TypeError(f"n_paths must be an integer, got a {kind}{size}; {remedy}")


def as_one_path(path_idx: Any, n_paths: int) -> int:
    """Return a path as an int in ``[0, n_paths)``.

    Raises:
        TypeError: if it is not an integer.
        IndexError: if it is out of range.
    """
    if isinstance(path_idx, (list, tuple, range)) or getattr(path_idx, "ndim", 0):
        raise TypeError(
            f"path_idx must be an integer, one path, got a {type(path_idx).__name__}; for several, call it for "
            "each"
        )
    return as_path_idx(path_idx, n_paths)


def as_distribution(probs: Any, n_paths: Any) -> npt.NDArray[np.float64]:
    """Return ``probs`` as a new float64 array of sum one, or the uniform distribution over ``n_paths``.

    Raises:
        TypeError: if ``probs`` are not numbers, or ``n_paths`` is not an integer.
        ValueError: if they are no distribution, or there are neither.
    """
    refuse_paths(n_paths)
    count = None if n_paths is None else as_n_paths(n_paths)
    if probs is None:
        if count is None:
            raise ValueError(
                "either probs or n_paths must be given, got neither; PathSampler(n_paths=...) draws uniformly"
            )
        return np.full(count, 1.0 / count)
    try:
        pi = as_floats(probs, "probs")
    except TypeError as error:
        remedy = _remedy(probs)
        raise TypeError(f"{error}; {remedy}" if remedy else str(error)) from None
    _check_distribution(pi, count)
    # fsum is correctly rounded: the distribution does not depend on the order of a SIMD sum.
    return pi / math.fsum(pi)


def as_kept(paths: Any, n_paths: int) -> npt.NDArray[np.bool_]:
    """Return which of ``n_paths`` paths are among ``paths``, their ids; all of them for ``None``.

    Raises:
        TypeError: if ``paths`` are not several integers.
        IndexError: if an id is not in ``[0, n_paths)``.
        ValueError: if there are none, or an id comes twice.
    """
    kept = np.full(n_paths, paths is None)
    if paths is None:
        return kept
    for path in _listed(paths):
        index = _as_id(path)
        if not 0 <= index < n_paths:
            raise IndexError(f"paths must be ids in [0, {n_paths}), got {index}; n_paths is {n_paths}")
        if kept[index]:
            raise ValueError(f"paths must have each id once, got {index} twice; pass a set of them")
        kept[index] = True
    if not kept.any():
        raise ValueError("paths must have at least one id, got none; leave it out to draw from all")
    return kept


def restricted(pi: npt.NDArray[np.float64], kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return ``pi`` given that a path is one of those kept.

    Raises:
        ValueError: if all of them have probability zero.
    """
    if kept.all():
        return pi
    pi = np.where(kept, pi, 0.0)
    if not pi.any():
        raise ValueError(
            f"probs must be above 0 for one of paths at least, got 0 for all {kept.sum()}; keep others, or leave "
            "probs out"
        )
    # Sums of numbers near the smallest one lose digits, quotients by the largest do not.
    scaled = pi / pi.max()
    return scaled / math.fsum(scaled)


def _as_id(path: Any) -> int:
    if isinstance(path, SupportsIndex) and not isinstance(path, bool):
        return as_int(path, "each of paths")
    bundles = isinstance(path, (list, tuple, range))
    remedy = "to draw bundles: n_paths=len(bundles)" if bundles else "take ids, as those of jtfs.paths.where()"
    raise TypeError(f"paths must be integers, ids of paths, got a {type(path).__name__} among them; {remedy}")


def _listed(paths: Any) -> list[Any]:
    """Return the entries of a list, set, range or other iterable, or of a one-dimensional array or tensor."""
    kind = type(paths).__name__
    if isinstance(paths, (Tensor, np.ndarray)):
        if paths.dtype in (torch.bool, np.bool_):
            raise TypeError(
                f"paths must be integers, ids of paths, got a {kind} of bool; give the ids where it is True"
            )
        if paths.ndim == 1 and not (isinstance(paths, Tensor) and paths.is_meta):
            return paths.tolist()
        kind += f" of shape {tuple(paths.shape)}"
    elif isinstance(paths, Iterable) and not isinstance(paths, (str, bytes, dict)):
        return list(paths)
    raise TypeError(f"paths must be several ids of paths, such as [0, 1], got a {kind}")


def floored(pi: npt.NDArray[np.float64], min_prob_frac: float) -> npt.NDArray[np.float64]:
    """Return the mixture of ``pi`` with the uniform distribution over the paths that it can draw."""
    support = pi > 0
    return np.where(support, min_prob_frac / support.sum() + (1.0 - min_prob_frac) * pi, 0.0)


def _check_distribution(pi: npt.NDArray[np.float64], n_paths: int | None) -> None:
    if pi.ndim != 1 or pi.size == 0:
        count = float(pi) if pi.ndim == 0 else 0.0
        is_count = 1 <= count <= MOST_PATHS and count.is_integer()
        remedy = f"; for {count:.0f} paths: PathSampler(n_paths={count:.0f})" if is_count else ""
        raise ValueError(f"probs must be one-dimensional with at least one path, got shape {pi.shape}{remedy}")
    if n_paths is not None and pi.size != n_paths:
        raise ValueError(f"probs has {pi.size} entries but n_paths is {n_paths}; leave n_paths out")
    bad = np.flatnonzero(~(np.isfinite(pi) & (pi >= 0)))
    if bad.size:
        raise ValueError(
            f"probs must be finite and non-negative, got probs[{bad[0]}] = {pi[bad[0]]} ({bad.size} such entries)"
        )
    total = math.fsum(pi) if pi.max() <= 2.0 else float(pi.max())  # a sum of huge numbers overflows
    if abs(total - 1.0) > SUM_TOLERANCE:
        raise ValueError(
            f"probs must sum to 1 within {SUM_TOLERANCE:g}, got {total:.9g}; normalise with probs / probs.sum()"
        )


def _remedy(value: Any) -> str:
    """Return what to give in place of paths, or of what has paths; nothing for anything else."""
    if isinstance(getattr(value, "n_paths", None), int):
        return "give its number of paths, as in PathSampler(n_paths=jtfs.n_paths)"
    several = isinstance(value, (list, tuple, range)) or (
        isinstance(value, (Tensor, np.ndarray)) and value.ndim > 0
    )
    # A single entry is more likely the number itself.
    return f"for as many paths as it has entries: n_paths={len(value)}" if several and len(value) > 1 else ""
