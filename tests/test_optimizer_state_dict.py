"""Saving and resuming every variant of PathAdamSAGA: bit for bit, lazily, and refused where it does not fit."""

from __future__ import annotations

import copy
import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.nn import Parameter

from scrapl_optim import PathAdamSAGA
from tests.support.optimizer_helpers import (
    all_params,
    assert_bitwise,
    assert_same_snapshot,
    clones,
    make_params,
    random_paths,
    run,
    snapshot,
)
from tests.support.optimizer_variants import (
    N_PATHS,
    STORAGES,
    Variant,
    assert_same_state,
    build,
    every_device,
    every_storage,
    every_variant,
    state_bytes,
    train,
    zoo_grads,
    zoo_groups,
)

EARLY = [4, 1, 1, 0, 4, 1, 0, 0, 1, 4]  # paths 2 and 3 are drawn only after the checkpoint
LATE = random_paths(N_PATHS, 10, seed=4)
no_process_group = pytest.mark.filterwarnings("ignore")  # torch.distributed.checkpoint warns that there is none


def via_load(optimizer: Any, variant: Variant) -> Any:
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    copies = [Parameter(p.detach().clone()) for p in all_params(optimizer)]
    other = PathAdamSAGA(zoo_groups(copies), N_PATHS, **variant.kwargs())
    other.load_state_dict(torch.load(buffer, weights_only=True))
    return other


def via_pickle(optimizer: Any, variant: Variant) -> Any:
    return pickle.loads(pickle.dumps(optimizer))


def via_deepcopy(optimizer: Any, variant: Variant) -> Any:
    return copy.deepcopy(optimizer)


def via_pickle_then_load(optimizer: Any, variant: Variant) -> Any:
    other = via_pickle(optimizer, variant)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return other


WAYS = [via_load, via_pickle, via_deepcopy, via_pickle_then_load]


@pytest.mark.parametrize("way", WAYS)
@every_device
@every_variant
def test_resume_is_bit_for_bit(variant: Variant, device: str, way: Any) -> None:
    optimizer, params = build(variant, device)
    train(variant, optimizer, params, EARLY)
    for clock in {id(state["step"]): state["step"] for state in optimizer.state.values()}.values():
        clock += 301 * (clock > 0)  # what bfloat16 would round
    optimizer.set_path(1)
    other = way(optimizer, variant)
    copies = all_params(other)
    assert optimizer.state[params[8]]["step"].max() > 301
    assert_same_state(
        {i: other.state[p] for i, p in enumerate(copies)}, {i: optimizer.state[p] for i, p in enumerate(params)}
    )
    zoo_grads(copies, 0)
    with pytest.raises(RuntimeError, match="no path"):  # announcements are not part of the state
        other.step()
    train(variant, optimizer, params, LATE, first=20)
    train(variant, other, copies, LATE, first=20, announce=True)
    assert_bitwise(copies, params)
    assert {type(p) for p in copies} == {Parameter}


@pytest.mark.parametrize("announced", [0, 1])
@every_device
@every_variant
def test_load_between_announcement_and_step(variant: Variant, device: str, announced: int) -> None:
    """What was fetched for the announced path is out of date after a load."""
    optimizer, params = build(variant, device)
    train(variant, optimizer, params, EARLY[:5])
    saved, weights = copy.deepcopy(optimizer.state_dict()), clones(params)
    train(variant, optimizer, params, EARLY[5:], first=5)
    end = clones(params)
    optimizer.set_path(announced)
    optimizer.load_state_dict(saved)
    with torch.no_grad():
        for p, weight in zip(params, weights, strict=True):
            p.copy_(weight)
    train(variant, optimizer, params, EARLY[5:], first=5)
    assert_bitwise(params, end)


@every_variant
def test_loaded_state_is_independent_of_what_it_came_from(variant: Variant) -> None:
    optimizer, params = build(variant)
    train(variant, optimizer, params, EARLY)
    saved = optimizer.state_dict()
    frozen = copy.deepcopy(saved)
    other = via_load(optimizer, variant)
    train(variant, other, all_params(other), LATE, first=20)
    for i, state in frozen["state"].items():
        for key, value in state.items():
            assert torch.equal(saved["state"][i][key], value)


