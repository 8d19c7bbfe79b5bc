"""Checks shared by the sampler and the optimizer."""

import math
import operator
import os
from collections.abc import Iterable
from numbers import Real
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scrapl_optim.storage import STORAGES

# A few numbers of eight bytes for each path are to fit in memory anywhere.
MOST_PATHS = 2**24
# What float32 can multiply by, and the squares of row units of float32 can, with room to spare.
_LARGEST_FACTOR, _LARGEST_DECAY, _LARGEST_EPS = 1e30, 1e6, 1e100
_SWITCHES = ("path_adam", "unbiased", "maximize")
_NUMBERS = ("n_paths", "lr", "betas", "eps", "weight_decay", "saga")
HYPERPARAMETERS = (*_NUMBERS, *_SWITCHES, "storage", "foreach", "nonfinite")
_values = operator.itemgetter(*HYPERPARAMETERS)
_NONE = (object(),)


def as_int(value: SupportsIndex | Tensor, name: str) -> int:
    """Return ``value`` as a Python int.

    Python and NumPy integers and 0-dim integer tensors are accepted.

    Raises:
        TypeError: for bools, floats, and tensors that are not 0-dim integers.
    """
    # A one-element 1-D tensor also passes operator.index; it is usually a batch by mistake.
    not_scalar = isinstance(value, Tensor) and (value.dim() != 0 or value.dtype == torch.bool or value.is_meta)
    if not not_scalar and not isinstance(value, bool):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise TypeError(
        f"{name} must be an integer (int, NumPy integer or 0-dim integer tensor), "
        f"got {value!r} of type {type(value).__name__}; convert it with int(...)"
    )


def as_n_paths(value: SupportsIndex | Tensor) -> int:
    """Return a number of paths as an int.

    Raises:
        TypeError: if it is not an integer.
        ValueError: if there are none, or too many to keep numbers for each.
    """
    n_paths = as_int(value, "n_paths")
    if not 1 <= n_paths <= MOST_PATHS:
        raise ValueError(f"n_paths must be at least 1, got {n_paths}; and at most {MOST_PATHS}")
    return n_paths


def as_number(value: Any, name: str) -> float:
    """Return ``value``, a real number of Python or NumPy, as a float; NaN and infinities are numbers here.

    Raises:
        TypeError: if it is not a number.
    """
    if not isinstance(value, (float, int, Real)):
        raise TypeError(f"Invalid {name}: {value!r} of type {type(value).__name__}; it must be a number")
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]


def as_fraction(value: Any, name: str) -> float:
    """Return ``value``, a number in ``[0, 1]``, as a float.

    Raises:
        TypeError: if it is not a number.
        ValueError: if it is out of range.
    """
    number = as_number(value, name)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{name} must be in [0, 1], got {value}")
    return number


