"""Storages of PathAdamSAGA beyond ``"float32"``, ``"bfloat16"`` and ``"int8"``."""

from __future__ import annotations

from typing import Any

from scrapl_optim._path_adam_saga.formats import ExperimentalStorage

__all__ = ["host_rows", "nearest"]


def host_rows(storage: str) -> str:
    """Return the storage whose rows are in (pinned) host memory, for ``PathAdamSAGA(..., storage=...)``.

    It takes the memory of rows off a GPU, at the price of two copies of a row per step. Announce the path with
    :meth:`~scrapl_optim.PathAdamSAGA.set_path` before the forward pass, and the row is fetched meanwhile.
    Parameters must not be sharded (DTensor).

    Args:
        storage: ``"float32"``, ``"bfloat16"``, ``"int8"`` or what :func:`nearest` returns.

    Raises:
        ValueError: if it is none of these.

    Example:
        >>> import torch
        >>> from scrapl_optim import PathAdamSAGA
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> PathAdamSAGA([weight], n_paths=3, storage=host_rows("bfloat16")).param_groups[0]["storage"]
        'bfloat16-host'
    """
    return _marked(storage, "-host", ("float32", "bfloat16", "int8", "bfloat16-nearest", "int8-nearest"))


def nearest(storage: str) -> str:
    """Return the storage whose rows are rounded to nearest, for ``PathAdamSAGA(..., storage=...)``.

    A moment changes by a small part of itself at each visit, which rounding to nearest loses for good: this is for
    studies of rounding, not for training.

    Args:
        storage: ``"bfloat16"`` or ``"int8"``.

    Raises:
        ValueError: if it is none of these.

    Example:
        >>> nearest("int8")
        'int8-nearest'
    """
    return _marked(storage, "-nearest", ("bfloat16", "int8"))


def _marked(storage: Any, suffix: str, expected: tuple[str, ...]) -> ExperimentalStorage:
    if not isinstance(storage, str) or storage not in expected:
        raise ValueError(f"Invalid storage: {storage!r}; expected one of {', '.join(expected)}")
    return ExperimentalStorage(storage + suffix)
