"""Hyperparameters of PathAdamSAGA that change: checked by the step that would use them, kept as plain numbers."""

import copy
import fractions
import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

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


BAD_NUMBERS: list[tuple[str, Any]] = [
    *(
        (key, bad(-1.0))
        for key in ("lr", "eps", "weight_decay", "saga")
        for bad in (float, np.float64, torch.tensor)
    ),
    *((key, bad(math.nan)) for key in ("lr", "eps", "weight_decay", "saga") for bad in (float, np.float32)),
    *((key, torch.tensor(math.nan)) for key in ("lr", "eps", "weight_decay", "saga")),
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


def test_the_error_for_several_learning_rates_has_torchs_wording() -> None:
    with pytest.raises(ValueError, match="Tensor lr must be 1-element"):
        PathAdamSAGA(make_params(shapes=SHAPES), 3, lr=torch.tensor([0.1, 0.2]))
