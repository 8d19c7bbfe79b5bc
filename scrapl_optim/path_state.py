"""What PathAdamSAGA keeps per parameter: the clock and unit of each path, a row per drawn path, one sum."""

import functools
import itertools
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from scrapl_optim.gradients import Gradients
from scrapl_optim.host import on_host
from scrapl_optim.storage import Format, RowFormat, local, row_format

_CLOCK_DTYPES = {"step": torch.int64, "scale": torch.float64}
CLOCKS = tuple(_CLOCK_DTYPES)
CLOCK_BYTES = sum(dtype.itemsize for dtype in _CLOCK_DTYPES.values())
_PART_NAMES = ("update", "update_scale", "rms", "rms_top")
_ROW_KEY = re.compile(rf"({'|'.join(_PART_NAMES)})\.[0-9]+")

# A path's row is in units that put its largest gradient here: above it 12 doublings are free until squares
# overflow float32, below it the squares of entries 10^28 times smaller do not underflow.
_TARGET = 2.0**50
_LIMIT = 2.0**62
# Subnormal numbers of float32 reach the target; those of float64, with a unit that float64 holds, nearly.
_LARGEST_EXPONENTS = {torch.float64: 960}
_LARGEST_EXPONENT = 200

# The sum follows its rows to a few roundings of an entry, which add up where paths are few and hence drawn
# often. There, summing again is cheap.
REFRESH_EVERY = 1024
MOST_REFRESHED = 64


class Visit(NamedTuple):
    """The clocks of one parameter at the visit of one path.

    Attributes:
        step: k, the number of updates of this parameter, this one included.
        last_visit: tau_p, the step at which the path was last drawn; 0 if never.
        n_visited: card Gamma, the number of paths drawn before this step.
        scale: unit of the row of the path.
        unit_change: what the row is to be multiplied by to be in this unit.
    """

    step: int
    last_visit: int
    n_visited: int
    scale: float
    unit_change: float = 1.0


def ema_weight(beta: float, visit: Visit, n_paths: int) -> float:
    r"""Return the weight of the new gradient in the bias-corrected moment of its path.

    With :math:`\hat m_p = m_p / (1 - \beta^{\tau_p/P})`, equations (6) and (8) of the paper become

    .. math:: \hat m_p \leftarrow (1 - a) \, \hat m_p + a \, g, \qquad
              a = \frac{1 - \beta^{(k - \tau_p)/P}}{1 - \beta^{k/P}} .

    Keeping :math:`\hat m_p` in place of :math:`m_p` avoids the tiny factors :math:`1 - \beta^{1/P}`,
    which push small gradients below the range of float32. At the first visit ``a`` is exactly 1.
    """
    if beta == 0.0:
        return 1.0
    log_beta = math.log(beta) / n_paths
    return math.expm1((visit.step - visit.last_visit) * log_beta) / math.expm1(visit.step * log_beta)


def state_dtype(param: Tensor) -> torch.dtype:
    """Return the dtype of the arithmetic and the sum: real, the parameter's, at least float32."""
    return torch.promote_types(param.dtype, torch.float32).to_real()


def as_real(tensor: Tensor) -> Tensor:
    """Return a complex tensor as its real view, another as it is."""
    return torch.view_as_real(tensor) if torch.is_complex(tensor) else tensor


def keeps_sum(group: dict[str, Any]) -> bool:
    """Whether a state created now has the sum over paths: with one path the SAGA terms cancel exactly."""
    return group["saga"] > 0 and group["n_paths"] > 1


def row_part(key: Any) -> str | None:
    """Return which part of a path's row a key of a state names, as ``"rms"`` of ``"rms.12"``, if it names one."""
    named = _ROW_KEY.fullmatch(key) if isinstance(key, str) else None
    return named and named.group(1)


def is_own(key: Any) -> bool:
    """Whether a key of a parameter's state is this optimizer's; wrappers keep other entries beside."""
    return key in (*CLOCKS, "saga_sum") or row_part(key) is not None


def has_started(state: Any) -> bool:
    """Whether the state of a parameter has clocks."""
    return isinstance(state, dict) and "step" in state and "scale" in state


