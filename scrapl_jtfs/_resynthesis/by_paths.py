r"""Descent on one random path a step, for trees that are too large.

With :math:`d_p` the share of path p in the squared relative error and :math:`\pi` the probabilities, a step
descends :math:`d_p / (P \pi_p)`. Half of :math:`\pi` is uniform and half is proportional to the energy of the
target on the path, since energies differ by orders of magnitude, and so do gradients. The optimizer is Adam:
PathAdamSAGA with a single path. P-Adam with P-SAGA would keep 2P + 1 numbers for each sample in place of three. It
gives weak and strong paths equal weight, which on one signal ends at a larger error
(benchmarks/results/recordings.json).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from scrapl_jtfs._resynthesis.marginals import Kept
from scrapl_jtfs._resynthesis.steps import Step
from scrapl_jtfs._resynthesis.tree import Tree
from scrapl_optim import PathAdamSAGA, PathSampler

# Learning rate at the start in deviations of the target; it falls to 0 like half a cosine.
_LEARNING_RATE = 0.05
_BETAS = (0.9, 0.99)
# Evaluations of all paths after that of the start.
_EVALUATIONS = 10
_UNIFORM_SHARE = 0.5


def descend_paths(tree: Tree, kept: Kept, start: Tensor, steps: int, seed: int) -> Iterator[Step]:
    """Yield the start, then the state after each step; a tenth of the states has errors.

    Args:
        tree: the target.
        kept: what is kept of it.
        start: (rows, *signal_shape) signals.
        steps: number of steps.
        seed: of the draws of paths.
    """
    u = nn.Parameter(kept.parameters(start).detach().clone())
    sampler = PathSampler(tree.energy / tree.energy.sum(), seed=seed, min_prob_frac=_UNIFORM_SHARE)
    optimizer = PathAdamSAGA([u], n_paths=1, lr=_LEARNING_RATE, betas=_BETAS, weight_decay=0.0)
    marks = {round(steps * k / _EVALUATIONS) for k in range(1, _EVALUATIONS + 1)}
    yield Step(u.detach(), tree.errors(kept.signals(u.detach())))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
        path_idx = sampler(step)
        u.grad = gradient(tree, kept, u, path_idx, sampler.weight(path_idx))
        optimizer.step()
        yield Step(u.detach(), tree.errors(kept.signals(u.detach())) if step + 1 in marks else None)


def gradient(tree: Tree, kept: Kept, u: Tensor, path_idx: int, weight: float) -> Tensor:
    """Return the gradient in u of a weighted path, whose mean over draws is a P-th of that of the tree."""
    with torch.enable_grad():
        x = kept.signals(u)
        value = weight * tree.distances(tree.transform(x, path_idx), path_idx).sum()  # rows share nothing
        penalty = kept.penalty(x)
        if penalty is not None:
            value = value + penalty.sum() / tree.transform.n_paths
        (of_u,) = torch.autograd.grad(value, u)
    return of_u
