"""Algorithm 1 of the SCRAPL paper on tensors: first as the paper has it, then in place."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scrapl_optim._path_adam_saga import rows
from scrapl_optim._path_adam_saga.clocks import Visit, ema_weight, warmup_factor
from scrapl_optim._path_adam_saga.formats import RowFormat, salt_of
from scrapl_optim._path_adam_saga.hyperparameters import value_of
from scrapl_optim._path_adam_saga.several_paths import Draw

# Units of a row up to here, and their squares, are factors that float32 holds whatever they multiply.
_FAR_UNIT = 2.0**40
_LARGEST_EXPONENT = 100


class Coefficients(NamedTuple):
    r"""The numbers of one update.

    Attributes:
        alpha: :math:`\alpha_k`, a number or a 0-dim tensor.
        decay: factor of the weights, :math:`1 - \alpha_k \lambda`.
        a: weight of the new gradient in the bias-corrected first moment (:func:`.clocks.ema_weight`).
        b: the same for the second moment.
        unit: unit of the row, as two factors that float32 holds: ``rms`` is the root times both.
        eps: :math:`\varepsilon` times the square of the unit.
        tiny: number added to the second moment, in units of the row, which makes 0 / 0 zero.
        sign: -1 to maximize.
        omega: importance weight :math:`\omega_p` of the drawn path; 1 in the paper.
        saga: strength s of the memory terms; 1 in the paper.
        saga_over_n: ``saga`` over the number of paths that the mean of the memory counts, in the paper
            :math:`\max(1, |\Gamma|)`; where the sum is weighted, ``saga``.
        salts: random bits for the rounding of ``update`` and ``rms``.
        share: weight :math:`\pi_p` of the path's memory in the sum; ``None`` where all count one.
        warmup: factor of g_current, and of g-hat in the row, in the warm-up of the path; 1 in the paper.
    """

    alpha: float | Tensor
    decay: float | Tensor
    a: float
    b: float
    unit: tuple[float, float]
    eps: float
    tiny: float
    sign: float
    omega: float
    saga: float
    saga_over_n: float
    salts: tuple[int, int]
    share: float | None = None
    warmup: tuple[float, float] = (1.0, 1.0)


class Chunk(NamedTuple):
    """The real tensors of one shape that an update works on: a parameter, a part of one, or several joined.

    Attributes:
        param: the weights w.
        grad: the gradient g.
        update: parts of the path's memory g-hat, as their format keeps them; empty without P-Adam and P-SAGA.
        rms: parts of the path's root; empty without P-Adam.
        formats: formats of the two.
        saga_sum: sum of g-hat over all paths, weighted by pi or not; ``None`` without P-SAGA.
    """

    param: Tensor
    grad: Tensor
    update: list[Tensor]
    rms: list[Tensor]
    formats: RowFormat
    saga_sum: Tensor | None


def algorithm_1(chunk: Chunk, dtype: torch.dtype, c: Any) -> None:
    r"""Update the weights, the row of the drawn path and the sum over paths, line by line as the paper has it.

    Moments are bias-corrected, :math:`m = m_p / (1 - \beta_1^{\tau_p / P})`, and so are (6) and (7) below. A row
    holds :math:`\hat g_p` and the root of :math:`v = \varepsilon + v_p / (1 - \beta_2^{\tau_p / P})`, whose
    product is m. For a compiler to fuse; ``c`` is from :func:`as_tensors`.
    """
    w, g = chunk.param.to(dtype), chunk.grad.to(dtype) * c.sign
    g_hat = chunk.formats.update.decode(chunk.update, dtype) if chunk.update else None
    g_current = g
    if chunk.rms and g_hat is not None:
        root, g = chunk.formats.rms.decode(chunk.rms, dtype), g * c.unit[0] * c.unit[1]
        m, v = g_hat / c.warmup[1] * root, root * root
        m = m + c.a * (g - m)  # (6)
        v = (1 - c.b) * v + c.b * (g * g + c.eps)  # (7)
        root = (v + c.tiny).sqrt()
        g_current = c.warmup[0] * m / root  # (8)
        chunk.formats.rms.encode(chunk.rms, root, c.salts[1])
    direction = c.omega * g_current
    if chunk.saga_sum is not None and g_hat is not None:
        direction = c.omega * (g_current - c.saga * g_hat) + c.saga_over_n * chunk.saga_sum
    chunk.param.copy_(c.decay * w - c.alpha * direction)  # (9)
    is_whole = chunk.formats.update.whole
    if chunk.saga_sum is not None and g_hat is not None and is_whole and c.share is None:
        after = chunk.saga_sum + (g_current - g_hat)
        g_hat.add_(after - chunk.saga_sum)  # and not what it is to be: see _remember
        chunk.saga_sum.copy_(after)
    elif g_hat is not None:
        before = g_hat.clone() if is_whole and chunk.saga_sum is not None else g_hat
        chunk.formats.update.encode(chunk.update, g_current, c.salts[0])
        if chunk.saga_sum is not None:
            change = chunk.formats.update.decode(chunk.update, dtype) - before
            chunk.saga_sum.add_(change if c.share is None else c.share * change)


def update_in_place(chunk: Chunk, dtype: torch.dtype, c: Coefficients, scratch: tuple[Tensor, Tensor]) -> None:
    """Do what :func:`algorithm_1` does, in place; ``scratch`` is two tensors like the gradient, in ``dtype``."""
    param, grad = chunk.param.to(dtype), chunk.grad.to(dtype)
    first, second = scratch
    g_hat = chunk.formats.update.decode(chunk.update, dtype) if chunk.update else None
    if chunk.rms and g_hat is not None:
        rms = chunk.formats.rms.decode(chunk.rms, dtype)
        g_current, factor = _p_adam(g_hat, rms, grad, c, first, second)
        chunk.formats.rms.encode(chunk.rms, rms, c.salts[1])
    else:
        g_current, factor = torch.mul(grad, c.sign, out=second), 1.0
    param.mul_(c.decay)
    if chunk.saga_sum is not None and g_hat is not None:
        _add(param, chunk.saga_sum, -c.alpha * c.saga_over_n)
        change = torch.sub(g_hat, g_current, alpha=factor, out=first)
        if c.saga == 1:
            _add(param, change, c.alpha * c.omega)
        else:
            _add(param, torch.sub(c.saga * g_hat, g_current, alpha=factor), c.alpha * c.omega)
        _remember(chunk, chunk.saga_sum, g_hat, change, second, c)
    else:
        g_current.mul_(factor)
        _add(param, g_current, -c.alpha * c.omega)
        if g_hat is not None:
            chunk.formats.update.encode(chunk.update, g_current, c.salts[0])
    if param is not chunk.param:
        chunk.param.copy_(param)


def _p_adam(
    g_hat: Tensor, rms: Tensor, grad: Tensor, c: Coefficients, first: Tensor, second: Tensor
) -> tuple[Tensor, float]:
    """Return g_current over a factor, and the factor; move ``rms`` on in place.

    The first moment is taken over a, so that each moment is a single multiply-add: g + (1 - a)/a m, and
    (1 - b) v + b g^2. The unit of the row goes into the factors, where these can hold it.
    """
    unit = c.unit[0] * c.unit[1]
    if not 1 / _FAR_UNIT <= unit <= _FAR_UNIT:
        grad, unit = torch.mul(grad, c.unit[0]).mul_(c.unit[1]), 1.0
    signed_unit = c.sign * unit
    old_part = (1 - c.a) / (c.a * signed_unit * c.warmup[1])
    current = torch.addcmul(grad, g_hat, rms, value=old_part, out=second)
    smallest = torch.full((), c.b * c.eps + c.tiny, dtype=rms.dtype, device=rms.device)
    square = torch.addcmul(smallest, grad, grad, value=c.b * unit**2, out=first)
    torch.addcmul(square, rms, rms, value=1 - c.b, out=rms)
    return current.div_(rms.sqrt_()), c.a * signed_unit * c.warmup[0]


def _add(param: Tensor, direction: Tensor, factor: float | Tensor) -> None:
    if isinstance(factor, Tensor):
        param.addcmul_(direction, factor.to(param.dtype))
    else:
        param.add_(direction, alpha=factor)


def _remember(
    chunk: Chunk, saga_sum: Tensor, g_hat: Tensor, change: Tensor, scratch: Tensor, c: Coefficients
) -> None:
    """Keep ``g_hat - change``, the new memory of the path, and correct the sum by what is kept.

    In full precision the row follows the sum, not the sum the row: the row changes by what the sum changed
    by after rounding. The two then never part, where rounding the sum alone lets it drift (10^-5 relative
    after 10^5 steps in float32). The row is off by a rounding of the sum, once: both then have the same grid.
    A weighted sum hardly feels the row of a rare path: there the sum follows the rows.
    """
    if chunk.formats.update.whole and c.share is not None:
        g_hat.sub_(change)
        saga_sum.sub_(change, alpha=c.share)
    elif chunk.formats.update.whole:
        after = torch.sub(saga_sum, change, out=scratch)
        g_hat.add_(torch.sub(after, saga_sum, out=change))
        saga_sum.copy_(after)
    else:
        chunk.formats.update.encode(chunk.update, torch.sub(g_hat, change, out=scratch), c.salts[0])
        kept = chunk.formats.update.decode(chunk.update, change.dtype)
        saga_sum.add_(kept.sub_(g_hat), alpha=1 if c.share is None else c.share)


def coefficients(group: dict[str, Any], visit: Visit, dtype: torch.dtype, draw: Draw) -> Coefficients:
    """Return the numbers of the update of ``group`` at a visit of the drawn path."""
    n_paths, alpha = group["n_paths"], group["lr"]
    if isinstance(alpha, Tensor):
        # One on an accelerator stays there, for reading it would synchronise.
        alpha = alpha.item() if alpha.device.type == "cpu" else alpha.reshape(())
    weights = rows.sum_weights(group)
    period = 1 / group["probs"][draw.path] if value_of(group, "clocks_by_probs") else n_paths
    n_counted = 1 if weights else n_paths if group["unbiased"] else max(1, visit.n_visited)
    return Coefficients(
        alpha=alpha,
        decay=1 - alpha * group["weight_decay"] if draw.first else 1.0,
        a=ema_weight(group["betas"][0], visit, period),
        b=ema_weight(group["betas"][1], visit, period),
        unit=_in_two(visit.unit or 1.0),
        eps=group["eps"] * visit.unit * visit.unit,
        tiny=torch.finfo(dtype).tiny,
        sign=-1.0 if group["maximize"] else 1.0,
        omega=draw.share * (1.0 if draw.weight is None else float(draw.weight)),
        saga=float(group["saga"]),
        saga_over_n=group["saga"] / n_counted if draw.first else 0.0,
        salts=(salt_of(visit.k, draw.path, 0), salt_of(visit.k, draw.path, 1)),
        share=weights[draw.path] if weights else None,
        warmup=_warmup(visit.n_before, value_of(group, "path_warmup")),
    )


def _warmup(n_before: int, path_warmup: float) -> tuple[float, float]:
    """Return the factors of this visit and of the one before, whose update the row has."""
    return warmup_factor(n_before + 1, path_warmup), warmup_factor(max(1, n_before), path_warmup)


def _in_two(unit: float) -> tuple[float, float]:
    """Return two powers of two near each other in place of one that float32 may not hold."""
    exponent = math.frexp(unit)[1] - 1
    half = exponent // 2 if abs(exponent) > _LARGEST_EXPONENT else exponent
    return 2.0**half, 2.0 ** (exponent - half)


def as_tensors(c: Coefficients, dtype: torch.dtype) -> Any:
    """Return the coefficients as 0-dim tensors: numbers are constants to a compiler, new ones at every step.

    They are on the CPU, from where kernels of any device take 0-dim tensors as arguments.
    """

    def convert(x: Any) -> Any:
        if isinstance(x, tuple):
            return tuple(map(convert, x))
        if x is None:
            return None
        return x.to(dtype) if isinstance(x, Tensor) else torch.tensor(x, dtype=dtype, device="cpu")

    salts = tuple(torch.tensor(salt, dtype=torch.int32, device="cpu") for salt in c.salts)
    return Coefficients(*map(convert, c))._replace(salts=salts)  # type: ignore[arg-type]
