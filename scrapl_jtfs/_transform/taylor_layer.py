r"""A layer y -> B |A y| on Taylor series: from derivatives of y in some controls to those of B |A y|.

The linear maps apply to each Taylor coefficient. With z = A y, n = z / rho, and m the same turned by a right
angle, the modulus has

.. math::
    |z|_a = n \cdot z_a, \qquad
    |z|_{ab} = n \cdot z_{ab}
        + \frac{(m \cdot z_a) (m \cdot z_b) + (\epsilon / \rho)^2 \, z_a \cdot z_b}{\rho} ,

in which nothing cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from scrapl_jtfs._transform.budget import Budget
from scrapl_jtfs._transform.layer import Layer, batch_chunks, pull_back
from scrapl_jtfs._transform.linear.autograd import SizedMap, in_full_precision
from scrapl_jtfs._transform.modulus import modulus, rho_

# Numbers of each plane whose Taylor coefficients are computed at a time, to stay in cache.
_CHUNK = 2**15


class TaylorSeries(NamedTuple):
    r"""The Taylor coefficients in U controls that a layer is given; it returns those up to second order.

    A batch of B examples has K B items: first the values of all examples, then their derivatives with respect to
    control 0, 1, ..., then those with respect to the pairs (0, 0), (0, 1), ..., (1, 1), ...

    Attributes:
        controls: the number U of controls.
        second_order: whether second derivatives of the inputs are given, K = 1 + U + U (U + 1) / 2; without, they
            are taken for zero and left out of the inputs, K = 1 + U.
    """

    controls: int
    second_order: bool = True

    @property
    def n_inputs(self) -> int:
        """K of the inputs."""
        return self.n_outputs if self.second_order else 1 + self.controls

    @property
    def n_outputs(self) -> int:
        """K of the outputs."""
        return 1 + self.controls + self.controls * (self.controls + 1) // 2


def taylor_layer(
    first: SizedMap, layers: Sequence[Layer], budget: Budget, *xs: Tensor, series: TaylorSeries
) -> tuple[Tensor, ...]:
    """Return the Taylor coefficients of B_i |A_i C x| for each layer i, given those of x.

    The values among them can be differentiated, as in :func:`scattering_layer`, with respect to the values of x;
    the gradient with respect to all other coefficients is taken for zero.
    """
    return _TaylorLayer.apply(first, tuple(layers), budget, series, *xs)


class _TaylorLayer(Function):
    @staticmethod
    def forward(
        first: SizedMap, layers: tuple[Layer, ...], budget: Budget, series: TaylorSeries, *xs: Tensor
    ) -> tuple[Tensor, ...]:
        def examples(n: int, size: int) -> list[slice]:
            return batch_chunks(n, budget.items_at_once(series.n_outputs * size, xs[0]), n)

        # Those of one example stay together.
        stacked = [x.unflatten(0, (series.n_inputs, -1)) for x in xs]
        outputs: list[list[Tensor]] = [[] for _ in layers]
        for part in examples(stacked[0].shape[1], first.size):
            y = first(*(x[:, part].flatten(0, 1) for x in stacked)).unflatten(0, (series.n_inputs, -1))
            for layer, chunks in zip(layers, outputs, strict=True):
                for chunk in examples(y.shape[1], layer.size):
                    z = layer.analysis(y[:, chunk].flatten(0, 1)).unflatten(0, (series.n_inputs, -1))
                    u = _taylor_modulus(z, series, layer.epsilon)
                    del z  # before the next is made, or results end up between the two and split the heap
                    chunks.append(layer.synthesis(u.flatten(0, 1)).unflatten(0, (series.n_outputs, -1)))
                    del u
        return tuple(torch.cat(chunks, dim=1).flatten(0, 1) for chunks in outputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.first, ctx.layers, ctx.budget, ctx.series, *xs = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*xs)

    @staticmethod
    @in_full_precision
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        xs = ctx.saved_tensors
        n = xs[0].shape[0] // ctx.series.n_inputs
        nothing_saved = xs[0].new_empty(0).real
        grads = pull_back(ctx.first, ctx.layers, ctx.budget, n, xs, grad_outputs, nothing_saved)
        return None, None, None, None, *grads


def _taylor_modulus(z: Tensor, series: TaylorSeries, epsilon: float) -> Tensor:
    """Return the Taylor coefficients of |z|.

    Args:
        z: (K in, batch, 2, rows, frames).
        series: what z holds.
        epsilon: eps.

    Returns:
        (K out, batch, rows, frames).
    """
    u = z.new_empty(series.n_outputs, z.shape[1], *z.shape[3:])
    planes, flat = z.flatten(3), u.flatten(2)
    for zs, us in zip(planes.split(_CHUNK, -1), flat.split(_CHUNK, -1), strict=True):
        _taylor_modulus_into(us, zs, series, epsilon)
    return u


def _taylor_modulus_into(u: Tensor, z: Tensor, series: TaylorSeries, epsilon: float) -> None:
    """Write the Taylor coefficients (K out, batch, n) of |z| for z (K in, batch, 2, n)."""
    u[0] = modulus(z[0], epsilon)
    rho = rho_(u[0].clone(), epsilon)
    re, im = (z[0] / rho.unsqueeze(1)).unbind(1)
    last = 1 + series.controls
    second = u[last:]
    # n . z_a and n . z_ab
    torch.mul(z[1:, :, 0], re, out=u[1 : series.n_inputs]).addcmul_(z[1:, :, 1], im)
    if not series.second_order:
        second.zero_()
    # (m . z_a) (m . z_b) / rho
    root = rho.rsqrt()
    across = torch.mul(z[1:last, :, 1], re).addcmul_(z[1:last, :, 0], im, value=-1.0).mul_(root)
    _add_products(second, across)
    if epsilon:  # (eps / rho)^2 z_a . z_b / rho
        scaled = z[1:last] * (epsilon * root / rho).unsqueeze(1)
        _add_products(second, scaled[:, :, 0])
        _add_products(second, scaled[:, :, 1])


def _add_products(second: Tensor, first: Tensor) -> None:
    """Add to each pair (a, b), a <= b, the product of ``first[a]`` and ``first[b]``."""
    start = 0
    for a in range(first.shape[0]):
        stop = start + first.shape[0] - a
        second[start:stop].addcmul_(first[a:], first[a])
        start = stop
