"""The mathematics of PathAdamSAGA as pure functions on tensors, one by one and as lists."""

from collections import defaultdict
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.optimizer import _default_to_fused_or_foreach

from scrapl_optim.path_state import GRAD_SCALE, Visit, ema_weight, scaled_eps, state_dtype

Rows = list[Tensor] | None


def path_adam_saga(
    params: list[Tensor],
    grads: list[Tensor],
    visits: list[Visit],
    *,
    exp_avgs: Rows,
    exp_avg_sqs: Rows,
    saga_grads: Rows,
    saga_sums: Rows,
    foreach: bool | None = None,
    n_paths: int,
    lr: float | Tensor,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    r"""Functional form of :class:`scrapl_optim.PathAdamSAGA`: updates parameters, rows and sums in place.

    ``exp_avgs``, ``exp_avg_sqs`` and ``saga_grads`` are the rows of the drawn path, ``saga_sums`` the
    sums of the memory over all paths. Without ``exp_avgs`` there is no P-Adam, without ``saga_sums`` no
    P-SAGA. All tensors are real and those at the same place in the lists have the same shape.

    Source: SCRAPL, Algorithm 1, on bias-corrected moments (:func:`scrapl_optim.path_state.ema_weight`).
    """
    if foreach is None:
        _, foreach = _default_to_fused_or_foreach(params, differentiable=False)
    # One clock, device and dtype per call: then the coefficients are numbers, not lists.
    batches: dict[Any, list[int]] = defaultdict(list)
    for i, (param, visit) in enumerate(zip(params, visits, strict=True)):
        batches[(param.device, param.dtype, visit) if foreach else i].append(i)

    def pick(tensors: Rows, indices: list[int]) -> Rows:
        return None if tensors is None else [tensors[i] for i in indices]

    update = _multi_tensor_path_adam_saga if foreach else _single_tensor_path_adam_saga
    for indices in batches.values():
        visit = visits[indices[0]]
        update(
            [params[i] for i in indices],
            [grads[i] for i in indices],
            pick(exp_avgs, indices),
            pick(exp_avg_sqs, indices),
            pick(saga_grads, indices),
            pick(saga_sums, indices),
            _Coefficients(
                lr=lr,
                weight1=ema_weight(betas[0], visit, n_paths),
                weight2=ema_weight(betas[1], visit, n_paths),
                n_visited=max(1, visit.n_visited),
                eps=scaled_eps(eps),
                weight_decay=weight_decay,
                sign=-1.0 if maximize else 1.0,
            ),
        )


class _Coefficients(NamedTuple):
    """The numbers of one update; ``weight1`` and ``weight2`` are those of :func:`ema_weight`."""

    lr: float | Tensor
    weight1: float
    weight2: float
    n_visited: int
    eps: float
    weight_decay: float
    sign: float


def _single_tensor_path_adam_saga(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: Rows,
    exp_avg_sqs: Rows,
    saga_grads: Rows,
    saga_sums: Rows,
    c: _Coefficients,
) -> None:
    for i, param in enumerate(params):
        dtype = state_dtype(param)
        memory = None
        if exp_avgs is not None and exp_avg_sqs is not None:
            exp_avg, exp_avg_sq = exp_avgs[i], exp_avg_sqs[i]
            if saga_sums is not None:
                memory = exp_avg / (exp_avg_sq + c.eps).sqrt_()
            grad = grads[i].to(dtype) * (c.sign * GRAD_SCALE)
            exp_avg.lerp_(grad, c.weight1)
            exp_avg_sq.mul_(1 - c.weight2).addcmul_(grad, grad, value=c.weight2)
            update = exp_avg / (exp_avg_sq + c.eps).sqrt_()
        else:
            update = grads[i].to(dtype) * c.sign
            if saga_grads is not None:
                memory = saga_grads[i].clone()
                saga_grads[i].copy_(update)
        if saga_sums is not None and memory is not None:
            change = update.sub_(memory)
            update = change.add(saga_sums[i], alpha=1 / c.n_visited)
            saga_sums[i].add_(change)
        if c.weight_decay != 0:
            param.mul_(1 - c.lr * c.weight_decay)
        param.add_(update.mul_(-c.lr))


def _multi_tensor_path_adam_saga(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: Rows,
    exp_avg_sqs: Rows,
    saga_grads: Rows,
    saga_sums: Rows,
    c: _Coefficients,
) -> None:
    dtype = state_dtype(params[0])
    grads = [grad.to(dtype) for grad in grads]
    memories = None
    if exp_avgs is not None and exp_avg_sqs is not None:
        if saga_sums is not None:
            memories = _foreach_normalized(exp_avgs, exp_avg_sqs, c.eps)
        scaled = torch._foreach_mul(grads, c.sign * GRAD_SCALE)
        torch._foreach_lerp_(exp_avgs, scaled, c.weight1)
        torch._foreach_mul_(exp_avg_sqs, 1 - c.weight2)
        torch._foreach_addcmul_(exp_avg_sqs, scaled, scaled, value=c.weight2)
        updates = _foreach_normalized(exp_avgs, exp_avg_sqs, c.eps)
    else:
        updates = torch._foreach_mul(grads, c.sign)
        if saga_grads is not None:
            memories = [saga_grad.clone() for saga_grad in saga_grads]
            torch._foreach_copy_(saga_grads, updates)
    if saga_sums is not None and memories is not None:
        torch._foreach_sub_(updates, memories)
        changes = updates
        updates = torch._foreach_add(changes, saga_sums, alpha=1 / c.n_visited)
        torch._foreach_add_(saga_sums, changes)
    if c.weight_decay != 0:
        torch._foreach_mul_(params, 1 - c.lr * c.weight_decay)
    torch._foreach_mul_(updates, -c.lr)
    torch._foreach_add_(params, updates)


def _foreach_normalized(exp_avgs: list[Tensor], exp_avg_sqs: list[Tensor], eps: float) -> list[Tensor]:
    denominators = torch._foreach_add(exp_avg_sqs, eps)
    torch._foreach_sqrt_(denominators)
    return list(torch._foreach_div(exp_avgs, denominators))
