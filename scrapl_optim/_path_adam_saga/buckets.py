"""Parameters that are updated together, with their rows and sums laid end to end in memory.

The state of each parameter holds views: nothing is special for those who read, save or load it. But
one operation then updates all parameters, where a call for each would cost more than its arithmetic: at 0.1
million parameters, copying the rows together at each step would make it a quarter slower.
"""

from __future__ import annotations

import math
import operator
from collections import Counter, defaultdict
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scrapl_optim._path_adam_saga import rows
from scrapl_optim._path_adam_saga.clocks import (
    ALL_CLOCKS,
    ClockId,
    KnownClocks,
    State,
    clock_id,
    clocks_of,
    join_clocks,
)
from scrapl_optim._path_adam_saga.formats import local
from scrapl_optim._path_adam_saga.hyperparameters import value_of
from scrapl_optim._path_adam_saga.offload import Row, on_host
from scrapl_optim._path_adam_saga.rows import RowLayout

# Parameters that stay in a bucket which others leave move, too, where these had more than that part of it.
_MOST_UNUSED = 0.25


class Bucket:
    """Parameters of one clock, device and kind of row, whose rows and sums are one tensor each.

    Rows in blocks (int8) and DTensors are not joined: each such parameter has a bucket of its own.
    """

    def __init__(self, params: list[Tensor], states: list[State], layout: RowLayout) -> None:
        self.states, self.layout = states, layout
        self.clocks = clocks_of(states[0])
        self.clock_id: ClockId = clock_id(states[0])
        self.is_joined = can_join(layout)
        self.device = params[0].device
        last = (2,) if layout.is_complex else ()
        self.shapes = tuple((*param.shape, *last) for param in params)
        self._sizes = [math.prod(shape) for shape in self.shapes]
        self._params = params
        self._needs_view = layout.sharded or layout.is_complex
        self._joined: dict[str, tuple[Tensor, list[Tensor], list[int]]] = {}

    def row(self, path: int) -> Row:
        """Return the row of ``path``, one tensor for each part, allocated if the path has none."""
        layout = self.layout
        if self.is_joined:
            return {
                name: self._join(f"{name}.{path}", form.dtype or layout.dtype, layout.formats.host)
                for name, form in layout.tensors
            }
        (state,) = self.states
        row = rows.get_row(state, layout.names, path)
        if not row:
            rows.add_row(state, self._params[0], layout, path)
            row = rows.get_row(state, layout.names, path)
        if layout.formats.host and any(part.device.type != "cpu" for part in row.values()):
            row = {name: on_host(part, self.device) for name, part in row.items()}
            state.update({f"{name}.{path}": part for name, part in row.items()})
        return {name: local(part) for name, part in row.items()}

    def has_row(self, path: int) -> bool:
        """Return whether ``path`` was drawn before."""
        return f"update.{path}" in self.states[0]

    def saga_sum(self) -> Tensor | None:
        """Return the sum over paths, if there is one."""
        if "saga_sum" not in self.states[0]:
            return None
        if self.is_joined:
            return self._join("saga_sum", self.layout.dtype, False)
        return local(self.states[0]["saga_sum"])

    def tensors(self, added: dict[Tensor, Tensor] | None) -> tuple[list[Tensor], list[Tensor]]:
        """Return the parameters and their gradients, or those ``added``, as real tensors of this rank.

        The parameters are to be written to under ``no_grad``.
        """
        params = self._params
        grads = [param.grad if added is None else added[param] for param in params]
        if self._needs_view:
            return [self._real(param) for param in params], [
                self._real(grad) for grad in grads if grad is not None
            ]
        return params, grads  # type: ignore[return-value]

    def split(self, joined: Tensor) -> list[Tensor]:
        """Return the parts of a joined tensor, shaped as the parameters; any other tensor is its only part."""
        if not self.is_joined:
            return [joined]
        return [part.view(shape) for part, shape in zip(joined.split(self._sizes), self.shapes, strict=True)]

    def _real(self, tensor: Tensor) -> Tensor:
        if self.layout.sharded:
            tensor = local(tensor)
        return torch.view_as_real(tensor.resolve_conj()) if self.layout.is_complex else tensor

    def _join(self, key: str, dtype: torch.dtype, host: bool) -> Tensor:
        """Return the tensor whose parts are the states' ``key``; join them if others have taken their place."""
        joined, views, addresses = self._joined.get(key, (None, [], []))
        parts = [state.get(key) for state in self.states]
        is_known = joined is not None and all(map(operator.is_, parts, views))
        if joined is not None and is_known and [view.data_ptr() for view in views] == addresses:
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
        for state, view in zip(self.states, views, strict=True):
            state[key] = view
        self._joined[key] = (joined, views, [view.data_ptr() for view in views])
        return joined


