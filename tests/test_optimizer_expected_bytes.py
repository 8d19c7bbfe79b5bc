"""What PathAdamSAGA says its state will take, against what it takes."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scrapl_optim import PathAdamSAGA
from scrapl_optim.experimental import host_rows, nearest

ROUNDED = ("bfloat16", "int8")
ON_DEVICE = ("float32", *ROUNDED, *map(nearest, ROUNDED))
STORAGES = (*ON_DEVICE, *map(host_rows, ON_DEVICE))
SHAPES = ((3,), (), (64, 64), (5, 1000), (4096, 15), (2, 3, 700), (7, 16, 257))
CASES: dict[str, dict[str, Any]] = {
    "both": {},
    "P-Adam": {"saga": 0.0},
    "P-SAGA": {"path_adam": False},
    "neither": {"path_adam": False, "saga": 0.0},
}


def bytes_held(optimizer: PathAdamSAGA) -> int:
    """Bytes of all tensors of the state, those that parameters share once."""
    tensors = {id(t): t for state in optimizer.state.values() for t in state.values() if isinstance(t, Tensor)}
    return sum(t.nbytes for t in tensors.values())


def parameters(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(shape, dtype=dtype)) for shape in SHAPES]


@pytest.mark.parametrize("n_paths", [1, 4])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("storage", STORAGES)
def test_as_materialized(storage: str, case: str, n_paths: int) -> None:
    optimizer = PathAdamSAGA(parameters(), n_paths=n_paths, storage=storage, **CASES[case])
    expected = optimizer.expected_bytes()
    assert not optimizer.state
    optimizer.materialize()
    assert bytes_held(optimizer) == expected == optimizer.expected_bytes()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("storage", ["float32", "bfloat16", "int8"])
def test_other_dtypes(storage: str, dtype: torch.dtype) -> None:
    optimizer = PathAdamSAGA(parameters(dtype), n_paths=3, storage=storage)
    expected = optimizer.expected_bytes()
    optimizer.materialize()
    assert bytes_held(optimizer) == expected


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "int8"])
def test_as_drawn_by_steps(storage: str) -> None:
    params = parameters()
    optimizer = PathAdamSAGA(params, n_paths=5, storage=storage)
    for n_drawn, path in enumerate((3, 0, 4), 1):
        for p in params:
            p.grad = torch.ones_like(p)
        optimizer.step(path_idx=path)
        assert bytes_held(optimizer) == optimizer.expected_bytes(n_drawn)
    assert optimizer.expected_bytes(0) < optimizer.expected_bytes(3) < optimizer.expected_bytes()
    assert bytes_held(copy.deepcopy(optimizer)) == optimizer.expected_bytes(3)


def test_closed_forms() -> None:
    n, n_paths = 1024 * 256, 315
    each = {"float32": 8.0, "bfloat16": 4.0, "int8": 2 + 8 / 256}
    for storage, row in each.items():
        optimizer = PathAdamSAGA([nn.Parameter(torch.ones(1024, 256))], n_paths=n_paths, storage=storage)
        assert optimizer.expected_bytes() == 16 * n_paths + (row * n_paths + 4) * n
        assert optimizer.expected_bytes(20) == 16 * n_paths + (row * 20 + 4) * n


def test_frozen_parameters_take_none_and_groups_have_their_own_storage() -> None:
    frozen = nn.Parameter(torch.ones(1000), requires_grad=False)
    small, large = nn.Parameter(torch.ones(10)), nn.Parameter(torch.ones(64, 256))
    optimizer = PathAdamSAGA([{"params": [frozen, small]}, {"params": [large], "storage": "int8"}], n_paths=3)
    assert optimizer.expected_bytes() == 16 * 3 + (8 * 3 + 4) * 10 + ((2 + 8 / 256) * 3 + 4) * 64 * 256
    optimizer.materialize()
    assert bytes_held(optimizer) == optimizer.expected_bytes()


def test_a_parameter_that_starts_later_has_clocks_of_its_own() -> None:
    first, later = (nn.Parameter(torch.ones(5)) for _ in range(2))
    optimizer = PathAdamSAGA([first, later], n_paths=3)
    first.grad = torch.ones(5)
    optimizer.step(path_idx=1)
    expected = optimizer.expected_bytes()
    optimizer.materialize()
    assert bytes_held(optimizer) == expected


def test_on_meta_nothing_is_allocated() -> None:
    """Of a model that no machine here could hold."""
    weight = nn.Parameter(torch.empty(10**6, 10**5, device="meta"))
    assert PathAdamSAGA([weight], n_paths=99).expected_bytes() == 16 * 99 + (8 * 99 + 4) * 10**11


@pytest.mark.parametrize(
    ("n_entries", "n_paths", "text"),
    [(1, 1, "24 bytes"), (1000, 99, "798 kB"), (9_000_000, 315, "22.7 GB"), (9989999 // 796, 99, "9.99 MB")],
)
def test_repr_says_it_before_the_first_step(n_entries: int, n_paths: int, text: str) -> None:
    optimizer = PathAdamSAGA([nn.Parameter(torch.empty(n_entries, device="meta"))], n_paths=n_paths)
    assert repr(optimizer).endswith(f"\nState once all {n_paths} paths were drawn: {text}")
    on_host = PathAdamSAGA([nn.Parameter(torch.ones(3))], n_paths=2, storage=host_rows("float32"))
    assert repr(on_host).endswith(f"{16 * 2 + 20 * 3} bytes, rows in host memory")


def test_repr_of_what_the_next_step_refuses() -> None:
    optimizer = PathAdamSAGA([nn.Parameter(torch.ones(3))], n_paths=2)
    optimizer.param_groups[0]["storage"] = "int4"
    assert "int4" in repr(optimizer)
    with pytest.raises(ValueError, match="int4"):
        optimizer.expected_bytes()


@pytest.mark.parametrize(
    ("n_drawn", "error"),
    [(-1, ValueError), (4, ValueError), (1.0, TypeError), (True, TypeError), ("1", TypeError)],
)
def test_wrong_numbers_of_paths(n_drawn: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="n_drawn"):
        PathAdamSAGA([nn.Parameter(torch.ones(3))], n_paths=3).expected_bytes(n_drawn)


def test_units_do_not_overflow_their_three_digits() -> None:
    from scrapl_optim._text import bytes_text

    assert [bytes_text(n) for n in (0, 999, 1000, 999_499, 999_500, 10**9, 5 * 10**17)] == [
        "0 bytes", "999 bytes", "1 kB", "999 kB", "1 MB", "1 GB", "500 PB",
    ]  # fmt: skip
    assert math.isclose(float(bytes_text(22_716_005_040).split()[0]), 22.7)
