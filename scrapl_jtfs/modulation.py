"""One layer of a scattering transform, y -> B |A y| with linear A and B, a piece at a time.

|A y| holds all rows at their full rates and is far larger than y and B |A y|. It is computed a piece at a time,
and again in the backward pass as far as it was not kept, so that memory is bounded and mostly stays in cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from .linear import (
    LinearMap,
    SizedMap,
    apply_adjoint,
    apply_linear,
    forward_derivative,
    in_full_precision,
    merge_mapped,
    split_mapped,
)
from .modulus import direction, divisor_, modulus, times_direction


@dataclass(frozen=True)
class Modulation:
    """y -> B |A y|.

    Args:
        analysis: A, from (batch, ...) to the planes (batch, 2, rows, frames), real and imaginary part of z.
        synthesis: B, from |z| (batch, rows, frames) to (batch, rows, k).
        size: real numbers in the planes of one item of the batch.
    """

    analysis: LinearMap
    synthesis: LinearMap
    size: int


@dataclass(frozen=True)
class Taylor:
    r"""Which Taylor coefficients in U controls a layer is given; it makes those of first and second order.

    A batch of B examples then has K B items: first the values of all examples, then their derivatives
    with respect to control 0, 1, ..., then those with respect to the pairs (0, 0), (0, 1), ..., (1, 1), ...

    Args:
        controls: U.
        curved: whether second derivatives of the inputs are given, K = 1 + U + U (U + 1) / 2; without, they are
            taken for zero and left out of the inputs, K = 1 + U.
    """

    controls: int
    curved: bool = True

    @property
    def given(self) -> int:
        """K of the inputs."""
        return self.made if self.curved else 1 + self.controls

    @property
    def made(self) -> int:
        """K of the outputs."""
        return 1 + self.controls + self.controls * (self.controls + 1) // 2


@dataclass(frozen=True)
class Effort:
    """How a layer is computed, and how its modulus is smoothed.

    Args:
        work: bytes of planes computed at a time.
        keep: bytes of planes kept for the backward pass; those beyond are computed again.
        epsilon: eps of |z| = sqrt(Re(z)^2 + Im(z)^2 + eps^2) - eps.
        differentiated: items of the batch, from the first on, that are differentiated; None for all.
        taylor: the Taylor coefficients that the batch holds; None where it holds values alone. Of them, the values
            alone can be differentiated, and nothing is kept.
    """

    work: int
    keep: int
    epsilon: float = 0.0
    differentiated: int | None = None
    taylor: Taylor | None = None


def modulate(first: SizedMap, layers: Sequence[Modulation], effort: Effort, *xs: Tensor) -> tuple[Tensor, ...]:
    """Return B_i |A_i C x| for each layer i, with C the map ``first``; differentiable to any order.

    The gradient of |z| is z / |z|, and zero (with all higher derivatives) where |z| is at most the square root
    of the smallest normal number (1e-19 in float32): there squares underflow and z's direction is rounding noise.
    Where the batch holds Taylor coefficients (see :class:`Effort`), those of the outputs are returned.
    """
    outputs = _Modulate.apply(first, tuple(layers), effort, *xs)
    return outputs[: len(layers)]


def items_at_once(size: int, work: int, x: Tensor) -> int:
    """Return how many items, of ``size`` real numbers each, fit the working memory."""
    return max(1, work // (size * torch.finfo(x.dtype).bits // 8))


_MAPPED = 1
"""Numbers in the store of a call under vmap, whose pieces cannot be computed in place; other stores are even."""


class _Modulate(Function):
    @staticmethod
    def forward(first: SizedMap, layers: tuple[Modulation, ...], effort: Effort, *xs: Tensor) -> Any:
        if effort.taylor is not None:
            return *_modulate_taylor(first, layers, effort, effort.taylor, *xs), xs[0].new_empty(0).real
        call = _Call(first, layers, effort, xs)
        outputs: list[list[Tensor]] = [[] for _ in layers]
        store = call.empty_store()
        for part in call.parts():
            y = first(*(x[part] for x in xs))
            active = call.differentiated - part.start
            for layer, pieces in zip(layers, outputs, strict=True):
                for cut in _cuts(y.shape[0], items_at_once(layer.size, effort.work, y), active):
                    z = layer.analysis(y[cut])
                    u = modulus(z, effort.epsilon)
                    pieces.append(layer.synthesis(u))
                    items = max(0, min(active - cut.start, z.shape[0]))
                    kept = store.take(items * layer.size)
                    if kept is not None:
                        divisor = divisor_(u[:items], effort.epsilon).unsqueeze(1)
                        torch.div(z[:items], divisor, out=kept.view(z[:items].shape))
        return *(torch.cat(pieces) if len(pieces) > 1 else pieces[0] for pieces in outputs), store.numbers

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.first, ctx.layers, ctx.effort, *xs = inputs
        ctx.mark_non_differentiable(output[-1])
        ctx.set_materialize_grads(False)  # a bundle's paths that a loss leaves out cost nothing
        ctx.save_for_backward(*xs, output[-1])
        ctx.save_for_forward(*xs)

    @staticmethod
    @in_full_precision
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        *xs, kept = ctx.saved_tensors
        call = _Call(ctx.first, ctx.layers, ctx.effort, tuple(xs))
        grads = grad_outputs[:-1]
        if torch.is_grad_enabled() or kept.numel() == _MAPPED:
            results = call.pullback(grads)
        else:
            results = call.pullback_in_place(grads, _Store(kept))
        missing = xs[0].shape[0] - results[0].shape[0]
        if missing:
            results = tuple(torch.cat([g, g.new_zeros(missing, *g.shape[1:])]) for g in results)
        return None, None, None, *results

    @staticmethod
    @forward_derivative
    def jvp(ctx: Any, *grad_inputs: Any) -> Any:
        xs = ctx.saved_tensors
        dxs = (torch.zeros_like(x) if dx is None else dx for x, dx in zip(xs, grad_inputs[3:], strict=True))
        y, dy = apply_linear(ctx.first, *xs), apply_linear(ctx.first, *dxs)
        tangents: list[Tensor] = []
        for layer in ctx.layers:
            slope = direction(apply_linear(layer.analysis, y), ctx.effort.epsilon)
            du = (slope * apply_linear(layer.analysis, dy)).sum(1)
            tangents.append(apply_linear(layer.synthesis, du))
        return *tangents, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        first, layers, effort, *xs = args
        if effort.differentiated is not None:
            effort = replace(effort, differentiated=effort.differentiated * info.batch_size)
        flat = [merge_mapped(x, dim, info.batch_size) for x, dim in zip(xs, in_dims[3:], strict=True)]
        outputs = modulate(first, layers, effort, *flat)
        store = outputs[0].new_empty(1, info.batch_size)
        return (*(split_mapped(y, info.batch_size) for y in outputs), store), (1,) * (len(outputs) + 1)


class _Store:
    """Planes kept for the backward pass, in one block: as many of the first pieces as it holds.

    Args:
        numbers: the block.
    """

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers
        self._used = 0

    def take(self, size: int) -> Tensor | None:
        """Return room for the next piece, None where it and all that follow are not kept."""
        first, self._used = self._used, self._used + size
        return self.numbers[first : self._used] if self._used <= self.numbers.numel() else None


@dataclass(frozen=True)
class _Call:
    """One call of :func:`modulate`."""

    first: SizedMap
    layers: tuple[Modulation, ...]
    effort: Effort
    xs: tuple[Tensor, ...]

    @property
    def differentiated(self) -> int:
        return self.xs[0].shape[0] if self.effort.differentiated is None else self.effort.differentiated

    def empty_store(self) -> _Store:
        dtype = torch.finfo(self.xs[0].dtype)
        wanted = self.differentiated * sum(layer.size for layer in self.layers)
        real = torch.float64 if dtype.bits == 64 else torch.float32
        return _Store(self.xs[0].new_empty(min(wanted, self.effort.keep * 8 // dtype.bits) // 2 * 2, dtype=real))

    def parts(self) -> list[slice]:
        """Cut the batch to the working memory of the first map."""
        at_once = items_at_once(self.first.size, self.effort.work, self.xs[0])
        return _cuts(self.xs[0].shape[0], at_once, self.differentiated)

    def pullback(self, grads: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """Map gradients of the outputs to those of the inputs, differentiably."""
        items = self.differentiated
        y = apply_linear(self.first, *(x[:items] for x in self.xs))
        grad_y = [
            apply_adjoint(
                layer.analysis,
                times_direction(
                    apply_linear(layer.analysis, y),
                    apply_adjoint(layer.synthesis, grad[:items])[0],
                    self.effort.epsilon,
                ),
            )[0]
            for layer, grad in zip(self.layers, grads, strict=True)
            if grad is not None
        ]
        return apply_adjoint(self.first, torch.stack(grad_y).sum(0) if len(grad_y) > 1 else grad_y[0])

    def pullback_in_place(self, grads: Sequence[Tensor | None], store: _Store) -> tuple[Tensor, ...]:
        """Do the same a piece at a time, the pieces being those of the forward pass."""
        results: list[tuple[Tensor, ...]] = []
        for part in self.parts():
            n, active = part.stop - part.start, min(self.differentiated, part.stop) - part.start
            if active <= 0:
                break
            items = slice(part.start, part.start + active)
            y = self.first(*(x[items] for x in self.xs))
            grad_y = torch.zeros_like(y)
            for layer, grad in zip(self.layers, grads, strict=True):
                for cut in _cuts(n, items_at_once(layer.size, self.effort.work, y), active):
                    if cut.start >= active:
                        break
                    kept = store.take(y[cut].shape[0] * layer.size)
                    if grad is None:
                        continue
                    grad_u = layer.synthesis.adjoint(grad[items][cut])[0].unsqueeze(1)
                    if kept is None:
                        grad_z = self._grad_z(layer, y[cut], grad_u)
                    else:
                        grad_z = kept.view(grad_u.shape[0], 2, *grad_u.shape[2:]) * grad_u
                    layer.analysis.adjoint(grad_z, (grad_y[cut],))
            results.append(self.first.adjoint(grad_y))
        return results[0] if len(results) == 1 else tuple(map(torch.cat, zip(*results, strict=True)))

    def _grad_z(self, layer: Modulation, y: Tensor, grad_u: Tensor) -> Tensor:
        z = layer.analysis(y)
        divisor = divisor_(modulus(z, self.effort.epsilon), self.effort.epsilon).unsqueeze(1)
        return z.mul_(grad_u.div_(divisor))


def _cuts(n: int, at_once: int, differentiated: int) -> list[slice]:
    """Cut a batch into runs of at most ``at_once`` items; differentiated ones are apart unless all fit."""
    if n <= at_once:
        return [slice(0, n)]
    split = min(max(differentiated, 0), n)
    return [
        slice(first, min(first + run, stop))
        for begin, stop in ((0, split), (split, n))
        if begin < stop
        for run in [-(-(stop - begin) // -(-(stop - begin) // at_once))]
        for first in range(begin, stop, run)
    ]


CHUNK = 2**15
"""Numbers of each plane that Taylor coefficients of moduli are computed of at a time, to stay in cache."""


@torch.no_grad()
def _modulate_taylor(
    first: SizedMap, layers: Sequence[Modulation], effort: Effort, taylor: Taylor, *xs: Tensor
) -> tuple[Tensor, ...]:
    """Do the same to Taylor coefficients, keeping those of an example together."""

    def examples(n: int, size: int) -> list[slice]:
        return _cuts(n, items_at_once(taylor.made * size, effort.work, xs[0]), n)

    stacked = [x.unflatten(0, (taylor.given, -1)) for x in xs]
    outputs: list[list[Tensor]] = [[] for _ in layers]
    for part in examples(stacked[0].shape[1], first.size):
        y = first(*(x[:, part].flatten(0, 1) for x in stacked)).unflatten(0, (taylor.given, -1))
        for layer, pieces in zip(layers, outputs, strict=True):
            for cut in examples(y.shape[1], layer.size):
                z = layer.analysis(y[:, cut].flatten(0, 1)).unflatten(0, (taylor.given, -1))
                u = _taylor_modulus(z, taylor, effort.epsilon)
                del z  # before the next is made, or results end up between the two and split the heap
                pieces.append(layer.synthesis(u.flatten(0, 1)).unflatten(0, (taylor.made, -1)))
                del u
    return tuple(torch.cat(pieces, dim=1).flatten(0, 1) for pieces in outputs)


def _taylor_modulus(z: Tensor, taylor: Taylor, epsilon: float) -> Tensor:
    r"""Return the Taylor coefficients of |z|.

    With n = z / rho, and m the same turned by a right angle, u_a = n . z_a and
    u_ab = n . z_ab + ((m . z_a) (m . z_b) + (eps / rho)^2 z_a . z_b) / rho, where nothing cancels.

    Args:
        z: (K in, batch, 2, rows, frames).
        taylor: what z holds.
        epsilon: eps.

    Returns:
        (K out, batch, rows, frames).
    """
    u = z.new_empty(taylor.made, z.shape[1], *z.shape[3:])
    planes, flat = z.flatten(3), u.flatten(2)
    for zs, us in zip(planes.split(CHUNK, -1), flat.split(CHUNK, -1), strict=True):
        _taylor_modulus_into(us, zs, taylor, epsilon)
    return u


def _taylor_modulus_into(u: Tensor, z: Tensor, taylor: Taylor, epsilon: float) -> None:
    """Write the Taylor coefficients (K out, batch, n) of |z| for z (K in, batch, 2, n)."""
    u[0] = modulus(z[0], epsilon)
    rho = divisor_(u[0].clone(), epsilon)
    re, im = (z[0] / rho.unsqueeze(1)).unbind(1)
    given, last = taylor.given, 1 + taylor.controls
    along, second = u[1:given], u[last:]
    torch.mul(z[1:, :, 0], re, out=along).addcmul_(z[1:, :, 1], im)
    root = rho.rsqrt()
    across = torch.mul(z[1:last, :, 1], re).addcmul_(z[1:last, :, 0], im, value=-1.0).mul_(root)
    if not taylor.curved:
        second.zero_()
    _add_products(second, across)
    if epsilon:
        scaled = z[1:last] * (epsilon * root / rho).unsqueeze(1)
        _add_products(second, scaled[:, :, 0])
        _add_products(second, scaled[:, :, 1])


def _add_products(second: Tensor, first: Tensor) -> None:
    """Add to each pair (u, u'), u <= u', the product of ``first[u]`` and ``first[u']``."""
    start = 0
    for u in range(first.shape[0]):
        stop = start + first.shape[0] - u
        second[start:stop].addcmul_(first[u:], first[u])
        start = stop
