"""The distance between the coefficients of one path: of one rendering, or of several independent ones."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from scrapl_jtfs._validation import is_number

# Below, coefficients over eps overflow in float32.
_SMALLEST_LOG1P_EPS = 1e-30
# Beyond these, eps^2 underflows or overflows in float32.
_SMALLEST_RELATIVE_EPS, _LARGEST_RELATIVE_EPS = 1e-15, 1e18


class Distance(NamedTuple):
    """The options of a distance; a call computes it.

    Attributes:
        p: order of the norm.
        squared: whether to square it.
        log1p_eps: eps of rho(s) = log(1 + s / eps), None for the identity.
        relative_eps: eps of the divisor ||rho(b)||^2 + eps^2, None for no division.
        signed: whether coefficients may be negative, for which rho is continued as an odd function.
    """

    p: float = 2.0
    squared: bool = True
    log1p_eps: float | None = None
    relative_eps: float | None = None
    signed: bool = False

    def __call__(self, a: Tensor | Sequence[Tensor], b: Tensor, n_axes: int = 2) -> Tensor:
        """Return the distance (...) of coefficients, or of renderings of them, to b, over their last axes."""
        axes = tuple(range(-n_axes, 0))
        rho_b = self._rho(b)
        if isinstance(a, Tensor):
            distance = self._length(self._rho(a) - rho_b, axes)
        else:
            distance = _mean_product([self._rho(rendering) - rho_b for rendering in a], axes)
        if self.relative_eps is None:
            return distance
        energy = self._replace(squared=True)._length(rho_b, axes) + float(self.relative_eps) ** 2
        return distance / (energy if self.squared else energy.sqrt())

    def _rho(self, s: Tensor) -> Tensor:
        if self.log1p_eps is None:
            return s
        # Rounding may leave coefficients just below zero, which a tiny eps would carry below -1.
        above = torch.log1p(s.clamp_min(0) / float(self.log1p_eps))
        return above - torch.log1p(torch.relu(-s) / float(self.log1p_eps)) if self.signed else above

    def _length(self, difference: Tensor, axes: tuple[int, ...]) -> Tensor:
        """Return the norm over some axes, the last ones, or its square."""
        if self.squared and self.p == 2:
            return difference.square().sum(axes)
        if self.p == 2:
            # At zero distance both derivatives are zero; autograd's own second one is NaN there.
            energy = difference.square().sum(axes)
            apart = energy > 0
            return torch.where(apart, torch.where(apart, energy, 1.0).sqrt(), 0.0)
        norm = _norm(difference, self.p, axes)
        return norm.square() if self.squared else norm

    def check(self) -> None:
        """Raise TypeError or ValueError for an option that is out of its domain."""
        if not is_number(self.p, 1, math.inf):
            raise ValueError(f"Invalid p: {self.p!r}; expected a norm of order >= 1")
        if self.log1p_eps is not None and not is_number(self.log1p_eps, _SMALLEST_LOG1P_EPS, sys.float_info.max):
            raise ValueError(
                f"Invalid log1p_eps: {self.log1p_eps!r}; expected a positive number, at least "
                f"{_SMALLEST_LOG1P_EPS}, or None for no log"
            )
        eps = self.relative_eps
        if eps is not None and not is_number(eps, _SMALLEST_RELATIVE_EPS, _LARGEST_RELATIVE_EPS):
            raise ValueError(
                f"Invalid relative_eps: {eps!r}; expected a positive number from {_SMALLEST_RELATIVE_EPS} to "
                f"{_LARGEST_RELATIVE_EPS}, or None for absolute distances"
            )
        if not isinstance(self.squared, bool):
            raise TypeError(f"Invalid squared: {self.squared!r}; expected True or False")

    def check_takes_renderings(self) -> None:
        """Raise ValueError where products of pairs of renderings are no unbiased estimate of the distance."""
        if self.p != 2:
            raise ValueError(
                f"Invalid p: {self.p!r}; expected 2 for several renderings, as products of pairs are free of "
                "variance in the Euclidean norm alone; use p=2, or pass one rendering"
            )
        if not self.squared:
            raise ValueError(
                "Invalid squared: False; expected True for several renderings, as no root of their product is "
                "unbiased; use squared=True, with relative_eps to give examples an equal vote, or pass one "
                "rendering"
            )


def _mean_product(differences: Sequence[Tensor], axes: tuple[int, ...]) -> Tensor:
    """Return the mean over pairs i < j of <d_i, d_j> over some axes."""
    total = products = torch.zeros_like(differences[0])
    for difference in differences:
        products = products + total * difference  # the sum of those before it stands for all pairs with it
        total = total + difference
    return products.sum(axes) * (2 / (len(differences) * (len(differences) - 1)))


def _norm(x: Tensor, p: float, axes: tuple[int, ...]) -> Tensor:
    """Return the p-norm over the last axes; a unit near the largest entry keeps powers from underflow."""
    unit = x.detach().abs().amax(axes, keepdim=True) if x.numel() else x.detach().sum(axes, keepdim=True)
    unit = torch.where(unit > 0, unit, 1.0)
    return torch.linalg.vector_norm(x / unit, ord=float(p), dim=axes) * unit.flatten(-len(axes))[..., 0]
