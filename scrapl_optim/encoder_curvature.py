"""Products with the curvature of a path loss in the weights of an encoder."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from scrapl_optim.path_curvature import PathCurvature


class EncoderCurvature:
    r"""The encoder's part of the curvature, for any path and control.

    With :math:`\theta_b(w)` the controls that the encoder gives example b, the matrix of equation (12) is

    .. math:: M_{pu} = \sum_b \nabla\theta_{bu} \Big(\sum_{u'} H_{pbuu'} \nabla\theta_{bu'}\Big)^\top
              + s_{pbu} \nabla^2\theta_{bu},

    the Jacobian of :math:`G(w) = \sum_b \big[s_{pbu} + \sum_{u'} H_{pbuu'} (\theta_{bu'}(w) - \theta_{bu'})\big]
    \nabla\theta_{bu}(w)`. The products are with its transpose, which has the same eigenvalues: a backward pass
    through G. Neither synthesizer nor path loss is differentiated again, however many products are taken.

    Args:
        encoder: maps a batch to controls of shape ``(B, U)``.
        batches: what the encoder takes; the matrices of batches add up.
        params: weights w to differentiate.
        max_graphs: number of batches whose graph of G is kept from one product to the next; the others are
            built again at each product.
    """

    def __init__(
        self, encoder: Callable[[Any], Tensor], batches: Sequence[Any], params: Sequence[Tensor], max_graphs: int
    ) -> None:
        self._encoder, self._batches, self._params, self._max_graphs = encoder, batches, params, max_graphs
        self.n_weights = sum(param.numel() for param in params)
        self.dtype = params[0].dtype
        self.device = params[0].device

    def products(self, curvatures: Sequence[PathCurvature], u: int, row: int) -> Callable[[Tensor], Tensor]:
        """Return the products with the transposed matrix of control ``u``; ``row`` is its row in the Hessians."""
        kept = [
            self._gradient(batch, curvature, u, row)
            for batch, curvature in zip(self._batches[: self._max_graphs], curvatures, strict=False)
        ]

        def product(vector: Tensor) -> Tensor:
            total = torch.zeros_like(vector)
            for i, (batch, curvature) in enumerate(zip(self._batches, curvatures, strict=True)):
                gradient = kept[i] if i < len(kept) else self._gradient(batch, curvature, u, row)
                total += self._product(gradient, vector)
            return total

        return product

    def _gradient(self, batch: Any, curvature: PathCurvature, u: int, row: int) -> Tensor:
        """Return G, flat, with its graph."""
        theta = self._encoder(batch)
        moved = (curvature.hessian[:, row].to(theta) * (theta - theta.detach())).sum(1)
        gradients = torch.autograd.grad(
            theta[:, u],
            self._params,
            grad_outputs=curvature.slope[:, u].to(theta) + moved,
            create_graph=True,
            materialize_grads=True,
        )
        return torch.cat([gradient.reshape(-1) for gradient in gradients])

    def _product(self, gradient: Tensor, vector: Tensor) -> Tensor:
        if not gradient.requires_grad:
            return torch.zeros_like(vector)
        rows = torch.autograd.grad(gradient, self._params, vector, retain_graph=True, materialize_grads=True)
        return torch.cat([row.reshape(-1) for row in rows])
