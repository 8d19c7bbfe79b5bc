"""A training of one path per step in a plain loop, which trainers must take without a difference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from scrapl_optim import PathAdamSAGA, PathSampler
from tests.support.optimizer_helpers import assert_bitwise, clones

N_PATHS = 5
SAMPLER = PathSampler(n_paths=N_PATHS, seed=7)


def make_model(device: str = "cpu") -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 80), torch.nn.Tanh(), torch.nn.Linear(80, N_PATHS)).to(device)


def make_optimizer(model: torch.nn.Module, storage: str = "float32", **kwargs: Any) -> PathAdamSAGA:
    return PathAdamSAGA(model.parameters(), N_PATHS, storage=storage, **{"lr": 0.01, **kwargs})


def make_data(n_batches: int = 12) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(4, 6, generator=generator), torch.randn(4, N_PATHS, generator=generator))
        for _ in range(n_batches)
    ]


def path_loss(model: Callable[..., torch.Tensor], batch: Any, path: int) -> torch.Tensor:
    x, y = batch
    return (model(x) - y)[:, path].float().square().mean()


def plain_loop(storage: str = "float32", accumulate: int = 1, autocast: bool = False) -> torch.nn.Module:
    model = make_model()
    optimizer = make_optimizer(model, storage)
    data = make_data()
    for step in range(len(data) // accumulate):
        optimizer.zero_grad()
        for batch in data[step * accumulate : (step + 1) * accumulate]:
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                loss = path_loss(model, batch, SAMPLER(step)) / accumulate
            loss.backward()
        optimizer.step(path_idx=SAMPLER(step))
    return model


def assert_same_weights(actual: torch.nn.Module, expected: torch.nn.Module) -> None:
    assert_bitwise(clones(actual.parameters()), clones(expected.parameters()))
    assert not torch.equal(next(expected.parameters()), next(make_model().parameters()))
