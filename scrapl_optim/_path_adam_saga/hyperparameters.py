"""The hyperparameters of a parameter group: their names, their domains, and what plain Python makes of them."""

from __future__ import annotations

import math
import operator
import sys
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scrapl_optim._path_adam_saga.formats import STABLE_STORAGES, STORAGES, ExperimentalStorage
from scrapl_optim._validation import MOST_PATHS, as_floats, as_int, as_number, plain_value
from scrapl_optim.probabilities import as_distribution

# What float32 can multiply by, and the squares of row units of float32 can, with room to spare.
_LARGEST_FACTOR, _LARGEST_DECAY, _LARGEST_EPS = 1e30, 1e6, 1e100
_LONGEST_WARMUP = 1e6
_SWITCHES = ("path_adam", "unbiased", "memory_by_probs", "clocks_by_probs", "maximize")
_NUMBERS = ("n_paths", "lr", "betas", "eps", "weight_decay", "saga", "path_warmup")
_NAMES = (*_NUMBERS, *_SWITCHES, "probs", "storage", "foreach", "nonfinite")
_named = operator.itemgetter(*_NAMES)
_NONE = (object(),)
_BETWEEN = ("scrapl_jtfs", "scrapl_optim", "torch")  # packages between a caller and the check of an argument
# A sum as near to one as rounding allows is not divided out again, so that a saved distribution stays what it was.
_ROUNDING = 1e-12
# What groups go by that do not name these. They leave them out where nobody asks for another value, since
# torch.distributed.checkpoint loads a flat state dict, also of an earlier version, by the names in the groups.
NEW_DEFAULTS = {"probs": None, "memory_by_probs": True, "clocks_by_probs": False, "path_warmup": 0.0}


class Distribution(tuple[float, ...]):
    """Probabilities of all paths, checked, whose text is short; a state dict has a plain tuple."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"({', '.join(f'{prob:.3g}' for prob in self[:3])}{', ...' if len(self) > 3 else ''})"


def without_new_defaults(defaults: dict[str, Any]) -> dict[str, Any]:
    """Return hyperparameters without those that groups go by anyway; with ``probs`` what belongs to it stays."""
    silent = {key for key, value in NEW_DEFAULTS.items() if defaults[key] == value}
    if "probs" not in silent:
        silent &= {"path_warmup"}
    return {key: value for key, value in defaults.items() if key not in silent}


def value_of(group: dict[str, Any], name: str) -> Any:
    """Return one of the hyperparameters that a group may leave out."""
    return group.get(name, NEW_DEFAULTS[name])


def plain_hyperparameters(group: dict[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters of ``group`` that are not plain Python numbers and strings, made plain.

    A tensor stays one for ``lr``, as in PyTorch's optimizers, where a scheduler writes into it.
    """
    plain = {}
    for key in _NAMES:
        value = group.get(key)
        if key == "probs":
            if value is not None and type(value) is not Distribution:
                plain |= _checked_probs(value)
        elif key == "betas" and isinstance(value, (Tensor, np.ndarray)) and value.ndim == 1:
            plain[key] = value if isinstance(value, Tensor) and value.is_meta else tuple(value.tolist())
        elif key == "betas" and isinstance(value, (list, tuple)):
            numbers = [plain_value(beta) for beta in value]
            if any(number is not beta for number, beta in zip(numbers, value, strict=True)):
                plain[key] = numbers if isinstance(value, list) else tuple(numbers)
        elif not (key == "lr" and isinstance(value, Tensor)):
            number = plain_value(value)
            if number is not value:
                plain[key] = number
    return plain


def _checked_probs(value: Any) -> dict[str, Distribution]:
    """Return the entry of a distribution over paths; none for anything else, which the check of all refuses."""
    try:
        pi, numbers = as_distribution(value), as_floats(value, "probs")
    except (TypeError, ValueError):
        return {}
    same = bool((abs(numbers - pi) <= _ROUNDING * pi).all())
    return {"probs": Distribution((numbers if same else pi).tolist())}


def warn_of_storage(group: dict[str, Any]) -> None:
    """Warn of an experimental storage under its plain name; the warning names the caller's line."""
    storage = group.get("storage")
    is_plain = isinstance(storage, str) and not isinstance(storage, ExperimentalStorage)
    if not is_plain or storage not in STORAGES or storage in STABLE_STORAGES:
        return
    name, *others = storage.split("-")
    call = f'"{name}"'
    for suffix in others:
        call = f"{'nearest' if suffix == 'nearest' else 'host_rows'}({call})"
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in _BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(
        f"storage={storage!r} is deprecated and will be removed in the next release; use {call} of "
        "scrapl_optim.experimental.",
        DeprecationWarning,
        stacklevel=level,
    )


