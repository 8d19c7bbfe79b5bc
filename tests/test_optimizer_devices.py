"""Clocks and constants of PathAdamSAGA belong to a device on purpose; "meta" stands for a GPU."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from scrapl_optim import PathAdamSAGA
from tests.support.foreign_defaults import FOREIGN
from tests.support.optimizer_helpers import (
    assert_bitwise,
    assert_same_snapshot,
    clones,
    make_params,
    set_grads,
    snapshot,
)
from tests.support.optimizer_variants import N_PATHS, Variant, build, every_variant, train, zoo_grads

PATHS, LATER = [0, 3, 3, 1], [3, 2, 0, 4, 3]
CLOCKS = ("step", "scale")


def life(variant: Variant, device: Callable[[], Any]) -> tuple[Any, list[Any]]:
    """Steps, announcements, checkpoints and copies, each under ``device``."""
    optimizer, params = build(variant)
    with device():
        optimizer = type(optimizer)(_groups(optimizer), N_PATHS, **variant.kwargs())
    for k, path in enumerate(PATHS + LATER):
        zoo_grads(params, k)
        with device():
            if k % 2:
                optimizer.set_path(path, variant.weight(path))
                optimizer.step()
            else:
                optimizer.step(path_idx=path, weight=variant.weight(path))
            if k == 3:
                optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            if k == 5:
                optimizer.materialize()
            if k == 6:
                again = pickle.loads(pickle.dumps(optimizer.state_dict()))
                optimizer.load_state_dict(again)
    return optimizer, params


def _groups(optimizer: Any) -> list[dict[str, Any]]:
    keys = ("params", "lr", "betas", "eps", "weight_decay")
    return [{key: group[key] for key in keys} for group in optimizer.param_groups]


@pytest.mark.parametrize("how", ["set_default_device", "with torch.device"])
@every_variant
def test_a_default_device_changes_nothing(variant: Variant, how: str) -> None:
    expected, expected_params = life(variant, nullcontext)
    actual, params = life(variant, FOREIGN[how])
    assert_bitwise(clones(params), clones(expected_params))
    assert_same_snapshot(actual, snapshot(expected))


def test_a_compiled_step_under_a_default_device() -> None:
    results = []
    for device in (torch.device("meta"), torch.device("cpu")):
        torch._dynamo.reset()
        (param,) = make_params(dtype=torch.float32, shapes=[(5,)])
        optimizer = PathAdamSAGA([param], N_PATHS, lr=0.1)
        step = torch.compile(optimizer.step, backend="eager")
        for path in (1, 2, 1):
            set_grads([param], path)
            with device:
                step(path_idx=path)
        results.append(clones([param]))
    torch._dynamo.reset()
    assert_bitwise(*results)


def by_lightning(optimizer: Any, keys: tuple[str, ...]) -> None:
    """As Lightning does when it resumes: in place, all but ``"step"``."""
    for state in optimizer.state.values():
        for key in state:
            if key in keys and key != "step":
                state[key] = state[key].to("meta")


def by_replacing(optimizer: Any, keys: tuple[str, ...]) -> None:
    """As ZeRO and home-made loaders do: each state anew, each clock for itself."""
    for param, state in list(optimizer.state.items()):
        optimizer.state[param] = {k: v.to("meta") if k in keys else v for k, v in state.items()}


@pytest.mark.parametrize("move", [by_lightning, by_replacing])
@pytest.mark.parametrize("when", ["after steps", "after load", "after deepcopy", "after deepcopy and load"])
@every_variant
def test_clocks_on_another_device_are_taken_back(variant: Variant, when: str, move: Callable[..., None]) -> None:
    optimizer, params = build(variant)
    train(variant, optimizer, params, PATHS)
    saved = copy.deepcopy(optimizer.state_dict())
    if "deepcopy" in when:
        optimizer, params = copy.deepcopy((optimizer, params))
    if "load" in when:
        optimizer.load_state_dict(saved)
    twin, twin_params = copy.deepcopy((optimizer, params))
    move(optimizer, CLOCKS)
    train(variant, optimizer, params, LATER, first=4)
    train(variant, twin, twin_params, LATER, first=4)
    assert_bitwise(clones(params), clones(twin_params))
    assert_same_snapshot(optimizer, snapshot(twin))
    for state in optimizer.state.values():
        assert all(state[key].device.type == "cpu" for key in CLOCKS)


@pytest.mark.parametrize("way", ["pickle", "materialize"])
def test_clocks_moved_before_the_first_step(way: str) -> None:
    optimizer, params = build(Variant())
    if way == "pickle":
        train(Variant(), optimizer, params, PATHS)
        optimizer, params = pickle.loads(pickle.dumps((optimizer, params)))
    else:
        optimizer.materialize()
    twin, twin_params = copy.deepcopy((optimizer, params))
    by_replacing(optimizer, CLOCKS)
    train(Variant(), optimizer, params, LATER, first=4)
    train(Variant(), twin, twin_params, LATER, first=4)
    assert_bitwise(clones(params), clones(twin_params))


def test_moved_clocks_are_taken_back_for_a_state_dict() -> None:
    optimizer, params = build(Variant())
    train(Variant(), optimizer, params, PATHS)
    expected = snapshot(optimizer)
    by_replacing(optimizer, CLOCKS)
    assert_same_snapshot(optimizer, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("in_place", [False, True])
def test_clocks_that_were_cast_are_cast_back(dtype: torch.dtype, in_place: bool) -> None:
    """Whole steps below 256 and powers of two: bfloat16 holds both."""
    optimizer, params = build(Variant())
    train(Variant(), optimizer, params, PATHS)
    twin, twin_params = copy.deepcopy((optimizer, params))
    for state in optimizer.state.values():
        for key in CLOCKS:
            if in_place:
                state[key].data = state[key].data.to(dtype)
            else:
                state[key] = state[key].to(dtype)
    train(Variant(), optimizer, params, LATER, first=4)
    train(Variant(), twin, twin_params, LATER, first=4)
    assert_bitwise(clones(params), clones(twin_params))
    assert {state["step"].dtype for state in optimizer.state.values()} == {torch.int64}


def test_a_clock_without_numbers_is_refused_by_name() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = PathAdamSAGA([weight], n_paths=3)
    optimizer.state[weight] = {key: torch.zeros(3, device="meta") for key in CLOCKS}
    weight.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match=r"'step'.*meta.*load_state_dict"):
        optimizer.step(path_idx=0)
    assert weight.tolist() == [1, 1, 1]


@pytest.mark.parametrize("clock", [[0, 0, 0], 3, None])
def test_a_clock_that_is_no_tensor_is_refused_by_name(clock: Any) -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = PathAdamSAGA([weight], n_paths=3)
    weight.grad = torch.ones(3)
    optimizer.step(path_idx=0)
    before = weight.tolist()
    optimizer.state[weight]["step"] = clock
    with pytest.raises(RuntimeError, match=r"Invalid state 'step' of a parameter"):
        optimizer.step(path_idx=1)
    assert weight.tolist() == before
