"""What PathAdamSAGA keeps per parameter: clocks, one row per path, one running sum."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Internal unit of gradient: moments are kept of GRAD_SCALE * g. The squares of gradients between 1e-28
# and 1e9 then fit float32; a power of two, so that nothing is rounded.
GRAD_SCALE = 2.0**32

ROW_KEYS = ("exp_avg", "exp_avg_sq", "saga_grad")


class Visit(NamedTuple):
    """The clocks of one parameter at the visit of one path.

    Attributes:
        step: k, the number of updates of this parameter, this one included.
        last_visit: tau_p, the step at which the path was last drawn; 0 if never.
        n_visited: card Gamma, the number of paths drawn before this step.
    """

    step: int
    last_visit: int
    n_visited: int


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


def needs_saga_memory(group: dict[str, Any]) -> bool:
    """Whether the SAGA terms of the group can differ from zero: with one path they cancel exactly."""
    return bool(group["path_saga"]) and group["n_paths"] > 1


def state_keys(group: dict[str, Any]) -> set[str]:
    """Return the keys that the state of a parameter of ``group`` has."""
    keys = {"step"}
    if group["path_adam"]:
        keys |= {"exp_avg", "exp_avg_sq"}
    if needs_saga_memory(group):
        keys |= {"saga_sum", "saga_eps"} if group["path_adam"] else {"saga_sum", "saga_grad"}
    return keys


def state_dtype(param: Tensor) -> torch.dtype:
    """Return the dtype of moments and sums: the parameter's, at least float32."""
    return torch.promote_types(param.dtype, torch.float32)


def init_state(state: dict[str, Any], param: Tensor, group: dict[str, Any]) -> None:
    """Fill ``state`` with clocks at zero and zero rows.

    ``step`` is an int64 tensor of shape ``(n_paths,)`` on the CPU: the step of each path's last visit,
    tau. Its maximum is k and its non-zero entries are Gamma. Its name exempts it from the cast of
    ``load_state_dict``.
    """
    n_paths: int = group["n_paths"]
    keys = state_keys(group)
    state["step"] = torch.zeros(n_paths, dtype=torch.int64)
    # zeros_like of the parameter, or of its expansion, is sharded as the parameter is; new_zeros is not.
    template = param.detach()
    for key in ROW_KEYS:
        if key in keys:
            rows = template.expand(n_paths, *template.shape)
            state[key] = torch.zeros_like(rows, dtype=state_dtype(param), memory_format=torch.contiguous_format)
    if "saga_sum" in keys:
        state["saga_sum"] = torch.zeros_like(template, dtype=state_dtype(param))
    if "saga_eps" in keys:
        state["saga_eps"] = group["eps"]


def check_switches(state: dict[str, Any], group: dict[str, Any]) -> None:
    """Raise if ``path_adam`` or ``path_saga`` changed since the state was created."""
    expected = state_keys(group)
    if set(state) != expected:
        raise RuntimeError(
            f"the state holds {sorted(state)}, but path_adam={group['path_adam']} and "
            f"path_saga={group['path_saga']} need {sorted(expected)}; choose both when the optimizer is "
            "created, or clear optimizer.state to start over"
        )


def tick(state: dict[str, Any], path_idx: int) -> Visit:
    """Advance the clocks of one parameter by a visit of ``path_idx`` and return them."""
    clock: Tensor = state["step"]
    visit = Visit(
        step=int(clock.max()) + 1,
        last_visit=int(clock[path_idx]),
        n_visited=int(torch.count_nonzero(clock)),
    )
    clock[path_idx] = visit.step
    return visit


def scaled_eps(eps: float) -> float:
    """Return eps in squared internal units, at least the smallest normal float32: 0 / 0 is then 0."""
    return max(eps * GRAD_SCALE**2, torch.finfo(torch.float32).tiny)


