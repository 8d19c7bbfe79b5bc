"""Comparison of nested containers with tensors in them, as state dicts and checkpoints are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, strided


def assert_same_content(found: Any, expected: Any, place: str = "it", *, ordered: bool = True) -> None:
    """Assert that both have the same structure, types, devices, layouts and bits, and keys in the same order."""
    assert type(found) is type(expected), place
    if isinstance(expected, Tensor):
        for name in ("device", "layout", "dtype", "shape"):
            assert getattr(found, name) == getattr(expected, name), place
        assert torch.equal(_bits(found), _bits(expected)), place
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), place
        assert not ordered or list(found) == list(expected), place
        for key, value in expected.items():
            assert_same_content(found[key], value, f"{place}[{key!r}]", ordered=ordered)
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), place
        for i, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same_content(one, other, f"{place}[{i}]", ordered=ordered)
    else:
        assert found == expected, place


def _bits(tensor: Tensor) -> Tensor:
    """Return the bytes of a tensor: -0 is another than 0, and a NaN equals itself."""
    dense = tensor.detach() if tensor.layout is strided else tensor.detach().to_dense()
    return dense.contiguous().reshape(-1).view(torch.uint8)
