"""Second derivatives of each control of each example in the weights of an encoder."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class ExampleHessians:
    r"""Gradients and Hessian-vector products of single controls :math:`\theta_{eu}`, e an example of some batch.

    Args:
        encoder: maps a batch to controls of shape ``(B, U)``.
        examples: for each example a batch and its row in what the encoder returns for it. A product costs two
            backward passes over that batch, so that batches of one example are cheapest.
        params: weights w to differentiate.
        max_graphs: graphs of gradients kept at a time, those last used.
    """

    def __init__(
        self,
        encoder: Callable[[Any], Tensor],
        examples: Sequence[tuple[Any, int]],
        params: Sequence[Tensor],
        max_graphs: int,
    ) -> None:
        self._encoder, self._examples, self._params = encoder, examples, params
        self._max_graphs = max_graphs
        self._graphs: OrderedDict[tuple[int, int], Tensor] = OrderedDict()
        self.n_examples = len(examples)
        self.n_weights = sum(param.numel() for param in params)
        self.dtype, self.device = params[0].dtype, params[0].device

    def gradient(self, example: int, u: int) -> Tensor:
        r"""Return :math:`\nabla_w \theta_{eu}`, shape ``(n_weights,)``."""
        batch, row = self._examples[example]
        theta = self._encoder(batch)[row, u]
        return _flat(torch.autograd.grad(theta, self._params, materialize_grads=True))

    def product(self, example: int, u: int, vector: Tensor) -> Tensor:
        r"""Return :math:`\nabla_w^2 \theta_{eu} \, v`."""
        graph = self._graph(example, u)
        if not graph.requires_grad:
            return torch.zeros_like(vector)
        return _flat(torch.autograd.grad(graph, self._params, vector, retain_graph=True, materialize_grads=True))

    def forget(self) -> None:
        """Free the graphs."""
        self._graphs.clear()

    def _graph(self, example: int, u: int) -> Tensor:
        found = self._graphs.pop((example, u), None)
        if found is None:
            while self._graphs and len(self._graphs) >= self._max_graphs:
                self._graphs.popitem(last=False)
            batch, row = self._examples[example]
            theta = self._encoder(batch)[row, u]
            found = _flat(torch.autograd.grad(theta, self._params, create_graph=True, materialize_grads=True))
        if self._max_graphs:
            self._graphs[example, u] = found
        return found


def _flat(gradients: Sequence[Tensor]) -> Tensor:
    return torch.cat([gradient.reshape(-1) for gradient in gradients])
