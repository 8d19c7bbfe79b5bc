"""One layer of a scattering transform, y -> B |A y| with linear A and B, a chunk at a time.

|A y| holds all rows at their full rates and is far larger than y and B |A y|. It is computed a chunk at a time,
and again in the backward pass as far as A y was not saved, so that memory is bounded and mostly stays in cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd import Function

from scrapl_jtfs._transform.budget import Budget
from scrapl_jtfs._transform.linear.autograd import (
    AddingMap,
    LinearMap,
    SizedMap,
    apply_adjoint,
    apply_linear,
    forward_derivative,
    in_full_precision,
    inside_vmap,
    merge_mapped,
    split_mapped,
)
from scrapl_jtfs._transform.modulus import modulus, phase, rho_, times_phase


class Layer(NamedTuple):
    """y -> B |A y|.

    Attributes:
        analysis: A, from (batch, ...) to the planes (batch, 2, rows, frames), real and imaginary part of z.
        synthesis: B, from |z| (batch, rows, frames) to (batch, rows, k).
        size: real numbers in the planes of one item of the batch.
        epsilon: eps of |z| = sqrt(Re(z)^2 + Im(z)^2 + eps^2) - eps.
    """

    analysis: AddingMap
    synthesis: LinearMap
    size: int
    epsilon: float = 0.0


class LayerFunction(Protocol):
    """A function that computes layers: :func:`scattering_layer`, or the same for Taylor series."""

    def __call__(
        self, first: SizedMap, layers: Sequence[Layer], budget: Budget, *xs: Tensor
    ) -> tuple[Tensor, ...]:
        """Return B_i |A_i C x| for each layer i."""
        ...


def scattering_layer(
    first: SizedMap, layers: Sequence[Layer], budget: Budget, *xs: Tensor, differentiated: int | None = None
) -> tuple[Tensor, ...]:
    """Return B_i |A_i C x| for each layer i, with C the map ``first``; differentiable to any order.

    The gradient of |z| is z / |z|, and zero (with all higher derivatives) where |z| is at most the square root
    of the smallest normal number (1e-19 in float32): there squares underflow and z's direction is rounding noise.

    Args:
        first: the coefficients C.
        layers: A_i and B_i.
        budget: memory that may be used.
        xs: the arguments of C, batched along their first axes.
        differentiated: items of the batch, from the first on, that are differentiated; None for all.
    """
    n = xs[0].shape[0] if differentiated is None else differentiated
    return _ScatteringLayer.apply(first, tuple(layers), budget, n, *xs)[: len(layers)]


class _ScatteringLayer(Function):
    @staticmethod
    def forward(
        first: SizedMap, layers: tuple[Layer, ...], budget: Budget, differentiated: int, *xs: Tensor
    ) -> tuple[Tensor, ...]:
        outputs: list[list[Tensor]] = [[] for _ in layers]
        bits = torch.finfo(xs[0].dtype).bits
        room = min(differentiated * sum(layer.size for layer in layers), budget.keep * 8 // bits)
        saved = _KeptPlanes(xs[0].new_empty(room, dtype=torch.float64 if bits == 64 else torch.float32))
        for part in batch_chunks(xs[0].shape[0], budget.items_at_once(first.size, xs[0]), differentiated):
            y = first(*(x[part] for x in xs))
            active = differentiated - part.start
            for layer, chunks in zip(layers, outputs, strict=True):
                for chunk in batch_chunks(y.shape[0], budget.items_at_once(layer.size, y), active):
                    z = layer.analysis(y[chunk])
                    u = modulus(z, layer.epsilon)
                    chunks.append(layer.synthesis(u))
                    items = max(0, min(active - chunk.start, z.shape[0]))
                    planes = saved.take(items * layer.size)
                    if planes is not None:
                        # z / rho, the gradient of the modulus
                        rho = rho_(u[:items], layer.epsilon).unsqueeze(1)
                        torch.div(z[:items], rho, out=planes.view(z[:items].shape))
        return *(torch.cat(chunks) if len(chunks) > 1 else chunks[0] for chunks in outputs), saved.numbers

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.first, ctx.layers, ctx.budget, ctx.differentiated, *xs = inputs
        ctx.mark_non_differentiable(output[-1])
        ctx.set_materialize_grads(False)  # a bundle's paths that a loss leaves out cost nothing
        ctx.save_for_backward(*xs, output[-1])
        ctx.save_for_forward(*xs)

    @staticmethod
    @in_full_precision
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        *xs, saved = ctx.saved_tensors
        grads = pull_back(ctx.first, ctx.layers, ctx.budget, ctx.differentiated, xs, grad_outputs[:-1], saved)
        return None, None, None, None, *grads

    @staticmethod
    @forward_derivative
    def jvp(ctx: Any, *grad_inputs: Any) -> Any:
        xs = ctx.saved_tensors
        dxs = (torch.zeros_like(x) if dx is None else dx for x, dx in zip(xs, grad_inputs[4:], strict=True))
        y, dy = apply_linear(ctx.first, *xs), apply_linear(ctx.first, *dxs)
        tangents: list[Tensor] = []
        for layer in ctx.layers:
            slope = phase(apply_linear(layer.analysis, y), layer.epsilon)
            du = (slope * apply_linear(layer.analysis, dy)).sum(1)
            tangents.append(apply_linear(layer.synthesis, du))
        return *tangents, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        first, layers, budget, differentiated, *xs = args
        flat = [merge_mapped(x, dim, info.batch_size) for x, dim in zip(xs, in_dims[4:], strict=True)]
        n = differentiated * info.batch_size
        outputs = scattering_layer(first, layers, budget, *flat, differentiated=n)
        nothing_saved = outputs[0].new_empty(0, info.batch_size)
        return (*(split_mapped(y, info.batch_size) for y in outputs), nothing_saved), (1,) * (len(outputs) + 1)


def pull_back(
    first: SizedMap,
    layers: Sequence[Layer],
    budget: Budget,
    differentiated: int,
    xs: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    saved: Tensor,
) -> tuple[Tensor, ...]:
    """Map gradients of the outputs of :func:`scattering_layer` to those of its inputs.

    Args:
        first: as in :func:`scattering_layer`.
        layers: the same.
        budget: the same.
        differentiated: items of the batch, from the first on; the others' gradient is zero.
        xs: the inputs.
        grads: for each layer the gradient of its output, None for zero.
        saved: what the forward pass saved of A y / rho.
    """
    # Chunks are written in place, which can be done neither differentiably nor under a vmap.
    if torch.is_grad_enabled() or inside_vmap():
        results = _pull_back(first, layers, differentiated, xs, grads)
    else:
        results = _pull_back_chunks(first, layers, budget, differentiated, xs, grads, _KeptPlanes(saved))
    missing = xs[0].shape[0] - results[0].shape[0]
    if missing:
        results = tuple(torch.cat([g, g.new_zeros(missing, *g.shape[1:])]) for g in results)
    return results


def _pull_back(
    first: SizedMap,
    layers: Sequence[Layer],
    differentiated: int,
    xs: Sequence[Tensor],
    grads: Sequence[Tensor | None],
) -> tuple[Tensor, ...]:
    """Compute C* sum_i A_i* (n_i B_i* g_i), with n_i = z_i / rho_i, differentiably."""
    y = apply_linear(first, *(x[:differentiated] for x in xs))
    grad_y: list[Tensor] = []
    for layer, grad in zip(layers, grads, strict=True):
        if grad is not None:
            z = apply_linear(layer.analysis, y)
            (grad_u,) = apply_adjoint(layer.synthesis, grad[:differentiated])
            grad_y += apply_adjoint(layer.analysis, times_phase(z, grad_u, layer.epsilon))
    return apply_adjoint(first, torch.stack(grad_y).sum(0) if len(grad_y) > 1 else grad_y[0])


def _pull_back_chunks(
    first: SizedMap,
    layers: Sequence[Layer],
    budget: Budget,
    differentiated: int,
    xs: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    saved: _KeptPlanes,
) -> tuple[Tensor, ...]:
    """Compute the same a chunk at a time, the chunks being those of the forward pass."""
    results: list[tuple[Tensor, ...]] = []
    for part in batch_chunks(xs[0].shape[0], budget.items_at_once(first.size, xs[0]), differentiated):
        n, active = part.stop - part.start, min(differentiated, part.stop) - part.start
        if active <= 0:
            break
        items = slice(part.start, part.start + active)
        y = first(*(x[items] for x in xs))
        grad_y = torch.zeros_like(y)
        for layer, grad in zip(layers, grads, strict=True):
            for chunk in batch_chunks(n, budget.items_at_once(layer.size, y), active):
                if chunk.start >= active:
                    break
                planes = saved.take(y[chunk].shape[0] * layer.size)
                if grad is None:
                    continue
                grad_u = layer.synthesis.adjoint(grad[items][chunk])[0].unsqueeze(1)
                if planes is None:
                    z = layer.analysis(y[chunk])
                    rho = rho_(modulus(z, layer.epsilon), layer.epsilon).unsqueeze(1)
                    grad_z = z.mul_(grad_u.div_(rho))
                else:
                    grad_z = planes.view(grad_u.shape[0], 2, *grad_u.shape[2:]) * grad_u
                layer.analysis.add_adjoint(grad_z, grad_y[chunk])
        results.append(first.adjoint(grad_y))
    return results[0] if len(results) == 1 else tuple(map(torch.cat, zip(*results, strict=True)))


class _KeptPlanes:
    """Planes saved for the backward pass, in one block: as many of the first chunks as it holds.

    Args:
        numbers: the block.
    """

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers
        self._used = 0

    def take(self, size: int) -> Tensor | None:
        """Return room for the next chunk, None where it and all that follow are not saved."""
        begin, self._used = self._used, self._used + size
        return self.numbers[begin : self._used] if self._used <= self.numbers.numel() else None


def batch_chunks(n: int, at_once: int, differentiated: int) -> list[slice]:
    """Cut a batch into chunks of at most ``at_once`` items, none with differentiated items and others both.

    A batch that fits at once stays whole all the same.
    """
    if n <= at_once:
        return [slice(0, n)]
    chunks: list[slice] = []
    middle = min(max(differentiated, 0), n)
    for begin, end in ((0, middle), (middle, n)):
        if begin < end:
            count = -(-(end - begin) // at_once)
            size = -(-(end - begin) // count)
            chunks += [slice(i, min(i + size, end)) for i in range(begin, end, size)]
    return chunks
