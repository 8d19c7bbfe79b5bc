"""PathAdamSAGA as a torch.optim.Optimizer: which path, with which weight, groups, hooks, closures, errors."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import Parameter
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from scrapl_optim import PathAdamSAGA, PathSampler
from tests.support.optimizer_helpers import (
    assert_bitwise,
    assert_same_snapshot,
    make_params,
    random_paths,
    run,
    set_grads,
    snapshot,
)
from tests.support.optimizer_variants import Variant, every_storage, every_variant, train

BAD_PATHS = [
    (3, IndexError, r"\[0, 3\), got 3"),
    (-1, IndexError, "got -1"),
    (1.0, TypeError, "integer"),
    (True, TypeError, "integer"),
    (torch.tensor([1]), TypeError, "0-dim"),
    (torch.tensor(1.0), TypeError, "integer"),
    ("1", TypeError, "integer"),
    ([1, 2], TypeError, "one integer.*add_path"),
    ((1,), TypeError, "one integer"),
    (range(2), TypeError, "one integer"),
    (np.array([1, 2]), TypeError, "one integer"),
    (torch.tensor([1, 2]), TypeError, "one integer"),
]

# ---------------------------------------------------------------- which path


@pytest.mark.parametrize("announce", [False, True])
def test_path_types(announce: bool) -> None:
    results = []
    for path in (2, np.int64(2), torch.tensor(2), torch.tensor(2, dtype=torch.int32), np.array(2)):
        params = make_params()
        optimizer = PathAdamSAGA(params, 3)
        set_grads(params, 0)
        if announce:
            optimizer.set_path(path)
            optimizer.step()
        else:
            optimizer.step(path_idx=path)
        assert optimizer.state[params[0]]["step"].tolist() == [0, 0, 1]
        results.append(params)
    for other in results[1:]:
        assert_bitwise(other, results[0])


@pytest.mark.parametrize(("path", "error", "message"), BAD_PATHS)
@every_storage
def test_bad_paths(path: Any, error: type[Exception], message: str, storage: str) -> None:
    params = make_params()
    optimizer = PathAdamSAGA(params, 3, storage=storage)
    set_grads(params, 0)
    optimizer.set_path(1)
    with pytest.raises(error, match=message):
        optimizer.step(path_idx=path)
    with pytest.raises(error, match=message):
        optimizer.set_path(path)
    assert not optimizer.state
    optimizer.step()  # the path announced before is still there
    assert optimizer.state[params[0]]["step"].tolist() == [0, 1, 0]


@every_variant
def test_announced_path_is_used_once(variant: Variant) -> None:
    params = make_params()
    optimizer = PathAdamSAGA(params, 3, **variant.kwargs())
    set_grads(params, 0)
    with pytest.raises(RuntimeError, match=r"n_paths=3.*path_idx"):
        optimizer.step()
    optimizer.set_path(0)
    optimizer.set_path(1)
    optimizer.step()
    assert optimizer.state[params[0]]["step"].tolist() == [0, 1, 0]
    with pytest.raises(RuntimeError, match="no path"):
        optimizer.step()
    optimizer.set_path(0)
    optimizer.step(path_idx=2)
    assert optimizer.state[params[0]]["step"].tolist() == [0, 1, 2]
    with pytest.raises(RuntimeError, match="no path"):
        optimizer.step()


@every_variant
def test_announcing_is_passing(variant: Variant) -> None:
    paths = random_paths(5, 12)
    results = []
    for announce in (False, True):
        params = make_params(dtype=torch.float32, shapes=[(70, 70), (3,)])
        optimizer = PathAdamSAGA(params, 5, **variant.kwargs(lr=0.01))
        train(variant, optimizer, params, paths, announce=announce)
        results.append(params)
    assert_bitwise(*results)


@every_variant
def test_one_path_needs_no_announcement(variant: Variant) -> None:
    params, copies = make_params(dtype=torch.float32), make_params(dtype=torch.float32)
    optimizer = PathAdamSAGA(params, 1, **variant.kwargs())
    other = PathAdamSAGA(copies, 1, **variant.kwargs(saga=0.0))
    for k in range(5):
        set_grads(params, k)
        set_grads(copies, k)
        optimizer.step()
        other.step(path_idx=0)
    assert_bitwise(params, copies)  # with one path the memory cancels: it is not even kept
    assert "saga_sum" not in optimizer.state[params[0]]


@pytest.mark.parametrize("announce", ["inside", "before", "argument"])
@every_variant
def test_closure(variant: Variant, announce: str) -> None:
    (param,) = make_params(shapes=[(3,)])
    optimizer = PathAdamSAGA([param], 3, **variant.kwargs())
    calls = []

    def closure() -> torch.Tensor:
        assert torch.is_grad_enabled()
        calls.append(1)
        optimizer.zero_grad()
        if announce == "inside":
            optimizer.set_path(1)
        loss = (param**2).sum()
        loss.backward()
        return loss

    expected = (param.detach() ** 2).sum()
    if announce == "before":
        optimizer.set_path(1)
    with torch.no_grad():
        loss = optimizer.step(closure, path_idx=1) if announce == "argument" else optimizer.step(closure)
    assert torch.equal(torch.as_tensor(loss), expected)
    assert calls == [1]
    assert optimizer.state[param]["step"].tolist() == [0, 1, 0]


def test_no_gradients_is_no_step() -> None:
    params = make_params()
    optimizer = PathAdamSAGA(params, 3)
    optimizer.step(path_idx=1)
    optimizer.set_path(1)
    assert optimizer.step() is None
    assert not optimizer.state
    set_grads(params, 0)
    with pytest.raises(RuntimeError, match="no path"):
        optimizer.step()


# ---------------------------------------------------------------- which weight


@every_storage
def test_weight_is_that_of_the_unbiased_update(storage: str) -> None:
    """Plain SAGA over paths with integers, by hand: w_p (g - a g^_p) + a / P sum g^."""
    param = Parameter(torch.zeros(()))
    kwargs = {
        "lr": 1.0,
        "weight_decay": 0.0,
        "path_adam": False,
        "unbiased": True,
        "saga": 0.5,
        "storage": storage,
    }
    optimizer = PathAdamSAGA([param], 4, **kwargs)
    steps = [
        # path, weight, gradient, expected update
        (0, 2.0, 1.0, 2 * 1.0),
        (1, 3.0, 2.0, 3 * 2.0 + 0.125 * 1),
        (0, 2.0, 4.0, 2 * (4 - 0.5 * 1) + 0.125 * (1 + 2)),
        (1, None, 8.0, 1 * (8 - 0.5 * 2) + 0.125 * (4 + 2)),
        (3, 0.5, -1.0, 0.5 * -1 + 0.125 * (4 + 8)),
    ]
    for k, (path, weight, grad, update) in enumerate(steps):
        before = param.item()
        param.grad = torch.tensor(grad)
        if k % 2:
            optimizer.set_path(path, weight=weight)
            optimizer.step()
        else:
            optimizer.step(path_idx=path, weight=weight)
        assert before - param.item() == pytest.approx(update, rel=1e-6)


@every_storage
def test_memory_is_divided_by_the_paths_visited_before(storage: str) -> None:
    """The paper's P-SAGA by hand: g - g^_p + sum / max(1, card Gamma), revisits included."""
    param = Parameter(torch.zeros(()))
    optimizer = PathAdamSAGA([param], 9, lr=1.0, weight_decay=0.0, path_adam=False, storage=storage)
    steps = [
        # path, gradient, expected update
        (0, 1.0, 1.0),
        (1, 2.0, 2 + 1 / 1),
        (0, 4.0, 4 - 1 + (1 + 2) / 2),
        (5, 8.0, 8 + (4 + 2) / 2),
        (5, 1.0, 1 - 8 + (4 + 2 + 8) / 3),
    ]
    for path, grad, update in steps:
        before = param.item()
        param.grad = torch.tensor(grad)
        optimizer.step(path_idx=path, weight=1)
        assert before - param.item() == pytest.approx(update, rel=1e-6)