def as_switch(value: Any, name: str) -> bool:
    """Return ``value``, True or False of Python or NumPy.

    Raises:
        TypeError: if it is neither.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r} of type {type(value).__name__}")
    return bool(value)


def as_floats(values: Any, name: str) -> npt.NDArray[np.float64]:
    """Return real numbers, a tensor, array or sequence of any shape, as a new float64 array.

    Raises:
        TypeError: if they are not real numbers.
    """
    kind = type(values).__name__
    try:
        if isinstance(values, Tensor):
            # A complex tensor is left for the error below.
            values = None if values.is_complex() else values.detach().to("cpu", torch.float64, copy=True).numpy()
        if isinstance(values, (list, tuple)):
            values = [v.item() if isinstance(v, Tensor) and v.dim() == 0 else v for v in values]
        array = np.array(values)
        if array.dtype.kind in "biuf" or (array.ndim and all(isinstance(v, Real) for v in array.flat)):
            return array.astype(np.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        pass
    raise TypeError(f"{name} must be real numbers in a dense tensor, an array or a list, got a {kind}")


def as_path(path: Any, name: str = "path") -> str:
    """Return the name of a file or folder as a string.

    Raises:
        TypeError: if it is none; an integer would name an open file.
    """
    try:
        return os.fsdecode(path)
    except TypeError:
        raise TypeError(
            f"{name} must be a string or pathlib.Path, got {path!r} of type {type(path).__name__}"
        ) from None


def as_path_idx(value: SupportsIndex | Tensor, n_paths: int) -> int:
    """Return ``value`` as an int in ``[0, n_paths)``.

    Raises:
        TypeError: if it is not an integer.
        IndexError: if it is out of range; negative indices do not wrap around.
    """
    if _is_several(value):
        raise TypeError(
            f"Invalid path_idx: {value!r}; expected one integer, since a path updates a row of its own; for "
            "several in a step, call add_path(...) after the backward pass of each, then step()"
        )
    path_idx = as_int(value, "path_idx")
    if not 0 <= path_idx < n_paths:
        raise IndexError(f"path_idx must be in [0, {n_paths}), got {path_idx}; n_paths is {n_paths}")
    return path_idx


def _is_several(value: Any) -> bool:
    if isinstance(value, (Tensor, np.ndarray)):
        return value.ndim > 0 and len(value) != 1
    return isinstance(value, (list, tuple, set, frozenset, range))


def as_uint64(value: Any, name: str) -> int:
    """Return ``value`` as an int in ``[0, 2**64)``.

    Raises:
        TypeError: if it is not an integer.
        ValueError: if it is out of range.
    """
    number = as_int(value, name)
    if not 0 <= number < 2**64:
        raise ValueError(f"Invalid {name}: {number}; expected an integer in [0, 2**64)")
    return number


def refuse_paths(n_paths: Any) -> None:
    """Raise TypeError, without a list of them, if ``n_paths`` is the paths themselves or what has them."""
    remedy = instead_of_paths(n_paths)
    if remedy:
        kind = type(n_paths).__name__
        size = f" of {len(n_paths)} entries" if hasattr(n_paths, "__len__") else ""
        raise TypeError(f"Invalid n_paths: a {kind}{size}; expected an integer; {remedy}")


def as_one_path(path_idx: Any, n_paths: int) -> int:
    """Return a path as an int in ``[0, n_paths)``.

    Raises:
        TypeError: if it is not an integer.
        IndexError: if it is out of range.
    """
    if isinstance(path_idx, (list, tuple, range)) or getattr(path_idx, "ndim", 0):
        raise TypeError(
            f"Invalid path_idx: a {type(path_idx).__name__}; expected an integer, one path; for several, call it "
            "for each"
        )
    return as_path_idx(path_idx, n_paths)


def instead_of_paths(value: Any) -> str:
    """Return what to give in place of paths, or of what has paths; nothing for anything else."""
    if isinstance(getattr(value, "n_paths", None), int):
        return "give its number of paths, as in PathSampler(n_paths=jtfs.n_paths)"
    several = isinstance(value, (list, tuple, range)) or (
        isinstance(value, (Tensor, np.ndarray)) and value.ndim > 0
    )
    # A single entry is more likely the number itself.
    return f"for as many paths as it has entries: n_paths={len(value)}" if several and len(value) > 1 else ""


def plain_value(value: Any) -> Any:
    """Return a number, truth value or string of NumPy, or a tensor of one element, as Python's; others as is.

    Those of NumPy would keep a state dict from being loaded with ``weights_only=True``.
    """
    if isinstance(value, Tensor):
        readable = (
            value.numel() == 1 and value.layout is torch.strided and not (value.is_meta or value.is_complex())
        )
        return value.item() if readable else value
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    if isinstance(value, (float, str)) and type(value) not in (float, str):
        return float(value) if isinstance(value, float) else "".join(value)
    return value


def plain_hyperparameters(group: dict[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters of ``group`` that are not plain Python numbers and strings, made plain.

    A tensor stays one for ``lr``, as in PyTorch's optimizers, where a scheduler writes into it.
    """
    plain = {}
    for key in HYPERPARAMETERS:
        value = group.get(key)
        if key == "betas" and isinstance(value, (Tensor, np.ndarray)) and value.ndim == 1:
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


def check_weight(weight: float | None, param_groups: list[dict[str, Any]]) -> None:
    """Raise ValueError if a path's importance weight is not usable."""
    if weight is None:
        return
    factor = as_number(weight.item() if isinstance(weight, Tensor) else weight, "weight")
    rates = [group["lr"] for group in param_groups if isinstance(group["lr"], (int, float))]
    if factor < math.inf and factor * max([1.0, *rates]) > _LARGEST_FACTOR:
        raise ValueError(f"weight={weight} is too large, expected at most {_LARGEST_FACTOR:g}, times lr as well")
    if not 0.0 < factor < math.inf:
        raise ValueError(f"weight must be finite and positive, got {weight}; it is 1 / (n_paths * probability)")
    if weight != 1.0 and param_groups[0]["n_paths"] == 1:
        raise ValueError(f"weight={weight} with n_paths=1: the only path has probability 1 and weight 1")
    if weight != 1.0 and not all(group["unbiased"] for group in param_groups):
        raise ValueError(
            f"weight={weight} needs PathAdamSAGA(..., unbiased=True): the paper's update has no importance weights"
        )


