"""The clocks of parameters: when each path was last drawn, how many were, and in which unit their rows are."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from scrapl_optim._path_adam_saga.gradients import Gradients

# The state of one parameter, of which the functions here read and write the clocks alone
State = dict[str, Any]
ClockId = tuple[int, ...]
# The clocks of each parameter as last seen by a step or a load
KnownClocks = WeakIdKeyDictionary

_CLOCK_DTYPES = {"step": torch.int64, "scale": torch.float64, "visits": torch.int64}
# Those that every state has; the third counts visits where a warm-up of paths asks for it.
CLOCKS = ("step", "scale")
ALL_CLOCKS = tuple(_CLOCK_DTYPES)
# Of paths drawn before they were counted, which is more than any warm-up takes
MANY_VISITS = 2**40

# A path's row is in units that put its largest gradient here: above it 12 doublings are free until squares
# overflow float32, below it the squares of entries 10^28 times smaller do not underflow.
_TARGET = 2.0**50
_LIMIT = 2.0**62
# Subnormal numbers of float32 reach the target; those of float64, with a unit that float64 holds, nearly.
_LARGEST_EXPONENTS = {torch.float64: 960}
_LARGEST_EXPONENT = 200
# Below it 1 - exp(-x) is x to all digits, and far below, where its digits are lost, the quotient of two is not.
_LINEAR = 1e-100


class Visit(NamedTuple):
    """The clocks of parameters at the visit of one path.

    Attributes:
        k: number of updates of these parameters, this one included.
        tau: the step at which the path was last drawn; 0 if never.
        n_visited: card Gamma, the number of paths drawn before this step.
        unit: unit of the row of the path.
        unit_change: factor that brings the row into this unit.
        n_before: number of visits of the path before this one; 0 where they are not counted.
    """

    k: int
    tau: int
    n_visited: int
    unit: float
    unit_change: float = 1.0
    n_before: int = 0


def ema_weight(beta: float, visit: Visit, period: float) -> float:
    r"""Return the weight of the new gradient in the bias-corrected moment of its path.

    With the ``period`` T in steps, P in the paper, and :math:`\hat m_p = m_p / (1 - \beta^{\tau_p/T})`, equations
    (6) and (8) become

    .. math:: \hat m_p \leftarrow (1 - a) \, \hat m_p + a \, g, \qquad
              a = \frac{1 - \beta^{(k - \tau_p)/T}}{1 - \beta^{k/T}} .

    Keeping :math:`\hat m_p` in place of :math:`m_p` avoids the tiny factors :math:`1 - \beta^{1/T}`,
    which push small gradients below the range of float32. At the first visit ``a`` is exactly 1. In the limit of
    a long period it is :math:`(k - \tau_p) / k`.
    """
    if beta == 0.0:
        return 1.0
    log_beta = math.log(beta) / period
    if -visit.k * log_beta < _LINEAR:
        return (visit.k - visit.tau) / visit.k
    return math.expm1((visit.k - visit.tau) * log_beta) / math.expm1(visit.k * log_beta)


def warmup_factor(n_visits: int, path_warmup: float) -> float:
    r"""Return the factor of a path's update, :math:`\sqrt{\min(1, n / n_0)}` at its n-th visit.

    The first moment is then an average of at most n gradients. If these are noise, the root mean square of the
    update is :math:`1 / \sqrt n`, and times the factor :math:`1 / \sqrt{n_0}` at the first :math:`n_0` visits.
    """
    return math.sqrt(n_visits / path_warmup) if n_visits < path_warmup else 1.0


def clock_bytes(n_paths: int, counting: bool) -> int:
    """Return the bytes of :func:`new_clocks`."""
    return n_paths * sum(_CLOCK_DTYPES[key].itemsize for key in (ALL_CLOCKS if counting else CLOCKS))


def new_clocks(n_paths: int, counting: bool) -> dict[str, Tensor]:
    """Return clocks at zero, tensors of shape ``(n_paths,)`` on the CPU.

    ``step`` (int64) is the step of each path's last visit, tau: its maximum is k and its non-zero entries are
    Gamma. ``scale`` (float64) is the unit of each path's row, 0 before its first non-zero gradient. ``visits``
    (int64), if ``counting``, is the number of visits of each path.
    """
    keys = ALL_CLOCKS if counting else CLOCKS
    return {key: torch.zeros(n_paths, dtype=_CLOCK_DTYPES[key], device="cpu") for key in keys}


def clocks_of(state: State) -> dict[str, Tensor]:
    """Return the clocks of a state that has started."""
    return {key: state[key] for key in ALL_CLOCKS if key in state}


def count_visits(states: list[State]) -> None:
    """Let those of ``states`` that do not count visits begin to; paths drawn before have had many."""
    counts: dict[int, Tensor] = {}
    for state in states:
        if "visits" not in state:
            if id(state["step"]) not in counts:
                counts[id(state["step"])] = (state["step"] > 0).to("cpu", torch.int64) * MANY_VISITS
            state["visits"] = counts[id(state["step"])]


def has_started(state: Any) -> bool:
    """Return whether the state of a parameter has clocks."""
    return isinstance(state, dict) and "step" in state and "scale" in state


def clock_id(state: State) -> ClockId:
    """Return what tells clocks apart: all tensors, since a copy of a state may share only some of them."""
    return tuple(map(id, clocks_of(state).values()))


def next_visit(state: State, path: int, gradients: Gradients, eps: float, dtype: torch.dtype) -> Visit:
    """Return the clocks of ``state`` at a visit of ``path`` in this step; :func:`tick` makes it so.

    The unit of the row is chosen by the first gradient, and again if gradients outgrow it, among those that
    ``dtype`` can hold.
    """
    tau, units = state["step"].numpy(), state["scale"].numpy()
    unit, root_eps = float(units[path]), math.sqrt(eps)
    n_before = int(state["visits"].numpy()[path]) if "visits" in state else 0
    visit = Visit(int(tau.max()) + 1, int(tau[path]), int(np.count_nonzero(tau)), unit, n_before=n_before)
    if unit == 0.0 or max(gradients.bound, root_eps) * unit > _LIMIT:
        new = _unit_for(max(gradients.entry, root_eps), unit, dtype)
        return visit._replace(unit=new, unit_change=new / (unit or new or 1.0))
    return visit


def _unit_for(largest: float, unit: float, dtype: torch.dtype) -> float:
    """Return the power of two that brings ``largest`` to the target; ``unit`` if that is still in range."""
    if largest == 0.0 or (unit > 0.0 and largest * unit <= _LIMIT):
        return unit
    exponent = math.floor(math.log2(_TARGET) - math.log2(largest))
    limit = _LARGEST_EXPONENTS.get(dtype, _LARGEST_EXPONENT)
    return 2.0 ** max(-limit, min(exponent, limit))


def tick(state: State, path: int, visit: Visit) -> None:
    """Advance the clocks of ``state``, and of all states that share them."""
    state["step"].numpy()[path] = visit.k
    state["scale"].numpy()[path] = visit.unit
    if "visits" in state:
        state["visits"].numpy()[path] = visit.n_before + 1


def join_clocks(states: list[State]) -> None:
    """Let states share their clocks if these tell the same time.

    Parameters that have had gradients at the same steps share one clock: most models have one, and telling the
    time then costs the same for any number of parameters. Equal clocks part when a state is loaded or when
    parameters miss gradients.
    """
    clocks_by_content: dict[Any, dict[str, Tensor]] = {}
    for state in states:
        clocks = clocks_of(state)
        contents = tuple(clock.numpy().tobytes() for clock in clocks.values())
        state.update(clocks_by_content.setdefault(contents, clocks))


def part_clocks(stepping: list[State], all_states: list[State]) -> None:
    """Give clocks of their own to those ``stepping`` that share some with parameters that do not step now."""
    steps_now = {id(state) for state in stepping}
    idle = {key for state in all_states if id(state) not in steps_now for key in clock_id(state)}
    own: dict[ClockId, dict[str, Tensor]] = {}
    for state in stepping:
        clocks = clock_id(state)
        if not idle.isdisjoint(clocks):
            if clocks not in own:
                own[clocks] = {key: clock.clone() for key, clock in clocks_of(state).items()}
            state.update(own[clocks])


def at_home(state: State) -> bool:
    """Return whether the clocks of ``state`` are where a step reads them."""
    return all(
        state[key].is_cpu and state[key].dtype == dtype for key, dtype in _CLOCK_DTYPES.items() if key in state
    )


def as_clock(key: str, tensor: Tensor) -> Tensor:
    """Return a clock, which others may have moved or cast, in its dtype on the CPU."""
    return tensor.to(device="cpu", dtype=_CLOCK_DTYPES[key])


def take_clocks_home(states: list[tuple[Tensor, State]], known: KnownClocks) -> None:
    """Let the clocks of parameters be on the CPU again, in their dtypes, wherever others have moved or cast them.

    Trainers move the entries of a state to the device of its parameter, all but ``"step"``. Clocks that were
    shared stay shared. On the meta device, which keeps no numbers, the clock last ``known`` of the parameter goes
    on.

    Raises:
        RuntimeError: if a clock is on the meta device and was never seen elsewhere.
    """
    homes: dict[int, Tensor] = {}
    for param, state in states:
        for key, clock in clocks_of(state).items():
            if id(clock) not in homes:
                homes[id(clock)] = _home(param, key, clock, known)
            if homes[id(clock)] is not clock:
                state[key] = homes[id(clock)]


def _home(param: Tensor, key: str, clock: Tensor, known: KnownClocks) -> Tensor:
    if not isinstance(clock, Tensor):
        raise RuntimeError(
            f"Invalid state {key!r} of a parameter: {clock!r}; expected the tensor that was there; load a state "
            "dict with load_state_dict"
        )
    if not clock.is_meta:
        return as_clock(key, clock)
    if param not in known or key not in known[param]:
        raise RuntimeError(
            f"Invalid state {key!r} of a parameter: a tensor on the meta device, which keeps no numbers; expected "
            "a tensor with numbers; load a state dict with load_state_dict"
        )
    return known[param][key]
