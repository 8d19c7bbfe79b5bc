"""Hostile input to PathAdamSAGA: a clear error or finite weights, and nothing changes that failed."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import Parameter

from scrapl_optim import PathAdamSAGA
from scrapl_optim.experimental import host_rows
from tests.support.fuzz_helpers import HOSTILE, attempt, fuzz
from tests.support.optimizer_helpers import assert_bitwise, assert_same_snapshot, set_grads, snapshot

MORE = [
    *(
        (0.9,),
        ("a", "b"),
        (0.9, 1.0),
        (float("nan"), 0.9),
        [0.9, 0.99],
        [0.5, 0.25, 0.25],
        (0.0, 0.5, 0.5),
        "float32",
        "int8",
        host_rows("bfloat16"),
        "skip",
    ),
    *(torch.tensor(-1.0), torch.tensor(float("nan")), torch.tensor([[0.1]]), torch.tensor(0.1)),
]
options = ["n_paths", "lr", "betas", "eps", "weight_decay", "path_adam", "saga", "unbiased", "storage"]
options += ["maximize", "foreach", "nonfinite", "probs", "memory_by_probs", "clocks_by_probs", "path_warmup"]
values = st.sampled_from(HOSTILE + MORE)
TENSORS = [
    *(torch.zeros(3), torch.full((3,), float("nan")), torch.full((3,), -5), torch.full((3,), 2**62)),
    *(torch.tensor([1, 0, 10**15]), torch.tensor([0.5, 0, 2]), torch.tensor([True] * 3)),
    *(torch.full((3,), 1e308, dtype=torch.float64), torch.full((3,), float("inf")), torch.ones(3, device="meta")),
    *(torch.full((3, 2), float("nan")), torch.full((3, 2), -1.0), torch.ones(2, 3), torch.ones(3, 2).to_sparse()),
    *(
        torch.ones(3, 2, dtype=torch.complex64),
        torch.ones(3, 2, dtype=torch.int8),
        torch.ones(3, 2, device="meta"),
    ),
]


def make(**changes: Any) -> tuple[list[Parameter], PathAdamSAGA]:
    params = [Parameter(torch.linspace(-1, 1, 6).reshape(3, 2)), Parameter(torch.ones(4))]
    return params, PathAdamSAGA(params, **({"n_paths": 3, "lr": 0.01} | changes))


def stepped(**changes: Any) -> tuple[list[Parameter], PathAdamSAGA]:
    params, optimizer = make(**changes)
    for path in (0, 2):
        set_grads(params, path)
        optimizer.step(path_idx=path)
    set_grads(params, 5)
    return params, optimizer


def go_on(params: list[Parameter], optimizer: PathAdamSAGA) -> list[torch.Tensor]:
    """Two more steps, the second with rows that are there."""
    for path in (1, 0):
        set_grads(params, 10 + path)
        optimizer.step(path_idx=path)
    return [param.detach().clone() for param in params]


@functools.cache
def unharmed(**changes: Any) -> list[torch.Tensor]:
    return go_on(*stepped(**changes))


def assert_unharmed(params: list[Parameter], optimizer: PathAdamSAGA, before: Any, **changes: Any) -> None:
    assert_same_snapshot(optimizer, before)
    assert_bitwise(go_on(params, optimizer), unharmed(**changes))


@fuzz(250)
@given(st.dictionaries(st.sampled_from(options), values, min_size=1, max_size=2))
def test_hyperparameters(changes: dict[str, Any]) -> None:
    def use() -> list[Parameter]:
        return stepped(**changes)[0]

    result = attempt(use)
    assert isinstance(result, Exception) or all(bool(param.isfinite().all()) for param in result)


@fuzz(200)
@given(st.sampled_from(options), values)
def test_hyperparameters_set_between_steps(name: str, value: Any) -> None:
    params, optimizer = stepped()
    (group,) = optimizer.param_groups
    before, original = snapshot(optimizer), dict(group)  # which leaves out what is not used
    group[name] = value
    result = attempt(lambda: optimizer.step(path_idx=1))
    group.clear()
    group.update(original)
    if isinstance(result, Exception):
        assert_unharmed(params, optimizer, before)
    assert all(bool(param.isfinite().all()) for param in params)


@fuzz(200)
@given(
    st.sampled_from(["path", "announced", "weight", "announced weight", "closure"]),
    values,
    st.sampled_from([{}, {"unbiased": True}, {"storage": host_rows("bfloat16")}]),
)
def test_steps(argument: str, value: Any, changes: dict[str, Any]) -> None:
    params, optimizer = stepped(**changes)
    before = snapshot(optimizer)
    calls = {
        "path": lambda: optimizer.step(path_idx=value),
        "announced": lambda: optimizer.set_path(value),
        "weight": lambda: optimizer.step(path_idx=1, weight=value),
        "announced weight": lambda: optimizer.set_path(1, value),
        "closure": lambda: optimizer.step(value, path_idx=1),
    }
    if isinstance(attempt(calls[argument]), Exception) and not isinstance(value, type):
        assert_unharmed(params, optimizer, before, **changes)
    assert all(bool(param.isfinite().all()) for param in params)


@fuzz(150)
@given(values)
def test_parameters(value: Any) -> None:
    def build(params: Any) -> None:
        optimizer = PathAdamSAGA(params, 3)
        for group in optimizer.param_groups:
            for param in group["params"]:
                param.grad = param.detach().clone()
        optimizer.step(path_idx=0)

    for params in (value, [value], {"params": value}, [{"params": value}], [{"param": value}], [{}]):
        attempt(lambda params=params: build(params))
    params, optimizer = stepped()
    before = snapshot(optimizer)
    results = [attempt(lambda g=group: optimizer.add_param_group(g)) for group in (value, {}, {"params": value})]
    if all(isinstance(result, Exception) for result in results):
        assert_unharmed(params, optimizer, before)


SAVED = copy.deepcopy(stepped()[1].state_dict())
GROUP = [("param_groups", 0, name) for name in SAVED["param_groups"][0]]
STATE = [("state", 0, name) for name in ("step", "scale", "saga_sum", "update.0", "rms.0", "update.1", "extra", 5)]
PLACES = [("state",), ("state", 0), ("state", "x"), ("param_groups",), ("param_groups", 0), *GROUP, *STATE]
MISSING = object()


@fuzz(400)
@given(st.sampled_from(PLACES), st.sampled_from([MISSING, *HOSTILE, *MORE, *TENSORS]), st.booleans())
def test_state_dicts(place: tuple[Any, ...], value: Any, has_stepped: bool) -> None:
    damaged = copy.deepcopy(SAVED)
    holder: Any = damaged
    for key in place[:-1]:
        holder = holder[key]
    if value is not MISSING:
        holder[place[-1]] = value
    elif isinstance(holder, list) or place[-1] in holder:
        del holder[place[-1]]
    params, optimizer = stepped() if has_stepped else make()
    before = snapshot(optimizer)
    if isinstance(attempt(lambda: optimizer.load_state_dict(damaged)), Exception):
        assert_same_snapshot(optimizer, before)
        optimizer.load_state_dict(copy.deepcopy(SAVED))
        if has_stepped:
            assert_bitwise(go_on(params, optimizer), unharmed())
    else:
        attempt(lambda: go_on(params, optimizer))
    assert all(bool(param.isfinite().all()) for param in params)


@pytest.mark.parametrize("ids", [[0], [0, 1, 2], [], [0, 0], ["a", "b"], None, [0, None], [[0], [1]], "01"])
def test_lists_of_parameters(ids: Any) -> None:
    damaged = copy.deepcopy(SAVED)
    damaged["param_groups"][0]["params"] = ids
    params, optimizer = stepped()
    before = snapshot(optimizer)
    assert isinstance(attempt(lambda: optimizer.load_state_dict(damaged)), Exception)
    assert_unharmed(params, optimizer, before)


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_what_is_no_state_dict(value: Any) -> None:
    params, optimizer = stepped()
    before = snapshot(optimizer)
    assert isinstance(attempt(lambda: optimizer.load_state_dict(value)), Exception)
    assert_unharmed(params, optimizer, before)


def test_state_dicts_of_others() -> None:
    adam = torch.optim.Adam(make()[0])
    for param in adam.param_groups[0]["params"]:
        param.grad = torch.ones_like(param)
    adam.step()
    swapped = copy.deepcopy(SAVED)
    swapped["state"] = {0: swapped["state"][1], 1: swapped["state"][0]}
    others = [adam.state_dict(), swapped, {**SAVED, "param_groups": SAVED["param_groups"] * 2}]
    others += [copy.deepcopy(stepped(**c)[1].state_dict()) for c in ({"n_paths": 4},)]
    for other in others:
        params, optimizer = stepped()
        before = snapshot(optimizer)
        assert isinstance(attempt(lambda o=other, opt=optimizer: opt.load_state_dict(o)), Exception)
        assert_unharmed(params, optimizer, before)
