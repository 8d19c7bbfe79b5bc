"""Puts together what one step of PathAdamSAGA reads and writes, and runs the update on it."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scrapl_optim import path_state
from scrapl_optim.arenas import Arena, Entry, Row, can_join, same, set_apart
from scrapl_optim.functional import Coefficients, Slot, as_tensors, update_tensor
from scrapl_optim.gradients import Gradients
from scrapl_optim.host import RowFetcher
from scrapl_optim.path_state import Visit
from scrapl_optim.pieces import Scratch, Work, in_pieces
from scrapl_optim.storage import salt_of

State = dict[Any, dict[str, Any]]


class Plan(NamedTuple):
    """The arenas of the parameters of a group that have a gradient, and what they were built for."""

    entries: list[Entry]
    arenas: list[Arena]
    settings: tuple[Any, ...]

    def fits(self, params: list[Tensor], states: list[dict[str, Any]], group: dict[str, Any]) -> bool:
        """Whether this plan can serve ``params``, which have ``states``, in this step."""
        return (
            self.settings == _settings(group)
            and same([entry.param for entry in self.entries], params)
            and same([entry.state for entry in self.entries], states)
            and all(_share_clock(arena.entries) for arena in self.arenas)
        )


def _settings(group: dict[str, Any]) -> tuple[Any, ...]:
    return group["storage"], group["path_adam"], path_state.keeps_sum(group)


def _share_clock(entries: list[Entry]) -> bool:
    clock = entries[0].state["step"]
    return same([entry.state["step"] for entry in entries], [clock] * len(entries))


def make_plan(group: dict[str, Any], params: list[Tensor], states: list[dict[str, Any]]) -> Plan:
    """Sort ``params``, whose states are in place, into arenas."""
    entries = []
    arenas: dict[Any, list[Entry]] = defaultdict(list)
    for param, state in zip(params, states, strict=True):
        path_state.drop_undrawn(state)
        layout = path_state.row_layout(param, group, "saga_sum" in state)
        path_state.check_layout(state, group, layout)
        entry = Entry(param, state, layout)
        entries.append(entry)
        alone = None if can_join(layout) else param
        key = (id(state["step"]), id(layout.kind), param.dtype, param.device, "saga_sum" in state, id(alone))
        arenas[key].append(entry)
    return Plan(entries, [Arena(members) for members in arenas.values()], _settings(group))


def part_missing(plan: Plan, params: list[Tensor]) -> None:
    """Free the arenas of ``plan``, which is given up, from the parameters that ``params`` no longer has."""
    present = {id(param) for param in params}
    for entry in plan.entries:
        if id(entry.param) not in present:
            set_apart(entry)


def part_clocks(stepping: list[dict[str, Any]], states: State) -> None:
    """Give a clock of their own to those ``stepping`` that share one with parameters that do not step now.

    Parameters that have had gradients at the same steps share one clock: most models have one, and telling the
    time costs the same for any number of parameters.
    """
    if len(states) == len(stepping):
        return
    steps_now = {id(state) for state in stepping}
    idle = {id(state["step"]) for state in states.values() if state and id(state) not in steps_now}
    own: dict[int, dict[str, Tensor]] = {}
    for state in stepping:
        clock = id(state["step"])
        if clock in idle:
            if clock not in own:
                own[clock] = {key: state[key].clone() for key in path_state.CLOCKS}
            state.update(own[clock])


def tick_all(arenas: list[Arena], path: int, gradients: Gradients, eps: float) -> dict[int, Visit]:
    """Advance the clocks of ``arenas`` by a visit of ``path``; returns the visits by the clocks' identities."""
    states = {id(arena.entries[0].state["step"]): arena.entries[0].state for arena in arenas}
    return {clock: path_state.tick(state, path, gradients, eps) for clock, state in states.items()}


class Batch(NamedTuple):
    """An arena in a step.

    Attributes:
        arena: parameters, their sums and rows.
        row: row of the drawn path, on the device.
        host_row: the same on the host, if that is its place.
        coefficients: numbers of the update.
        foreach: ``False`` for one parameter at a time.
        refreshing: whether the sum is to be summed again.
    """

    arena: Arena
    row: Row
    host_row: Row | None
    coefficients: Coefficients
    foreach: bool | None
    refreshing: bool


def make_batch(
    group: dict[str, Any],
    arena: Arena,
    visits: dict[int, Visit],
    rows: RowFetcher,
    path: int,
    weight: float | None,
) -> Batch:
    """Return what is left to compute for an arena of ``group``; ``visits`` is from :func:`tick_all`."""
    visit = visits[id(arena.entries[0].state["step"])]
    row, host_row = arena.row(path), None
    if arena.layout.formats.host and row:
        row, host_row = rows.take((id(arena), path), row, arena.device), row
    if visit.unit_change != 1.0 and len(arena.layout.tensors) == 2:
        form, parts = arena.layout.formats.rms, _parts(row, "rms")
        form.encode(parts, form.decode(parts, arena.layout.dtype).mul_(visit.unit_change), 0)
    return Batch(
        arena=arena,
        row=row,
        host_row=host_row,
        coefficients=_coefficients(group, visit, arena.layout.dtype, path, weight),
        foreach=group["foreach"],
        refreshing="saga_sum" in arena.entries[0].state and path_state.refresh_due(visit, group["n_paths"]),
    )


