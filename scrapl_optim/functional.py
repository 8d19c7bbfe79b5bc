"""The mathematics of PathAdamSAGA as pure functions on tensors, one by one and as lists."""

from typing import NamedTuple

import torch
from torch import Tensor

from scrapl_optim.storage import RowFormat

Tensors = list[Tensor] | tuple[Tensor, ...]


class Coefficients(NamedTuple):
    r"""The numbers of one update.

    Attributes:
        lr: :math:`\alpha_k`, a number or a 0-dim tensor.
        decay: factor of the parameter, :math:`1 - \alpha_k \lambda`.
        weight1: weight of the new gradient in its first moment (:func:`scrapl_optim.path_state.ema_weight`).
        weight2: the same for the second moment.
        scale: unit of the row: ``rms`` holds ``scale`` times the root.
        eps: :math:`\varepsilon` times ``scale ** 2``.
        floor: smallest second moment, in units of the row: makes 0 / 0 zero.
        sign: -1 to maximize.
        weight: importance weight :math:`\omega_p` of the drawn path; 1 in the paper.
        saga: strength of the SAGA terms.
        saga_mean: ``saga`` over the number of paths that the mean of the memory counts.
        salts: random bits for the rounding of ``update`` and ``rms``.
    """

    lr: float | Tensor
    decay: float | Tensor
    weight1: float
    weight2: float
    scale: float
    eps: float
    floor: float
    sign: float
    weight: float
    saga: float
    saga_mean: float
    salts: tuple[int, int]


class Slot(NamedTuple):
    """What one update reads and writes for a parameter or a piece of it: real tensors of one shape.

    Attributes:
        param: parameter.
        grad: gradient.
        row: parts of ``update`` and ``rms``, as their formats keep them; both lists empty without P-Adam and
            P-SAGA, only ``rms``'s without P-Adam.
        formats: how.
        saga_sum: sum over paths of what ``update`` holds; ``None`` without P-SAGA.
    """

    param: Tensor
    grad: Tensor
    update: list[Tensor]
    rms: list[Tensor]
    formats: RowFormat
    saga_sum: Tensor | None


def update_tensor(
    slot: Slot, dtype: torch.dtype, c: Coefficients, scratch: tuple[Tensor, Tensor] | None = None
) -> None:
    r"""Update one parameter, the row of the drawn path and the sum over paths, in place.

    With :math:`u` = ``update``, :math:`r` = ``rms`` and the row in units of ``scale``, the moments are
    :math:`\hat m = u r` and :math:`\hat v + \varepsilon = r^2`; the row keeps what is applied, not what it is
    computed from, so that the memory of P-SAGA is at hand and squares of gradients are kept nowhere.
    ``scratch`` is memory for two tensors like the gradient in ``dtype``.

    Source: SCRAPL, Algorithm 1.
    """
    param = slot.param.to(dtype)
    grad = slot.grad.to(dtype)
    first, second = (torch.empty_like(grad), torch.empty_like(grad)) if scratch is None else scratch
    before = slot.formats.update.decode(slot.update, dtype) if slot.update else None
    if slot.rms and before is not None:
        rms = slot.formats.rms.decode(slot.rms, dtype)
        grad = torch.mul(grad, c.sign * c.scale, out=first)
        current = torch.mul(before, rms, out=second).lerp_(grad, c.weight1)
        rms.mul_(rms).mul_(1 - c.weight2).addcmul_(grad, grad, value=c.weight2)
        if c.eps > 0:
            rms.add_(c.weight2 * c.eps)
        current.div_(rms.clamp_min_(c.floor).sqrt_())
        slot.formats.rms.encode(slot.rms, rms, c.salts[1])
    else:
        current = torch.mul(grad, c.sign, out=second)
    param.mul_(c.decay)
    if slot.saga_sum is None or before is None:
        _add(param, current, -c.lr * c.weight)
        if before is not None:
            slot.formats.update.encode(slot.update, current, c.salts[0])
    else:
        _add(param, slot.saga_sum, -c.lr * c.saga_mean)
        change = torch.sub(current, before, out=first)
        _add(param, change if c.saga == 1 else torch.sub(current, before, alpha=c.saga), -c.lr * c.weight)
        _remember(slot, slot.saga_sum, before, current, change, c.salts[0])
    if param is not slot.param:
        slot.param.copy_(param)