def init_state(state: dict[str, Any], param: Tensor, group: dict[str, Any], clocks: dict[str, Tensor]) -> None:
    """Fill ``state`` with clocks at zero, no rows and a zero sum.

    ``clocks``, empty for the first, then holds the clocks that all share whose state starts in this step.
    """
    if not clocks:
        clocks |= new_clocks(group["n_paths"])
    state |= clocks
    if keeps_sum(group):
        # zeros_like is sharded as the parameter is; new_zeros is not.
        state["saga_sum"] = torch.zeros_like(
            as_real(param.detach()), dtype=state_dtype(param), memory_format=torch.contiguous_format
        )


def new_clocks(n_paths: int) -> dict[str, Tensor]:
    """Return clocks at zero, tensors of shape ``(n_paths,)`` on the CPU.

    ``step`` (int64) is the step of each path's last visit, tau: its maximum is k and its non-zero entries are
    Gamma. ``scale`` (float64) is the unit of each path's row, 0 before its first non-zero gradient.
    """
    return {key: torch.zeros(n_paths, dtype=dtype, device="cpu") for key, dtype in _CLOCK_DTYPES.items()}


def as_clock(key: str, tensor: Tensor) -> Tensor:
    """Return a clock, which others may have moved or cast, in its dtype on the CPU."""
    return tensor.to(device="cpu", dtype=_CLOCK_DTYPES[key])


def at_home(key: str, clock: Any) -> bool:
    """Whether a clock is where a step reads it."""
    return isinstance(clock, Tensor) and clock.is_cpu and clock.dtype == _CLOCK_DTYPES[key]


class RowLayout(NamedTuple):
    """Which tensors a row of a parameter has and how they are held.

    Attributes:
        formats: how ``update`` and ``rms`` are held.
        tensors: those of the two that there are, with their formats.
        names: names of all parts, without the path.
        dtype: of the arithmetic.
        is_complex: whether the parameter is.
        sharded: whether the parameter is a DTensor.
        kind: one object for all layouts whose parts can be updated together.
    """

    formats: RowFormat
    tensors: tuple[tuple[str, Format], ...]
    names: tuple[str, ...]
    dtype: torch.dtype
    is_complex: bool
    sharded: bool
    kind: object

    def allocate(self, param: Tensor) -> dict[str, Tensor]:
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


def bytes_text(n_bytes: int) -> str:
    """Return a number of bytes with its decimal unit, as in "22.7 GB"."""
    value, units = float(n_bytes), iter(("bytes", "kB", "MB", "GB", "TB", "PB"))
    unit = next(units)
    while value >= 999.5 and unit != "PB":
        value, unit = value / 1000, next(units)
    return f"{value:.3g} {unit}"


def get_row(state: dict[str, Any], names: tuple[str, ...], path: int) -> dict[str, Tensor]:
    """Return the parts of a path's row by name; those that the state lacks are left out."""
    return {name: state[f"{name}.{path}"] for name in names if f"{name}.{path}" in state}


def add_row(state: dict[str, Any], param: Tensor, layout: RowLayout, path: int) -> None:
    """Give a path its row, of zeros."""
    for name, part in layout.allocate(param).items():
        state[f"{name}.{path}"] = on_host(part, param.device) if layout.formats.host else part


def drop_undrawn(state: dict[str, Any]) -> None:
    """Free the rows of a state that has not stepped: they were allocated to load a checkpoint into."""
    if int(state["step"].max()) == 0:
        for key in [key for key in state if row_part(key)]:
            del state[key]


def drawn_paths(state: dict[str, Any]) -> list[int]:
    """Return the paths that were drawn, in increasing order."""
    return state["step"].nonzero().flatten().tolist()


def check_param(state: dict[str, Any], param: Tensor, layout: RowLayout) -> None:
    """Raise if the parameter has another shape, dtype or device than its state was made for."""
    tensors = {k: v for k, v in state.items() if k == "saga_sum" or row_part(k) in ("update", "rms")}
    for key, kept in itertools.islice(tensors.items(), 2):
        is_row = key != "saga_sum"
        form = dict(layout.tensors).get(row_part(key) or "")
        if is_row and (form is None or not form.whole):
            continue
        moved = kept.device != param.device and not (is_row and layout.formats.host)
        if moved or kept.dtype != layout.dtype or kept.shape != as_real(param.detach()).shape:
            raise RuntimeError(
                f"a parameter is now {tuple(param.shape)}, {param.dtype} on {param.device}, but its {key!r} was "
                f"made as {tuple(kept.shape)}, {kept.dtype} on {kept.device}. Cast or move the model before "
                "the first step; later, optimizer.load_state_dict(optimizer.state_dict()) takes the state along, "
                "but not to another shape"
            )