def test_weight_is_used_once_and_belongs_to_its_path() -> None:
    results = []
    for route in range(4):
        params = make_params()
        optimizer = PathAdamSAGA(params, 3, unbiased=True, lr=0.1)
        set_grads(params, 0)
        if route == 0:
            optimizer.step(path_idx=1, weight=1.5)
        elif route == 1:
            optimizer.set_path(1, weight=1.5)
            optimizer.step()
        elif route == 2:
            optimizer.set_path(2, weight=7.0)
            optimizer.set_path(1, 1.5)
            optimizer.step()
        else:
            optimizer.set_path(2, weight=7.0)
            optimizer.step(path_idx=1, weight=1.5)
        set_grads(params, 1)
        optimizer.step(path_idx=0)  # no weight is left over
        results.append(params)
    for other in results[1:]:
        assert_bitwise(other, results[0])
    params = make_params()
    optimizer = PathAdamSAGA(params, 3, unbiased=True, lr=0.1)
    set_grads(params, 0)
    optimizer.set_path(2, weight=7.0)
    optimizer.step(path_idx=1)  # the weight of another path is not taken for this one
    other = make_params()
    run(PathAdamSAGA(other, 3, unbiased=True, lr=0.1), other, [1], first_seed=0)
    assert_bitwise(params, other)


