"""What others keep in a PathAdamSAGA's state survives, as in torch's own optimizers, and disturbs nothing."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from scrapl_optim import PathAdamSAGA
from tests.support.optimizer_helpers import assert_bitwise, clones, make_params, set_grads
from tests.support.optimizer_variants import STORAGES

SHAPES = [(70, 70), (3,)]
GLOBALS: dict[Any, Any] = {
    "global": 1,
    "tensor": torch.tensor([1.0, 2.0]),
    "dict": {"sum": 0.0, "step": torch.ones(())},
    "scaler": {"step": 1, "scale": 2.0},
    "empty": {},
    "none": None,
    ("a", 1): [1, 2],
    99: 0.5,
}
# Names that begin as those of rows do, and an integer
EXTRAS: dict[Any, Any] = {
    "slow": torch.full((70, 70), 0.1, dtype=torch.float64),
    "update": torch.tensor([3.0]),
    "rms.best": 5,
    "rms.": None,
    "exp_avg": {"a": torch.ones(2)},
    7: 7,
}


def make(storage: str = "float32") -> tuple[PathAdamSAGA, list[Parameter]]:
    params = make_params(dtype=torch.float32, shapes=SHAPES)
    return PathAdamSAGA(params, n_paths=3, lr=0.01, storage=storage), params


def steps(optimizer: PathAdamSAGA, params: list[Parameter], paths: list[int], first: int = 0) -> None:
    for k, path in enumerate(paths, start=first):
        set_grads(params, k)
        if k % 2:
            params[1].grad = None  # a parameter that leaves for a step moves its rows
        optimizer.step(path_idx=path)


def assert_kept(found: dict[Any, Any], expected: dict[Any, Any], dtype: torch.dtype | None = None) -> None:
    for key, value in expected.items():
        if isinstance(value, Tensor):
            assert torch.equal(found[key], value.to(dtype))
        elif isinstance(value, dict) and value:
            assert_kept(found[key], value)
        else:
            assert found[key] == value


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("early", [False, True])
def test_entries_of_others_survive_and_disturb_nothing(storage: str, early: bool) -> None:
    (optimizer, params), (twin, twin_params) = make(storage), make(storage)
    n_before = 0 if early else 2
    steps(optimizer, params, [0, 2][:n_before])
    optimizer.state.update(copy.deepcopy(GLOBALS))
    optimizer.state[params[0]].update(copy.deepcopy(EXTRAS))
    steps(optimizer, params, [0, 2][n_before:], first=n_before)
    steps(twin, twin_params, [0, 2])
    for way in ("nothing", "load", "pickle and load", "deepcopy"):
        if way == "load":
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        elif way == "pickle and load":
            saved = pickle.dumps(optimizer.state_dict())
            optimizer, params = copy.deepcopy((make(storage)[0], params))[0], params
            optimizer = PathAdamSAGA(params, n_paths=3, lr=0.01, storage=storage)
            optimizer.load_state_dict(pickle.loads(saved))
        elif way == "deepcopy":
            optimizer, params = copy.deepcopy((optimizer, params))
        steps(optimizer, params, [1, 0, 1], first=2)
        steps(twin, twin_params, [1, 0, 1], first=2)
        assert_bitwise(clones(params), clones(twin_params))
        assert_kept(optimizer.state, GLOBALS)
        # torch casts what it loads to the dtype of the parameter; "exp_avg"'s inner tensors are of that already
        own = dict(optimizer.state[params[0]])
        own["slow"] = own["slow"].double()
        assert_kept(
            own, EXTRAS | {"slow": EXTRAS["slow"].float().double() if way != "nothing" else EXTRAS["slow"]}
        )
        assert set(EXTRAS) <= set(optimizer.state_dict()["state"][0])


def test_the_same_entries_survive_as_in_adamw() -> None:
    """Entry by entry, what load_state_dict makes of them is what AdamW's makes of them."""
    outcomes = []
    for kind in ("ours", "torch's"):
        params = make_params(dtype=torch.float32, shapes=SHAPES)
        ours = kind == "ours"
        optimizer: Any = PathAdamSAGA(params, n_paths=3) if ours else torch.optim.AdamW(params)
        set_grads(params, 0)
        optimizer.step(**({"path_idx": 1} if ours else {}))
        optimizer.state[params[0]].update(copy.deepcopy({k: v for k, v in EXTRAS.items() if k != "exp_avg"}))
        optimizer.state.update(copy.deepcopy(GLOBALS))
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        own = {k: v for k, v in optimizer.state[params[0]].items() if k in EXTRAS and k != "exp_avg"}
        outcomes.append((own, {k: v for k, v in optimizer.state.items() if not isinstance(k, Tensor)}))
    for ours_, theirs in zip(*outcomes, strict=True):
        assert list(ours_) == list(theirs)
        assert_kept(ours_, theirs)
        assert {k: v.dtype for k, v in ours_.items() if isinstance(v, Tensor)} == {
            k: v.dtype for k, v in theirs.items() if isinstance(v, Tensor)
        }


def test_a_state_of_extra_entries_alone_is_saved_and_loaded() -> None:
    optimizer, params = make()
    optimizer.state[params[1]]["slow"] = torch.ones(3)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert optimizer.state[params[1]]["slow"].tolist() == [1, 1, 1]
    steps(optimizer, params, [0])
    assert set(optimizer.state[params[1]]) >= {"slow", "step", "scale"}


def test_a_state_that_lost_its_parameter_is_not_taken_for_somebody_elses() -> None:
    optimizer, params = make()
    steps(optimizer, params, [0])
    saved = copy.deepcopy(optimizer.state_dict())
    saved["state"][5] = saved["state"].pop(1)
    with pytest.raises(ValueError, match=r"Invalid state .*: one of 5; expected"):
        optimizer.load_state_dict(saved)
