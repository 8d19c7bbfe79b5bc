"""The state that PathAdamSAGA keeps of a parameter besides its clocks: a row for each drawn path, and one sum."""

from __future__ import annotations

import functools
import itertools
import re
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scrapl_optim._path_adam_saga.clocks import ALL_CLOCKS, State
from scrapl_optim._path_adam_saga.formats import Format, RowFormat, local, row_format
from scrapl_optim._path_adam_saga.hyperparameters import value_of
from scrapl_optim._path_adam_saga.offload import Row, on_host

_PART_NAMES = ("update", "update_scale", "rms", "rms_top")
_ROW_KEY = re.compile(rf"({'|'.join(_PART_NAMES)})\.[0-9]+")

# The sum follows its rows to a few roundings of an entry, which add up where paths are few and hence drawn
# often. There, summing again is cheap. A weighted sum of many paths is formed again as often in proportion.
_REFRESH_EVERY = 1024
_MOST_REFRESHED = 64


def state_dtype(param: Tensor) -> torch.dtype:
    """Return the dtype of the arithmetic and the sum: real, the parameter's, at least float32."""
    return torch.promote_types(param.dtype, torch.float32).to_real()


def as_real(tensor: Tensor) -> Tensor:
    """Return a complex tensor as its real view, another as it is."""
    return torch.view_as_real(tensor) if torch.is_complex(tensor) else tensor


def keeps_sum(group: dict[str, Any]) -> bool:
    """Return whether a state created now has the sum over paths: with one path the SAGA terms cancel exactly."""
    return group["saga"] > 0 and group["n_paths"] > 1


def sum_weights(group: dict[str, Any]) -> tuple[float, ...] | None:
    """Return the weights of the paths in the sum, ``None`` where each counts one."""
    return value_of(group, "probs") if value_of(group, "memory_by_probs") else None


