"""Hyperparameters of PathAdamSAGA: checked where they are given and where they are used, kept as plain numbers."""

from __future__ import annotations

import copy
import fractions
import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from scrapl_optim import PathAdamSAGA, load_checkpoint, save_checkpoint
from tests.support.optimizer_helpers import (
    assert_bitwise,
    assert_same_snapshot,
    clones,
    make_params,
    run,
    set_grads,
    snapshot,
)
from tests.support.optimizer_variants import N_PATHS, PATHS, VARIANTS, Variant, train

SHAPES = [(3, 2), (4,)]
PLAIN = {
    "n_paths": 3,
    "lr": 0.125,
    "betas": (0.5, 0.75),
    "eps": 0.0625,
    "weight_decay": 0.25,
    "saga": 0.5,
    "path_adam": True,
    "unbiased": False,
    "maximize": True,
    "foreach": False,
    "storage": "bfloat16",
    "nonfinite": "skip",
}
KINDS: dict[str, Any] = {
    "numpy": lambda v: tuple(map(np.float64, v)) if isinstance(v, tuple) else np.array(v)[()],
    "float32": lambda v: tuple(map(np.float32, v)) if isinstance(v, tuple) else np.float32(v),
    "array": lambda v: [np.array(x) for x in v] if isinstance(v, tuple) else np.array(v),
    "tensor": lambda v: tuple(map(torch.tensor, v)) if isinstance(v, tuple) else torch.tensor(v),
    "one element": lambda v: [torch.tensor([x]) for x in v] if isinstance(v, tuple) else torch.tensor([v]),
}
NUMBERS = ("lr", "betas", "eps", "weight_decay", "saga")


