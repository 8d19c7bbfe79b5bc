"""Checks shared by the sampler and the optimizer."""

import math
import operator
from collections import defaultdict
from typing import Any, SupportsIndex

import torch
from torch import Tensor

from scrapl_optim.path_state import GRAD_SCALE


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


def gradients_usable(param_groups: list[dict[str, Any]], path: int) -> bool:
    """Return whether all gradients are finite and fit the moments; raise if one is sparse, or if it should."""
    grads: dict[tuple[torch.device, torch.dtype, bool], list[Tensor]] = defaultdict(list)
    for group in param_groups:
        for p in group["params"]:
            if p.grad is None:
                continue
            if p.grad.layout != torch.strided:
                raise RuntimeError("PathAdamSAGA does not support sparse gradients; make the gradient dense")
            grads[p.grad.device, p.grad.dtype, bool(group["path_adam"])].append(p.grad)
    # The 2-norm first: it bounds every entry, carries a NaN of one rank to all (a maximum may not), and is 30
    # times faster than the maximum norm on a CPU.
    keys = list(grads)
    norms = [float(_norms(grads[key], key[1], 2).max()) for key in keys]
    if all(norm < _largest(dtype, adam) for norm, (_, dtype, adam) in zip(norms, keys, strict=True)):
        return True
    problem = "has an inf or a NaN, expected finite values; look for it in the loss of this path"
    if all(math.isfinite(norm) for norm in norms):
        entries = [float(_norms(grads[key], key[1], math.inf).max()) for key in keys]
        limits = [_largest(dtype, adam) for _, dtype, adam in keys]
        beyond = [(entry, limit) for entry, limit in zip(entries, limits, strict=True) if entry >= limit]
        if not beyond:
            return True
        (entry, limit), *_ = beyond
        problem = f"reaches {entry:g}, beyond the {limit:.2g} that the moments can hold; scale the loss down"
    if any(group["nonfinite"] == "raise" for group in param_groups):
        raise RuntimeError(
            f"a gradient of path {path} {problem}, or leave such steps out with nonfinite='skip'; "
            "nothing was updated"
        )
    return False


def _norms(batch: list[Tensor], dtype: torch.dtype, order: float) -> Tensor:
    """Return the norm of each gradient that has entries; in float16 the 2-norm would overflow early."""
    filled = [grad for grad in batch if grad.numel()]
    if not filled:
        return torch.zeros(1)
    return torch.stack(torch._foreach_norm(filled, order, dtype=torch.float32 if dtype == torch.float16 else None))


def _largest(dtype: torch.dtype, path_adam: bool) -> float:
    """Return the gradient whose square, in internal units, just overflows the dtype of the state."""
    largest = torch.finfo(torch.promote_types(dtype, torch.float32)).max
    return math.sqrt(largest) / GRAD_SCALE if path_adam else math.inf


def check_hyperparameters(group: dict[str, Any]) -> None:
    """Raise ValueError if a hyperparameter of a parameter group is out of its domain."""
    lr, betas = group["lr"], group["betas"]
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError(f"Invalid lr: a tensor of shape {tuple(lr.shape)}; it must have one element")
    if not (0.0 <= lr < math.inf):
        raise ValueError(f"Invalid lr: {lr}; it must be finite and >= 0")
    if len(betas) != 2 or not all(0.0 <= beta < 1.0 for beta in betas):
        raise ValueError(f"Invalid betas: {betas}; they must be two numbers in [0, 1)")
    for name in ("eps", "weight_decay"):
        if not (0.0 <= group[name] < math.inf):
            raise ValueError(f"Invalid {name}: {group[name]}; it must be finite and >= 0")
    if as_int(group["n_paths"], "n_paths") < 1:
        raise ValueError(f"Invalid n_paths: {group['n_paths']}; it must be at least 1")
    if group["nonfinite"] not in ("raise", "skip"):
        raise ValueError(f"Invalid nonfinite: {group['nonfinite']!r}; it must be 'raise' or 'skip'")