def check_hyperparameters(group: dict[str, Any]) -> None:
    """Raise if a hyperparameter of a parameter group is out of its domain.

    Raises:
        TypeError: if one is of another type than documented.
        ValueError: if one is out of its domain.
    """
    group = {**NEW_DEFAULTS, **group}
    _check_lr(group["lr"])
    betas = group["betas"]
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise ValueError(f"Invalid betas: {betas!r}; expected two numbers in [0, 1)")
    first, second = (as_number(beta, "betas") for beta in betas)
    if not (0.0 <= first < 1.0 and 0.0 <= second < 1.0):
        raise ValueError(f"Invalid betas: {betas}; expected two numbers in [0, 1)")
    if second == 0.0 < first and group["eps"] == 0.0:
        raise ValueError(
            f"Invalid betas: {betas} with eps=0; expected betas[1] > 0 or eps > 0, since a gradient that "
            "becomes zero would be divided by itself"
        )
    for name, largest in (("eps", _LARGEST_EPS), ("weight_decay", _LARGEST_DECAY)):
        if not (0.0 <= as_number(group[name], name) <= largest):
            raise ValueError(f"Invalid {name}: {group[name]}; expected a finite number >= 0, at most {largest:g}")
    if not 1 <= as_int(group["n_paths"], "n_paths") <= MOST_PATHS:
        raise ValueError(f"Invalid n_paths: {group['n_paths']}; expected at least 1, and at most {MOST_PATHS}")
    if not 0.0 <= as_number(group["saga"], "saga") <= 1.0:
        raise ValueError(
            f"Invalid saga: {group['saga']}; expected a number in [0, 1]; 1 is the paper's P-SAGA, 0 none"
        )
    if not isinstance(group["storage"], str) or group["storage"] not in STORAGES:
        raise ValueError(f"Invalid storage: {group['storage']!r}; expected one of {', '.join(STABLE_STORAGES)}")
    if not isinstance(group["nonfinite"], str) or group["nonfinite"] not in ("raise", "skip"):
        raise ValueError(f"Invalid nonfinite: {group['nonfinite']!r}; expected 'raise' or 'skip'")
    for name in _SWITCHES:
        if not isinstance(group[name], bool):
            raise TypeError(f"Invalid {name}: {group[name]!r}; expected True or False")
    if group["foreach"] is not None and not isinstance(group["foreach"], bool):
        raise TypeError(f"Invalid foreach: {group['foreach']!r}; expected True, False or None")
    if not 0.0 <= as_number(group["path_warmup"], "path_warmup") <= _LONGEST_WARMUP:
        raise ValueError(
            f"Invalid path_warmup: {group['path_warmup']}; expected a number of visits from 0, the paper's, to "
            f"{_LONGEST_WARMUP:g}"
        )
    if group["path_warmup"] > 0 and not group["path_adam"]:
        raise ValueError(
            f"Invalid path_warmup: {group['path_warmup']} with path_adam=False; expected 0, since without P-Adam "
            "the first update of a path has the size of its gradient"
        )
    _check_probs(group)


def _check_probs(group: dict[str, Any]) -> None:
    probs = group["probs"]
    if probs is None:
        if group["clocks_by_probs"]:
            raise ValueError(
                "Invalid clocks_by_probs: True without probs; expected the distribution of the draws; construct "
                "PathAdamSAGA(..., probs=sampler.probs, clocks_by_probs=True)"
            )
        return
    if type(probs) is not Distribution or len(probs) != group["n_paths"]:
        as_distribution(probs, group["n_paths"])
    if group["unbiased"] and group["memory_by_probs"]:
        raise ValueError(
            "Invalid unbiased: True with probs; expected one of the two, as one is for the mean over paths and "
            "the other for that weighted by probs; memory_by_probs=False leaves probs to clocks_by_probs"
        )


def check_drawable(path: int, param_groups: list[dict[str, Any]]) -> None:
    """Raise ValueError if ``probs``, which anyone may have set since, say that a path is never drawn."""
    for group in param_groups:
        probs = group.get("probs")
        if probs is not None and type(probs) is not Distribution:
            probs = as_distribution(probs, group["n_paths"])
        if probs is not None and probs[path] == 0.0:
            raise ValueError(
                f"Invalid path_idx: {path}, whose probability is 0 in probs; expected a path that is drawn; set "
                "probs to the distribution of the sampler, sampler.probs, which has the floor of min_prob_frac"
            )


