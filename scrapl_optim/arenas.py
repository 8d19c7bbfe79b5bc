"""Lays the rows and sums of parameters that are updated together end to end in memory.

The state of each parameter holds views: for whoever reads it, saves it or loads it, nothing is special. But
one operation then serves all parameters, where a call for each would cost more than its arithmetic.
"""

import math
import operator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scrapl_optim import path_state
from scrapl_optim.host import on_host
from scrapl_optim.path_state import RowLayout
from scrapl_optim.storage import Format, local

Row = dict[str, Tensor]


class Entry(NamedTuple):
    """A parameter that has a gradient, with its state and the layout of its rows."""

    param: Tensor
    state: dict[str, Any]
    layout: RowLayout


class Arena:
    """Parameters of one clock, device and kind of row, whose rows and sums are one tensor each.

    Formats in blocks and DTensors stay as they are, one to an arena.
    """

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self.clocks = {key: entries[0].state[key] for key in path_state.CLOCKS}
        self.layout = entries[0].layout
        self.is_flat = can_join(self.layout)
        self.device = entries[0].param.device
        last = (2,) if self.layout.is_complex else ()
        self.shapes = tuple((*entry.param.shape, *last) for entry in entries)
        self._sizes = [math.prod(shape) for shape in self.shapes]
        self._states = [entry.state for entry in entries]
        self._plain_params = [entry.param for entry in entries]
        self._needs_view = self.layout.sharded or self.layout.is_complex
        self._joined: dict[str, tuple[Tensor, list[Tensor], list[int]]] = {}

    def row(self, path: int) -> Row:
        """Return the row of ``path``, one tensor for each part, allocated if the path has none."""
        if self.is_flat:
            parts = {}
            for name, form in self.layout.tensors:
                parts[name] = self._join(
                    f"{name}.{path}", form.dtype or self.layout.dtype, self.layout.formats.host
                )
            return parts
        (entry,) = self.entries
        row = path_state.get_row(entry.state, self.layout.names, path)
        if not row:
            path_state.add_row(entry.state, entry.param, self.layout, path)
            row = path_state.get_row(entry.state, self.layout.names, path)
        if self.layout.formats.host and any(part.device.type != "cpu" for part in row.values()):
            row = {name: on_host(part, self.device) for name, part in row.items()}
            entry.state.update({f"{name}.{path}": part for name, part in row.items()})
        return {name: local(part) for name, part in row.items()}

    def has_row(self, path: int) -> bool:
        """Whether ``path`` was drawn before."""
        return f"update.{path}" in self.entries[0].state

    def saga_sum(self) -> Tensor | None:
        """Return the sum over paths, if there is one."""
        if "saga_sum" not in self.entries[0].state:
            return None
        if self.is_flat:
            return self._join("saga_sum", self.layout.dtype, False)
        return local(self.entries[0].state["saga_sum"])

    def params(self) -> list[Tensor]:
        """Return the parameters as real tensors of this rank, to be written to under ``no_grad``."""
        return [self._real(entry.param) for entry in self.entries] if self._needs_view else self._plain_params

    def grads(self, given: dict[Tensor, Tensor] | None = None) -> list[Tensor]:
        """Return the gradients, those of the parameters if none are given, as real tensors of this rank."""
        if given is None:
            grads = [entry.param.grad for entry in self.entries if entry.param.grad is not None]
        else:
            grads = [given[entry.param] for entry in self.entries]
        return [self._real(grad) for grad in grads] if self._needs_view else grads

    def split(self, joined: Tensor) -> list[Tensor]:
        """Return the parts of a joined tensor, shaped as the parameters; of others, itself."""
        if not self.is_flat:
            return [joined]
        return [part.view(shape) for part, shape in zip(joined.split(self._sizes), self.shapes, strict=True)]

    def _real(self, tensor: Tensor) -> Tensor:
        if self.layout.sharded:
            tensor = local(tensor)
        return torch.view_as_real(tensor.resolve_conj()) if self.layout.is_complex else tensor

    def _join(self, key: str, dtype: torch.dtype, host: bool) -> Tensor:
        """Return the tensor whose parts are the states' ``key``; join them if others have taken their place."""
        joined, views, addresses = self._joined.get(key, (None, [], []))
        parts = [state.get(key) for state in self._states]
        if joined is not None and same(parts, views) and [view.data_ptr() for view in views] == addresses:
            return joined
        if all(part is None for part in parts):
            joined = torch.zeros(sum(self._sizes), dtype=dtype, device=self.device)
        else:
            home = torch.device("cpu") if host else self.device
            # Of parameters that share a clock one may have rows of paths never drawn, after materialize().
            joined = torch.cat(
                [
                    torch.zeros(n, dtype=dtype, device=home) if part is None else part.reshape(-1).to(home)
                    for part, n in zip(parts, self._sizes, strict=True)
                ]
            )
        if host:
            joined = on_host(joined, self.device)
        views = self.split(joined)
        for entry, view in zip(self.entries, views, strict=True):
            entry.state[key] = view
        self._joined[key] = (joined, views, [view.data_ptr() for view in views])
        return joined


def same(first: list[Any], second: list[Any]) -> bool:
    """Whether two lists hold the same objects."""
    return len(first) == len(second) and all(map(operator.is_, first, second))


def set_apart(entry: Entry) -> None:
    """Give a parameter memory of its own: a view would keep an arena alive that others may leave."""
    if not can_join(entry.layout):
        return
    for key, value in entry.state.items():
        if path_state.is_own(key) and value.untyped_storage().nbytes() > value.nbytes:
            own = value.clone()
            on_other_device = entry.layout.formats.host and key != "saga_sum"
            entry.state[key] = on_host(own, entry.param.device) if on_other_device else own


def can_join(layout: RowLayout) -> bool:
    """Whether parameters of this layout can share memory."""
    forms: list[Format] = [form for _, form in layout.tensors]
    return not layout.sharded and all(form.elementwise for form in forms)
