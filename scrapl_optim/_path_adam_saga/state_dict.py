"""State dicts of PathAdamSAGA: the same keys and shapes whichever paths were drawn, and checks before loading."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer
from torch.utils.weak import WeakIdKeyDictionary

from scrapl_optim._path_adam_saga.clocks import (
    ALL_CLOCKS,
    CLOCKS,
    KnownClocks,
    as_clock,
    clocks_of,
    has_started,
)
from scrapl_optim._path_adam_saga.formats import local
from scrapl_optim._path_adam_saga.hyperparameters import (
    check_hyperparameters,
    plain_hyperparameters,
)
from scrapl_optim._path_adam_saga.offload import RowFetcher, on_host
from scrapl_optim._path_adam_saga.rows import (
    RowLayout,
    add_row,
    as_real,
    drawn_paths,
    drop_undrawn,
    get_row,
    is_own,
    keeps_sum,
    row_layout,
    row_part,
    state_dtype,
)
from scrapl_optim._validation import plain_value

# Steps stay exact in float64, and there is room to go on.
_LARGEST_STEP = 2**53
_LARGEST_UNIT = 2.0**960
# Attributes of parameters that FSDP1 holds, with use_orig_params and without, and who gathers their state
_FSDP1_MARKS = ("_fsdp_flattened", "_is_flat_param")
_FSDP1_GATHERS = {
    "torch.distributed.fsdp.fully_sharded_data_parallel": ("optim_state_dict",),
    "torch.distributed.checkpoint.state_dict": ("get_optimizer_state_dict", "get_state_dict"),
}


class _PathOptimizer(Optimizer):
    """The attributes of PathAdamSAGA that the functions here use, besides those of torch's optimizers."""

    _fetcher: RowFetcher
    _known_clocks: KnownClocks
    _snapshots: WeakIdKeyDictionary

    def _take_clocks_home(self) -> None: ...

    def _form_sums(self) -> None: ...


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


def _params_by_id(
    optimizer: Optimizer, saved_groups: list[dict[str, Any]]
) -> Iterator[tuple[Any, Tensor, dict[str, Any]]]:
    """Yield each saved parameter id, once, with the parameter and the saved group it belongs to."""
    # Lengths that differ are the base class's to report.
    for group, saved in zip(optimizer.param_groups, saved_groups, strict=False):
        for param_id, param in dict(zip(saved["params"], group["params"], strict=False)).items():
            yield param_id, param, saved


def before_state_dict(optimizer: Optimizer) -> None:
    """``state_dict`` pre-hook: have rows and clocks where they belong."""
    own = cast(_PathOptimizer, optimizer)
    _refuse_fsdp1([param for _, param, _ in _started(own)])
    own._fetcher.wait()
    own._take_clocks_home()
    own._form_sums()


def after_state_dict(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """``state_dict`` post-hook: complete the rows, give the clocks on their parameter's device, and plain numbers.

    torch.distributed.checkpoint wants all tensors with dimensions on one device, and loads into tensors of the
    names and shapes it finds. Rows of paths never drawn are therefore listed as zeros without memory. Clocks are
    copies, since parameters share them; like every tensor of a state dict, the others are the optimizer's own.
    """
    state = dict(state_dict["state"])
    for param_id, param, group in _params_by_id(optimizer, state_dict["param_groups"]):
        if has_started(state.get(param_id)):
            own = state[param_id]
            clocks = {key: clock.to(param.device, copy=True) for key, clock in clocks_of(own).items()}
            cast(_PathOptimizer, optimizer)._snapshots[clocks["step"]] = _content(own["step"])
            layout = row_layout(param, group, "saga_sum" in own)
            state[param_id] = {**_empty_rows(layout, param, group["n_paths"], own), **own, **clocks}
    groups = [_plain_group(group) for group in state_dict["param_groups"]]
    return {**state_dict, "state": state, "param_groups": groups}


def _plain_group(group: dict[str, Any]) -> dict[str, Any]:
    """Return a group without numbers of NumPy, which schedulers, too, may have written."""
    numbers = {key: plain_value(value) for key, value in group.items() if not isinstance(value, Tensor)}
    plain = {**group, **numbers, **plain_hyperparameters(group)}
    if plain.get("probs") is not None:
        plain["probs"] = tuple(plain["probs"])
    return plain


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
                f"Invalid n_paths: {saved.get('n_paths')} in parameter group {i} of the loaded state dict; "
                f"expected {n_paths}, as this optimizer has; create it with the n_paths of the checkpoint"
            )
        _check_group(optimizer, saved, i)
    state = dict(state_dict["state"])
    for param_id, param, group in _params_by_id(optimizer, groups):
        saved = state.get(param_id, {})
        if any(map(is_own, saved)):
            _check_not_stale(optimizer, saved, optimizer.state.get(param, {}))
            fitting = _fitting_state(saved, param, {**optimizer.defaults, **group}, param_id)
            others = {key: value for key, value in saved.items() if not is_own(key)}
            # A tensor without numbers cannot be moved, as the base class would.
            others |= {k: _Uncast(v) for k, v in others.items() if isinstance(v, Tensor) and v.is_meta}
            state[param_id] = {key: _Uncast(value) for key, value in fitting.items()} | others
    return {**state_dict, "state": state, "param_groups": groups}