@every_device
@every_variant
def test_state_dict_aliases_the_state_and_lists_every_path(variant: Variant, device: str) -> None:
    listings = []
    for paths in ([0], [3, 4, 3], list(range(N_PATHS))):
        optimizer, params = build(variant, device)
        train(variant, optimizer, params, paths * 4)
        saved = optimizer.state_dict()["state"]
        assert sorted(saved) == list(range(len(params)))
        for i, p in enumerate(params):
            for key, value in optimizer.state[p].items():
                if key in ("step", "scale", "visits"):  # copies: parameters may share their clocks
                    assert torch.equal(saved[i][key].cpu(), value)
                else:
                    assert saved[i][key].data_ptr() == value.data_ptr()
                assert saved[i][key].device == p.device or variant.storage.endswith("-host")
            missing = set(saved[i]) - set(optimizer.state[p])
            assert {int(key.split(".")[1]) for key in missing}.isdisjoint(paths)
            assert not any(saved[i][key].any() for key in missing)
        listings.append(
            {(i, k): (tuple(v.shape), v.dtype) for i, state in saved.items() for k, v in state.items()}
        )
    assert listings[0] == listings[1] == listings[2]
    expected = {"step", "scale"} | ({"saga_sum"} if variant.saga > 0 else set())
    expected |= {"visits"} if variant.path_warmup else set()
    for names, has in (("update", variant.path_adam or variant.saga > 0), ("rms", variant.path_adam)):
        expected |= {f"{names}.{path}" for path in range(N_PATHS)} if has else set()
    assert {key for i, key in listings[0] if i == 3} == expected


@every_variant
def test_load_refuses_what_does_not_fit_and_changes_nothing(variant: Variant) -> None:
    params = make_params(shapes=[(3,), (70, 70)])
    optimizer = PathAdamSAGA(params, N_PATHS, **variant.kwargs())
    run(optimizer, params, EARLY)
    saved = optimizer.state_dict()
    adamw = torch.optim.AdamW(params)
    adamw.step()
    for shapes, n_paths, source, message in (
        ([(3,), (70, 70)], 4, saved, f"Invalid n_paths: {N_PATHS} .*expected 4"),
        ([(3,), (70, 71)], N_PATHS, saved, "shape"),
        ([(3,), (70, 70)], N_PATHS, adamw.state_dict(), "Invalid n_paths: None"),
        ([(3,)], N_PATHS, saved, "size|length|parameter group"),
    ):
        if message == "shape" and not variant.path_adam and variant.saga == 0.0:
            continue  # clocks are all there is
        others = make_params(1, shapes=shapes)
        other = PathAdamSAGA(others, n_paths, **variant.kwargs(n_paths))
        run(other, others, [0, 1, 1])
        before = snapshot(other)
        with pytest.raises(ValueError, match=message):
            other.load_state_dict(source)
        assert_same_snapshot(other, before)
        run(other, others, [0])


@pytest.mark.parametrize("names", [False, True])
def test_named_parameters(names: bool) -> None:
    """``param_names`` is part of the groups and of state dicts, as in PyTorch's optimizers."""
    model = torch.nn.Linear(3, 2)
    optimizer = PathAdamSAGA(model.named_parameters() if names else model.parameters(), 3)
    run(optimizer, list(model.parameters()), [0, 2])
    saved = optimizer.state_dict()
    assert saved["param_groups"][0].get("param_names") == (["weight", "bias"] if names else None)
    optimizer.load_state_dict(saved)
    run(optimizer, list(model.parameters()), [1])


@pytest.mark.parametrize("source", STORAGES)
@every_storage
def test_load_of_another_storage_keeps_its_word(storage: str, source: str) -> None:
    """The groups of a state dict rule, as for every hyperparameter: the rows go on as they were saved."""
    (param,) = make_params(dtype=torch.float32, shapes=[(70, 70)])
    optimizer = PathAdamSAGA([param], N_PATHS, storage=source)
    run(optimizer, [param], EARLY)
    copied = Parameter(param.detach().clone())
    other = PathAdamSAGA([copied], N_PATHS, storage=storage)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert other.param_groups[0]["storage"] == source
    run(optimizer, [param], LATE)
    run(other, [copied], LATE)
    assert_bitwise([copied], [param])


