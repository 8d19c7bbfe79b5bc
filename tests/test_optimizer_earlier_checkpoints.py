"""Checkpoints of earlier versions load, and training goes on from them as if it had never stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scrapl_optim import PathAdamSAGA, load_checkpoint
from tests.support.optimizer_helpers import assert_bitwise
from tests.support.write_optimizer_checkpoints import (
    N_PATHS,
    OPTIONS,
    PATHS_AFTER,
    PATHS_BEFORE,
    STORAGES,
    advance,
    copies,
    make_params,
)

FOLDER = Path(__file__).parent / "reference"
WRITTEN_WITH = "2.13"


@pytest.mark.parametrize("storage", STORAGES)
def test_a_checkpoint_of_the_first_layout_resumes(storage: str) -> None:
    saved = load_checkpoint(FOLDER / f"optimizer_{storage}.pt")
    params = make_params(storage)
    optimizer = PathAdamSAGA(params, storage=storage, **OPTIONS)
    with torch.no_grad():
        for param, value in zip(params, saved["params"], strict=True):
            param.copy_(value)
    optimizer.load_state_dict(saved["optimizer"])
    for state, param in zip(saved["optimizer"]["state"].values(), params, strict=True):
        assert state.keys() >= optimizer.state[param].keys()
    advance(optimizer, params, PATHS_AFTER, len(PATHS_BEFORE))
    sums = [optimizer.state[param]["saga_sum"] for param in params][1:]
    if torch.__version__.startswith(WRITTEN_WITH):
        assert_bitwise(copies(params), saved["params_after"])
        assert_bitwise(sums, saved["sums_after"])
    else:
        torch.testing.assert_close(copies(params), saved["params_after"], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_state_dict_has_the_keys_and_the_content_of_the_first_layout(storage: str) -> None:
    saved = load_checkpoint(FOLDER / f"optimizer_{storage}.pt")["optimizer"]
    params = make_params(storage)
    optimizer = PathAdamSAGA(params, storage=storage, **OPTIONS)
    advance(optimizer, params, PATHS_BEFORE, 0)
    state_dict = optimizer.state_dict()
    assert state_dict["param_groups"] == saved["param_groups"]
    for index, state in saved["state"].items():
        assert state.keys() == state_dict["state"][index].keys()
        assert {f"update.{path}" for path in range(N_PATHS)} <= state.keys()
        if torch.__version__.startswith(WRITTEN_WITH):
            assert_bitwise([state_dict["state"][index][key] for key in state], state.values())