@pytest.mark.parametrize("weight_type", [float, np.float64, torch.tensor])
def test_weight_of_the_sampler(weight_type: Callable[[float], Any]) -> None:
    sampler = PathSampler([0.5, 0.3, 0.2])
    params, copies = make_params(), make_params()
    optimizer = PathAdamSAGA(params, 3, unbiased=True)
    other = PathAdamSAGA(copies, 3, unbiased=True)
    for step in range(6):
        path = sampler(step)
        set_grads(params, step)
        set_grads(copies, step)
        optimizer.step(path_idx=path, weight=weight_type(sampler.weight(path)))
        other.step(path_idx=path, weight=1 / (3 * sampler.probs[path]))
    for p, q in zip(params, copies, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("weight", [math.nan, math.inf, -1.0])
@pytest.mark.parametrize("announce", [False, True])
def test_bad_weights(weight: Any, announce: bool) -> None:
    params = make_params()
    optimizer = PathAdamSAGA(params, 3, unbiased=True)
    set_grads(params, 0)
    with pytest.raises(ValueError, match="weight"):
        optimizer.set_path(1, weight) if announce else optimizer.step(path_idx=1, weight=weight)
    assert not optimizer.state


def test_the_paper_takes_no_weight() -> None:
    params = make_params()
    optimizer = PathAdamSAGA(params, 3)
    run(optimizer, params, [0, 1])
    before = snapshot(optimizer)
    set_grads(params, 9)
    with pytest.raises(ValueError, match="unbiased"):
        optimizer.step(path_idx=0, weight=0.5)
    assert_same_snapshot(optimizer, before)
    optimizer.step(path_idx=0, weight=1.0)
    optimizer.set_path(0, weight=1)
    optimizer.step()


# ---------------------------------------------------------------- groups and hyperparameters


def test_saga_needs_its_sum_from_the_start() -> None:
    params = make_params()
    optimizer = PathAdamSAGA(params, 4, saga=0.0)
    run(optimizer, params, [0])
    before = snapshot(optimizer)
    optimizer.param_groups[0]["saga"] = 0.5
    set_grads(params, 0)
    with pytest.raises(RuntimeError, match="saga"):
        optimizer.step(path_idx=0)
    optimizer.param_groups[0]["saga"] = 0.0
    assert_same_snapshot(optimizer, before)


@pytest.mark.parametrize(("name", "value"), [("path_adam", False), ("storage", "int8"), ("storage", "bfloat16")])
def test_switches_cannot_change_later(name: str, value: Any) -> None:
    params = make_params(dtype=torch.float32, shapes=[(70, 70)])
    optimizer = PathAdamSAGA(params, 4)
    run(optimizer, params, [0, 1])
    before = snapshot(optimizer)
    old, optimizer.param_groups[0][name] = optimizer.param_groups[0][name], value
    set_grads(params, 0)
    for path in (0, 3):  # drawn before, and new
        with pytest.raises((RuntimeError, ValueError), match=name):
            optimizer.step(path_idx=path)
    optimizer.param_groups[0][name] = old
    assert_same_snapshot(optimizer, before)


def test_groups_share_one_number_of_paths() -> None:
    optimizer = PathAdamSAGA(make_params(), 3)
    with pytest.raises(ValueError, match=r"n_paths=4 of the parameter group differs .* n_paths=3"):
        optimizer.add_param_group({"params": make_params(), "n_paths": 4})
    assert len(optimizer.param_groups) == 1


# ---------------------------------------------------------------- hooks, errors


def test_hooks_fire_once_and_see_the_arguments() -> None:
    params = make_params()
    optimizer = PathAdamSAGA(params, 3)
    assert not isinstance(optimizer, torch.optim.Adam)
    calls = []
    handles = [
        optimizer.register_step_pre_hook(lambda opt, args, kwargs: calls.append(("pre", kwargs))),
        optimizer.register_step_post_hook(lambda opt, args, kwargs: calls.append(("post", kwargs))),
        register_optimizer_step_pre_hook(lambda opt, args, kwargs: calls.append(("all pre", kwargs))),
        register_optimizer_step_post_hook(lambda opt, args, kwargs: calls.append(("all post", kwargs))),
    ]
    set_grads(params, 0)
    optimizer.step(path_idx=1)
    for handle in handles:
        handle.remove()
    optimizer.step(path_idx=1)
    assert calls == [(name, {"path_idx": 1}) for name in ("all pre", "pre", "post", "all post")]


def test_repr_and_defaults_name_the_hyperparameters() -> None:
    optimizer = PathAdamSAGA(make_params(), 3, storage="int8")
    assert "storage: int8" in repr(optimizer)
    assert {"lr", "betas", "saga", "unbiased", "storage", "nonfinite"} <= set(optimizer.defaults)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"n_paths": 0}, ValueError, "Invalid n_paths: 0"),
        ({"n_paths": 2.5}, TypeError, "n_paths must be an integer"),
        ({"lr": -1.0}, ValueError, "Invalid lr: -1.0"),
        ({"lr": math.nan}, ValueError, "Invalid lr: nan"),
        ({"lr": torch.ones(2)}, ValueError, "one element"),
        ({"betas": (1.0, 0.9)}, ValueError, r"Invalid betas: \(1.0, 0.9\)"),
        ({"betas": (0.9,)}, ValueError, "Invalid betas"),
        ({"eps": -1e-8}, ValueError, "Invalid eps: -1e-08"),
        ({"weight_decay": -0.1}, ValueError, "Invalid weight_decay: -0.1"),
        ({"nonfinite": "ignore"}, ValueError, "Invalid nonfinite: 'ignore'"),
        ({"saga": 1.5}, ValueError, "Invalid saga: 1.5"),
        ({"saga": -0.5}, ValueError, "Invalid saga: -0.5"),
        ({"saga": math.nan}, ValueError, "Invalid saga: nan"),
        ({"storage": "int4"}, ValueError, "Invalid storage: 'int4'"),
    ],
)
def test_invalid_hyperparameters(kwargs: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        PathAdamSAGA(make_params(), **{"n_paths": 2, **kwargs})
    if "n_paths" not in kwargs:
        with pytest.raises(error, match=message):
            PathAdamSAGA([{"params": make_params(), **kwargs}], 2)