def _check_not_stale(optimizer: Optimizer, saved: dict[str, Any], own: dict[str, Any]) -> None:
    """Raise if ``saved`` is a state dict of this optimizer that shares its memory but tells another time."""
    snapshots = cast(_PathOptimizer, optimizer)._snapshots
    taken = snapshots.get(saved["step"]) if isinstance(saved.get("step"), Tensor) else None
    # What loads a checkpoint into the tensors of a state dict, as torch.distributed does, writes clocks, too.
    if taken is not None and has_started(own) and taken == _content(saved["step"]) != _content(own["step"]):
        raise RuntimeError(
            "Invalid state dict: it shares its tensors with the optimizer, which has stepped since; expected one "
            "that still is what it was; keep copy.deepcopy(optimizer.state_dict()), or save it to a file"
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
    expected_shapes: dict[str, tuple[int, ...]] = {
        key: (n_paths,) for key in ALL_CLOCKS if key in CLOCKS or key in saved
    }
    if "saga_sum" in saved or keeps_sum(group):
        expected_shapes["saga_sum"] = shape
    _check_shapes(saved, expected_shapes, param_id, n_paths, param)
    _check_numbers({key: saved[key] for key in expected_shapes}, param_id)
    if layout.names:
        shapes = {name: tuple(part.shape) for name, part in _meta_row(layout, param).items()}
        for path in drawn_paths({"step": saved["step"].cpu()}):
            rows = {f"{name}.{path}": shapes[name] for name in layout.names}
            _check_shapes(saved, rows, param_id, n_paths, param)
            _check_numbers({key: saved[key] for key in rows}, param_id)
            expected_shapes |= rows
    return {key: saved[key] for key in expected_shapes}


def _meta_row(layout: RowLayout, param: Tensor) -> dict[str, Tensor]:
    """A row's shapes without its memory."""
    return layout.allocate(torch.empty(param.shape, dtype=param.dtype, device="meta"))


def _check_shapes(
    saved: dict[str, Any], expected: dict[str, tuple[int, ...]], param_id: Any, n_paths: int, param: Tensor
) -> None:
    for key, shape in expected.items():
        saved_shape = tuple(saved[key].shape) if isinstance(saved.get(key), Tensor) else None
        if saved_shape != shape:
            raise ValueError(
                f"Invalid state {key!r} of parameter {param_id} in the loaded state dict: shape {saved_shape}; "
                f"expected {shape} for n_paths={n_paths} and a parameter of shape {tuple(param.shape)}; load a "
                "checkpoint of the same model, paths and version"
            )


def after_load(optimizer: Optimizer) -> None:
    """``load_state_dict`` post-hook: put the sheltered tensors where they belong."""
    for group, param, state in _started(optimizer):
        for key, value in state.items():
            if isinstance(value, _Uncast):
                state[key] = _placed(key, value.tensor, param, group)
        cast(_PathOptimizer, optimizer)._known_clocks[param] = clocks_of(state)


def _placed(key: str, tensor: Tensor, param: Tensor, group: dict[str, Any]) -> Tensor:
    if not is_own(key):
        return tensor
    if key in ALL_CLOCKS:
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


def check_structure(optimizer: Optimizer, state_dict: Any) -> None:
    """Raise unless this is made as a state dict of ``optimizer`` is.

    Raises:
        TypeError: it, or a part of it, is not a dict or list.
        ValueError: a part is missing, or belongs to no parameter; a hyperparameter is out of its domain.
    """
    groups = _part(_dict(state_dict, "the loaded state dict"), "param_groups", "the loaded state dict")
    if not isinstance(groups, (list, tuple)):
        raise TypeError(f"Invalid param_groups of the loaded state dict: {groups!r}; expected a list of dicts")
    params: dict[Any, Any] = {}
    for i, saved in enumerate(groups):
        name = f"parameter group {i} of the loaded state dict"
        ids = _part(_dict(saved, name), "params", name)
        if not isinstance(ids, (list, tuple)) or not all(isinstance(param_id, (int, str)) for param_id in ids):
            raise TypeError(f"Invalid params of {name}: {ids!r}; expected a list of parameter ids")
        # Lengths that differ are the base class's to report.
        own = optimizer.param_groups[i]["params"] if i < len(optimizer.param_groups) else []
        own = [*map(id, own), *range(-1, -1 - len(ids), -1)][: len(ids)]
        # A parameter that this group lists twice has one id, twice.
        if any(params.setdefault(param_id, param) != param for param_id, param in zip(ids, own, strict=True)):
            raise ValueError(f"Invalid params of {name}: {ids!r}; expected one id for each parameter")
    state = _dict(_part(state_dict, "state", "the loaded state dict"), "state of the loaded state dict")
    for param_id, own in state.items():
        if param_id in params:
            _dict(own, f"state of parameter {param_id} in the loaded state dict")
        elif has_started(own) and all(isinstance(own[key], Tensor) and own[key].ndim == 1 for key in CLOCKS):
            # Anything else that is no parameter's is kept, as torch's optimizers do.
            raise ValueError(
                f"Invalid state of the loaded state dict: one of {param_id!r}; expected those of the parameters "
                f"of its groups: {sorted(map(str, params))}"
            )


def _check_group(optimizer: Optimizer, saved: dict[str, Any], index: int) -> None:
    """Raise if a hyperparameter of a saved group is out of its domain; those it lacks are the optimizer's."""
    try:
        check_hyperparameters({**optimizer.defaults, **saved})
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error}; look into parameter group {index} of the loaded state dict") from None


