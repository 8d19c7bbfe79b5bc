r"""Distance of signals to a target over all paths, with its gradient, one bundle of paths at a time.

With :math:`\phi_p` the coefficients of path p and y the target, the value of a signal x is its squared relative
error

.. math:: E(x)^2 = \frac{\sum_p \lVert \phi_p(x) - \phi_p(y) \rVert^2}{\sum_p \lVert \phi_p(y) \rVert^2} .

The gradient is accumulated bundle by bundle, so that the graph of one bundle is in memory at a time and not that
of the tree. The coefficients of the target are kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scrapl_jtfs.path_transform import check_coefficients
from scrapl_jtfs.transform import JTFSPath

# Paths of a bundle where the transform does not say what its paths share.
_PATHS_AT_ONCE = 16


class Tree:
    """All paths of some targets.

    Args:
        transform: the transform.
        targets: (T, *signal_shape) targets.

    Raises:
        ValueError: a target is silent for all paths, or its coefficients are not finite, not real or not one set
            for each target.
    """

    def __init__(self, transform: Any, targets: Tensor) -> None:
        self.transform = transform
        self.bundles = bundles(transform)
        with torch.no_grad():
            by_path = dict(transform.stream(targets))  # in any order
        self._coefficients = [by_path[p].detach() for p in range(transform.n_paths)]
        for phi in self._coefficients:
            check_coefficients(transform, phi, targets.shape)
        energies = torch.stack([_sums(phi.double().square()) for phi in self._coefficients])
        self._norms = energies.sum(0).sqrt()  # (T,)
        # Mean share of each path in the energy of a target (P,).
        self.energy: NDArray[np.float64] = (energies / self._norms.square()).mean(1).cpu().numpy()
        if not bool(self._norms.isfinite().all()):
            raise ValueError(
                "Invalid target: its coefficients are not finite; expected finite samples; look for inf and NaN, "
                "or scale it down"
            )
        if not bool((self._norms > 0).all()):
            raise ValueError(
                "Invalid target: no path hears anything; expected a signal that is not silent; take another part "
                "of it"
            )
        self._scale = (1 / self._norms).to(targets.dtype)

    def distances(self, phi: Tensor, path_idx: int) -> Tensor:
        """Return the share of a path in the value of each signal, (rows,) from coefficients (rows, ...)."""
        target = self._coefficients[path_idx]
        difference = phi.unflatten(0, (-1, len(target))) - target
        # Scaled first, as squares of small coefficients vanish in float32.
        scaled = difference * self._scale.reshape(-1, *[1] * (target.ndim - 1))
        return _sums(scaled.flatten(0, 1).square())

    @torch.no_grad()
    def errors(self, x: Tensor) -> Tensor:
        """Return the relative error E of signals x (rows, *signal_shape), (rows,) float64."""
        values = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for path_idx, phi in self.transform.stream(x):
            values += self.distances(phi, path_idx).double()
        return values.sqrt()

    def values_and_gradients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return E^2 of each signal (rows,) float64, and the gradient of its sum, shaped like x."""
        values = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            shared, ends, leaves = self._shared(x)
            totals = [torch.zeros_like(leaf) for leaf in leaves]
            for bundle in self.bundles:
                phis = self.transform.select(shared, bundle)
                share = torch.stack([self.distances(phi, p) for p, phi in zip(bundle, phis, strict=True)]).sum(0)
                values += share.detach().double()
                _accumulate(totals, torch.autograd.grad(share.sum(), leaves, allow_unused=True))
            if not ends:
                return values, totals[0]
            (gradient,) = torch.autograd.grad(ends, x, totals)
        return values, gradient

    def _shared(self, x: Tensor) -> tuple[Any, list[Tensor], list[Tensor]]:
        """Return what bundles are computed from, the tensors that it was made of, and the same as leaves.

        A transform with a first layer gives it once, and the gradient goes back through it once as well.
        """
        if not shares_first_layer(self.transform):
            return x, [], [x]
        layer = self.transform.first_layer(x)
        ends = list(layer.tensors)
        leaves = [tensor.detach().requires_grad_() for tensor in ends]
        return layer.with_tensors(leaves), ends, leaves


def shares_first_layer(transform: Any) -> bool:
    """Tell whether its first layer can be cut out of the graph, as that of the JTFS."""
    return isinstance(transform, JTFSPath)


def bundles(transform: Any) -> list[list[int]]:
    """Return the ids of all paths, those that are computed together in one list each.

    Paths of the JTFS share a temporal modulation n2; others come in a number that bounds the memory.
    """
    if shares_first_layer(transform):
        groups = itertools.groupby(transform.paths, lambda path: path.n2)
        return [[path.index for path in group] for _, group in groups]
    ids = list(range(transform.n_paths))
    return [ids[i : i + _PATHS_AT_ONCE] for i in range(0, len(ids), _PATHS_AT_ONCE)]


def _accumulate(totals: Sequence[Tensor], gradients: Iterable[Tensor | None]) -> None:
    for total, gradient in zip(totals, gradients, strict=True):
        if gradient is not None:
            total += gradient


def _sums(x: Tensor) -> Tensor:
    """Return the sum of each row (rows, ...), (rows,)."""
    return x.reshape(len(x), -1).sum(1)
