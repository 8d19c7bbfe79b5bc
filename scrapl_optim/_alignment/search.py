"""Search of a distribution over paths whose summed update points to the truth for the worst control."""

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
# Steps of L-BFGS.
_ITERATIONS = 60
# Below this share of the uniform probability a path is left out.
_LEAST = 0.1


class Votes(NamedTuple):
    """Normalised slopes and errors of a measurement, as a search needs them.

    Attributes:
        votes: (M, P, U) normalised slopes.
        errors: (M, U) errors of the estimates.
    """

    votes: Tensor
    errors: Tensor

    def rows(self, chosen: Tensor) -> Votes:
        """Return some of the pairs."""
        return Votes(self.votes[chosen], self.errors[chosen])

    def correlations(self, probs: Tensor) -> Tensor:
        """Return the correlation (U,) of the update under pi with the error."""
        return correlation(torch.einsum("mpu,p->mu", self.votes, probs), self.errors)


class AlignedProbs(NamedTuple):
    """A distribution over paths whose summed update points to the truth for the worst control.

    Attributes:
        probs: (P,) pi, float64, for :class:`scrapl_optim.PathSampler`.
        entropy_weight: the weight of pi's entropy that was chosen; infinite for uniform pi.
        entropy_weights: those that were tried, falling, the first of them infinite.
        held_out: (n, folds) worst correlation of each in each fold, of pi searched on the other folds.
    """

    probs: Tensor
    entropy_weight: float
    entropy_weights: tuple[float, ...]
    held_out: Tensor


def search_probs(measured: Sequence[Votes], weights: Sequence[float], folds: int, seed: int) -> AlignedProbs:
    """Return pi with the largest entropy weight whose held-out score is within a standard error of the best."""
    tried = (math.inf, *sorted(set(weights) - {math.inf}, reverse=True))
    held_out = torch.stack([_held_out_scores(measured, weight, folds, seed) for weight in tried])
    mean = held_out.mean(1)
    best = int(mean.argmax())
    margin = held_out[best].std() / math.sqrt(folds)
    chosen = int((mean >= mean[best] - margin).nonzero()[0])
    probs = _best_probs(measured, tried[chosen])
    # A path that is drawn once or twice in a run leaves an old gradient in P-SAGA's memory.
    probs = torch.where(probs < _LEAST / len(probs), 0.0, probs)
    return AlignedProbs(probs / probs.sum(), tried[chosen], tried, held_out)


def _best_probs(measured: Sequence[Votes], weight: float) -> Tensor:
    r"""Return pi (P,) that maximises min_u rho_u(pi) + weight H(pi) / log P, with the entropy H.

    Without the second term pi follows the noise of the pairs; it draws pi towards the uniform distribution.
    """
    n_paths = measured[0].votes.shape[1]
    logits = torch.zeros(n_paths, dtype=torch.float64, requires_grad=True)
    if math.isinf(weight) or n_paths == 1:
        return logits.detach().softmax(0)
    search = torch.optim.LBFGS([logits], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> float:
        search.zero_grad()
        log_probs = logits.log_softmax(0)
        probs = log_probs.exp()
        correlations = torch.cat([one.correlations(probs) for one in measured])
        worst = -_WIDTH * torch.logsumexp(-correlations / _WIDTH, 0)
        entropy = -(probs * log_probs).sum() / math.log(n_paths)
        loss = -(worst + weight * entropy)
        loss.backward()
        return float(loss.detach())

    with torch.enable_grad():
        search.step(closure)
    return logits.detach().softmax(0)


def _held_out_scores(measured: Sequence[Votes], weight: float, folds: int, seed: int) -> Tensor:
    """Return the worst correlation in each fold of pi searched on the other folds, (folds,)."""
    scores = torch.empty(folds, dtype=torch.float64)
    for fold in range(folds):
        insides = [_in_fold(len(one.errors), fold, folds, seed) for one in measured]
        rest = [one.rows(~inside) for one, inside in zip(measured, insides, strict=True)]
        probs = _best_probs(rest, weight)
        held_out = [one.rows(inside).correlations(probs) for one, inside in zip(measured, insides, strict=True)]
        scores[fold] = torch.cat(held_out).min()
    return scores


def _in_fold(n_pairs: int, fold: int, folds: int, seed: int) -> Tensor:
    """Return (M,) True for the pairs of a fold."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n_pairs))
    inside = torch.zeros(n_pairs, dtype=torch.bool)
    inside[order[fold::folds]] = True
    return inside
