"""Checks of what callers pass: errors name the value, what was expected and the remedy."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from numbers import Real
from typing import Any

import torch
from torch import Tensor


def is_number(value: object, lowest: float, highest: float) -> bool:
    """Whether it is a real number, no bool, from ``lowest`` to ``highest``."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return lowest <= float(value) <= highest
    except OverflowError:  # an integer of hundreds of digits
        return False


def dense(x: Any, name: str) -> Tensor:
    """Return x, a dense tensor of real floating-point numbers.

    Raises:
        TypeError: it is anything else.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"Expected a torch.Tensor as {name}, got {type(x).__name__}; use torch.as_tensor.")
    if x.layout is not torch.strided or x.is_nested:
        kind = "a nested tensor" if x.is_nested else x.layout
        raise TypeError(f"Expected a dense torch.Tensor as {name}, got {kind}; use x.to_dense().")
    if not x.is_floating_point():
        raise TypeError(
            f"Expected real floating-point numbers as {name}, got {x.dtype}; convert it, e.g. "
            + ("take its real part." if x.is_complex() else "x.to(torch.float32) / full scale.")
        )
    return x


def checked_signal(
    x: Any, n_samples: int, dtype: torch.dtype, device: torch.device, name: str = "signal"
) -> tuple[Tensor, torch.Size]:
    """Return signals (batch, n_samples) and the leading axes that they had; half precision is converted.

    Raises:
        TypeError: not a dense floating-point tensor.
        ValueError: of another length, dtype or device than the transform, or none at all.
    """
    x = dense(x, name)
    if x.ndim == 0 or x.shape[-1] != n_samples:
        raise ValueError(
            f"Expected a signal of {n_samples} samples on the last axis, got shape {tuple(x.shape)}; "
            f"crop or pad it, or build JTFSPath with n_samples={x.shape[-1] if x.ndim else 1}."
        )
    if x.numel() == 0:
        raise ValueError(f"Expected at least one signal, got an empty batch of shape {tuple(x.shape)}.")
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.to(dtype)
    if x.dtype != dtype or x.device != device:
        raise ValueError(
            f"The signal is {x.dtype} on {x.device} but the filters are {dtype} on {device}; "
            f"move one to the other, e.g. jtfs.to({str(x.device)!r}, {x.dtype})."
        )
    return x.reshape(-1, n_samples), x.shape[:-1]


def checked_index(path_idx: Any, n_paths: int) -> int:
    """Return a path id as an int.

    Raises:
        TypeError: not an integer.
        IndexError: not from 0 to ``n_paths`` - 1.
    """
    # A tensor of one entry passes operator.index; it is usually a batch by mistake.
    unfit = isinstance(path_idx, Tensor) and (
        path_idx.ndim > 0 or path_idx.dtype == torch.bool or path_idx.is_meta
    )
    try:
        index = None if unfit or isinstance(path_idx, bool) else operator.index(path_idx)
    except TypeError:
        index = None
    if index is None:
        raise TypeError(f"Invalid path_idx: {path_idx!r}; expected an integer from 0 to {n_paths - 1}.")
    if not 0 <= index < n_paths:
        raise IndexError(f"path_idx {index} is out of range: there are {n_paths} paths, from 0.")
    return index


def checked_indices(path_indices: Any, n_paths: int) -> list[int]:
    """Return path ids as ints.

    Raises:
        TypeError: not a sequence of integers.
        IndexError: one is not from 0 to ``n_paths`` - 1.
    """
    try:
        indices: Iterable[Any] = iter(path_indices)
    except TypeError:
        raise TypeError(
            f"Invalid path_indices: {path_indices!r}; expected a sequence of path ids, such as [0, 1]."
        ) from None
    return [checked_index(index, n_paths) for index in indices]