# ---------------------------------------------------------------- given


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"n_paths": 0}, ValueError, "Invalid n_paths: 0"),
        ({"n_paths": 2.5}, TypeError, "Invalid n_paths: .*; expected an integer"),
        ({"lr": -1.0}, ValueError, "Invalid lr: -1.0"),
        ({"lr": math.nan}, ValueError, "Invalid lr: nan"),
        ({"lr": torch.tensor(-1e-2)}, ValueError, "Invalid lr: "),
        ({"lr": torch.ones(2)}, ValueError, "Tensor lr must be 1-element"),
        ({"betas": (1.0, 0.9)}, ValueError, r"Invalid betas: \(1.0, 0.9\)"),
        ({"betas": (0.9,)}, ValueError, "Invalid betas"),
        ({"betas": (0.9, torch.tensor(1.5))}, ValueError, "Invalid betas: "),
        ({"betas": (0.9, 0.0)}, ValueError, r"betas: \(0\.9, 0\.0\) with eps=0"),
        ({"eps": -1e-8}, ValueError, "Invalid eps: -1e-08"),
        ({"weight_decay": -0.1}, ValueError, "Invalid weight_decay: -0.1"),
        ({"foreach": 1}, TypeError, "Invalid foreach: 1"),
        ({"nonfinite": "ignore"}, ValueError, "Invalid nonfinite: 'ignore'"),
        ({"saga": 1.5}, ValueError, "Invalid saga: 1.5"),
        ({"saga": -0.5}, ValueError, "Invalid saga: -0.5"),
        ({"saga": math.nan}, ValueError, "Invalid saga: nan"),
        ({"storage": "int4"}, ValueError, "Invalid storage: 'int4'"),
        ({"probs": [0.5, 0.25, 0.25]}, ValueError, "Invalid probs: 3 entries.*n_paths=2"),
        ({"probs": (0.5, 0.6)}, ValueError, "Invalid probs: sum 1.1"),
        ({"probs": [1.5, -0.5]}, ValueError, "Invalid probs: entry 1 is -0.5"),
        ({"probs": "uniform"}, TypeError, "Invalid probs: a str"),
        (
            {"probs": [0.5] * 2, "unbiased": True},
            ValueError,
            "Invalid unbiased: True with probs.*memory_by_probs",
        ),
        ({"clocks_by_probs": True}, ValueError, "Invalid clocks_by_probs: True without probs.*sampler.probs"),
        ({"path_warmup": -1}, ValueError, "Invalid path_warmup: -1"),
        ({"path_warmup": math.inf}, ValueError, "Invalid path_warmup: inf"),
        ({"path_warmup": 4, "path_adam": False}, ValueError, "Invalid path_warmup: 4 with path_adam=False"),
        ({"probs": [0.5] * 2, "memory_by_probs": 1}, TypeError, "Invalid memory_by_probs: 1"),
    ],
)
def test_invalid_hyperparameters(kwargs: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        PathAdamSAGA(make_params(), **{"n_paths": 2, **kwargs})
    if "n_paths" not in kwargs:
        with pytest.raises(error, match=message):
            PathAdamSAGA([{"params": make_params(), **kwargs}], 2)


def test_a_second_moment_without_memory_needs_an_eps_or_no_first_moment() -> None:
    PathAdamSAGA(make_params(), 2, betas=(0.9, 0.0), eps=1e-12)
    PathAdamSAGA(make_params(), 2, betas=(0.0, 0.0))


def test_groups_share_one_number_of_paths() -> None:
    optimizer = PathAdamSAGA(make_params(), 3)
    with pytest.raises(ValueError, match=r"Invalid n_paths: 4 .*expected 3"):
        optimizer.add_param_group({"params": make_params(), "n_paths": 4})
    assert len(optimizer.param_groups) == 1


def test_repr_and_defaults_name_the_hyperparameters() -> None:
    optimizer = PathAdamSAGA(make_params(), 3, storage="int8")
    assert "storage: int8" in repr(optimizer)
    assert {"lr", "betas", "saga", "unbiased", "storage", "nonfinite"} <= set(optimizer.defaults)


# ---------------------------------------------------------------- of other libraries


def foreign(kind: str) -> dict[str, Any]:
    """PLAIN, as numbers of another library where they are of a kind that has them."""
    names = {
        "numpy": PLAIN,
        "array": [*NUMBERS, "path_adam", "unbiased", "maximize", "foreach"],
        "tensor": [*NUMBERS, "path_adam", "unbiased", "maximize", "foreach"],
    }.get(kind, NUMBERS)
    return {key: KINDS[kind](value) if key in names else value for key, value in PLAIN.items()}


def assert_plain(group: dict[str, Any]) -> None:
    for key, value in PLAIN.items():
        found = group[key]
        if key == "lr" and isinstance(found, Tensor):
            assert float(found) == value
            continue
        assert type(found) in (type(value), list)
        assert (tuple(found) if isinstance(value, tuple) else found) == value
        if key == "betas":
            assert {type(beta) for beta in found} == {float}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["constructor", "group", "added group", "set later", "loaded"])
def test_numbers_of_other_libraries_become_pythons(kind: str, where: str, tmp_path: Any) -> None:
    options, params, twins = foreign(kind), make_params(shapes=SHAPES), make_params(shapes=SHAPES)
    start = {"n_paths": 3, "storage": "bfloat16"}
    if where == "constructor":
        optimizer = PathAdamSAGA(params, **options)
    elif where == "group":
        optimizer = PathAdamSAGA([{"params": params, **options}], **start)
    elif where == "added group":
        optimizer = PathAdamSAGA([{"params": params[:1], **PLAIN}], **start)
        optimizer.add_param_group({"params": params[1:], **options})
    elif where == "set later":
        optimizer = PathAdamSAGA(params, **start)
        optimizer.param_groups[0].update(options)
    else:
        optimizer = PathAdamSAGA(params, **start)
        saved = optimizer.state_dict()
        saved["param_groups"][0].update(options)
        optimizer.load_state_dict(saved)
    reference = PathAdamSAGA(twins, **PLAIN)
    for group in optimizer.state_dict()["param_groups"]:
        assert_plain(group)
    run(optimizer, params, [0, 2, 0])
    run(reference, twins, [0, 2, 0])
    for group in optimizer.param_groups:
        assert_plain(group)
    assert_bitwise(clones(params), clones(twins))
    save_checkpoint(optimizer.state_dict(), tmp_path / "checkpoint.pt")
    PathAdamSAGA(make_params(shapes=SHAPES), **PLAIN).state_dict()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    for loaded in (torch.load(file, weights_only=True), load_checkpoint(tmp_path / "checkpoint.pt")):
        optimizer.load_state_dict(loaded)