def check_layout(state: dict[str, Any], param: Tensor, group: dict[str, Any], layout: RowLayout) -> None:
    """Raise if ``path_adam``, ``saga`` or ``storage``, or the parameter, do not fit what is kept."""
    if "saga_sum" not in state and keeps_sum(group):
        raise RuntimeError(
            f"saga={group['saga']} needs the sum over paths, which is kept only if saga > 0 when the optimizer's "
            "state is created; start with saga > 0, or clear optimizer.state to start over"
        )
    path = int(state["step"].argmax())
    if state["step"][path] == 0 and not any(map(row_part, state)):
        return
    check_param(state, param, layout)
    present = {name for name in _PART_NAMES if f"{name}.{path}" in state}
    dtype = layout.formats.update.dtype or layout.dtype
    if present != set(layout.names) or (present and state[f"update.{path}"].dtype != dtype):
        raise RuntimeError(
            f"the rows kept have {sorted(present)}, but path_adam={group['path_adam']} and "
            f"storage={group['storage']!r} need {sorted(layout.names)} in {dtype}; choose both when the "
            "optimizer is created, or clear optimizer.state to start over"
        )


def next_visit(state: dict[str, Any], path: int, gradients: Gradients, eps: float, dtype: torch.dtype) -> Visit:
    """Return the clocks of parameters at a visit of ``path`` in this step; :func:`tick` makes it so.

    The unit of the row is chosen by the first gradient, and again if gradients outgrow it.
    """
    clock, scales = state["step"].numpy(), state["scale"].numpy()
    visit = Visit(
        step=int(clock.max()) + 1,
        last_visit=int(clock[path]),
        n_visited=int(np.count_nonzero(clock)),
        scale=float(scales[path]),
    )
    root_eps = math.sqrt(eps)
    if visit.scale == 0.0 or max(gradients.bound, root_eps) * visit.scale > _LIMIT:
        unit = _unit_for(max(gradients.entry, root_eps), visit.scale, dtype)
        return visit._replace(scale=unit, unit_change=unit / (visit.scale or unit or 1.0))
    return visit


def tick(state: dict[str, Any], path: int, visit: Visit) -> None:
    """Advance the clocks."""
    state["step"].numpy()[path] = visit.step
    state["scale"].numpy()[path] = visit.scale


def _unit_for(largest: float, scale: float, dtype: torch.dtype) -> float:
    """Return the power of two that brings ``largest`` to the target; ``scale`` if that serves, too."""
    if largest == 0.0 or (scale > 0.0 and largest * scale <= _LIMIT):
        return scale
    exponent = math.floor(math.log2(_TARGET) - math.log2(largest))
    limit = _LARGEST_EXPONENTS.get(dtype, _LARGEST_EXPONENT)
    return 2.0 ** max(-limit, min(exponent, limit))


def refresh_due(visit: Visit, n_paths: int) -> bool:
    """Whether the sum is to be summed again after this step."""
    return n_paths <= MOST_REFRESHED and visit.step % REFRESH_EVERY == 0


def refresh_sum(state: dict[str, Any], layout: RowLayout) -> None:
    """Sum the SAGA memory again from its rows, in the order of paths."""
    saga_sum: Tensor = local(state["saga_sum"]).zero_()
    form = layout.formats.update
    names = tuple("update" + suffix for suffix in form.suffixes)
    for path in drawn_paths(state):
        parts = [local(part).to(saga_sum.device) for part in get_row(state, names, path).values()]
        saga_sum.add_(form.decode(parts, saga_sum.dtype))


def params_by_id(
    optimizer: torch.optim.Optimizer, saved_groups: list[dict[str, Any]]
) -> Iterator[tuple[Any, Tensor, dict[str, Any]]]:
    """Yield each saved parameter id, once, with the parameter and the saved group it belongs to."""
    # Lengths that differ are the base class's to report.
    for group, saved in zip(optimizer.param_groups, saved_groups, strict=False):
        for param_id, param in dict(zip(saved["params"], group["params"], strict=False)).items():
            yield param_id, param, saved
