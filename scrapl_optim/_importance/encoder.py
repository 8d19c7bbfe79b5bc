"""Derivatives of an encoder in its weights: the matrix M of equation (12), of batches or example by example."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scrapl_optim._importance.derivatives import PathDerivatives


class Example(NamedTuple):
    """One example as the encoder takes it.

    Attributes:
        batch: a batch that it is in. A product costs two backward passes over all of it, so that batches of one
            example cost least.
        row: its row in the controls of that batch.
    """

    batch: Any
    row: int


class EncoderDerivatives:
    r"""Products with second derivatives of an encoder's controls :math:`\theta(w)` in its weights w.

    With s and H the derivatives of the loss of path p, the matrix of equation (12) is

    .. math:: M_{pu} = \sum_b \nabla\theta_{bu} \Big(\sum_{u'} H_{pbuu'} \nabla\theta_{bu'}\Big)^\top
              + s_{pbu} \nabla^2\theta_{bu},

    the Jacobian of :math:`G(w) = \sum_b \big[s_{pbu} + \sum_{u'} H_{pbuu'} (\theta_{bu'}(w) - \theta_{bu'})\big]
    \nabla\theta_{bu}(w)`. A product with its transpose, which has the same eigenvalues, is one backward pass
    through G; with s = 1 for one example, 0 for others, and H = 0, it is a product with the Hessian of a single
    control. Neither synthesizer nor path loss is differentiated again, however many products are taken.

    Args:
        encoder: maps a batch to controls of shape ``(B, U)``.
        params: the weights w.
        max_graphs: how many graphs of G are kept from one product to the next; others are built at each product.
    """

    def __init__(self, encoder: Callable[[Any], Tensor], params: Sequence[Tensor], max_graphs: int) -> None:
        self._encoder, self._params, self._max_graphs = encoder, params, max_graphs
        self._graphs: dict[Hashable, Tensor] = {}
        self.n_weights = sum(param.numel() for param in params)
        self.dtype, self.device = params[0].dtype, params[0].device

    def matrix(
        self, batches: Sequence[Any], derivatives: Sequence[PathDerivatives], u: int
    ) -> Callable[[Tensor], Tensor]:
        r"""Return the product with the transpose of :math:`M_{pu}`, summed over batches; forget other graphs."""
        self.forget()
        makers = [
            partial(self._weighted_gradient, batch, u, slope[:, u], hessian[:, u])
            for batch, (slope, hessian) in zip(batches, derivatives, strict=True)
        ]

        def product(vector: Tensor) -> Tensor:
            total = torch.zeros_like(vector)
            for b, make in enumerate(makers):
                total += self._product(b, make, vector)
            return total

        return product

    def gradient(self, example: Example, u: int) -> Tensor:
        r"""Return :math:`\nabla_w \theta_{eu}`, shape ``(n_weights,)``."""
        return self._differentiate(self._encoder(example.batch)[example.row, u])

    def hessian_product(self, example: Example, u: int, vector: Tensor) -> Tensor:
        r"""Return :math:`\nabla_w^2 \theta_{eu} \, v`."""

        def make() -> Tensor:
            return self._differentiate(self._encoder(example.batch)[example.row, u], create_graph=True)

        return self._product((id(example.batch), example.row, u), make, vector)

    def forget(self) -> None:
        """Free the graphs."""
        self._graphs.clear()

    def _weighted_gradient(self, batch: Any, u: int, slope: Tensor, hessian: Tensor) -> Tensor:
        """Return G of a batch, flat, with its graph."""
        theta = self._encoder(batch)
        moved = (hessian.to(theta) * (theta - theta.detach())).sum(1)
        return self._differentiate(theta[:, u], slope.to(theta) + moved, create_graph=True)

    def _product(self, key: Hashable, make: Callable[[], Tensor], vector: Tensor) -> Tensor:
        """Return the derivative of a gradient along a vector, from its graph under ``key`` or a new one."""
        gradient = self._graphs.get(key)
        if gradient is None:
            gradient = make()
            # Products come in cycles over all keys, where those last used would never be met again.
            if len(self._graphs) < self._max_graphs:
                self._graphs[key] = gradient
        if not gradient.requires_grad:
            return torch.zeros_like(vector)
        return _flat(
            torch.autograd.grad(gradient, self._params, vector, retain_graph=True, materialize_grads=True)
        )

    def _differentiate(
        self, controls: Tensor, weights: Tensor | None = None, *, create_graph: bool = False
    ) -> Tensor:
        """Return the gradient of a weighted sum of controls, flat."""
        return _flat(
            torch.autograd.grad(controls, self._params, weights, create_graph=create_graph, materialize_grads=True)
        )


def _flat(gradients: Sequence[Tensor]) -> Tensor:
    return torch.cat([gradient.reshape(-1) for gradient in gradients])
