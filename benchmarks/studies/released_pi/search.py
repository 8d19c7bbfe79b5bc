"""Importance of paths for several losses at once, from one subspace of the encoder's weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.studies.released_pi.cases import Problem
from benchmarks.studies.released_pi.distances import Distances, gathered
from scrapl_optim._importance.encoder import EncoderDerivatives, Example
from scrapl_optim._importance.shared_subspace import Coefficients, Subspace


class Importances(NamedTuple):
    """Importances of the paths for one loss.

    Attributes:
        values: C, shape (U, P).
        residual: the largest relative residual of an eigenvalue.
    """

    values: np.ndarray
    residual: float


def distribution(importance: np.ndarray) -> np.ndarray:
    """Return pi (P,) of importances (U, P), equation (10): the mean over controls of their shares."""
    return (importance / importance.sum(1, keepdims=True)).mean(0)


def mean_slopes(distances: Distances) -> np.ndarray:
    """Return |sum_e dL_pe / dtheta_u| as (U, P)."""
    return np.abs(distances.slope.sum(1)).T


def mean_curvatures(distances: Distances) -> np.ndarray:
    """Return |sum_e d2L_pe / dtheta_u2| as (U, P)."""
    return np.abs(np.diagonal(distances.hessian, axis1=-2, axis2=-1).sum(1)).T


def rms_slopes(distances: Distances) -> np.ndarray:
    """Return the root of the sum over examples of squared slopes, (U, P), where signs do not cancel."""
    return np.sqrt(np.square(distances.slope).sum(1)).T


def eigenvalues(
    problem: Problem, losses: Sequence[Distances], n_heard: int, *, tolerance: float = 2e-2, max_size: int = 120
) -> list[Importances]:
    """Find the eigenvalues of equation (12) of all paths for several losses of the same examples.

    Args:
        problem: whose encoder it is.
        losses: each with all paths. The first decides how the subspace grows; the others are read from it.
        n_heard: examples whose derivatives of the encoder are taken for all.
        tolerance: relative residual of an eigenvalue to stop at.
        max_size: dimension of the subspace at most.
    """
    # In single precision, as the authors' encoder: products cost half, and eigenvalues change in the fifth digit.
    module, features = problem.encoder.float(), problem.features[:n_heard].float()
    losses = [gathered(loss, n_heard) for loss in losses]
    encoder = EncoderDerivatives(module, list(module.parameters()), len(features))
    examples = [Example(features[e : e + 1], 0) for e in range(len(features))]
    n_controls = problem.controls.shape[1]
    gradients = torch.stack([
        torch.stack([encoder.gradient(example, u) for u in range(n_controls)]) for example in examples
    ])  # fmt: skip
    columns = [
        _of_control(encoder, examples, gradients, u, losses, tolerance, max_size) for u in range(n_controls)
    ]
    return [
        Importances(np.stack([values for values, _ in of_loss]), max(residual for _, residual in of_loss))
        for of_loss in zip(*columns, strict=True)
    ]


def _of_control(
    encoder: EncoderDerivatives,
    examples: Sequence[Example],
    gradients: torch.Tensor,
    u: int,
    losses: Sequence[Distances],
    tolerance: float,
    max_size: int,
) -> list[tuple[np.ndarray, float]]:
    """Return the values (P,) of a control and their largest residual for each loss."""
    scaled = [_scaled(loss, u) for loss in losses]
    subspace = Subspace(
        encoder, examples, gradients, u, scaled[0][0], tolerance=tolerance, max_size=max_size, seed=u
    )
    for _ in subspace.grow():
        pass
    results = []
    for coefficients, scale in scaled:
        subspace._c = coefficients
        read = [subspace.value(p)[:2] for p in range(len(scale))]
        residual = max((r for _, r in read if math.isfinite(r)), default=0.0)
        results.append((np.array([abs(value) for value, _ in read]) * scale, residual))
    encoder.forget()
    return results


def _scaled(loss: Distances, u: int) -> tuple[Coefficients, np.ndarray]:
    """Return what a control's matrices are made of, the largest entry of each path being one, and these (P,)."""
    slope, hessian = loss.slope[:, :, u], loss.hessian[:, :, u]
    scale = np.maximum(np.abs(slope).max(1), np.abs(hessian).max((1, 2)))
    scale = np.where(scale > 0, scale, 1.0)
    return Coefficients(slope / scale[:, None], hessian / scale[:, None, None]), scale