# ---------------------------------------------------------------- torch.distributed.checkpoint


def model_for(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(90, 50), torch.nn.Linear(50, 3).to(torch.bfloat16))


@every_variant
def test_distributed_checkpoint_leaves_no_trace(variant: Variant) -> None:
    """It calls ``step`` with lr 0 and zero gradients where there is no state yet."""
    model, plain_model = model_for(), model_for()
    optimizer = PathAdamSAGA(model.parameters(), 50, **variant.kwargs(50, lr=0.1))
    plain = PathAdamSAGA(plain_model.parameters(), 50, **variant.kwargs(50, lr=0.1))
    start = clones(model.parameters())
    get_optimizer_state_dict(model, optimizer)
    assert all(p.grad is None for p in model.parameters())
    assert_bitwise(clones(model.parameters()), start)
    assert optimizer.param_groups[0]["lr"] == 0.1
    paths = random_paths(4, 10)
    for path in paths:
        run(optimizer, list(model.parameters()), [path])
        run(plain, list(plain_model.parameters()), [path])
    assert_bitwise(list(model.parameters()), list(plain_model.parameters()))
    assert_same_state(optimizer.state, plain.state)


@pytest.mark.parametrize("full_state_dict", [False, True])
@every_variant
@no_process_group
def test_distributed_checkpoint_resumes_and_is_lazy_again(
    tmp_path: Path, variant: Variant, full_state_dict: bool
) -> None:
    options = StateDictOptions(full_state_dict=full_state_dict)
    model = model_for()
    optimizer = PathAdamSAGA(model.parameters(), 20, **variant.kwargs(20, lr=0.01))
    run(optimizer, list(model.parameters()), EARLY)
    dcp.save({"optim": get_optimizer_state_dict(model, optimizer)}, checkpoint_id=tmp_path, no_dist=True)

    resumed = copy.deepcopy(model)
    other = PathAdamSAGA(resumed.parameters(), 20, **variant.kwargs(20, lr=0.5))
    target = {"optim": get_optimizer_state_dict(resumed, other)}
    dcp.load(target, checkpoint_id=tmp_path, no_dist=True)
    set_optimizer_state_dict(resumed, other, target["optim"], options=options)
    ours = {i: other.state[p] for i, p in enumerate(resumed.parameters())}
    theirs = {i: optimizer.state[p] for i, p in enumerate(model.parameters())}
    assert_same_state(ours, theirs)
    del target
    assert state_bytes(ours) <= state_bytes(theirs) * 1.05 + 1024
    paths = random_paths(20, 10, seed=1)
    for p in (*model.parameters(), *resumed.parameters()):
        p.grad = None
    run(optimizer, list(model.parameters()), paths, first_seed=50)
    run(other, list(resumed.parameters()), paths, first_seed=50)
    assert_bitwise(list(resumed.parameters()), list(model.parameters()))


@pytest.mark.parametrize("pi", [None, (0.4, 0.3, 0.1, 0.1, 0.1)])
@pytest.mark.parametrize("path_warmup", [0.0, 3.0])
@no_process_group
def test_a_flat_distributed_checkpoint_resumes(pi: tuple[float, ...] | None, path_warmup: float) -> None:
    """It is read by the names that the groups have, of which earlier versions had fewer."""
    options = StateDictOptions(flatten_optimizer_state_dict=True)
    model, resumed = model_for(), model_for(1)
    optimizer, other = (
        PathAdamSAGA(m.parameters(), N_PATHS, lr=lr, probs=pi, path_warmup=path_warmup)
        for m, lr in ((model, 0.01), (resumed, 0.5))
    )
    run(optimizer, list(model.parameters()), EARLY)
    saved = copy.deepcopy(get_optimizer_state_dict(model, optimizer, options=options))
    new = ("probs", "memory_by_probs", "clocks_by_probs", "path_warmup")
    named = {key.rsplit(".", 1)[-1] for key in saved if key.startswith("param_groups")}
    assert named.intersection(new) == {*(new[:3] if pi else ()), *(new[3:] if path_warmup else ())}
    resumed.load_state_dict(model.state_dict())
    set_optimizer_state_dict(resumed, other, saved, options=options)
    for m, opt in ((model, optimizer), (resumed, other)):
        run(opt, list(m.parameters()), [1, 3, 0], first_seed=50)
    assert_bitwise(list(resumed.parameters()), list(model.parameters()))


