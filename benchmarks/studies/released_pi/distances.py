"""Distances of paths with their derivatives in the controls, and what other losses make of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.studies.released_pi.cases import Problem
from scrapl_jtfs import JTFSPathLoss, PathTaylor
from scrapl_jtfs.paths import Path

# Examples whose derivatives are computed at a time.
_BATCH = 4


class Distances(NamedTuple):
    r"""A loss of each path and example, with its derivatives in the controls.

    Attributes:
        value: :math:`L_{pe}`, shape (P, E).
        slope: :math:`\partial L_{pe} / \partial\theta_u`, shape (P, E, U).
        hessian: second derivatives, shape (P, E, U, U).
    """

    value: np.ndarray
    slope: np.ndarray
    hessian: np.ndarray

    def of(self, examples: slice) -> Distances:
        """Return those of some examples; those of the others are zero."""
        chosen = np.zeros(self.value.shape[1])
        chosen[examples] = 1.0
        return Distances(self.value * chosen, self.slope * chosen[:, None], self.hessian * chosen[:, None, None])


def gathered(distances: Distances, n: int) -> Distances:
    """Return the sums over every n-th example, as if the encoder's derivatives were those of the first n."""
    parts = [distances.of(slice(k, None, n)) for k in range(n)]
    return Distances(*(np.stack([part.sum(1) for part in column], 1) for column in zip(*parts, strict=True)))


def squared_distances(problem: Problem) -> Distances:
    """Compute the squared distances of all paths between sounds and what a fresh encoder makes of them."""
    loss = JTFSPathLoss(problem.jtfs, squared=True, path_scale=False, reduction="sum")
    paths = range(problem.jtfs.n_paths)
    columns: list[tuple[np.ndarray, ...]] = []
    for start in range(0, len(problem.sounds), _BATCH):
        rows = slice(start, start + _BATCH)
        theta, target = problem.controls[rows], loss.prepare(problem.sounds[rows])
        series = PathTaylor(loss, lambda t, rows=rows: problem.play(t, rows), theta, target)
        derivatives = list(series.iter_derivatives(paths))
        matches = loss.prepare(problem.play(theta, rows))
        pairs = zip(matches.coefficients(paths), target.coefficients(paths), strict=True)
        values = np.stack([(a - b).square().sum((-2, -1)).numpy() for a, b in pairs])
        slopes = np.stack([slope.numpy() for _, slope, _ in derivatives])
        columns.append((values, slopes, np.stack([hessian.numpy() for _, _, hessian in derivatives])))
    return Distances(*(np.concatenate(column, axis=1) for column in zip(*columns, strict=True)))


def norms(squared: Distances) -> Distances:
    r"""Return the distances :math:`L = \sqrt{Q}` of squared ones Q, by the chain rule.

    .. math:: L_a = Q_a / 2 L, \qquad L_{ab} = (Q_{ab} / 2 - L_a L_b) / L .
    """
    value = np.sqrt(squared.value)
    slope = squared.slope / (2 * value[..., None])
    products = slope[..., :, None] * slope[..., None, :]
    return Distances(value, slope, (squared.hessian / 2 - products) / value[..., None, None])


def with_reflections(squared: Distances, paths: Sequence[Path]) -> Distances:
    """Add the squared distances of the sounds' reflections at their ends, which scrapl-loss leaves in.

    A sound that is played backwards is to a path what the sound itself is to the path of the other spin.
    """
    opposite = spin_partners(paths)
    return Distances(*(part + part[opposite] for part in squared))


def spin_partners(paths: Sequence[Path]) -> list[int]:
    """Return for each path that of the same rate and scale and of the other spin, itself if there is none."""
    places = {_place(path): path.index for path in paths}
    return [places[(*_place(path)[:2], -path.spin)] for path in paths]


def _place(path: Path) -> tuple[float, float, int]:
    return round(path.rate, 6), round(path.scale, 6), path.spin
