"""Writes tests/reference/optimizer_*.pt with the version of scrapl_optim that is on the path.

The files there were written by commit c03e9e3, in the root of a checkout of it:
``PYTHONPATH=. python THIS_FILE FOLDER``. Later versions must load them and go on bit for bit.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from scrapl_optim import PathAdamSAGA
from scrapl_optim.checkpoint import save_checkpoint

N_PATHS = 5
# Paths before and after the checkpoint: 4 is first drawn after it, 3 never.
PATHS_BEFORE, PATHS_AFTER = (0, 2, 2, 1, 0), (1, 4, 0, 4, 2, 1, 1)
STORAGES = ("float32", "bfloat16", "int8", "bfloat16-host", "bfloat16-nearest")
OPTIONS: dict[str, Any] = {"n_paths": N_PATHS, "lr": 1e-2, "weight_decay": 0.1}


def make_params(storage: str) -> list[Parameter]:
    """Return parameters of several dtypes, with one that is large enough for rows of int8."""
    draws = np.random.default_rng(0)
    shapes = [((64, 64), torch.float32)] if storage.startswith("int8") else [((6, 5), torch.float32)]
    shapes += [((7,), torch.float32), ((), torch.float32), ((3, 2), torch.float64), ((4,), torch.bfloat16)]
    return [
        Parameter(torch.from_numpy(np.array(draws.standard_normal(shape))).to(dtype)) for shape, dtype in shapes
    ]


def set_gradients(params: list[Parameter], step: int) -> None:
    """Give the parameters gradients that depend on ``step`` alone; the last parameter misses some."""
    draws = np.random.default_rng([1, step])
    for param in params:
        param.grad = torch.from_numpy(np.array(1e-8 * draws.standard_normal(param.shape))).to(param.dtype)
    if step % 3 == 1:
        params[-1].grad = None


def advance(optimizer: PathAdamSAGA, params: list[Parameter], paths: tuple[int, ...], first: int) -> None:
    """Take a step on each path, the first of which is number ``first``."""
    for step, path in enumerate(paths, first):
        set_gradients(params, step)
        optimizer.step(path_idx=path)


def copies(params: list[Parameter]) -> list[Tensor]:
    return [param.detach().clone() for param in params]


def write(storage: str, folder: Path) -> None:
    """Save a checkpoint, and the parameters that a run which went on without it had at the end."""
    params = make_params(storage)
    optimizer = PathAdamSAGA(params, storage=storage, **OPTIONS)
    advance(optimizer, params, PATHS_BEFORE, 0)
    path = folder / f"optimizer_{storage}.pt"
    save_checkpoint({"params": copies(params), "optimizer": optimizer.state_dict()}, path)
    state = torch.load(path, weights_only=True)
    advance(optimizer, params, PATHS_AFTER, len(PATHS_BEFORE))
    sums = [optimizer.state[param]["saga_sum"] for param in params]
    save_checkpoint({**state, "params_after": copies(params), "sums_after": sums[1:]}, path)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in STORAGES:
        write(name, Path(sys.argv[1]))