def test_what_a_scheduler_writes_can_be_saved() -> None:
    params = make_params(shapes=SHAPES)
    optimizer = PathAdamSAGA(params, 3, lr=np.logspace(-4, -2, 3)[1])
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: np.float64(0.5) ** k)
    run(optimizer, params, [0])
    scheduler.step()
    optimizer.param_groups[0]["max_lr"] = np.float32(0.5)  # as OneCycleLR keeps one
    assert type(optimizer.param_groups[0]["lr"]) is np.float64
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)["param_groups"][0]
    assert saved["lr"] == pytest.approx(5e-4)
    assert saved["max_lr"] == 0.5


# ---------------------------------------------------------------- set later


CHANGES = {"lr": 0.3, "betas": (0.5, 0.7), "weight_decay": 0.5, "eps": 0.25, "saga": 0.25, "maximize": None}


CHANGED_VARIANTS = [
    (variant, name)
    for variant in VARIANTS
    for name in CHANGES
    if (variant.path_adam or name not in ("betas", "eps")) and (variant.saga > 0 or name != "saga")
]


@pytest.mark.parametrize(("variant", "name"), CHANGED_VARIANTS, ids=str)
def test_hyperparameters_are_read_at_every_step(variant: Variant, name: str) -> None:
    """A value written to the group acts like an optimizer constructed with it and given the same state."""
    value = not variant.maximize if name == "maximize" else CHANGES[name]
    shapes = [(16, 300), (7,)]
    params = make_params(5, torch.float32, shapes)
    optimizer = PathAdamSAGA(params, N_PATHS, **variant.kwargs(lr=0.01))
    train(variant, optimizer, params, PATHS[:6])
    results = []
    for changed in (True, False):
        copies = [Parameter(p.detach().clone()) for p in params]
        hyper = {"lr": 0.01, **({name: value} if changed else {})}
        other = PathAdamSAGA(copies, N_PATHS, **variant.kwargs(**hyper))
        saved = copy.deepcopy(optimizer.state_dict())
        saved["param_groups"] = other.state_dict()["param_groups"]
        other.load_state_dict(saved)
        train(variant, other, copies, PATHS[6:], first=6)
        results.append(copies)
    optimizer.param_groups[0][name] = value
    train(variant, optimizer, params, PATHS[6:], first=6)
    assert_bitwise(params, results[0])
    assert not torch.equal(params[0], results[1][0])


BAD_NUMBERS: list[tuple[str, Any]] = [
    *(
        (key, bad(-1.0))
        for key in ("lr", "eps", "weight_decay", "saga")
        for bad in (float, np.float64, torch.tensor)
    ),
    *((key, bad(math.nan)) for key in ("lr", "eps", "weight_decay", "saga") for bad in (float, np.float32)),
    *((key, torch.tensor(math.nan)) for key in ("lr", "eps", "weight_decay", "saga")),
    ("betas", (0.9, 1.0)),
    ("betas", (np.float64(0.9), np.float64(1.0))),
    ("betas", (torch.tensor(0.9), torch.tensor(-0.1))),
    ("betas", torch.tensor([0.9, 0.99, 0.999])),
    ("betas", torch.ones(2, device="meta")),
    ("betas", np.array([[0.9, 0.99]])),
    ("lr", torch.ones(2)),
    ("lr", torch.ones(0)),
    ("eps", torch.ones(2)),
    ("saga", np.ones(2)),
    ("weight_decay", torch.tensor(1j)),
    ("weight_decay", None),
    ("n_paths", np.float64(3)),
    ("n_paths", np.int64(4)),
    ("path_adam", np.int64(1)),
    ("maximize", torch.tensor(1.0)),
    ("storage", np.str_("int4")),
]


