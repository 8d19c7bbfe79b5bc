"""Descent on all paths at once, by L-BFGS: a search for each signal, one batch for all searches."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from scrapl_jtfs._resynthesis.lbfgs import LBFGS
from scrapl_jtfs._resynthesis.marginals import Kept
from scrapl_jtfs._resynthesis.steps import Step
from scrapl_jtfs._resynthesis.tree import Tree

# Root mean square of the first step, in deviations of the target.
_FIRST_STEP = 0.05


def descend_tree(tree: Tree, kept: Kept, start: Tensor, steps: int) -> Iterator[Step]:
    """Yield the start, then the state after each evaluation of the tree and its gradient.

    Args:
        tree: the target.
        kept: what is kept of it.
        start: (rows, *signal_shape) signals.
        steps: number of evaluations after that of the start; fewer where no search finds anything lower.
    """
    u = kept.parameters(start)
    searches = [LBFGS(row, _FIRST_STEP * row.numel() ** 0.5) for row in u.flatten(1)]
    for _ in range(steps + 1):
        active = [row for row, search in enumerate(searches) if not search.done]
        if not active:
            return
        # Rows stand for targets by their place, so that all of them are evaluated.
        trials = torch.stack([search.trial for search in searches]).reshape(u.shape)
        values, errors, gradients = evaluate(tree, kept, trials)
        for row in active:
            searches[row].tell(values[row], gradients[row].flatten(), errors[row])
        reached = torch.tensor([search.error for search in searches], dtype=torch.float64, device=u.device)
        yield Step(torch.stack([search.best for search in searches]).reshape(u.shape), reached)


def evaluate(tree: Tree, kept: Kept, u: Tensor) -> tuple[list[float], list[float], Tensor]:
    """Return what is minimised at u (rows, ...), the relative error of each row, and the gradient in u."""
    u = u.detach().requires_grad_()
    with torch.enable_grad():
        x = kept.signals(u)
        values, gradient = tree.values_and_gradients(x)
        errors = values.sqrt().tolist()
        penalty = kept.penalty(x)
        outputs, grads = [x], [gradient]
        if penalty is not None:
            values = values + penalty.detach()
            outputs, grads = [x, penalty], [gradient, torch.ones_like(penalty)]
        (of_u,) = torch.autograd.grad(outputs, u, grads)
    return values.tolist(), errors, of_u
