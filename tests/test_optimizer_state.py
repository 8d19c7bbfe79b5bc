"""The state of PathAdamSAGA in memory: shared clocks, and what users do to it and to models in mid-training."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from scrapl_optim import PathAdamSAGA
from tests.support.optimizer_helpers import (
    assert_bitwise,
    assert_same_snapshot,
    make_params,
    random_paths,
    run,
    set_grads,
    snapshot,
)

P = 4
SHAPES = [(3, 4), (5,), (2, 2)]


def trained(paths: list[int], n_paths: int = P, **kwargs: Any) -> tuple[PathAdamSAGA, list[Parameter]]:
    params = make_params(0, torch.float32, SHAPES)
    optimizer = PathAdamSAGA(params, n_paths, lr=0.01, **kwargs)
    run(optimizer, params, paths)
    return optimizer, params


def go_on(optimizer: PathAdamSAGA, params: list[Parameter], paths: list[int], start: int = 100) -> list[Tensor]:
    for k, path in enumerate(paths):
        set_grads(params, start + k)
        optimizer.step(path_idx=path)
    return [param.detach().clone() for param in params]


def n_clocks(optimizer: PathAdamSAGA) -> int:
    return len({id(state["step"]) for state in optimizer.state.values()})


def test_a_loaded_optimizer_shares_clocks_as_one_that_never_stopped() -> None:
    optimizer, params = trained([0, 1, 2])
    assert n_clocks(optimizer) == 1
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    go_on(optimizer, params, [1])
    assert n_clocks(optimizer) == 1


def test_clocks_that_part_and_agree_again_are_joined() -> None:
    """Equal clocks tell the same time whatever their history; unequal ones stay apart."""
    optimizer, params = trained([0, 1])
    for absent in (0, 1, 2):
        for param in params:
            param.grad = torch.ones_like(param)  # units of rows go by the largest gradient
        params[absent].grad = None
        optimizer.step(path_idx=3)
        assert n_clocks(optimizer) >= 2
    go_on(optimizer, params, [3])
    assert [int(optimizer.state[p]["step"].max()) for p in params] == [5, 5, 5]
    assert n_clocks(optimizer) == 1


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("key", ["step", "scale"])
def test_a_private_copy_of_one_clock_changes_nothing(key: str, grouped: bool) -> None:
    """As after a cast of floating-point state tensors only."""
    optimizer, params = trained([0, 1, 2])
    if grouped:
        params = make_params(0, torch.float32, SHAPES)
        optimizer = PathAdamSAGA([{"params": params[:2]}, {"params": params[2:]}], P, lr=0.01)
        run(optimizer, params, [0, 1, 2])
    twin, twin_params = copy.deepcopy((optimizer, params))
    for state in twin.state.values():
        state[key] = state[key].clone()
    paths = random_paths(P, 6, seed=1)
    assert_bitwise(go_on(optimizer, params, paths), go_on(twin, twin_params, paths))
    saved = copy.deepcopy(twin.state_dict())
    again_params = make_params(0, torch.float32, SHAPES)
    groups = [{"params": again_params[:2]}, {"params": again_params[2:]}] if grouped else again_params
    again = PathAdamSAGA(groups, P, lr=0.01)
    with torch.no_grad():
        for p, q in zip(again_params, twin_params, strict=True):
            p.copy_(q)
    again.load_state_dict(saved)
    assert_bitwise(go_on(twin, twin_params, paths, 200), go_on(again, again_params, paths, 200))


def test_reading_the_state_of_a_parameter_without_one_is_harmless() -> None:
    params = make_params(0, torch.float32, SHAPES)
    optimizer = PathAdamSAGA(params, P)
    assert optimizer.state[params[1]] == {}
    assert optimizer.state_dict()["state"] == {1: {}}
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    set_grads(params, 0)
    params[1].grad = None
    optimizer.step(path_idx=2)
    assert optimizer.state[params[1]] == {}
    copied = copy.deepcopy(optimizer.state_dict())
    optimizer.load_state_dict(copied)
    go_on(optimizer, params, [0, 2])


def test_a_stale_state_dict_is_refused() -> None:
    """It shares rows with the optimizer, but not clocks: loading it would mix two times."""
    optimizer, params = trained([0, 1])
    shared, kept = optimizer.state_dict(), copy.deepcopy(optimizer.state_dict())
    optimizer.load_state_dict(shared)  # nothing has happened since
    go_on(optimizer, params, [2, 0])
    before = snapshot(optimizer)
    with pytest.raises(RuntimeError, match=r"copy\.deepcopy"):
        optimizer.load_state_dict(shared)
    assert_same_snapshot(optimizer, before)
    optimizer.load_state_dict(kept)
    assert int(next(iter(optimizer.state.values()))["step"].max()) == 2


def test_a_cast_model_is_refused_until_the_state_is_cast() -> None:
    optimizer, params = trained([0, 1, 2])
    expected = copy.deepcopy(params)
    for param in params:
        param.grad = None
        param.data = param.data.double()
    set_grads(params, 50)
    with pytest.raises(RuntimeError, match=r"torch\.float64 on cpu; expected .* torch\.float32.*load_state"):
        optimizer.step(path_idx=1)
    assert_bitwise([p.detach() for p in params], [p.detach().double() for p in expected])
    assert int(optimizer.state[params[0]]["step"].max()) == 3
    optimizer.load_state_dict(optimizer.state_dict())
    go_on(optimizer, params, [1, 3])
    assert all(value.dtype == torch.float64 for key, value in optimizer.state[params[0]].items() if key != "step")


def test_a_parameter_of_another_shape_is_refused() -> None:
    optimizer, params = trained([0, 1])
    params[1].grad = None
    params[1].data = torch.zeros(6)
    set_grads(params, 3)
    with pytest.raises(RuntimeError, match=r"now \(6,\).*expected \(5,\)"):
        optimizer.step(path_idx=0)


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "int8"])
def test_setting_data_of_state_tensors(storage: str) -> None:
    """The common way to move an optimizer's state to another device."""
    optimizer, params = trained([0, 1, 2], storage=storage)
    twin, twin_params = copy.deepcopy((optimizer, params))
    for state in optimizer.state.values():
        for value in state.values():
            value.data = value.data.clone()
    paths = random_paths(P, 8, seed=2)
    assert_bitwise(go_on(optimizer, params, paths), go_on(twin, twin_params, paths))
    assert_same_snapshot(optimizer, snapshot(twin))


@pytest.mark.parametrize("foreach", [None, True, False])
def test_parameters_on_one_memory_both_count(foreach: bool | None) -> None:
    first = Parameter(torch.zeros(3))
    second = Parameter(torch.zeros(3))
    second.data = first.data
    optimizer = PathAdamSAGA([first, second], 2, lr=0.1, weight_decay=0.0, foreach=foreach)
    first.grad, second.grad = torch.tensor([1.0, -1.0, 1.0]), torch.tensor([1.0, 1.0, -1.0])
    optimizer.step(path_idx=0)
    torch.testing.assert_close(first.detach(), torch.tensor([-0.2, 0.0, 0.0]))
