"""State dicts of PathAdamSAGA: the same keys and shapes whichever paths were drawn, and checks before loading."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer
from torch.utils.weak import WeakIdKeyDictionary

from scrapl_optim._validation import plain_hyperparameters, plain_value
from scrapl_optim.host import RowFetcher, on_host
from scrapl_optim.path_state import (
    CLOCKS,
    RowLayout,
    add_row,
    as_clock,
    as_real,
    drawn_paths,
    drop_undrawn,
    get_row,
    has_started,
    is_own,
    keeps_sum,
    params_by_id,
    row_layout,
    row_part,
    state_dtype,
)
from scrapl_optim.state_dict_checks import check_group, check_numbers, refuse_fsdp1
from scrapl_optim.steps import Clocks
from scrapl_optim.storage import local


class _PathOptimizer(Optimizer):
    """What these functions need of PathAdamSAGA beside torch's."""

    _rows: RowFetcher
    _clocks: Clocks
    _snapshots: WeakIdKeyDictionary

    def _take_clocks_home(self) -> None: ...


class _Uncast:
    """Carries a tensor through ``Optimizer.load_state_dict``, which casts every tensor it sees."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def _started(optimizer: Optimizer) -> list[tuple[dict[str, Any], Tensor, dict[str, Any]]]:
    """Return the group, parameter and state of each parameter that has one."""
    pairs = [(group, param) for group in optimizer.param_groups for param in group["params"]]
    return [
        (group, param, optimizer.state[param]) for group, param in pairs if has_started(optimizer.state.get(param))
    ]


def before_state_dict(optimizer: Optimizer) -> None:
    """``state_dict`` pre-hook: have rows and clocks where they belong."""
    own = cast(_PathOptimizer, optimizer)
    refuse_fsdp1([param for _, param, _ in _started(own)])
    own._rows.wait()
    own._take_clocks_home()


def after_state_dict(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """``state_dict`` post-hook: complete the rows, give the clocks on their parameter's device, and plain numbers.

    torch.distributed.checkpoint wants all tensors with dimensions on one device, and loads into tensors of the
    names and shapes it finds. Rows of paths never drawn are therefore listed as zeros without memory. Clocks are
    copies, since parameters share them; like every tensor of a state dict, the others are the optimizer's own.
    """
    state = dict(state_dict["state"])
    for param_id, param, group in params_by_id(optimizer, state_dict["param_groups"]):
        if has_started(state.get(param_id)):
            own = state[param_id]
            clocks = {key: own[key].to(param.device, copy=True) for key in CLOCKS}
            cast(_PathOptimizer, optimizer)._snapshots[clocks["step"]] = _content(own["step"])
            layout = row_layout(param, group, "saga_sum" in own)
            state[param_id] = {**_empty_rows(layout, param, group["n_paths"], own), **own, **clocks}
    groups = [_plain_group(group) for group in state_dict["param_groups"]]
    return {**state_dict, "state": state, "param_groups": groups}


def _plain_group(group: dict[str, Any]) -> dict[str, Any]:
    """Return a group without numbers of NumPy, which schedulers, too, may have written."""
    numbers = {key: plain_value(value) for key, value in group.items() if not isinstance(value, Tensor)}
    return {**group, **numbers, **plain_hyperparameters(group)}


def _empty_rows(layout: RowLayout, param: Tensor, n_paths: int, own: dict[str, Any]) -> dict[str, Tensor]:
    missing = [path for path in range(n_paths) if any(f"{name}.{path}" not in own for name in layout.names)]
    if not missing:
        return {}
    empty = {name: _without_memory(part) for name, part in layout.allocate(param).items()}
    return {f"{name}.{path}": part for path in missing for name, part in empty.items()}


def _without_memory(tensor: Tensor) -> Tensor:
    """Return zeros of the same shape, dtype and sharding whose entries share one memory location."""
    part = local(tensor)
    zeros = torch.zeros((), dtype=part.dtype, device=part.device).expand(part.shape)
    if part is tensor:
        return zeros
    sharded: Any = tensor
    return type(sharded).from_local(
        zeros,
        sharded.device_mesh,
        sharded.placements,
        run_check=False,
        shape=sharded.shape,
        stride=sharded.stride(),
    )


def before_load(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """``load_state_dict`` pre-hook: check that the state fits, drop empty rows, shelter the rest from the cast."""
    n_paths = optimizer.defaults["n_paths"]
    groups = [{**saved, **plain_hyperparameters(saved)} for saved in state_dict["param_groups"]]
    for i, saved in enumerate(groups):
        if not isinstance(saved.get("n_paths"), int) or saved["n_paths"] != n_paths:
            raise ValueError(
                f"parameter group {i} of the loaded state dict has n_paths={saved.get('n_paths')}, but this "
                f"optimizer has n_paths={n_paths}; create it with the n_paths of the checkpoint"
            )
        check_group(optimizer, saved, i)
    state = dict(state_dict["state"])
    for param_id, param, group in params_by_id(optimizer, groups):
        saved = state.get(param_id, {})
        if any(map(is_own, saved)):
            _check_not_stale(optimizer, saved, optimizer.state.get(param, {}))
            fitting = _fitting_state(saved, param, {**optimizer.defaults, **group}, param_id)
            others = {key: value for key, value in saved.items() if not is_own(key)}
            state[param_id] = {key: _Uncast(value) for key, value in fitting.items()} | others
    return {**state_dict, "state": state, "param_groups": groups}


def _check_not_stale(optimizer: Optimizer, saved: dict[str, Any], own: dict[str, Any]) -> None:
    """Raise if ``saved`` is a state dict of this optimizer that shares its memory but tells another time."""
    snapshots = cast(_PathOptimizer, optimizer)._snapshots
    taken = snapshots.get(saved["step"]) if isinstance(saved.get("step"), Tensor) else None
    # Whoever loads a checkpoint into the tensors of a state dict, as torch.distributed does, writes clocks, too.
    if taken is not None and has_started(own) and taken == _content(saved["step"]) != _content(own["step"]):
        raise RuntimeError(
            "the state dict shares its tensors with the optimizer, which has stepped since: it no longer is what "
            "it was. Keep copy.deepcopy(optimizer.state_dict()), or save it to a file"
        )


def _content(clock: Tensor) -> bytes:
    return clock.cpu().numpy().tobytes()


def _fitting_state(saved: dict[str, Any], param: Tensor, group: dict[str, Any], param_id: Any) -> dict[str, Any]:
    """Return the saved state of one parameter without the rows of paths never drawn.

    Raises:
        ValueError: if a tensor is missing, has another shape, or holds what no step leaves.
    """
    n_paths = group["n_paths"]
    layout = row_layout(param, group, "saga_sum" in saved)
    shape = tuple(as_real(param.detach()).shape)
    kept: dict[str, tuple[int, ...]] = {"step": (n_paths,), "scale": (n_paths,)}
    if "saga_sum" in saved or keeps_sum(group):
        kept["saga_sum"] = shape
    _check_shapes(saved, kept, param_id, n_paths, param)
    check_numbers({key: saved[key] for key in kept}, param_id)
    if layout.names:
        shapes = {name: tuple(part.shape) for name, part in _meta_row(layout, param).items()}
        for path in drawn_paths({"step": saved["step"].cpu()}):
            rows = {f"{name}.{path}": shapes[name] for name in layout.names}
            _check_shapes(saved, rows, param_id, n_paths, param)
            check_numbers({key: saved[key] for key in rows}, param_id)
            kept |= rows
    return {key: saved[key] for key in kept}


def _meta_row(layout: RowLayout, param: Tensor) -> dict[str, Tensor]:
    """A row's shapes without its memory."""
    return layout.allocate(torch.empty(param.shape, dtype=param.dtype, device="meta"))