def _check_numbers(saved: dict[str, Tensor], param_id: Any) -> None:
    """Raise ValueError if a tensor of a parameter's state, of the right shape, holds what no step leaves."""
    for key, tensor in saved.items():
        expected = _unfit(key, local(tensor))
        if expected is not None:
            kind = f"{tensor.dtype}, {tensor.layout}, on {tensor.device}"
            raise ValueError(
                f"Invalid state {key!r} of parameter {param_id} in the loaded state dict: {kind}; expected "
                f"{expected}; the checkpoint is damaged or of something else"
            )


def _unfit(key: str, tensor: Tensor) -> str | None:
    """Return the numbers that a tensor should hold, in words, if it holds others."""
    if tensor.is_meta or tensor.layout is not torch.strided or tensor.is_complex() or tensor.dtype == torch.bool:
        return "a dense tensor of real numbers"
    if key not in ALL_CLOCKS:
        finite = not tensor.is_floating_point() or bool(tensor.isfinite().all())
        return None if finite else "finite"
    numbers = tensor.double()
    if key != "scale":
        whole = (numbers >= 0) & (numbers <= _LARGEST_STEP) & (numbers == numbers.floor())
        return None if bool(whole.all()) else f"whole numbers from 0 to {_LARGEST_STEP}"
    powers = (torch.frexp(numbers).mantissa == 0.5) & (numbers >= 1 / _LARGEST_UNIT) & (numbers <= _LARGEST_UNIT)
    return None if bool((powers | (numbers == 0)).all()) else "powers of two, or 0"


def _refuse_fsdp1(params: list[Tensor]) -> None:
    """Raise RuntimeError if FullyShardedDataParallel (FSDP1) is about to gather the state of ``params``.

    It takes every tensor of a state for a shard shaped as the parameter's, and would fail without a hint. State
    dicts of one rank, which nobody gathers, are no concern of it.
    """
    if not any(getattr(param, mark, False) for param in params for mark in _FSDP1_MARKS):
        return
    frame = sys._getframe()
    while frame is not None:
        gathers = _FSDP1_GATHERS.get(frame.f_globals.get("__name__", ""), ())
        if any(name in frame.f_code.co_name for name in gathers):
            raise RuntimeError(
                "Invalid parameters: those of FullyShardedDataParallel (FSDP1), which cannot gather the state of "
                "PathAdamSAGA; expected FSDP2; shard with torch.distributed.fsdp.fully_shard, or save "
                "optimizer.state_dict() on each rank and resume with as many ranks"
            )
        frame = frame.f_back


def _dict(value: Any, name: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"Invalid {name}: {value!r} of type {type(value).__name__}; expected a dict")
    return value


def _part(value: dict[Any, Any], key: str, name: str) -> Any:
    if key not in value:
        raise ValueError(
            f"Invalid {name}: keys {sorted(map(str, value))} without {key!r}; expected what state_dict() returns"
        )
    return value[key]