@pytest.mark.parametrize(("key", "bad"), BAD_NUMBERS, ids=[f"{k}={v!r}" for k, v in BAD_NUMBERS])
def test_a_bad_number_set_later_moves_nothing(key: str, bad: Any) -> None:
    params = make_params(shapes=SHAPES)
    optimizer = PathAdamSAGA(params, 3)
    run(optimizer, params, [0, 1])
    before = snapshot(optimizer)
    good, optimizer.param_groups[0][key] = optimizer.param_groups[0][key], bad
    set_grads(params, 5)
    with pytest.raises((ValueError, TypeError), match=key):
        optimizer.step(path_idx=0)
    optimizer.param_groups[0][key] = good
    assert_same_snapshot(optimizer, before)
    optimizer.step(path_idx=0)


@pytest.mark.parametrize("bad", [math.nan, -1.0, math.inf])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_learning_rate_spoilt_in_place_moves_nothing(bad: float, shape: tuple[int, ...]) -> None:
    params, lr = make_params(shapes=SHAPES), torch.full(shape, 0.1)
    optimizer = PathAdamSAGA([{"params": params[:1], "lr": 0.1}, {"params": params[1:], "lr": lr}], 3)
    run(optimizer, params, [0, 1])
    weights, clock = clones(params), optimizer.state[params[0]]["step"].clone()
    for _ in range(2):  # the error comes again as long as the value is wrong
        lr.fill_(bad)
        set_grads(params, 5)
        with pytest.raises(ValueError, match="Invalid lr"):
            optimizer.step(path_idx=0)
        assert_bitwise(clones(params), weights)
        assert torch.equal(optimizer.state[params[0]]["step"], clock)
    lr.fill_(0.2)
    optimizer.step(path_idx=0)
    assert optimizer.param_groups[1]["lr"] is lr


@pytest.mark.parametrize("bad", [1.0, -0.5, math.nan, "0.9", None, np.float64(2.0), torch.tensor(1.5)])
def test_a_list_of_betas_spoilt_in_place_moves_nothing(bad: Any) -> None:
    params, betas = make_params(shapes=SHAPES), [0.9, 0.99]
    optimizer = PathAdamSAGA(params, 3, betas=betas)  # type: ignore[arg-type]
    run(optimizer, params, [0, 1])
    before = clones(params)
    optimizer.param_groups[0]["betas"][1] = bad
    set_grads(params, 5)
    with pytest.raises((ValueError, TypeError), match="betas"):
        optimizer.step(path_idx=0)
    assert_bitwise(clones(params), before)
    optimizer.param_groups[0]["betas"][1] = 0.99
    run(optimizer, params, [2])


def test_a_list_of_betas_written_to_acts_from_then_on() -> None:
    results = []
    for in_place in (True, False):
        params = make_params(shapes=SHAPES)
        optimizer = PathAdamSAGA(params, 3, betas=[0.9, 0.99])  # type: ignore[arg-type]
        run(optimizer, params, [0, 1])
        if in_place:
            optimizer.param_groups[0]["betas"][0] = np.float64(0.5)
        else:
            optimizer.param_groups[0]["betas"] = (0.5, 0.99)
        run(optimizer, params, [0, 1])
        results.append(clones(params))
    assert_bitwise(*results)


def test_a_learning_rate_tensor_is_the_one_that_was_given() -> None:
    lr = torch.tensor(0.1)
    optimizer = PathAdamSAGA(make_params(shapes=SHAPES), 3, lr=lr)
    assert optimizer.param_groups[0]["lr"] is lr
    copied = copy.deepcopy(optimizer.state_dict())["param_groups"][0]["lr"]
    assert torch.equal(copied, lr)


@pytest.mark.parametrize("betas", [torch.tensor([0.5, 0.75]), np.array([0.5, 0.75])])
def test_betas_in_one_tensor_or_array(betas: Any) -> None:
    optimizer = PathAdamSAGA(make_params(shapes=SHAPES), 3, betas=betas)
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.75)
    optimizer.param_groups[0]["betas"] = betas
    assert optimizer.state_dict()["param_groups"][0]["betas"] == (0.5, 0.75)


def test_fractions_are_numbers() -> None:
    optimizer = PathAdamSAGA(make_params(shapes=SHAPES), 3, lr=fractions.Fraction(1, 8))  # type: ignore[arg-type]
    run(optimizer, [p for g in optimizer.param_groups for p in g["params"]], [0])


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