def _check_shapes(
    saved: dict[str, Any], expected: dict[str, tuple[int, ...]], param_id: Any, n_paths: int, param: Tensor
) -> None:
    for key, shape in expected.items():
        found = tuple(saved[key].shape) if isinstance(saved.get(key), Tensor) else None
        if found != shape:
            raise ValueError(
                f"state {key!r} of parameter {param_id} in the loaded state dict has shape {found}, expected "
                f"{shape} for n_paths={n_paths} and a parameter of shape {tuple(param.shape)}; load a checkpoint "
                "of the same model, paths and version"
            )


def after_load(optimizer: Optimizer) -> None:
    """``load_state_dict`` post-hook: put the sheltered tensors where they belong."""
    for group, param, state in _started(optimizer):
        for key, value in state.items():
            if isinstance(value, _Uncast):
                state[key] = _placed(key, value.tensor, param, group)
        cast(_PathOptimizer, optimizer)._clocks[param] = {key: state[key] for key in CLOCKS}


def _placed(key: str, tensor: Tensor, param: Tensor, group: dict[str, Any]) -> Tensor:
    if key in CLOCKS:
        return as_clock(key, tensor)
    if key == "saga_sum":
        return tensor.to(device=param.device, dtype=state_dtype(param))
    layout = row_layout(param, group, True)
    like = _meta_row(layout, param)[row_part(key) or key]
    if not layout.formats.host:
        return tensor.to(device=param.device, dtype=like.dtype)
    return on_host(tensor.to(dtype=like.dtype), param.device)


def complete_rows(optimizer: Optimizer) -> None:
    """Allocate the rows of all paths: something to load a distributed checkpoint into."""
    for group, param, state in _started(optimizer):
        layout = row_layout(param, group, "saga_sum" in state)
        for path in range(group["n_paths"]):
            if len(get_row(state, layout.names, path)) < len(layout.names):
                add_row(state, param, layout, path)


def drop_rows(optimizer: Optimizer) -> None:
    """Free the rows that were allocated to load a checkpoint into, if none was loaded."""
    for *_, state in _started(optimizer):
        drop_undrawn(state)