def _parts(row: Row, name: str) -> list[Tensor]:
    return [part for key, part in row.items() if key.startswith(name)]


def _coefficients(
    group: dict[str, Any], visit: Visit, dtype: torch.dtype, path: int, weight: float | None
) -> Coefficients:
    n_paths, lr = group["n_paths"], _as_scalar(group["lr"])
    n_counted = n_paths if group["unbiased"] else max(1, visit.n_visited)
    return Coefficients(
        lr=lr,
        decay=1 - lr * group["weight_decay"],
        weight1=path_state.ema_weight(group["betas"][0], visit, n_paths),
        weight2=path_state.ema_weight(group["betas"][1], visit, n_paths),
        scale=visit.scale or 1.0,
        eps=group["eps"] * visit.scale**2,
        floor=torch.finfo(dtype).tiny,
        sign=-1.0 if group["maximize"] else 1.0,
        weight=1.0 if weight is None else float(weight),
        saga=float(group["saga"]),
        saga_mean=group["saga"] / n_counted,
        salts=(salt_of(visit.step, path, 0), salt_of(visit.step, path, 1)),
    )


def _as_scalar(lr: float | Tensor) -> float | Tensor:
    """A CPU tensor becomes a number; one on an accelerator stays there, for reading would synchronise."""
    if not isinstance(lr, Tensor):
        return lr
    return lr.item() if lr.device.type == "cpu" else lr.reshape(())


def run(batch: Batch, scratch: Scratch) -> None:
    """Run the update."""
    arena, dtype = batch.arena, batch.arena.layout.dtype
    if batch.foreach is False:
        for slot in _slots(batch):
            update_tensor(slot, dtype, batch.coefficients)
    else:
        work = Work(
            params=arena.params(),
            grads=arena.grads(),
            shapes=arena.shapes,
            update=_parts(batch.row, "update"),
            rms=_parts(batch.row, "rms"),
            formats=arena.layout.formats,
            saga_sum=arena.saga_sum(),
            is_flat=arena.is_flat,
        )
        in_pieces(work, dtype, batch.coefficients, scratch)


def _slots(batch: Batch) -> Iterator[Slot]:
    """Yield the parameters one by one."""
    arena, formats = batch.arena, batch.arena.layout.formats
    update = [arena.split(part) for part in _parts(batch.row, "update")]
    rms = [arena.split(part) for part in _parts(batch.row, "rms")]
    saga_sum = arena.saga_sum()
    sums = None if saga_sum is None else arena.split(saga_sum)
    for i, (param, grad) in enumerate(zip(arena.params(), arena.grads(), strict=True)):
        own_sum = None if sums is None else sums[i]
        yield Slot(param, grad, [part[i] for part in update], [part[i] for part in rms], formats, own_sum)


class CompilerWork(NamedTuple):
    """An arena as one slot, for :func:`scrapl_optim.functional.update_formula`."""

    slot: Slot
    dtype: torch.dtype
    coefficients: Coefficients


def compiler_work(batch: Batch) -> CompilerWork:
    """Return an arena as one slot; its parameters are copies if the arena joins them."""
    arena = batch.arena
    params, grads = arena.params(), arena.grads()
    if arena.is_flat:
        params, grads = ([torch.cat([t.reshape(-1) for t in tensors])] for tensors in (params, grads))
    update, rms = _parts(batch.row, "update"), _parts(batch.row, "rms")
    slot = Slot(params[0], grads[0], update, rms, arena.layout.formats, arena.saga_sum())
    return CompilerWork(slot, arena.layout.dtype, as_tensors(batch.coefficients, arena.layout.dtype))


def copy_back(arena: Arena, slot: Slot) -> None:
    """Give the parameters their values."""
    if arena.is_flat:
        torch._foreach_copy_(arena.params(), arena.split(slot.param))


def fetch_rows(plan: Plan, rows: RowFetcher, path: int) -> None:
    """Start copying rows from the host that the next step will take."""
    for arena in plan.arenas:
        if arena.layout.formats.host and arena.has_row(path):
            rows.fetch((id(arena), path), arena.row(path), arena.device)


def finish(batches: list[Batch], rows: RowFetcher) -> None:
    """Send rows back to the host, and sum the memory again where it is time."""
    for batch in batches:
        if batch.host_row is not None:
            rows.put(batch.host_row, batch.row, batch.arena.device)
    for batch in batches:
        if batch.refreshing:
            rows.wait()
            for entry in batch.arena.entries:
                path_state.refresh_sum(entry.state, entry.layout)