def refresh_saga_sum(state: dict[str, Any], eps: float) -> None:
    """Sum the SAGA memory again after ``eps`` changed: the memory derives from it, so the sum must too.

    One row at a time: the only O(n_paths) work of the optimizer, and its temporaries stay small.
    """
    if state["saga_eps"] == eps:
        return
    saga_sum: Tensor = state["saga_sum"].zero_()
    if torch.is_complex(saga_sum):
        saga_sum = torch.view_as_real(saga_sum)
    for path_idx in state["step"].nonzero().flatten().tolist():
        exp_avg, exp_avg_sq = row(state, "exp_avg", path_idx), row(state, "exp_avg_sq", path_idx)
        saga_sum.add_(exp_avg / (exp_avg_sq + scaled_eps(eps)).sqrt_())
    state["saga_eps"] = eps


def row(state: dict[str, Any], key: str, path_idx: int) -> Tensor:
    """Return the row of one path, a real view: writing to it writes to the state."""
    view: Tensor = state[key][path_idx]
    return torch.view_as_real(view) if torch.is_complex(view) else view


class _Uncast:
    """Carries a tensor through ``Optimizer.load_state_dict``, which casts every tensor it sees."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def before_load(optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """``load_state_dict`` pre-hook: check that the state fits, and shelter its tensors from the cast."""
    params = dict(_params_by_id(optimizer, state_dict["param_groups"]))
    n_paths = optimizer.defaults["n_paths"]
    for i, saved in enumerate(state_dict["param_groups"]):
        if saved.get("n_paths") != n_paths:
            raise ValueError(
                f"parameter group {i} of the loaded state dict has n_paths={saved.get('n_paths')}, but this "
                f"optimizer has n_paths={n_paths}; create it with the n_paths of the checkpoint"
            )
    state = {}
    for param_id, saved in state_dict["state"].items():
        if param_id in params:
            _check_shapes(saved, params[param_id], n_paths, param_id)
            saved = {k: _Uncast(v) if isinstance(v, Tensor) else v for k, v in saved.items()}
        state[param_id] = saved
    return {**state_dict, "state": state}


def after_load(optimizer: torch.optim.Optimizer) -> None:
    """``load_state_dict`` post-hook: put the sheltered tensors where they belong."""
    for param, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, _Uncast):
                device = "cpu" if key == "step" else param.device
                dtype = torch.int64 if key == "step" else state_dtype(param)
                state[key] = value.tensor.to(device=device, dtype=dtype)


def after_state_dict(optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """``state_dict`` post-hook: give each clock on its parameter's device.

    torch.distributed.checkpoint wants all tensors with dimensions on one device. On the CPU this
    changes nothing and the clocks are the optimizer's own, like every other tensor of a state dict.
    """
    state = dict(state_dict["state"])
    for param_id, param in _params_by_id(optimizer, state_dict["param_groups"]):
        if param_id in state:
            state[param_id] = {**state[param_id], "step": state[param_id]["step"].to(param.device)}
    return {**state_dict, "state": state}


def _params_by_id(
    optimizer: torch.optim.Optimizer, saved_groups: list[dict[str, Any]]
) -> Iterator[tuple[Any, Tensor]]:
    # Lengths that differ are the base class's to report.
    for group, saved in zip(optimizer.param_groups, saved_groups, strict=False):
        yield from zip(saved["params"], group["params"], strict=False)


def _check_shapes(saved: dict[str, Any], param: Tensor, n_paths: int, param_id: Any) -> None:
    expected = {key: (n_paths, *param.shape) for key in ROW_KEYS}
    expected |= {"step": (n_paths,), "saga_sum": tuple(param.shape)}
    for key, shape in expected.items():
        if key in saved and tuple(saved[key].shape) != shape:
            raise ValueError(
                f"state {key!r} of parameter {param_id} in the loaded state dict has shape "
                f"{tuple(saved[key].shape)}, expected {shape} for n_paths={n_paths} and a parameter of shape "
                f"{tuple(param.shape)}; load a checkpoint of the same model and paths"
            )