@every_storage
@no_process_group
def test_distributed_checkpoint_loads_into_a_used_optimizer(tmp_path: Path, storage: str) -> None:
    """That is: into one that has drawn other paths than the checkpoint holds, once its rows have memory."""
    model, used = model_for(), model_for(1)
    optimizer = PathAdamSAGA(model.parameters(), N_PATHS, storage=storage)
    other = PathAdamSAGA(used.parameters(), N_PATHS, storage=storage)
    run(optimizer, list(model.parameters()), EARLY)
    run(other, list(used.parameters()), [2, 3, 3])
    dcp.save({"optim": get_optimizer_state_dict(model, optimizer)}, checkpoint_id=tmp_path, no_dist=True)
    other.materialize()
    target = {"optim": get_optimizer_state_dict(used, other)}
    dcp.load(target, checkpoint_id=tmp_path, no_dist=True)
    set_optimizer_state_dict(used, other, target["optim"])
    used.load_state_dict(model.state_dict())
    run(optimizer, list(model.parameters()), LATE)
    run(other, list(used.parameters()), LATE)
    assert_bitwise(list(used.parameters()), list(model.parameters()))


# ---------------------------------------------------------------- rows of paths never drawn


@every_variant
def test_materialized_rows_change_nothing(variant: Variant) -> None:
    optimizer, params = build(variant)
    twin, twin_params = build(variant)
    for first, paths in ((0, EARLY[:3]), (3, EARLY[3:])):
        optimizer.materialize()
        train(variant, optimizer, params, paths, first=first)
        train(variant, twin, twin_params, paths, first=first)
    optimizer.materialize()
    assert_bitwise(params, twin_params)
    ours, theirs = (opt.state_dict()["state"] for opt in (optimizer, twin))
    assert ours.keys() == theirs.keys()
    for i, state in ours.items():
        assert state.keys() == theirs[i].keys()
        assert all(torch.equal(value, theirs[i][key]) for key, value in state.items())
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # frees what was never drawn
    ours, theirs = (
        {i: opt.state[p] for i, p in enumerate(all_params(opt)) if p in opt.state} for opt in (optimizer, twin)
    )
    assert_same_state(ours, theirs)


@pytest.mark.parametrize("stepped", [False, True])
@every_variant
def test_materialized_state_can_be_written_and_loaded_back(variant: Variant, stepped: bool) -> None:
    """As a broadcast from one process to another does it: every tensor, in place, through safetensors."""
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    optimizer, params = build(variant)
    train(variant, optimizer, params, EARLY)
    optimizer.materialize()
    saved = optimizer.state_dict()
    flat = {f"{i}/{key}": value for i, state in saved["state"].items() for key, value in state.items()}
    received = safetensors.load(safetensors.save(flat))

    other, copies = build(variant)
    if stepped:
        train(variant, other, copies, [2, 3, 3])
    other.materialize()
    target = other.state_dict()
    for i, state in target["state"].items():
        for key, value in state.items():
            value.copy_(received[f"{i}/{key}"])
    other.load_state_dict(target)
    with torch.no_grad():
        for p, q in zip(copies, params, strict=True):
            p.copy_(q)
    train(variant, optimizer, params, LATE, first=20)
    train(variant, other, copies, LATE, first=20)
    assert_bitwise(copies, params)


