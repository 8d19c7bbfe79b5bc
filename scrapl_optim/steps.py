"""Puts together what one step of PathAdamSAGA reads and writes, and runs the update on it."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from scrapl_optim import path_state
from scrapl_optim.arenas import Arena, Entry, Row, can_join, same, set_apart
from scrapl_optim.functional import Coefficients, Slot, as_tensors, update_tensor
from scrapl_optim.gradients import Gradients
from scrapl_optim.host import RowFetcher
from scrapl_optim.path_state import Visit
from scrapl_optim.pieces import Scratch, Work, in_pieces
from scrapl_optim.storage import salt_of

State = dict[Any, Any]
ClockId = tuple[int, ...]
# The clocks of each parameter as last seen by a step or a load
Clocks = WeakIdKeyDictionary

_MOST_UNUSED = 0.25
_LARGEST_FACTOR = 100  # as an exponent of two


class Plan(NamedTuple):
    """The arenas of the parameters of a group that have a gradient, and what they were built for."""

    entries: list[Entry]
    arenas: list[Arena]
    settings: tuple[Any, ...]
    kinds: list[Any]

    def fits(self, params: list[Tensor], states: list[dict[str, Any]], group: dict[str, Any]) -> bool:
        """Whether this plan can serve ``params``, which have ``states``, in this step."""
        return (
            self.settings == _settings(group)
            and self.kinds == _kinds(params)
            and same([entry.param for entry in self.entries], params)
            and same([entry.state for entry in self.entries], states)
            and all(_keeps_clock(arena) for arena in self.arenas)
        )


def _settings(group: dict[str, Any]) -> tuple[Any, ...]:
    return group["storage"], group["path_adam"], path_state.keeps_sum(group)


def _kinds(params: list[Tensor]) -> list[Any]:
    """What may not change under a plan; addresses may."""
    return [x for p in params for x in (p.dtype, p.device, p.shape)]


def _keeps_clock(arena: Arena) -> bool:
    return all(
        same([entry.state[key] for entry in arena.entries], [clock] * len(arena.entries))
        for key, clock in arena.clocks.items()
    )


def at_home(key: str, states: list[dict[str, Any]]) -> bool:
    """Whether all clocks under ``key`` are where a step reads them; most states share one."""
    clocks = {id(state[key]): state[key] for state in states}
    return all(path_state.at_home(key, clock) for clock in clocks.values())


def take_clocks_home(params: list[Tensor], states: list[dict[str, Any]], known: Clocks) -> None:
    """Let the clocks of ``states`` be on the CPU again, in their dtypes, wherever others have moved or cast them.

    Trainers move the entries of a state to the device of its parameter, all but ``"step"``. What was shared stays
    shared. On the meta device, which keeps no numbers, the clock last ``known`` of the parameter goes on.

    Raises:
        RuntimeError: if a clock is on the meta device and was never seen elsewhere.
    """
    homes: dict[int, Tensor] = {}
    for param, state in zip(params, states, strict=True):
        for key in path_state.CLOCKS:
            clock = state[key]
            if id(clock) not in homes:
                homes[id(clock)] = _home(param, key, clock, known)
            if homes[id(clock)] is not clock:
                state[key] = homes[id(clock)]


def _home(param: Tensor, key: str, clock: Tensor, known: Clocks) -> Tensor:
    if not isinstance(clock, Tensor):
        raise RuntimeError(
            f"Invalid state {key!r} of a parameter: {clock!r}; expected the tensor that was there; load a state "
            "dict with load_state_dict"
        )
    if not clock.is_meta:
        return path_state.as_clock(key, clock)
    if param not in known:
        raise RuntimeError(
            f"state {key!r} of a parameter is on the meta device, which keeps no numbers; expected a tensor with "
            "numbers; load a state dict with load_state_dict"
        )
    return known[param][key]


def make_plan(group: dict[str, Any], params: list[Tensor], states: list[dict[str, Any]], known: Clocks) -> Plan:
    """Sort ``params``, whose states are in place, into arenas; what their clocks are is ``known`` from then on."""
    entries = []
    arenas: dict[Any, list[Entry]] = defaultdict(list)
    tied: Counter[int] = Counter()
    join_clocks(states)
    for param, state in zip(params, states, strict=True):
        known[param] = {key: state[key] for key in path_state.CLOCKS}
        layout = path_state.row_layout(param, group, "saga_sum" in state)
        path_state.check_layout(state, param, group, layout)
        entry = Entry(param, state, layout)
        entries.append(entry)
        alone = None if can_join(layout) else param
        key = (_clock_of(state), id(layout.kind), param.dtype, param.device, "saga_sum" in state, id(alone))
        if can_join(layout):
            # Parameters on one memory take their steps one after the other.
            key = (*key, tied[param.data_ptr()])
            tied[param.data_ptr()] += bool(param.numel())
        arenas[key].append(entry)
    return Plan(entries, [Arena(members) for members in arenas.values()], _settings(group), _kinds(params))


def join_clocks(states: list[dict[str, Any]]) -> None:
    """Let states share their clocks if these tell the same time.

    Equal clocks part when a state is loaded or parameters miss gradients; each would be an arena of its own.
    """
    pairs: dict[Any, tuple[Tensor, ...]] = {}
    for state in states:
        clocks = tuple(state[key] for key in path_state.CLOCKS)
        contents = tuple(clock.numpy().tobytes() for clock in clocks)
        state.update(zip(path_state.CLOCKS, pairs.setdefault(contents, clocks), strict=True))


def _clock_of(state: dict[str, Any]) -> ClockId:
    """Whoever copies only some tensors of a state may leave one clock shared and the other not."""
    return tuple(id(state[key]) for key in path_state.CLOCKS)


def part_missing(plan: Plan, params: list[Tensor]) -> None:
    """Free the arenas of ``plan``, which is given up, from the parameters that ``params`` no longer has.

    Those that stay move, too, where they would keep much more memory alive than they use.
    """
    present = {id(param) for param in params}
    missing = [entry for entry in plan.entries if id(entry.param) not in present]
    staying = [entry for entry in plan.entries if id(entry.param) in present]
    sizes = [sum(entry.param.numel() for entry in entries) for entries in (missing, staying)]
    for entry in [*missing, *(staying if sizes[0] > _MOST_UNUSED * sizes[1] else ())]:
        set_apart(entry)


def part_clocks(stepping: list[dict[str, Any]], states: State) -> None:
    """Give a clock of their own to those ``stepping`` that share one with parameters that do not step now.

    Parameters that have had gradients at the same steps share one clock: most models have one, and telling the
    time costs the same for any number of parameters.
    """
    if len(states) == len(stepping):
        return
    steps_now = {id(state) for state in stepping}
    others = [
        state
        for key, state in states.items()
        if isinstance(key, Tensor) and path_state.has_started(state) and id(state) not in steps_now
    ]
    idle = {id(state[key]) for state in others for key in path_state.CLOCKS}
    own: dict[ClockId, dict[str, Tensor]] = {}
    for state in stepping:
        clocks = _clock_of(state)
        if not idle.isdisjoint(clocks):
            if clocks not in own:
                own[clocks] = {key: state[key].clone() for key in path_state.CLOCKS}
            state.update(own[clocks])


def next_visits(arenas: list[Arena], path: int, gradients: Gradients, eps: float) -> dict[ClockId, Visit]:
    """Return the visits of ``path`` in this step, by the identities of the clocks of ``arenas``."""
    sharing: dict[ClockId, list[Arena]] = defaultdict(list)
    for arena in arenas:
        sharing[_clock_of(arena.entries[0].state)].append(arena)
    visits = {}
    for clock, members in sharing.items():
        # The unit must be one that all of them can hold.
        narrow = any(arena.layout.dtype != torch.float64 for arena in members)
        dtype = torch.float32 if narrow else torch.float64
        visits[clock] = path_state.next_visit(members[0].entries[0].state, path, gradients, eps, dtype)
    return visits


def tick_all(arenas: list[Arena], path: int, visits: dict[ClockId, Visit]) -> None:
    """Advance the clocks of ``arenas``; what several share is set to the same several times."""
    for arena in arenas:
        state = arena.entries[0].state
        path_state.tick(state, path, visits[_clock_of(state)])


class Turn(NamedTuple):
    """A path's place among those of a step.

    Attributes:
        path: p.
        weight: its importance weight, if one was given.
        share: its part of the draws of the step, 1 where it is the only path.
        first: whether it comes first, with the decay and the mean of the memory, before any row changes.
        last: whether it comes last.
    """

    path: int
    weight: float | None
    share: float = 1.0
    first: bool = True
    last: bool = True


class Batch(NamedTuple):
    """An arena in a step.

    Attributes:
        arena: parameters, their sums and rows.
        grads: their gradients, as real tensors of this rank.
        row: row of the drawn path, on the device.
        host_row: the same on the host, if that is its place.
        unit_change: what its root is to be multiplied by first.
        coefficients: numbers of the update.
        foreach: ``False`` for one parameter at a time.
        is_alone: whether the step has no other path.
        refreshing: whether the sum is to be summed again.
    """

    arena: Arena
    grads: list[Tensor]
    row: Row
    host_row: Row | None
    unit_change: float
    coefficients: Coefficients
    foreach: bool | None
    is_alone: bool
    refreshing: bool


def make_batch(
    group: dict[str, Any],
    arena: Arena,
    visits: dict[ClockId, Visit],
    rows: RowFetcher,
    turn: Turn,
    grads: dict[Tensor, Tensor] | None,
) -> Batch:
    """Return what is left to compute for an arena of ``group``.

    ``visits`` is from :func:`next_visits`; ``grads`` are those that parameters do not hold themselves.
    """
    path = turn.path
    visit = visits[_clock_of(arena.entries[0].state)]
    row, host_row = arena.row(path), None
    if arena.layout.formats.host and row:
        row, host_row = rows.take((id(arena), path), row, arena.device), row
    return Batch(
        arena=arena,
        grads=arena.grads(grads),
        row=row,
        host_row=host_row,
        unit_change=visit.unit_change,
        coefficients=_coefficients(group, visit, arena.layout.dtype, turn),
        foreach=group["foreach"],
        is_alone=turn.first and turn.last,
        refreshing=turn.last
        and "saga_sum" in arena.entries[0].state
        and path_state.refresh_due(visit, group["n_paths"]),
    )


def _parts(row: Row, name: str) -> list[Tensor]:
    return [part for key, part in row.items() if key.startswith(name)]


def _coefficients(group: dict[str, Any], visit: Visit, dtype: torch.dtype, turn: Turn) -> Coefficients:
    n_paths, lr = group["n_paths"], _as_scalar(group["lr"])
    n_counted = n_paths if group["unbiased"] else max(1, visit.n_visited)
    return Coefficients(
        lr=lr,
        decay=1 - lr * group["weight_decay"] if turn.first else 1.0,
        weight1=path_state.ema_weight(group["betas"][0], visit, n_paths),
        weight2=path_state.ema_weight(group["betas"][1], visit, n_paths),
        scale=_in_two(visit.scale or 1.0),
        eps=group["eps"] * visit.scale * visit.scale,
        floor=torch.finfo(dtype).tiny,
        sign=-1.0 if group["maximize"] else 1.0,
        weight=turn.share * (1.0 if turn.weight is None else float(turn.weight)),
        saga=float(group["saga"]),
        saga_mean=group["saga"] / n_counted if turn.first else 0.0,
        salts=(salt_of(visit.step, turn.path, 0), salt_of(visit.step, turn.path, 1)),
    )


def _in_two(unit: float) -> tuple[float, float]:
    """Return two powers of two near each other in place of one that float32 may not hold."""
    exponent = math.frexp(unit)[1] - 1
    half = exponent // 2 if abs(exponent) > _LARGEST_FACTOR else exponent
    return 2.0**half, 2.0 ** (exponent - half)


def _as_scalar(lr: float | Tensor) -> float | Tensor:
    """A CPU tensor becomes a number; one on an accelerator stays there, for reading would synchronise."""
    if not isinstance(lr, Tensor):
        return float(lr)
    return lr.item() if lr.device.type == "cpu" else lr.reshape(())


def change_unit(batch: Batch) -> None:
    """Bring the root of the row into the unit of this step."""
    layout = batch.arena.layout
    if batch.unit_change != 1.0 and len(layout.tensors) == 2:
        form, parts = layout.formats.rms, _parts(batch.row, "rms")
        form.encode(parts, form.decode(parts, layout.dtype).mul_(batch.unit_change), 0)


def run(batch: Batch, scratch: Scratch) -> None:
    """Run the update."""
    arena, dtype = batch.arena, batch.arena.layout.dtype
    if batch.foreach is False:
        for slot in _slots(batch):
            update_tensor(slot, dtype, batch.coefficients)
    else:
        work = Work(
            params=arena.params(),
            grads=batch.grads,
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
    for i, (param, grad) in enumerate(zip(arena.params(), batch.grads, strict=True)):
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
    params, grads = [param.detach() for param in arena.params()], batch.grads
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
