"""The mathematics of PathAdamSAGA as pure functions on tensors."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from scrapl_optim.storage import RowFormat

# Units of a row up to here, and their squares, are factors that float32 holds whatever they multiply.
_FAR_UNIT = 2.0**40


class Coefficients(NamedTuple):
    r"""The numbers of one update.

    Attributes:
        lr: :math:`\alpha_k`, a number or a 0-dim tensor.
        decay: factor of the parameter, :math:`1 - \alpha_k \lambda`.
        weight1: weight of the new gradient in its first moment (:func:`scrapl_optim.path_state.ema_weight`).
        weight2: the same for the second moment.
        scale: unit of the row, in two factors that float32 holds: ``rms`` is the root times both.
        eps: :math:`\varepsilon` times the square of the unit.
        floor: added to the second moment, in units of the row: makes 0 / 0 zero.
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
    scale: tuple[float, float]
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
        current, factor = _path_adam(before, rms, grad, c, first, second)
        slot.formats.rms.encode(slot.rms, rms, c.salts[1])
    else:
        current, factor = torch.mul(grad, c.sign, out=second), 1.0
    param.mul_(c.decay)
    if slot.saga_sum is not None and before is not None:
        _add(param, slot.saga_sum, -c.lr * c.saga_mean)
        change = torch.sub(before, current, alpha=factor, out=first)
        if c.saga == 1:
            _add(param, change, c.lr * c.weight)
        else:
            _add(param, torch.sub(c.saga * before, current, alpha=factor), c.lr * c.weight)
        _remember(slot, slot.saga_sum, before, change, second, c.salts[0])
    else:
        current.mul_(factor)
        _add(param, current, -c.lr * c.weight)
        if before is not None:
            slot.formats.update.encode(slot.update, current, c.salts[0])
    if param is not slot.param:
        slot.param.copy_(param)


def _path_adam(
    before: Tensor, rms: Tensor, grad: Tensor, c: Coefficients, first: Tensor, second: Tensor
) -> tuple[Tensor, float]:
    """Return the new update, over a factor, and the factor; moves ``rms`` on, in place.

    With a and b the weights of the new gradient g in the moments m and v, the first is taken over a, so that
    each is a single multiply-add: g + (1 - a)/a m, and (1 - b) v + b g^2.
    """
    scale = c.scale[0] * c.scale[1]
    if not 1 / _FAR_UNIT <= scale <= _FAR_UNIT:
        grad, scale = torch.mul(grad, c.scale[0]).mul_(c.scale[1]), 1.0
    root = c.sign * scale
    current = torch.addcmul(grad, before, rms, value=(1 - c.weight1) / (c.weight1 * root), out=second)
    smallest = torch.full((), c.weight2 * c.eps + c.floor, dtype=rms.dtype, device=rms.device)
    square = torch.addcmul(smallest, grad, grad, value=c.weight2 * scale**2, out=first)
    torch.addcmul(square, rms, rms, value=1 - c.weight2, out=rms)
    rms.sqrt_()
    return current.div_(rms), c.weight1 * root


def _add(param: Tensor, direction: Tensor, factor: float | Tensor) -> None:
    if isinstance(factor, Tensor):
        param.addcmul_(direction, factor.to(param.dtype))
    else:
        param.add_(direction, alpha=factor)


def _remember(slot: Slot, saga_sum: Tensor, before: Tensor, change: Tensor, scratch: Tensor, salt: int) -> None:
    """Keep the new update of the path, ``before - change``, and correct the sum by what is kept.

    In full precision the row follows the sum, not the sum the row: the row changes by what the sum changed
    by after rounding. The two then never part, where rounding the sum alone lets it drift (10^-5 relative
    after 10^5 steps in float32). The row is off by a rounding of the sum, once: both then have the same grid.
    """
    if slot.formats.update.whole:
        after = torch.sub(saga_sum, change, out=scratch)
        before.add_(torch.sub(after, saga_sum, out=change))
        saga_sum.copy_(after)
    else:
        slot.formats.update.encode(slot.update, torch.sub(before, change, out=scratch), salt)
        saga_sum.add_(slot.formats.update.decode(slot.update, change.dtype).sub_(before))


def as_tensors(c: Coefficients, dtype: torch.dtype) -> Any:
    """Return the coefficients as 0-dim tensors: numbers are constants to a compiler, new ones at every step.

    They are on the CPU, from where kernels of any device take 0-dim tensors as arguments.
    """

    def convert(x: Any) -> Any:
        if isinstance(x, tuple):
            return tuple(map(convert, x))
        return x.to(dtype) if isinstance(x, Tensor) else torch.tensor(x, dtype=dtype, device="cpu")

    salts = tuple(torch.tensor(salt, dtype=torch.int32, device="cpu") for salt in c.salts)
    return Coefficients(*map(convert, c[:-1]), salts=salts)  # type: ignore[arg-type]


def update_formula(slot: Slot, dtype: torch.dtype, c: Any) -> None:
    """:func:`update_tensor` as the formula stands, for a compiler to fuse; ``c`` is from :func:`as_tensors`."""
    param, grad = slot.param.to(dtype), slot.grad.to(dtype) * c.sign
    form, root_form = slot.formats.update, slot.formats.rms
    before = form.decode(slot.update, dtype) if slot.update else None
    current = grad
    if slot.rms and before is not None:
        rms, scaled = root_form.decode(slot.rms, dtype), grad * c.scale[0] * c.scale[1]
        moment = before * rms
        moment = moment + c.weight1 * (scaled - moment)
        square = (1 - c.weight2) * (rms * rms) + c.weight2 * (scaled * scaled + c.eps)
        root = (square + c.floor).sqrt()
        current = moment / root
        root_form.encode(slot.rms, root, c.salts[1])
    step = c.weight * current
    if slot.saga_sum is not None and before is not None:
        step = c.weight * (current - c.saga * before) + c.saga_mean * slot.saga_sum
    slot.param.copy_(c.decay * param - c.lr * step)
    if slot.saga_sum is None or before is None:
        if before is not None:
            form.encode(slot.update, current, c.salts[0])
    elif form.whole:
        after = slot.saga_sum + (current - before)
        before.add_(after - slot.saga_sum)
        slot.saga_sum.copy_(after)
    else:
        form.encode(slot.update, current, c.salts[0])
        slot.saga_sum.add_(form.decode(slot.update, dtype) - before)