def is_refresh_due(group: dict[str, Any], k: int) -> bool:
    """Return whether the sum is to be formed again after step ``k``."""
    n_paths = group["n_paths"]
    if n_paths <= _MOST_REFRESHED:
        return k % _REFRESH_EVERY == 0
    return sum_weights(group) is not None and k % (n_paths * _REFRESH_EVERY // _MOST_REFRESHED) == 0


def row_part(key: Any) -> str | None:
    """Return which part of a path's row a key of a state names, as ``"rms"`` of ``"rms.12"``, if it names one."""
    named = _ROW_KEY.fullmatch(key) if isinstance(key, str) else None
    return named and named.group(1)


def is_own(key: Any) -> bool:
    """Return whether a key of a parameter's state is this optimizer's, and not an entry that a wrapper keeps."""
    return key in (*ALL_CLOCKS, "saga_sum") or row_part(key) is not None


def init_state(state: State, param: Tensor, group: dict[str, Any], clocks: dict[str, Tensor]) -> None:
    """Fill ``state`` with ``clocks`` at zero, no rows and a zero sum."""
    state |= clocks
    if keeps_sum(group):
        # zeros_like is sharded as the parameter is; new_zeros is not.
        state["saga_sum"] = torch.zeros_like(
            as_real(param.detach()), dtype=state_dtype(param), memory_format=torch.contiguous_format
        )


class RowLayout(NamedTuple):
    """The tensors that a row of a parameter consists of.

    Attributes:
        formats: formats of ``update`` and ``rms``.
        tensors: those of the two that the row has, with their formats.
        names: names of all parts, without the path.
        dtype: dtype of the arithmetic.
        is_complex: True for a complex parameter, whose row is that of its real view.
        sharded: True for a DTensor.
        kind: one object for all layouts whose parts can be updated together.
    """

    formats: RowFormat
    tensors: tuple[tuple[str, Format], ...]
    names: tuple[str, ...]
    dtype: torch.dtype
    is_complex: bool
    sharded: bool
    kind: object

    def allocate(self, param: Tensor) -> Row:
        """Return a row of zeros for ``param``, by name."""
        like = as_real(param.detach())
        parts = [part for _, form in self.tensors for part in form.allocate(like, self.dtype)]
        return dict(zip(self.names, parts, strict=True))


def row_layout(param: Tensor, group: dict[str, Any], has_sum: bool) -> RowLayout:
    """Return what a row of ``param`` consists of: two tensors with P-Adam, one with P-SAGA alone, or none."""
    sharded = hasattr(type(param), "to_local") or hasattr(param, "to_local")
    return _row_layout(group["storage"], param.shape, param.dtype, sharded, group["path_adam"], has_sum)


@functools.cache
def _row_layout(
    storage: str, shape: torch.Size, dtype: torch.dtype, sharded: bool, path_adam: bool, has_sum: bool
) -> RowLayout:
    formats = row_format(storage, (*shape, 2) if dtype.is_complex else tuple(shape))
    tensors = (("update", formats.update), ("rms", formats.rms))[: 2 if path_adam else int(has_sum)]
    names = tuple(name + suffix for name, form in tensors for suffix in form.suffixes)
    real = torch.promote_types(dtype, torch.float32).to_real()
    return RowLayout(formats, tensors, names, real, dtype.is_complex, sharded, _kind(formats, names))


@functools.cache
def _kind(formats: RowFormat, names: tuple[str, ...]) -> object:
    return object()


def bytes_taken(param: Tensor, group: dict[str, Any], has_sum: bool) -> tuple[int, int]:
    """Return the bytes of one row and of the sum of a parameter, of a DTensor those of this rank's part."""
    layout = row_layout(param, group, has_sum)
    part = torch.empty_like(local(param.detach()), device="meta")  # which has a size and takes no memory
    row = sum(tensor.nbytes for tensor in layout.allocate(part).values())
    return row, as_real(part).numel() * layout.dtype.itemsize if has_sum else 0


def get_row(state: State, names: tuple[str, ...], path: int) -> Row:
    """Return the parts of a path's row by name; those that the state lacks are left out."""
    return {name: state[f"{name}.{path}"] for name in names if f"{name}.{path}" in state}


def add_row(state: State, param: Tensor, layout: RowLayout, path: int) -> None:
    """Give a path its row, of zeros."""
    for name, part in layout.allocate(param).items():
        state[f"{name}.{path}"] = on_host(part, param.device) if layout.formats.host else part


def drop_undrawn(state: State) -> None:
    """Free the rows of a state that has not stepped: they were allocated to load a checkpoint into."""
    if int(state["step"].max()) == 0:
        for key in [key for key in state if row_part(key)]:
            del state[key]


def drawn_paths(state: State) -> list[int]:
    """Return the paths that were drawn, in increasing order."""
    return state["step"].nonzero().flatten().tolist()


def check_param(state: State, param: Tensor, layout: RowLayout) -> None:
    """Raise if the parameter has another shape, dtype or device than its state was made for."""
    tensors = {k: v for k, v in state.items() if k == "saga_sum" or row_part(k) in ("update", "rms")}
    for key, tensor in itertools.islice(tensors.items(), 2):
        is_row = key != "saga_sum"
        form = dict(layout.tensors).get(row_part(key) or "")
        if is_row and (form is None or not form.whole):
            continue
        moved = tensor.device != param.device and not (is_row and layout.formats.host)
        if moved or tensor.dtype != layout.dtype or tensor.shape != as_real(param.detach()).shape:
            raise RuntimeError(
                f"Invalid parameter: now {tuple(param.shape)}, {param.dtype} on {param.device}; expected "
                f"{tuple(tensor.shape)}, {tensor.dtype} on {tensor.device}, as its state {key!r}; cast or move "
                "the model before the first step; later, optimizer.load_state_dict(optimizer.state_dict()) takes "
                "the state along, but not to another shape"
            )


def check_layout(state: State, param: Tensor, group: dict[str, Any], layout: RowLayout) -> None:
    """Raise if ``path_adam``, ``saga`` or ``storage``, or the parameter, do not fit what is tensor."""
    if "saga_sum" not in state and keeps_sum(group):
        raise RuntimeError(
            f"Invalid saga: {group['saga']}; expected 0, since the sum over paths is kept only if saga > 0 when "
            "the optimizer's state is created; start with saga > 0, or clear optimizer.state to start over"
        )
    path = int(state["step"].argmax())
    if state["step"][path] == 0 and not any(map(row_part, state)):
        return
    check_param(state, param, layout)
    present = {name for name in _PART_NAMES if f"{name}.{path}" in state}
    dtype = layout.formats.update.dtype or layout.dtype
    if present != set(layout.names) or (present and state[f"update.{path}"].dtype != dtype):
        raise RuntimeError(
            f"Invalid path_adam={group['path_adam']} or storage={group['storage']!r}: they need rows of "
            f"{sorted(layout.names)} in {dtype}; expected those that have made the rows of {sorted(present)}; "
            "choose both when the optimizer is created, or clear optimizer.state to start over"
        )


def refresh_sum(state: State, layout: RowLayout, weights: tuple[float, ...] | None) -> None:
    """Sum the SAGA memory again from its rows, in the order of paths."""
    saga_sum: Tensor = local(state["saga_sum"]).zero_()
    form = layout.formats.update
    names = tuple("update" + suffix for suffix in form.suffixes)
    for path in drawn_paths(state):
        parts = [local(part).to(saga_sum.device) for part in get_row(state, names, path).values()]
        saga_sum.add_(form.decode(parts, saga_sum.dtype), alpha=1 if weights is None else weights[path])
