"""What the optimizer's tests share: parameters, gradients, path sequences, comparisons bit for bit."""

import copy

import numpy as np
import torch
from torch.nn import Parameter

SWITCHES = [(adam, saga) for adam in (True, False) for saga in (True, False)]
SHAPES = [(3, 2), (), (0,), (4,)]


def make_params(seed=0, dtype=torch.float64, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    return [Parameter(torch.randn(s, generator=generator, dtype=torch.float64).to(dtype)) for s in shapes]


def set_grads(params, seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    for p in params:
        real = torch.view_as_real(p).shape if p.is_complex() else p.shape
        grad = torch.randn(real, generator=generator, dtype=torch.float64) * scale
        p.grad = (torch.view_as_complex(grad) if p.is_complex() else grad).to(p.dtype)


def run(optimizer, params, paths, *, first_seed=1000, scale=1.0):
    for k, path in enumerate(paths):
        set_grads(params, first_seed + k, scale)
        optimizer.step(path_idx=path)


def random_paths(n_paths, n_steps, seed=0):
    return np.random.default_rng(seed).integers(n_paths, size=n_steps).tolist()


def assert_bitwise(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


def snapshot(optimizer):
    return copy.deepcopy(optimizer.state_dict()), [
        p.detach().clone() for group in optimizer.param_groups for p in group["params"]
    ]


def assert_same_snapshot(optimizer, before):
    after = snapshot(optimizer)
    assert_bitwise(after[1], before[1])
    assert after[0]["state"].keys() == before[0]["state"].keys()
    for i, state in before[0]["state"].items():
        for key, value in state.items():
            same = torch.equal(after[0]["state"][i][key], value) if torch.is_tensor(value) else True
            assert same, (i, key)