def can_join(layout: RowLayout) -> bool:
    """Return whether parameters of this layout can share memory."""
    return not layout.sharded and all(form.elementwise for _, form in layout.tensors)


class Members(NamedTuple):
    """The parameters of a group that have a gradient.

    Attributes:
        params: the parameters.
        states: their states.
        buckets: both, sorted.
        signature: the value of :func:`signature` for which the buckets hold.
    """

    params: list[Tensor]
    states: list[State]
    buckets: list[Bucket]
    signature: list[Any]


def signature(group: dict[str, Any], params: list[Tensor], states: list[State]) -> list[Any]:
    """Return what may not change while buckets are used; addresses of parameters may.

    States and clocks go in by identity: buckets keep them alive, so that no other can have the same.
    """
    kinds = [(id(p), p.dtype, p.device, p.shape) for p in params]
    objects = [(id(state), *[id(state.get(key)) for key in ALL_CLOCKS]) for state in states]
    counting = value_of(group, "path_warmup") > 0
    return [group["storage"], group["path_adam"], group["saga"] > 0, counting, *kinds, *objects]


def make_members(group: dict[str, Any], params: list[Tensor], states: list[State], known: KnownClocks) -> Members:
    """Sort ``params``, whose states have begun, into buckets; their clocks are ``known`` from then on."""
    sorted_params: dict[Any, tuple[RowLayout, list[Tensor], list[State]]] = {}
    tied: Counter[int] = Counter()
    join_clocks(states)
    for param, state in zip(params, states, strict=True):
        known[param] = clocks_of(state)
        layout = rows.row_layout(param, group, "saga_sum" in state)
        rows.check_layout(state, param, group, layout)
        key = (clock_id(state), id(layout.kind), param.dtype, param.device, "saga_sum" in state)
        if can_join(layout):
            # Parameters on one memory take their steps one after the other.
            key = (*key, tied[param.data_ptr()])
            tied[param.data_ptr()] += bool(param.numel())
        else:
            key = (*key, id(param), None)
        _, in_bucket, their_states = sorted_params.setdefault(key, (layout, [], []))
        in_bucket.append(param)
        their_states.append(state)
    return Members(
        params=params,
        states=states,
        buckets=[Bucket(ps, their_states, layout) for layout, ps, their_states in sorted_params.values()],
        signature=signature(group, params, states),
    )


def set_apart(members: Members, params: list[Tensor]) -> None:
    """Free the buckets of ``members``, which are given up, from the parameters that ``params`` no longer has.

    Those that stay move, too, where they would keep much more memory alive than they use.
    """
    present = {id(param) for param in params}
    layouts = {id(state): bucket.layout for bucket in members.buckets for state in bucket.states}
    leaving: defaultdict[bool, list[tuple[Tensor, State]]] = defaultdict(list)
    for param, state in zip(members.params, members.states, strict=True):
        leaving[id(param) not in present].append((param, state))
    sizes = {left: sum(param.numel() for param, _ in pairs) for left, pairs in leaving.items()}
    stay_together = sizes.get(True, 0) <= _MOST_UNUSED * sizes.get(False, 0)
    for param, state in [*leaving[True], *([] if stay_together else leaving[False])]:
        _copy_out(param, state, layouts[id(state)])


def _copy_out(param: Tensor, state: State, layout: RowLayout) -> None:
    """Give a parameter memory of its own: a view would keep a bucket alive that others may leave."""
    if not can_join(layout):
        return
    for key, value in state.items():
        if rows.is_own(key) and value.untyped_storage().nbytes() > value.nbytes:
            own = value.clone()
            on_other_device = layout.formats.host and key != "saga_sum"
            state[key] = on_host(own, param.device) if on_other_device else own
