"""Storages of scrapl_optim.experimental: how they are named, and that old names still work."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from scrapl_optim import PathAdamSAGA
from scrapl_optim.experimental import host_rows, nearest
from tests.support.optimizer_helpers import assert_bitwise, make_params, run

NAMES = {
    "bfloat16-host": host_rows("bfloat16"),
    "int8-nearest": nearest("int8"),
    "int8-nearest-host": host_rows(nearest("int8")),
}


@pytest.mark.parametrize("name", NAMES)
def test_groups_and_state_dicts_hold_plain_strings(name: str) -> None:
    optimizer = PathAdamSAGA(make_params(), 3, storage=NAMES[name])
    optimizer.add_param_group({"params": [Parameter(torch.ones(2))], "storage": NAMES[name]})
    for group in (*optimizer.param_groups, *optimizer.state_dict()["param_groups"]):
        assert group["storage"] == name
        assert type(group["storage"]) is str


@pytest.mark.parametrize("name", NAMES)
def test_plain_names_work_and_warn_where_they_are_written(name: str) -> None:
    ours, theirs = (make_params(0, torch.float32, [(70, 70), (5,)]) for _ in range(2))
    with pytest.warns(DeprecationWarning, match=r"scrapl_optim\.experimental") as caught:
        old = PathAdamSAGA(ours, 3, storage=name)
    assert [warning.filename for warning in caught] == [__file__]
    new = PathAdamSAGA(theirs, 3, storage=NAMES[name])
    for optimizer, params in ((old, ours), (new, theirs)):
        run(optimizer, params, [0, 2, 0, 1])
    assert_bitwise(ours, theirs)
    with pytest.warns(DeprecationWarning, match="is deprecated") as caught:
        new.add_param_group({"params": [Parameter(torch.ones(2))], "storage": name})
    assert [warning.filename for warning in caught] == [__file__]


def test_a_warning_names_the_call_that_replaces_it() -> None:
    with pytest.warns(DeprecationWarning, match=r'host_rows\(nearest\("int8"\)\)'):
        PathAdamSAGA(make_params(), 3, storage="int8-nearest-host")


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "int8", *NAMES.values()])
def test_nothing_warns_otherwise(storage: str) -> None:
    """Neither a storage that was asked for, nor a step, a copy or a state dict."""
    params = make_params(0, torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer = PathAdamSAGA(params, 3, storage=storage)
        run(optimizer, params, [0, 1])
        copy.deepcopy(optimizer).load_state_dict(copy.deepcopy(optimizer.state_dict()))


@pytest.mark.parametrize("storage", ["float16", "int8-host", None, 3])
@pytest.mark.parametrize("wrap", [host_rows, nearest])
def test_other_names_are_refused(wrap: Any, storage: Any) -> None:
    with pytest.raises(ValueError, match="Invalid storage"):
        wrap(storage)