def check_hyperparameters(group: dict[str, Any]) -> None:
    """Raise if a hyperparameter of a parameter group is out of its domain.

    Raises:
        TypeError: if one is of another type than documented.
        ValueError: if one is out of its domain.
    """
    _check_lr(group["lr"])
    betas = group["betas"]
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise ValueError(f"Invalid betas: {betas!r}; they must be two numbers in [0, 1)")
    first, second = (as_number(beta, "betas") for beta in betas)
    if not (0.0 <= first < 1.0 and 0.0 <= second < 1.0):
        raise ValueError(f"Invalid betas: {betas}; they must be two numbers in [0, 1)")
    if second == 0.0 < first and group["eps"] == 0.0:
        raise ValueError(
            f"Invalid betas: {betas} with eps=0; a gradient that becomes zero would be divided by itself; "
            "let betas[1] > 0 or eps > 0"
        )
    for name, largest in (("eps", _LARGEST_EPS), ("weight_decay", _LARGEST_DECAY)):
        if not (0.0 <= as_number(group[name], name) <= largest):
            raise ValueError(f"Invalid {name}: {group[name]}; it must be finite and >= 0, at most {largest:g}")
    if not 1 <= as_int(group["n_paths"], "n_paths") <= MOST_PATHS:
        raise ValueError(f"Invalid n_paths: {group['n_paths']}; it must be at least 1, and at most {MOST_PATHS}")
    if not 0.0 <= as_number(group["saga"], "saga") <= 1.0:
        raise ValueError(f"Invalid saga: {group['saga']}; it must be in [0, 1]: 1 is the paper's P-SAGA, 0 none")
    if not isinstance(group["storage"], str) or group["storage"] not in STORAGES:
        raise ValueError(f"Invalid storage: {group['storage']!r}; it must be one of {', '.join(STORAGES)}")
    if not isinstance(group["nonfinite"], str) or group["nonfinite"] not in ("raise", "skip"):
        raise ValueError(f"Invalid nonfinite: {group['nonfinite']!r}; it must be 'raise' or 'skip'")
    for name in _SWITCHES:
        if not isinstance(group[name], bool):
            raise TypeError(f"Invalid {name}: {group[name]!r}; it must be True or False")
    if group["foreach"] is not None and not isinstance(group["foreach"], bool):
        raise TypeError(f"Invalid foreach: {group['foreach']!r}; it must be True, False or None")


def _check_lr(lr: Any) -> None:
    if not isinstance(lr, Tensor):
        value = as_number(lr, "lr")
    elif lr.numel() != 1:
        raise ValueError(
            f"Invalid lr: a tensor of shape {tuple(lr.shape)}, expected one element: Tensor lr must be 1-element; "
            "parameters of other rates go into groups of their own"
        )
    elif lr.is_complex() or lr.is_meta or lr.layout is not torch.strided:
        raise TypeError(
            f"Invalid lr: a tensor of {lr.dtype}, {lr.layout}, on {lr.device}; it must be a real number"
        )
    else:
        value = lr.item()
    if not (0.0 <= value <= _LARGEST_FACTOR):
        raise ValueError(f"Invalid lr: {lr}; it must be finite and >= 0, at most {_LARGEST_FACTOR:g}")


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
            f"n_paths={group_n_paths} of the parameter group differs from the optimizer's "
            f"n_paths={n_paths}; all groups share one set of paths, leave it out"
        )


def check_callable(function: Any, name: str) -> None:
    """Raise TypeError if ``function`` cannot be called."""
    if not callable(function):
        raise TypeError(f"{name} must be callable, got {function!r} of type {type(function).__name__}")


def check_closure(closure: Any) -> None:
    """Raise TypeError if a closure cannot be called."""
    if not callable(closure):
        raise TypeError(
            f"closure must be callable, got {closure!r} of type {type(closure).__name__}; "
            "name the path, as in step(path_idx=...)"
        )


def check_params(params: Any) -> None:
    """Raise TypeError unless these are parameters, or groups of them, as torch's optimizers take them."""
    if not isinstance(params, Iterable):
        raise TypeError(f"params must be parameters or dicts with 'params', got {params!r}")
    if isinstance(params, (list, tuple)):
        for group in params:
            if isinstance(group, dict) and "params" not in group:
                raise TypeError(f"a parameter group must have 'params', got a dict with {sorted(map(str, group))}")
