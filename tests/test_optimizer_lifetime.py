"""A dropped PathAdamSAGA is freed at once, whatever it went through, and its rows with it."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer

from scrapl_optim import PathAdamSAGA
from tests.support.optimizer_variants import STORAGES


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def plain(optimizer: Any) -> Any:
    return optimizer


def deepcopied(optimizer: Any) -> Any:
    return copy.deepcopy(optimizer)


def unpickled(optimizer: Any) -> Any:
    return pickle.loads(pickle.dumps(optimizer))


def loaded(optimizer: Any) -> Any:
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return optimizer


def materialized(optimizer: Any) -> Any:
    optimizer.materialize()
    return optimizer


def scheduled(optimizer: Any) -> Any:
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    step(optimizer, 1)
    scheduler.step()
    return optimizer


def scaled(optimizer: Any) -> Any:
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(torch.ones(()))
    scaler.step(optimizer, path_idx=1)
    scaler.update()
    return optimizer


def in_lightning(optimizer: Any) -> Any:
    wrapped = LightningOptimizer(optimizer)
    wrapped.set_path(1)
    return optimizer


def refused(optimizer: Any) -> Any:
    with pytest.raises(IndexError):
        optimizer.step(path_idx=99)
    return optimizer


def step(optimizer: Any, path: int) -> None:
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.ones_like(p)
    optimizer.step(path_idx=path)


FATES = [plain, deepcopied, unpickled, loaded, materialized, scheduled, scaled, in_lightning, refused]


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.usefixtures("_no_collector")
def test_freed_when_dropped(fate: Callable[[Any], Any], storage: str) -> None:
    optimizer = PathAdamSAGA([torch.nn.Parameter(torch.zeros(80, 80))], n_paths=3, storage=storage)
    for path in (0, 2, 0):
        step(optimizer, path)
    optimizer = fate(optimizer)
    step(optimizer, 1)
    optimizer.state_dict()
    alive = weakref.ref(optimizer)
    rows = [weakref.ref(t) for state in optimizer.state.values() for t in state.values()]
    assert len(rows) >= 9
    del optimizer
    assert alive() is None
    assert not any(row() is not None for row in rows)


@pytest.mark.usefixtures("_no_collector")
def test_the_check_sees_a_cycle() -> None:
    optimizer = PathAdamSAGA([torch.nn.Parameter(torch.zeros(2))], n_paths=3)
    optimizer.register_state_dict_pre_hook(lambda _, own=optimizer: None)
    alive = weakref.ref(optimizer)
    del optimizer
    assert alive() is not None


def test_data_that_a_parameter_gave_up_is_freed() -> None:
    params = [torch.nn.Parameter(torch.zeros(4, 3)), torch.nn.Parameter(torch.zeros(5))]
    optimizer = PathAdamSAGA(params, n_paths=3)
    for path in (0, 1):
        step(optimizer, path)
    old = params[0].data.untyped_storage()._weak_ref()
    params[0].data = torch.empty(0)
    assert torch.UntypedStorage._expired(old)
    torch.UntypedStorage._free_weak_ref(old)
    assert len(optimizer.state) == len(params)