def _add(param: Tensor, direction: Tensor, factor: float | Tensor) -> None:
    if isinstance(factor, Tensor):
        param.addcmul_(direction, factor.to(param.dtype))
    else:
        param.add_(direction, alpha=factor)


def _remember(slot: Slot, saga_sum: Tensor, before: Tensor, current: Tensor, change: Tensor, salt: int) -> None:
    """Keep the new update of the path and correct the sum by what is kept; overwrites ``current``, ``change``.

    In full precision the row follows the sum, not the sum the row: the row changes by what the sum changed
    by after rounding. The two then never part, where rounding the sum alone lets it drift (10^-5 relative
    after 10^5 steps in float32). The row is off by a rounding of the sum, once: both then have the same grid.
    """
    if slot.formats.update.whole:
        after = torch.add(saga_sum, change, out=current)
        before.add_(torch.sub(after, saga_sum, out=change))
        saga_sum.copy_(after)
    else:
        slot.formats.update.encode(slot.update, current, salt)
        saga_sum.add_(slot.formats.update.decode(slot.update, current.dtype).sub_(before))


def update_tensors(slots: list[Slot], dtype: torch.dtype, c: Coefficients) -> None:
    """:func:`update_tensor` for many slots of one device, dtype and kind, by torch's multi-tensor operations."""
    params = [slot.param.to(dtype) for slot in slots]
    grads = [slot.grad.to(dtype) for slot in slots]
    befores = [slot.formats.update.decode(slot.update, dtype) for slot in slots if slot.update]
    if slots[0].rms:
        rms = [slot.formats.rms.decode(slot.rms, dtype) for slot in slots]
        grads = torch._foreach_mul(grads, c.sign * c.scale)
        currents = torch._foreach_mul(befores, rms)
        torch._foreach_lerp_(currents, grads, c.weight1)
        torch._foreach_mul_(rms, rms)
        torch._foreach_mul_(rms, 1 - c.weight2)
        torch._foreach_addcmul_(rms, grads, grads, value=c.weight2)
        if c.eps > 0:
            torch._foreach_add_(rms, c.weight2 * c.eps)
        torch._foreach_clamp_min_(rms, c.floor)
        torch._foreach_sqrt_(rms)
        torch._foreach_div_(currents, rms)
        for slot, root in zip(slots, rms, strict=True):
            slot.formats.rms.encode(slot.rms, root, c.salts[1])
    else:
        currents = torch._foreach_mul(grads, c.sign)
    torch._foreach_mul_(params, c.decay)
    saga_sums = [slot.saga_sum for slot in slots if slot.saga_sum is not None]
    if not saga_sums:
        _foreach_add(params, currents, -c.lr * c.weight)
        for slot, current in zip(slots, currents, strict=True):
            if slot.update:
                slot.formats.update.encode(slot.update, current, c.salts[0])
    else:
        changes = torch._foreach_sub(currents, befores)
        directions = changes
        if c.saga != 1:
            directions = torch._foreach_add(currents, befores, alpha=-c.saga)
        _foreach_add(params, saga_sums, -c.lr * c.saga_mean)
        _foreach_add(params, directions, -c.lr * c.weight)
        _foreach_remember(slots, befores, currents, changes, c.salts[0])
    for slot, param in zip(slots, params, strict=True):
        if param is not slot.param:
            slot.param.copy_(param)


def _foreach_add(params: Tensors, directions: Tensors, factor: float | Tensor) -> None:
    if isinstance(factor, Tensor):
        directions = torch._foreach_mul(directions, factor.to(params[0].dtype))
        factor = 1.0
    torch._foreach_add_(params, directions, alpha=factor)


def _foreach_remember(slots: list[Slot], befores: Tensors, currents: Tensors, changes: Tensors, salt: int) -> None:
    saga_sums = [slot.saga_sum for slot in slots if slot.saga_sum is not None]
    whole = slots[0].formats.update.whole
    if whole:
        afters = torch._foreach_add(saga_sums, changes)
        torch._foreach_add_(befores, torch._foreach_sub(afters, saga_sums))
        torch._foreach_copy_(saga_sums, afters)
        return
    for slot, current in zip(slots, currents, strict=True):
        slot.formats.update.encode(slot.update, current, salt)
    kept = [slot.formats.update.decode(slot.update, currents[0].dtype) for slot in slots]
    torch._foreach_add_(saga_sums, torch._foreach_sub(kept, befores))
