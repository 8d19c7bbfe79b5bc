"""The settings of a transform that names none: its class, its plain attributes, and what its tensors contain."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

# What torch keeps in a module, of which no coefficient depends; tensors and parts are listed by themselves.
_OF_TORCH = frozenset(vars(nn.Module()))


class Contents(NamedTuple):
    """The contents of a tensor or an array, as a value to compare; copies of a tensor have equal contents.

    Attributes:
        shape: its shape.
        digest: of its type and its bytes; empty on the meta device, where there are none.
    """

    shape: tuple[int, ...]
    digest: str

    def __repr__(self) -> str:
        return f"contents {self.digest[:8] or 'unknown'} of shape {self.shape}"


def default_settings(module: nn.Module) -> dict[str, Any]:
    """Return the class of a module, its plain attributes and the contents of its tensors, those of parts included.

    Attributes of other kinds stand for themselves: they are equal where ``==`` says so, as a function is to itself
    alone.
    """
    settings: dict[str, Any] = {"class": type(module)}
    for prefix, part in module.named_modules():
        own = {name: value for name, value in vars(part).items() if name not in _OF_TORCH}
        tensors = {**part._parameters, **part._buffers}
        for name, value in (own | tensors).items():
            settings[f"{prefix}.{name}" if prefix else name] = _as_value(value)
        if prefix:
            settings[prefix] = type(part)
    return settings


def differences(there: Any, here: Any) -> str:
    """Name what differs between two settings, in both; nothing where nothing does."""
    if type(there) is type(here) and there == here:
        return ""
    if not isinstance(there, Mapping) or not isinstance(here, Mapping):
        return f"settings {there!r} there and {here!r} here"
    missing = object()
    names = [name for name in {**there, **here} if there.get(name, missing) != here.get(name, missing)]
    shown = [f"{name}={there.get(name)!s} there and {here.get(name)!s} here" for name in names]
    return ", ".join(shown)


def _as_value(value: Any) -> Any:
    """Return a value that later changes of a tensor, an array or a container leave alone."""
    if isinstance(value, Tensor):
        return _contents(value.detach())
    if isinstance(value, np.ndarray) and value.dtype != object:
        return _digest(value)
    if isinstance(value, (list, tuple)):
        return (type(value), *map(_as_value, value))
    if isinstance(value, dict):
        return (dict, *((key, _as_value(entry)) for key, entry in value.items()))
    return value


def _contents(tensor: Tensor) -> Contents:
    if tensor.is_meta:
        return Contents(tuple(tensor.shape), "")
    dense = tensor.to_dense() if tensor.layout is not torch.strided else tensor
    bits = dense.resolve_conj().resolve_neg().cpu().contiguous().reshape(-1).view(torch.uint8)
    return _digest(bits.numpy(), str(tensor.dtype), tuple(tensor.shape))


def _digest(array: Any, dtype: str | None = None, shape: tuple[int, ...] | None = None) -> Contents:
    hashed = hashlib.blake2b((dtype or array.dtype.str).encode(), digest_size=16)
    hashed.update(np.ascontiguousarray(array).tobytes())
    return Contents(array.shape if shape is None else shape, hashed.hexdigest())
