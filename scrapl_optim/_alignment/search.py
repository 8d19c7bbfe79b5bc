"""Search of the paths whose summed update points to the truth for the worst control."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from scrapl_optim._alignment.scores import correlation

# The correlations of all controls are joined by a smooth minimum of this width.
_WIDTH = 0.03


class Votes(NamedTuple):
    """Normalised slopes and errors of a measurement, as a search needs them.

    Attributes:
        votes: (P, M, U) normalised slopes.
        errors: (M, U) errors of the estimates.
    """

    votes: Tensor
    errors: Tensor

    def rows(self, chosen: Tensor) -> Votes:
        """Return some of the pairs."""
        return Votes(self.votes[:, chosen], self.errors[chosen])


class AlignedProbs(NamedTuple):
    """A distribution over paths, uniform over those whose summed update points to the truth.

    Attributes:
        probs: (P,) pi, float64, for :class:`scrapl_optim.PathSampler`: 1 / K for K paths, 0 for the others.
        held_out: (folds, P) worst correlation in each fold of the best 1, 2, ..., P paths on the other folds.
    """

    probs: Tensor
    held_out: Tensor

    @property
    def n_paths(self) -> int:
        """K, the number of paths that are drawn."""
        return int((self.probs > 0).sum())

    def __repr__(self) -> str:
        scores = self.held_out.mean(0)
        return (
            f"aligned probs: {self.n_paths} of {len(self.probs)} paths; worst control on held-out pairs "
            f"{scores[self.n_paths - 1]:.2f}, with all paths {scores[-1]:.2f}"
        )


def search_probs(measured: Sequence[Votes], folds: int, seed: int) -> AlignedProbs:
    """Return pi over the largest number of paths whose held-out score is within a standard error of the best."""
    curves: list[Tensor] = []
    for fold in range(folds):
        insides = [_in_fold(len(one.errors), fold, folds, seed) for one in measured]
        order = _by_elimination([one.rows(~inside) for one, inside in zip(measured, insides, strict=True)])
        held_out = [one.rows(inside) for one, inside in zip(measured, insides, strict=True)]
        curves.append(torch.cat([_of_first(one, order) for one in held_out], 1).amin(1))
    scores = torch.stack(curves)
    best = int(scores.mean(0).argmax())
    margin = scores[:, best].std() / math.sqrt(folds)
    n_kept = 1 + int((scores.mean(0) >= scores.mean(0)[best] - margin).nonzero()[-1])
    probs = torch.zeros(scores.shape[1], dtype=torch.float64, device=scores.device)
    probs[_by_elimination(measured)[:n_kept]] = 1 / n_kept
    return AlignedProbs(probs, scores)


def _by_elimination(measured: Sequence[Votes]) -> list[int]:
    """Return paths in the reverse order in which they are left out, each time the one that costs least."""
    kept, left_out = list(range(len(measured[0].votes))), []
    totals = [one.votes.sum(0) for one in measured]
    while len(kept) > 1:
        without = [
            correlation(total - one.votes[kept], one.errors) for one, total in zip(measured, totals, strict=True)
        ]
        scores = -_WIDTH * torch.logsumexp(-torch.cat(without, 1) / _WIDTH, 1)
        path = kept.pop(int(scores.argmax()))
        totals = [total - one.votes[path] for one, total in zip(measured, totals, strict=True)]
        left_out.append(path)
    return kept + left_out[::-1]


def _of_first(measured: Votes, order: Sequence[int]) -> Tensor:
    """Return the correlations (P, U) of the sum over the first 1, 2, ..., P paths."""
    return correlation(measured.votes[order].cumsum(0), measured.errors)


def _in_fold(n_pairs: int, fold: int, folds: int, seed: int) -> Tensor:
    """Return (M,) True for the pairs of a fold."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n_pairs))
    inside = torch.zeros(n_pairs, dtype=torch.bool, device="cpu")
    inside[order[fold::folds]] = True
    return inside
