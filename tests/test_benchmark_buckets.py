"""The study of joined rows: its three ways to step are one algorithm, and its numbers are there."""

from __future__ import annotations

import math

import pytest

from benchmarks.studies.buckets import CASES, SHAPES, measure


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "int8"])
def test_all_ways_take_the_steps_of_the_optimizer(storage: str) -> None:
    result = measure("0.1M", 2, storage, seconds=0.0)
    assert result["joined: largest difference"] == 0.0
    assert result["gathered: largest difference"] == 0.0
    # rows of foreach are rounded from numbers that differ in their last bits
    assert result["foreach: largest difference"] < (1e-6 if storage == "float32" else 1e-4)
    assert all(value > 0 for name, value in result.items() if "ms" in name or "peak" in name)


def test_cases_have_the_sizes_of_their_names() -> None:
    for kind, _ in CASES:
        n = sum(math.prod(shape) for shape in SHAPES[kind])
        assert n / 1e6 == pytest.approx(float(kind[:-1]), rel=0.15)
