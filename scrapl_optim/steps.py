"""Puts together what one step of PathAdamSAGA reads and writes, and runs the update on it."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.optimizer import _default_to_fused_or_foreach

from scrapl_optim import path_state
from scrapl_optim.functional import Coefficients, Slot, update_tensor, update_tensors
from scrapl_optim.gradients import Gradients
from scrapl_optim.host import Row, RowFetcher
from scrapl_optim.path_state import RowLayout, Visit
from scrapl_optim.pieces import Scratch, in_pieces
from scrapl_optim.storage import local, salt_of

State = dict[Any, dict[str, Any]]


class Entry(NamedTuple):
    """A parameter that has a gradient, with its state and the layout of its rows."""

    param: Tensor
    state: dict[str, Any]
    layout: RowLayout


class HostRow(NamedTuple):
    """A row that is to go back to the host: the parameter's, on the host, and on the device."""

    param: Tensor
    row: Row
    fetched: Row


class Batch(NamedTuple):
    """Parameters that one set of coefficients serves.

    Attributes:
        slots: tensors to read and write.
        dtype: of the arithmetic.
        coefficients: numbers of the update.
        foreach: whether to use multi-tensor operations; ``None``: pieces that fit a CPU's cache.
        host_rows: rows to put back.
        refreshed: entries whose sum is to be summed again.
    """

    slots: list[Slot]
    dtype: torch.dtype
    coefficients: Coefficients
    foreach: bool | None
    host_rows: list[HostRow]
    refreshed: list[Entry]


def tick_all(entries: list[Entry], states: State, path: int, gradients: Gradients, eps: float) -> dict[int, Visit]:
    """Advance the clocks of ``entries`` by a visit of ``path``; returns the visits by the clocks' identities.

    Parameters that have had gradients at the same steps share one clock: most models have one, and telling the
    time costs the same for any number of parameters. Those that part from the others get their own.
    """
    sharing: dict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        sharing[id(entry.state["step"])].append(entry)
    if len(states) > len(entries):
        stepping = {id(entry.state) for entry in entries}
        for idle in {id(state["step"]) for state in states.values() if state and id(state) not in stepping}:
            _part(sharing.pop(idle, []), sharing)
    return {clock: path_state.tick(members[0].state, path, gradients, eps) for clock, members in sharing.items()}


def _part(members: list[Entry], sharing: dict[int, list[Entry]]) -> None:
    if members:
        own = {key: members[0].state[key].clone() for key in path_state.CLOCKS}
        for entry in members:
            entry.state.update(own)
        sharing[id(own["step"])] = members


def make_batches(
    group: dict[str, Any],
    entries: list[Entry],
    visits: dict[int, Visit],
    rows: RowFetcher,
    path: int,
    weight: float | None,
) -> list[Batch]:
    """Return the updates of ``entries``, all of ``group``, in batches of one clock, device and kind of row."""
    batches: dict[Any, list[Entry]] = defaultdict(list)
    for entry in entries:
        param, state, layout = entry
        batches[id(state["step"]), id(layout.kind), param.dtype, param.device, "saga_sum" in state].append(entry)
    return [
        _batch(group, members, visits[id(members[0].state["step"])], rows, path, weight)
        for members in batches.values()
    ]


def _batch(
    group: dict[str, Any], entries: list[Entry], visit: Visit, rows: RowFetcher, path: int, weight: float | None
) -> Batch:
    slots, host_rows = [], []
    layout = entries[0].layout
    for param, state, layout in entries:
        row = fetched = path_state.get_row(state, layout.names, path)
        if layout.formats.host and row:
            fetched = rows.take(param, path, row)
            host_rows.append(HostRow(param, row, fetched))
        slots.append(_slot(param, state, layout, fetched))
    if visit.unit_change != 1.0 and layout.formats.rms is not None:
        for slot in slots:
            _change_unit(slot, visit.unit_change, layout.dtype)
    refreshing = path_state.refresh_due(visit, group["n_paths"]) and "saga_sum" in entries[0].state
    return Batch(
        slots=slots,
        dtype=layout.dtype,
        coefficients=_coefficients(group, visit, layout.dtype, path, weight),
        foreach=_implementation(group["foreach"], [entry.param for entry in entries]),
        host_rows=host_rows,
        refreshed=entries if refreshing else [],
    )


def _slot(param: Tensor, state: dict[str, Any], layout: RowLayout, row: Row) -> Slot:
    tensors = [param, param.grad, *row.values(), state.get("saga_sum")]
    if layout.sharded:
        tensors = [None if tensor is None else local(tensor) for tensor in tensors]
    own, grad, *parts, saga_sum = tensors
    if layout.is_complex and own is not None and grad is not None:
        own, grad = torch.view_as_real(own), torch.view_as_real(grad)
    n_update = len(layout.formats.update.suffixes)
    return Slot(own, grad, parts[:n_update], parts[n_update:], layout.formats, saga_sum)  # type: ignore[arg-type]


def _change_unit(slot: Slot, factor: float, dtype: torch.dtype) -> None:
    if slot.rms:
        form = slot.formats.rms
        form.encode(slot.rms, form.decode(slot.rms, dtype).mul_(factor), 0)


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


def _implementation(foreach: bool | None, params: list[Tensor]) -> bool | None:
    if foreach is not None or params[0].device.type == "cpu":
        return foreach
    return _default_to_fused_or_foreach(params, differentiable=False)[1]


def run(batch: Batch, scratch: Scratch, compiling: bool) -> None:
    """Run the update; a compiler makes its own pieces."""
    if batch.foreach or (batch.foreach is None and compiling):
        update_tensors(batch.slots, batch.dtype, batch.coefficients)
    elif batch.foreach is None:
        in_pieces(batch.slots, batch.dtype, batch.coefficients, scratch)
    else:
        for slot in batch.slots:
            update_tensor(slot, batch.dtype, batch.coefficients)


def finish(batches: list[Batch], rows: RowFetcher) -> None:
    """Send rows back to the host, and sum the memory again where it is time."""
    for batch in batches:
        for host_row in batch.host_rows:
            rows.put(*host_row)
    for batch in batches:
        if batch.host_rows and batch.refreshed:
            rows.wait()
        for entry in batch.refreshed:
            path_state.refresh_sum(entry.state, entry.layout)


def host_rows(param_groups: list[dict[str, Any]], states: State, path: int) -> Iterator[tuple[Tensor, Row]]:
    """Yield the parameters whose row of ``path`` is on the host, with the row."""
    for group in param_groups:
        if not group["storage"].endswith("-host"):
            continue
        for param in group["params"]:
            state = states.get(param)
            if state:
                layout = path_state.row_layout(param, group, "saga_sum" in state)
                row = path_state.get_row(state, layout.names, path)
                if row:
                    yield param, row
