"""Correlations of updates with errors over pairs of controls, and resamples of the pairs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# What is left of a column after a fit is rounding below this share of it.
_ROUNDING = 1e-9


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return the correlations (..., U) of columns (..., M, U) over pairs; 0 where one of both is constant."""
    a, b = (_without_roundings(x - x.mean(-2, keepdim=True), x) for x in (a, b))
    norms = a.norm(dim=-2) * b.norm(dim=-2)
    constant = norms == 0
    return torch.where(constant, 0.0, (a * b).sum(-2) / torch.where(constant, 1.0, norms))


def without_part_of(estimates: Tensor, *values: Tensor) -> list[Tensor]:
    """Return values (..., M, U) less their least-squares fit by 1, the estimates (..., M, U) and their squares."""
    # In units of their own, so that directions are told from roundings in those of any controls.
    centred = _without_roundings(estimates - estimates.mean(-2, keepdim=True), estimates)
    size = centred.norm(dim=-2, keepdim=True)
    centred = centred / torch.where(size > 0, size, 1.0)
    columns = torch.cat([torch.ones_like(centred[..., :1]), centred, centred.square()], -1)
    # An orthonormal basis of the columns; directions that pairs cannot tell apart are left out.
    basis, sizes, _ = torch.linalg.svd(columns, full_matrices=False)
    basis = basis * (sizes > 1e-9 * sizes[..., :1]).to(basis).unsqueeze(-2)
    return [_without_roundings(value - basis @ (basis.mT @ value), value) for value in values]


def _without_roundings(rest: Tensor, whole: Tensor) -> Tensor:
    """Return what is left of columns (..., M, U), 0 where that is no more than the roundings of the whole."""
    sizes, roundings = (x.norm(dim=-2, keepdim=True) for x in (rest, _ROUNDING * whole))
    return torch.where(sizes > roundings, rest, 0.0)


def resamples(n_pairs: int, n_resamples: int, seed: int) -> Tensor:
    """Return indices (R, M) of pairs drawn with replacement."""
    drawn = np.random.default_rng(seed).integers(0, n_pairs, (n_resamples, n_pairs))
    return torch.from_numpy(drawn)


def interval(values: Tensor, level: float) -> Tensor:
    """Return the quantiles between which ``level`` of values (R, ...) lie, (2, ...)."""
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=values.dtype, device=values.device)
    return torch.quantile(values, tails, dim=0)