def test_materialize_allocates_for_trained_parameters_alone() -> None:
    trained, frozen = make_params(dtype=torch.float32, shapes=[(50, 40), (7,)])
    frozen.requires_grad_(False)
    optimizer = PathAdamSAGA([trained, frozen], 30)
    optimizer.materialize()
    assert frozen not in optimizer.state or not optimizer.state[frozen]
    assert state_bytes(optimizer.state) == 2000 * 4 * (2 * 30 + 1) + 30 * 16
    run(optimizer, [trained], [3])
    assert state_bytes(optimizer.state) == 2000 * 4 * (2 * 30 + 1) + 30 * 16


@every_storage
def test_a_parameter_that_starts_after_others_were_materialized(storage: str) -> None:
    """Its clock is theirs, but it has no rows yet."""
    results = []
    for materialized in (True, False):
        params = make_params(dtype=torch.float32, shapes=[(70, 70), (3,)])
        params[1].requires_grad_(False)
        optimizer = PathAdamSAGA(params, 3, storage=storage)
        if materialized:
            optimizer.materialize()
        params[1].requires_grad_(True)
        run(optimizer, params, [1, 0, 1])
        results.append(clones(params))
    assert_bitwise(*results)


def test_materialized_rows_of_a_cast_model_are_refused() -> None:
    (param,) = make_params(dtype=torch.float32, shapes=[(4,)])
    optimizer = PathAdamSAGA([param], 3)
    optimizer.materialize()
    param.data = param.data.double()
    param.grad = torch.ones_like(param)
    with pytest.raises(RuntimeError, match=r"torch\.float64 on cpu; expected.*torch\.float32"):
        optimizer.step(path_idx=0)


# ---------------------------------------------------------------- odd state dicts


@pytest.mark.parametrize("key", ["step", "scale", "saga_sum", "update.1", "rms.1"])
@pytest.mark.parametrize("value", ["missing", 1.0, 3, None, [1, 2], "text"])
def test_an_entry_that_is_missing_or_no_tensor_is_found_before_anything_changes(key: str, value: Any) -> None:
    params = make_params(shapes=[(3,)])
    optimizer = PathAdamSAGA(params, N_PATHS)
    run(optimizer, params, [1, 0])
    before = snapshot(optimizer)
    saved = copy.deepcopy(optimizer.state_dict())
    if value == "missing":
        del saved["state"][0][key]
    else:
        saved["state"][0][key] = value
    with pytest.raises(ValueError, match=f"state '{key}' of parameter 0 .*: shape None; expected"):
        optimizer.load_state_dict(saved)
    assert_same_snapshot(optimizer, before)


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate parameters")
@pytest.mark.parametrize("n_paths", [1, 3])
def test_a_parameter_listed_twice_loads_what_it_saved(n_paths: int) -> None:
    first, twice, last = make_params(shapes=[(3,), (2, 2), (4,)])
    optimizer = PathAdamSAGA([{"params": [twice, first, twice]}, {"params": [last]}], n_paths)
    run(optimizer, [first, twice, last], [0, n_paths - 1, 0])
    saved = copy.deepcopy(optimizer.state_dict())
    again = PathAdamSAGA([{"params": [twice, first, twice]}, {"params": [last]}], n_paths)
    again.load_state_dict(copy.deepcopy(saved))
    for i, state in again.state_dict()["state"].items():
        assert all(torch.equal(value, saved["state"][i][key]) for key, value in state.items())
    run(again, [first, twice, last], [0])
    with pytest.raises(ValueError, match="one id for each parameter"):
        PathAdamSAGA([{"params": [twice, first, first]}, {"params": [last]}], n_paths).load_state_dict(saved)


@every_storage
def test_a_checkpoint_takes_little_more_than_the_state(tmp_path: Path, storage: str) -> None:
    param = Parameter(torch.randn(300, 300))
    optimizer = PathAdamSAGA([param], 1000, storage=storage)
    run(optimizer, [param], [5, 900])
    file = tmp_path / "checkpoint.pt"
    torch.save(optimizer.state_dict(), file)
    assert os.path.getsize(file) < state_bytes(optimizer.state) + 1000 * 2000
    other = PathAdamSAGA([Parameter(param.detach().clone())], 1000, storage=storage)
    other.load_state_dict(torch.load(file))
    assert state_bytes(other.state) <= state_bytes(optimizer.state) + 1024