def _check_lr(lr: Any) -> None:
    if not isinstance(lr, Tensor):
        value = as_number(lr, "lr")
    elif lr.numel() != 1:
        raise ValueError(
            f"Invalid lr: a tensor of shape {tuple(lr.shape)}; expected one element: Tensor lr must be 1-element; "
            "parameters of other rates go into groups of their own"
        )
    elif lr.is_complex() or lr.is_meta or lr.layout is not torch.strided:
        raise TypeError(f"Invalid lr: a tensor of {lr.dtype}, {lr.layout}, on {lr.device}; expected a real number")
    else:
        value = lr.item()
    if not (0.0 <= value <= _LARGEST_FACTOR):
        raise ValueError(f"Invalid lr: {lr}; expected a finite number >= 0, at most {_LARGEST_FACTOR:g}")


def check_groups(param_groups: list[dict[str, Any]], n_paths: int, seen: dict[int, tuple[Any, ...]]) -> None:
    """Raise if a hyperparameter, which anyone may have set since, is out of its domain; leave plain values.

    A learning rate on an accelerator is not looked at: reading it would wait for the device. ``seen`` keeps the
    values of each group that were found good, which are not checked again.
    """
    for index, group in enumerate(param_groups):
        if all(map(operator.is_, _values(group), seen.get(index, _NONE))) and seen[index][-1] == _inner(group):
            continue
        plain = plain_hyperparameters(group)
        values, lr = {**group, **plain}, group["lr"]
        on_accelerator = isinstance(lr, Tensor) and lr.device.type not in ("cpu", "meta")
        check_hyperparameters({**values, "lr": 0.0} if on_accelerator else values)
        check_n_paths(values["n_paths"], n_paths)
        group.update(plain)
        seen[index] = (*_values(group), _inner(group))


def _values(group: dict[str, Any]) -> tuple[Any, ...]:
    return _named(NEW_DEFAULTS | group)


def _inner(group: dict[str, Any]) -> Any:
    """Return what may change without its object changing: entries of a list, the number in a tensor on the CPU."""
    lr, betas = group["lr"], group["betas"]
    rate = lr.item() if isinstance(lr, Tensor) and lr.device.type == "cpu" and lr.numel() == 1 else None
    return rate, (tuple(map(_identity, betas)) if isinstance(betas, list) else None)


def _identity(number: Any) -> Any:
    """Return a Python number as it is, for comparison by value, and the identity of anything else."""
    return number if type(number) in (int, float) else (id(number),)


def check_n_paths(group_n_paths: Any, n_paths: int) -> None:
    """Raise ValueError if a parameter group has other paths than the optimizer."""
    if group_n_paths != n_paths:
        raise ValueError(
            f"Invalid n_paths: {group_n_paths} of a parameter group; expected {n_paths}, the optimizer's; all "
            "groups share one set of paths, leave it out"
        )


def check_weight(weight: float | None, param_groups: list[dict[str, Any]]) -> None:
    """Raise ValueError if a path's importance weight is not usable."""
    if weight is None:
        return
    factor = as_number(weight.item() if isinstance(weight, Tensor) else weight, "weight")
    rates = [group["lr"] for group in param_groups if isinstance(group["lr"], (int, float))]
    if factor < math.inf and factor * max([1.0, *rates]) > _LARGEST_FACTOR:
        raise ValueError(f"Invalid weight: {weight}; expected at most {_LARGEST_FACTOR:g}, times lr as well")
    if not 0.0 < factor < math.inf:
        raise ValueError(
            f"Invalid weight: {weight}; expected a finite number > 0; it is 1 / (n_paths * probability)"
        )
    if weight != 1.0 and param_groups[0]["n_paths"] == 1:
        raise ValueError(f"Invalid weight: {weight}; expected 1 with n_paths=1, where the path has probability 1")
    if weight != 1.0 and not all(group["unbiased"] for group in param_groups):
        raise ValueError(
            f"Invalid weight: {weight}; expected 1, since the paper's update has no importance weights; construct "
            "PathAdamSAGA(..., unbiased=True) for them"
        )


def check_params(params: Any) -> None:
    """Raise TypeError unless these are parameters, or groups of them, as torch's optimizers take them."""
    if not isinstance(params, Iterable):
        raise TypeError(f"Invalid params: {params!r}; expected parameters or dicts with 'params'")
    if isinstance(params, (list, tuple)):
        for group in params:
            if isinstance(group, dict) and "params" not in group:
                raise TypeError(
                    f"Invalid parameter group: keys {sorted(map(str, group))}; expected 'params' among them"
                )


def check_closure(closure: Any) -> None:
    """Raise TypeError if a closure cannot be called."""
    if not callable(closure):
        raise TypeError(
            f"Invalid closure: {closure!r} of type {type(closure).__name__}; expected a callable; name the path "
            "as in step(path_idx=...)"
        )
