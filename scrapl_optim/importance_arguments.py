"""Arguments of theta-importance, and what is wrong with them."""

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from scrapl_optim._validation import (
    as_int,
    as_n_paths,
    as_number,
    as_path,
    as_switch,
    check_callable,
    refuse_paths,
)

METHODS = ("exact", "shared_subspace", "gauss_newton", "control_curvature")

_Item = TypeVar("_Item")


class Problem(NamedTuple):
    """What the importance of paths is asked of.

    Attributes:
        encoder: maps a batch to controls theta of shape ``(B, U)``; deterministic.
        synth: maps controls and the batch to a sound, or whatever the path loss takes; deterministic.
        path_loss: maps the sound, the batch and a path to a scalar, a mean or sum over examples.
        batches: the data; anything that the three understand.
        params: weights of the encoder.
        n_paths: P.
    """

    encoder: Callable[[Any], Tensor]
    synth: Callable[[Tensor, Any], Any]
    path_loss: Callable[[Any, Any, int], Tensor]
    batches: Sequence[Any]
    params: Sequence[Tensor]
    n_paths: int


class Limits(NamedTuple):
    """How far to go; see :func:`scrapl_optim.theta_importance`."""

    tolerance: float
    max_products: int
    max_basis: int
    max_subspace: int
    max_graphs: int


def as_problem(encoder: Any, synth: Any, path_loss: Any, batches: Any, params: Any, n_paths: Any) -> Problem:
    """Return the problem; raise TypeError or ValueError, by name, where it is none."""
    _check_takes(encoder, "encoder", "batch")
    _check_takes(synth, "synth", "theta", "batch")
    _check_takes(path_loss, "path_loss", "sound", "batch", "path_idx")
    if isinstance(batches, Tensor):
        raise TypeError("batches is a tensor, expected a sequence of batches; a single batch is [batch]")
    weights = _as_list(params, "params", "the weights of the encoder")
    for weight in weights:
        if not isinstance(weight, Tensor) or not weight.is_floating_point():
            raise TypeError(f"params holds {type(weight).__name__}, expected floating tensors, e.g. parameters()")
    kinds = {(weight.dtype, weight.device) for weight in weights}
    if len(kinds) > 1:
        raise ValueError(f"params are of several dtypes or devices, {sorted(map(str, kinds))}; expected one")
    data = _as_list(batches, "batches", "at least one batch")
    refuse_paths(n_paths)
    return Problem(encoder, synth, path_loss, data, weights, as_n_paths(n_paths))


def as_limits(tolerance: Any, max_products: Any, max_basis: Any, max_subspace: Any, max_graphs: Any) -> Limits:
    """Return the limits; raise TypeError or ValueError, by name, where one is out of its domain."""
    number = as_number(tolerance, "tolerance")
    if not 0 < number < math.inf:
        raise ValueError(f"tolerance={tolerance}, expected a positive number")
    least = {"max_products": (max_products, 1), "max_basis": (max_basis, 4)}
    least |= {"max_subspace": (max_subspace, 1), "max_graphs": (max_graphs, 0)}
    counts = {name: as_int(value, name) for name, (value, _) in least.items()}
    for name, (_, smallest) in least.items():
        if counts[name] < smallest:
            raise ValueError(f"{name}={counts[name]}, expected at least {smallest}")
    return Limits(number, **counts)


def check_options(
    method: Any, curvature: Any, split: Any, dtype: Any, folder: Any, check: Any, progress: Any
) -> None:
    """Raise TypeError or ValueError, by name, where an option is not what is expected."""
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"method={method!r}, expected one of {METHODS}")
    if curvature is not None:
        _check_takes(curvature, "curvature", "theta", "batch", "paths")
    if split is not None:
        _check_takes(split, "split", "batch")
    if dtype is not None and (not isinstance(dtype, torch.dtype) or not dtype.is_floating_point):
        raise TypeError(f"dtype={dtype!r}, expected a floating dtype of torch, or None")
    if folder is not None:
        as_path(folder, "folder")
    as_switch(check, "check")
    if not callable(progress):
        as_switch(progress, "progress")


def as_share(share: Any) -> tuple[int, int]:
    """Return (rank, count); raise where they are not."""
    if not isinstance(share, (tuple, list)) or len(share) != 2:
        raise TypeError(f"share={share!r}, expected (rank, count)")
    rank, count = (
        as_int(value, name) for value, name in zip(share, ("rank of share", "count of share"), strict=True)
    )
    if not 0 <= rank < count:
        raise ValueError(f"share={share}, expected (rank, count) with 0 <= rank < count")
    return rank, count


def as_chosen(paths: Iterable[int] | None, n_paths: int) -> list[int]:
    """Return the paths to compute, sorted; raise where some do not exist or there are none."""
    if paths is None:
        return list(range(n_paths))
    chosen = sorted({as_int(p, "an entry of paths") for p in _as_list(paths, "paths", "some paths")})
    outside = [p for p in chosen if not 0 <= p < n_paths]
    if outside:
        raise ValueError(f"paths={outside}, expected some in [0, {n_paths})")
    return chosen


def _check_takes(function: Any, name: str, *arguments: str) -> None:
    """Raise TypeError if a function cannot be called, or not with these arguments by position."""
    check_callable(function, name)
    called: Any = function
    if isinstance(function, nn.Module) and type(function).__call__ is nn.Module.__call__:
        called = function.forward if not function._forward_pre_hooks else lambda *_: None
    try:
        # What a wrapper adds or takes away does not show in what it wraps.
        signature = inspect.signature(called, follow_wrapped=False)
    except (TypeError, ValueError):  # a function of C tells nothing
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        listed = ", ".join(arguments)
        raise TypeError(
            f"Invalid {name}: it takes {signature}, but is called as {name}({listed}): {error}; let it take all "
            f"of them, used or not, as in lambda {listed}: ..."
        ) from None


def _as_list(items: Iterable[_Item], name: str, expected: str) -> list[_Item]:
    if isinstance(items, (str, bytes)) or not isinstance(items, Iterable):
        raise TypeError(f"{name} must be a sequence, {expected}; got {items!r} of type {type(items).__name__}")
    found = list(items)
    if not found:
        raise ValueError(f"{name} is empty, expected {expected}")
    return found
