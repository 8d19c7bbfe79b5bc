"""Checks shared by the sampler and the optimizer."""

import math
import operator
from typing import Any, SupportsIndex

from torch import Tensor

from scrapl_optim.storage import STORAGES


def as_int(value: SupportsIndex | Tensor, name: str) -> int:
    """Return ``value`` as a Python int.

    Python and NumPy integers and 0-dim integer tensors are accepted.

    Raises:
        TypeError: for bools, floats, and tensors that are not 0-dim integers.
    """
    # A one-element 1-D tensor also passes operator.index; it is usually a batch by mistake.
    not_scalar = isinstance(value, Tensor) and value.dim() != 0
    if not not_scalar and not isinstance(value, bool):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise TypeError(
        f"{name} must be an integer (int, NumPy integer or 0-dim integer tensor), "
        f"got {value!r} of type {type(value).__name__}; convert it with int(...)"
    )


def as_path_idx(value: SupportsIndex | Tensor, n_paths: int) -> int:
    """Return ``value`` as an int in ``[0, n_paths)``.

    Raises:
        TypeError: if it is not an integer.
        IndexError: if it is out of range; negative indices do not wrap around.
    """
    path_idx = as_int(value, "path_idx")
    if not 0 <= path_idx < n_paths:
        raise IndexError(f"path_idx must be in [0, {n_paths}), got {path_idx}; n_paths is {n_paths}")
    return path_idx


def check_weight(weight: float | None, param_groups: list[dict[str, Any]]) -> None:
    """Raise ValueError if a path's importance weight is not usable."""
    if weight is None:
        return
    if not 0.0 < weight < math.inf:
        raise ValueError(f"weight must be finite and positive, got {weight}; it is 1 / (n_paths * probability)")
    if weight != 1.0 and param_groups[0]["n_paths"] == 1:
        raise ValueError(f"weight={weight} with n_paths=1: the only path has probability 1 and weight 1")
    if weight != 1.0 and not all(group["unbiased"] for group in param_groups):
        raise ValueError(
            f"weight={weight} needs PathAdamSAGA(..., unbiased=True): the paper's update has no importance weights"
        )


def check_hyperparameters(group: dict[str, Any]) -> None:
    """Raise ValueError if a hyperparameter of a parameter group is out of its domain."""
    lr, betas = group["lr"], group["betas"]
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError(f"Invalid lr: a tensor of shape {tuple(lr.shape)}; it must have one element")
    if not (0.0 <= lr < math.inf):
        raise ValueError(f"Invalid lr: {lr}; it must be finite and >= 0")
    if len(betas) != 2 or not all(0.0 <= beta < 1.0 for beta in betas):
        raise ValueError(f"Invalid betas: {betas}; they must be two numbers in [0, 1)")
    if betas[1] == 0.0 < betas[0] and group["eps"] == 0.0:
        raise ValueError(
            f"Invalid betas: {betas} with eps=0; a gradient that becomes zero would be divided by itself; "
            "let betas[1] > 0 or eps > 0"
        )
    for name in ("eps", "weight_decay"):
        if not (0.0 <= group[name] < math.inf):
            raise ValueError(f"Invalid {name}: {group[name]}; it must be finite and >= 0")
    if as_int(group["n_paths"], "n_paths") < 1:
        raise ValueError(f"Invalid n_paths: {group['n_paths']}; it must be at least 1")
    if not 0.0 <= group["saga"] <= 1.0:
        raise ValueError(f"Invalid saga: {group['saga']}; it must be in [0, 1]: 1 is the paper's P-SAGA, 0 none")
    if group["storage"] not in STORAGES:
        raise ValueError(f"Invalid storage: {group['storage']!r}; it must be one of {', '.join(STORAGES)}")
    if group["nonfinite"] not in ("raise", "skip"):
        raise ValueError(f"Invalid nonfinite: {group['nonfinite']!r}; it must be 'raise' or 'skip'")
