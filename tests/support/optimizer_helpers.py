"""What the optimizer's tests share: parameters, gradients, path sequences, comparisons bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import Parameter

SHAPES: list[tuple[int, ...]] = [(3, 2), (), (0,), (4,)]

# ``optimizer.state_dict()``, the parameters, and the keys of each parameter's state
Snapshot = tuple[dict[str, Any], list[Tensor], list[set[str]]]


def make_params(
    seed: int = 0, dtype: torch.dtype = torch.float64, shapes: Iterable[tuple[int, ...]] = SHAPES
) -> list[Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [Parameter(torch.randn(s, generator=generator, dtype=torch.float64).to(dtype)) for s in shapes]


def set_grads(params: Iterable[Tensor], seed: int, scale: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in params:
        real = torch.view_as_real(p).shape if p.is_complex() else p.shape
        grad = torch.randn(real, generator=generator, dtype=torch.float64) * scale
        p.grad = (torch.view_as_complex(grad) if p.is_complex() else grad).to(p)


def run(
    optimizer: Any, params: Iterable[Tensor], paths: Iterable[int], *, first_seed: int = 1000, scale: float = 1.0
) -> None:
    for k, path in enumerate(paths):
        set_grads(params, first_seed + k, scale)
        optimizer.step(path_idx=path)


def random_paths(n_paths: int, n_steps: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(n_paths, size=n_steps).tolist()


def random_gradients(n_steps: int, *shape: int, seed: int = 0) -> list[npt.NDArray[np.float64]]:
    return list(np.random.default_rng(seed).standard_normal((n_steps, *shape)))


def assert_bitwise(actual: Iterable[Any], expected: Iterable[Any]) -> None:
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert torch.equal(a, b)


def clones(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def all_params(optimizer: torch.optim.Optimizer) -> list[Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def snapshot(optimizer: torch.optim.Optimizer) -> Snapshot:
    params = all_params(optimizer)
    keys = [set(optimizer.state[p]) if p in optimizer.state else set() for p in params]
    return copy.deepcopy(optimizer.state_dict()), clones(params), keys


def assert_same_snapshot(optimizer: torch.optim.Optimizer, before: Sequence[Any]) -> None:
    """Nothing moved: no parameter, clock or row, none appeared, and the hyperparameters are the same."""
    after = snapshot(optimizer)
    assert_bitwise(after[1], before[1])
    assert after[0]["state"].keys() == before[0]["state"].keys()
    assert after[2] == before[2]
    assert str(after[0]["param_groups"]) == str(before[0]["param_groups"])
    for i, state in before[0]["state"].items():
        for key, value in state.items():
            same = torch.equal(after[0]["state"][i][key], value) if torch.is_tensor(value) else True
            assert same, (i, key)
