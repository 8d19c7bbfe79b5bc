"""Defaults of torch that a user's script may have set, and that may change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch


@contextmanager
def default_device(device: str) -> Iterator[None]:
    """``torch.set_default_device``, taken back at the end. "meta" stands for an accelerator."""
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """``torch.set_default_dtype``, taken back at the end."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


FOREIGN: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "set_default_device": lambda: default_device("meta"),
    "with torch.device": lambda: torch.device("meta"),
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
}
every_foreign_default = pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN)
