"""Whether what is loaded can be a state dict of PathAdamSAGA: its structure and its numbers."""

import sys
from typing import Any

import torch
from torch import Tensor

from scrapl_optim._validation import check_hyperparameters
from scrapl_optim.path_state import CLOCKS, has_started
from scrapl_optim.storage import local

# Steps stay exact in float64, and there is room to go on.
_LARGEST_STEP = 2**53
_LARGEST_UNIT = 2.0**960
# Attributes of parameters that FSDP1 holds, with use_orig_params and without, and who gathers their state
_FSDP1_MARKS = ("_fsdp_flattened", "_is_flat_param")
_FSDP1_GATHERS = {
    "torch.distributed.fsdp.fully_sharded_data_parallel": ("optim_state_dict",),
    "torch.distributed.checkpoint.state_dict": ("get_optimizer_state_dict", "get_state_dict"),
}


def check_structure(optimizer: torch.optim.Optimizer, state_dict: Any) -> None:
    """Raise unless this is made as a state dict of ``optimizer`` is.

    Raises:
        TypeError: it, or a part of it, is not a dict or list.
        ValueError: a part is missing, or belongs to no parameter; a hyperparameter is out of its domain.
    """
    groups = _part(_dict(state_dict, "the loaded state dict"), "param_groups", "the loaded state dict")
    if not isinstance(groups, (list, tuple)):
        raise TypeError(f"param_groups of the loaded state dict is {groups!r}, expected a list of dicts")
    params: dict[Any, Any] = {}
    for i, saved in enumerate(groups):
        name = f"parameter group {i} of the loaded state dict"
        ids = _part(_dict(saved, name), "params", name)
        if not isinstance(ids, (list, tuple)) or not all(isinstance(param_id, (int, str)) for param_id in ids):
            raise TypeError(f"params of {name} is {ids!r}, expected a list of parameter ids")
        # Lengths that differ are the base class's to report.
        own = optimizer.param_groups[i]["params"] if i < len(optimizer.param_groups) else []
        own = [*map(id, own), *range(-1, -1 - len(ids), -1)][: len(ids)]
        # A parameter that this group lists twice has one id, twice.
        if any(params.setdefault(param_id, param) != param for param_id, param in zip(ids, own, strict=True)):
            raise ValueError(f"params of {name} is {ids!r}, expected one id for each parameter")
    state = _dict(_part(state_dict, "state", "the loaded state dict"), "state of the loaded state dict")
    for param_id, own in state.items():
        if param_id in params:
            _dict(own, f"state of parameter {param_id} in the loaded state dict")
        elif has_started(own) and all(isinstance(own[key], Tensor) and own[key].ndim == 1 for key in CLOCKS):
            # Anything else that is no parameter's is kept, as torch's optimizers do.
            raise ValueError(
                f"the loaded state dict has a state of {param_id!r}, expected parameter ids of its groups: "
                f"{sorted(map(str, params))}"
            )


def check_group(optimizer: torch.optim.Optimizer, saved: dict[str, Any], index: int) -> None:
    """Raise if a hyperparameter of a saved group is out of its domain; those it lacks are the optimizer's."""
    try:
        check_hyperparameters({**optimizer.defaults, **saved})
    except (TypeError, ValueError) as error:
        raise type(error)(f"parameter group {index} of the loaded state dict: {error}") from None


def check_numbers(kept: dict[str, Tensor], param_id: Any) -> None:
    """Raise ValueError if a tensor of a parameter's state, of the right shape, holds what no step leaves."""
    for key, tensor in kept.items():
        expected = _unfit(key, local(tensor))
        if expected is not None:
            found = f"{tensor.dtype}, {tensor.layout}, on {tensor.device}"
            raise ValueError(
                f"state {key!r} of parameter {param_id} in the loaded state dict ({found}) is not {expected}; the "
                "checkpoint is damaged or of something else"
            )


def _unfit(key: str, tensor: Tensor) -> str | None:
    """Return what was expected of a tensor, if it is not that."""
    if tensor.is_meta or tensor.layout is not torch.strided or tensor.is_complex() or tensor.dtype == torch.bool:
        return "a dense tensor of real numbers"
    if key not in CLOCKS:
        finite = not tensor.is_floating_point() or bool(tensor.isfinite().all())
        return None if finite else "finite"
    numbers = tensor.double()
    if key == "step":
        whole = (numbers >= 0) & (numbers <= _LARGEST_STEP) & (numbers == numbers.floor())
        return None if bool(whole.all()) else f"whole numbers from 0 to {_LARGEST_STEP}"
    powers = (torch.frexp(numbers).mantissa == 0.5) & (numbers >= 1 / _LARGEST_UNIT) & (numbers <= _LARGEST_UNIT)
    return None if bool((powers | (numbers == 0)).all()) else "powers of two, or 0"


def refuse_fsdp1(params: list[Tensor]) -> None:
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
                "FullyShardedDataParallel (FSDP1) cannot gather the state of PathAdamSAGA, expected FSDP2; shard "
                "with torch.distributed.fsdp.fully_shard, or save optimizer.state_dict() on each rank and resume "
                "with as many ranks"
            )
        frame = frame.f_back


def _dict(value: Any, name: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{name} is {value!r} of type {type(value).__name__}, expected a dict")
    return value


def _part(value: dict[Any, Any], key: str, name: str) -> Any:
    if key not in value:
        raise ValueError(
            f"{name} has no {key!r}, but {sorted(map(str, value))}; expected what state_dict() returns"
        )
    return value[key]
