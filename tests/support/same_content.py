"""Comparison of nested containers with tensors in them, as state dicts and checkpoints are."""

from typing import Any

from torch import Tensor, strided

from tests.support.optimizer_helpers import assert_bitwise


def assert_same_content(found: Any, expected: Any) -> None:
    """Assert that both have the same structure, types, devices, layouts and bits."""
    assert type(found) is type(expected)
    if isinstance(expected, Tensor):
        assert found.device == expected.device
        assert found.layout == expected.layout
        one, other = (t if t.layout is strided else t.to_dense() for t in (found, expected))
        assert_bitwise([one], [other])
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_same_content(found[key], value)
    elif isinstance(expected, (list, tuple)):
        for one, other in zip(found, expected, strict=True):
            assert_same_content(one, other)
    else:
        assert found == expected
